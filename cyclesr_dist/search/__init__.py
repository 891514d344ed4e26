"""`launch/tune.py`: a search for loss weights and other numbers, each trial a whole training run, over a Ray cluster."""
