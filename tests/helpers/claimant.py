"""A process that wants a folder, for tests of who gets it.

`claimant.py FOLDER [URL]`: takes the folder, or the URL's place, and says "has it"; writes a line into FOLDER/written
whenever it reads one from standard input and still has it; gives the place up at the end of standard input.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cyclesr_dist.errors import CycleSRError
from cyclesr_dist.runtime.lease import Lease, LocalPlace


def main() -> int:
    folder = Path(sys.argv[1])
    if len(sys.argv) > 2:
        from cyclesr_dist.config.schema import Remote
        from cyclesr_dist.training.ownership import place_of

        place = place_of(sys.argv[2], Remote(retries=0))
    else:
        place = LocalPlace(folder)
    lease = Lease(place, f"run folder {folder}")
    try:
        lease.take()
        print("has it", flush=True)
        for line in sys.stdin:
            lease.hold(sure=True)
            with (folder / "written").open("a") as file:
                file.write(line)
            print("written", flush=True)
        lease.release()
    except CycleSRError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
