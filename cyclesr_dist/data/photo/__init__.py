"""Photographs in any of the files that they come in: what the head says, the samples, and what their values mean."""
