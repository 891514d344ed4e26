"""`python -m cyclesr_dist.cluster`: launch/submit.py where the package is installed without it."""

import sys

from cyclesr_dist.cluster.submit import main

if __name__ == "__main__":
    sys.exit(main())
