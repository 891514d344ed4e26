"""A training run: set up, loop, validation, checkpoints, end. `launch/train.py`."""
