"""A rank that hears requests as a training does, by the same code, and imports next to nothing: `light_rank.py FOLDER`.

Under launchers, whose signals a training then need not be started for.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from cyclesr_dist.errors import Preempted
from cyclesr_dist.runtime.command import end_process, guarded
from cyclesr_dist.runtime.exit_codes import started_as
from cyclesr_dist.runtime.stopping import StopRequest


def run(folder: Path) -> None:
    """Begin, wait for a request, save, and leave; `begun-<rank>` and `saved-<rank>` tell of it."""
    rank = os.environ.get("RANK", "0")
    stop = StopRequest()
    with stop.listening():
        started_as(int(rank), int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        stop.training = True
        (folder / f"begun-{rank}").touch()
        while not stop.requested:
            threading.Event().wait(0.05)
        (folder / f"saved-{rank}").touch()
    raise Preempted(f"{stop.reason}: saved")


if __name__ == "__main__":
    (place,) = (word for word in sys.argv[1:] if not word.startswith("--local_rank"))
    end_process(lambda: guarded(lambda: run(Path(place)), debug=False, goes_on=True))
