"""Run a training or a search on Kubernetes or Slurm.

`python launch/submit.py --config configs/demo.yaml --target slurm`
"""

import sys

from cyclesr_dist.kubernetes.submit import main

if __name__ == "__main__":
    sys.exit(main())
