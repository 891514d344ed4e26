"""Run the tests and print how much of each room of the package they execute, also in the processes that they start.

python .ci/coverage_by_room.py [ARGUMENTS OF PYTEST]

Modules with functions of which none was called are named at the end. With `-m "slow or not slow"`, which takes hours,
there should be none but those of a package that is not installed. The exit code is pytest's.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COVERAGE = [sys.executable, "-m", "coverage"]


def main(tests: list[str]) -> int:
    subprocess.run([*COVERAGE, "erase"], cwd=ROOT, check=True)
    code = subprocess.run([*COVERAGE, "run", "-m", "pytest", "-q", *tests], cwd=ROOT, check=False).returncode
    subprocess.run([*COVERAGE, "combine", "--quiet"], cwd=ROOT, check=True)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "coverage.json"
        subprocess.run([*COVERAGE, "json", "--quiet", "-o", str(out)], cwd=ROOT, check=True)
        files = json.loads(out.read_text(encoding="utf-8"))["files"]
    print(table(files))
    idle = [name for name, file in sorted(files.items()) if not called(file)]
    if idle:
        print("No function called:", *idle, sep="\n  ")
    return code


def table(files: dict[str, Any]) -> str:
    """A line for each room and one for all: per cent of the statements that were executed."""
    rooms: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for name, file in files.items():
        parts = Path(name).parts
        for room in (parts[1] if len(parts) > 2 else ".", "all"):
            rooms[room][0] += file["summary"]["covered_lines"]
            rooms[room][1] += file["summary"]["num_statements"]
    last = rooms.pop("all", [0, 0])
    rows = [*sorted(rooms.items()), ("all", last)]
    return "\n".join(f"{room:14}{100 * hit / max(1, of):5.1f} % of {of} statements" for room, (hit, of) in rows)


def called(file: dict[str, Any]) -> bool:
    """Whether a function was, or there is none with a body."""
    functions = [
        function for name, function in file["functions"].items() if name and function["summary"]["num_statements"]
    ]
    return not functions or any(function["executed_lines"] for function in functions)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
