"""Equation (1), y = k * x + n: simulated, and measured between two sets that show different scenes."""
