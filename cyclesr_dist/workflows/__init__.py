"""Whole jobs made of the parts beside: `fit`, `demo`, `table` and `ablate`, `bench`."""
