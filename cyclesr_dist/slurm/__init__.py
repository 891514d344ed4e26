"""`launch/submit.py --target slurm`: a run or a search as one batch script of Slurm, submitted and followed."""
