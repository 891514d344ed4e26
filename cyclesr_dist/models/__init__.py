"""Trained networks on disk: model files, checkpoints, export; upscaling with them."""
