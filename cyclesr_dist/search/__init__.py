"""`launch/tune.py`: a search for loss weights over a Ray cluster, each trial a whole training run."""
