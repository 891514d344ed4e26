"""Run a training or a search on Kubernetes: `python launch/submit.py --config configs/demo.yaml --target job`."""

import sys

from cyclesr_dist.kubernetes.submit import main

if __name__ == "__main__":
    sys.exit(main())
