"""Leaving in order, and leaving when order is gone."""
