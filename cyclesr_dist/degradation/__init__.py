"""Equation (1), y = k * x + n, measured between two sets of photographs that show different scenes."""
