"""A command of ours that has a child, each saying when it has begun: `python -m helpers.commands FOLDER ROLE`."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from cyclesr_dist.runtime.children import run_child
from cyclesr_dist.runtime.command import guarded, own_process
from cyclesr_dist.runtime.interrupts import uninterrupted


def main(folder: Path, role: str) -> int:
    """`parent` waits for a `child`, `child` for ever; `held` puts a request off until there is a file `go-on`."""
    begun = folder / role
    if role == "parent":
        begun.touch()
        return run_child([sys.executable, "-m", "helpers.commands", str(folder), "child"], "the parent")
    begun.touch()
    if role == "held":
        with uninterrupted():
            while not (folder / "go-on").exists():
                threading.Event().wait(0.05)
            (folder / "done").touch()
    threading.Event().wait(600)
    return 0


if __name__ == "__main__":
    own_process()
    goes_on = sys.argv[2] == "parent"
    sys.exit(guarded(lambda: main(Path(sys.argv[1]), sys.argv[2]), debug=False, goes_on=goes_on))
