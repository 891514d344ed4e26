"""`python -m cyclesr_dist.kubernetes`: launch/submit.py where the package is installed without it."""

import sys

from cyclesr_dist.kubernetes.submit import main

if __name__ == "__main__":
    sys.exit(main())
