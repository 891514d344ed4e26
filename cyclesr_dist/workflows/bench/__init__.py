"""Figures that anyone can measure again: `cyclesr bench`."""
