"""`python -m cyclesr_dist.training`: launch/train.py where the package is installed without it."""

from cyclesr_dist.runtime.command import end_process
from cyclesr_dist.training.main import main

if __name__ == "__main__":
    end_process(main)
