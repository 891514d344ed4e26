"""Perceptual scores: LPIPS, DISTS and NIQE. Lower is better; docs/scores.md says whose figures they are."""
