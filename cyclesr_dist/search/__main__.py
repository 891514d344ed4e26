"""`python -m cyclesr_dist.search`: launch/tune.py where the package is installed without it."""

import sys

from cyclesr_dist.search.main import main

if __name__ == "__main__":
    sys.exit(main())
