"""Search loss weights over a Ray cluster: `python launch/tune.py --config configs/tune_demo.yaml`."""

import sys

from cyclesr_dist.search.main import main

if __name__ == "__main__":
    sys.exit(main())
