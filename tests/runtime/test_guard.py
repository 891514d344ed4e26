"""Exit codes, and leaving without finalising the interpreter."""

from __future__ import annotations

import subprocess
import sys

import pytest

_SCRIPT = """
import atexit, sys
from cyclesr_dist.runtime.command import end_process

class Late:
    def __del__(self):
        print("finalised")

late = Late()
atexit.register(lambda: print("atexit"))

def main():
    print("main", end=" ")
    {body}

end_process(main)
"""


@pytest.mark.parametrize(
    ("body", "code"),
    [("return 0", 0), ("return 75", 75), ("sys.exit(2)", 2), ("sys.exit('why')", 1), ("raise ValueError('bug')", 1)],
)
def test_end_process_flushes_runs_atexit_and_does_not_finalise(body: str, code: int) -> None:
    done = subprocess.run([sys.executable, "-c", _SCRIPT.format(body=body)], capture_output=True, text=True)
    assert done.returncode == code
    assert done.stdout == "main atexit\n"
    assert ("ValueError: bug" in done.stderr) == ("bug" in body)
