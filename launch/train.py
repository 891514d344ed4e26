"""Train: `deepspeed launch/train.py --config FILE`, `torchrun launch/train.py ...`, `python launch/train.py ...`."""

from cyclesr_dist.runtime.command import end_process
from cyclesr_dist.training.main import main

if __name__ == "__main__":
    end_process(main)
