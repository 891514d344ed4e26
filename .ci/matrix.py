"""Try the tests with every Python and torch that the package promises, each pair in an environment of its own.

python .ci/matrix.py [--only 3.12/2.12] [ARGUMENTS OF PYTEST]

Pythons are looked for in PATH, then among pyenv's. Prints a line for each pair: passed, failed, or why it could not be
tried. Exit code 1 where one has failed. Without arguments all default tests are run; `python .ci/matrix.py tests/method
tests/nets` is a matter of minutes.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
TORCHES = ("2.11", "2.12", "2.13")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="PYTHON/TORCH", help="this pair alone")
    parser.add_argument("tests", nargs=argparse.REMAINDER, metavar="...", help="arguments of pytest")
    args = parser.parse_args()
    pairs = [f"{python}/{torch}" for python, torch in product(PYTHONS, TORCHES)]
    if args.only and args.only not in pairs:
        parser.error(f"--only {args.only}; allowed: {', '.join(pairs)}")
    failed = False
    for pair in [args.only] if args.only else pairs:
        python, torch = pair.split("/")
        with tempfile.TemporaryDirectory(prefix="cyclesr-matrix-") as folder:
            said = one(python, torch, Path(folder), args.tests)
        print(f"Python {python}, torch {torch}: {said}", flush=True)
        failed = failed or said.startswith("failed")
    return 1 if failed else 0


def one(python: str, torch: str, folder: Path, tests: list[str]) -> str:
    """Make the environment in `folder`, run the tests, and say in a line how it went."""
    interpreter = next(filter(_starts, _places(python)), None)
    if interpreter is None:
        return "not there: no such Python"
    own = folder / "bin" / "python"
    constraints = folder / "constraints.txt"
    install = [str(own), "-m", "pip", "install", "--quiet", "-c", str(constraints)]
    steps = [
        [interpreter, "-m", "venv", str(folder)],
        [*install, "--upgrade", "pip", "setuptools", "wheel"],
        [*install, f"torch=={torch}.*", "numpy"],  # torch first: DeepSpeed's build looks for it
        [*install, "--no-build-isolation", f"torch=={torch}.*", "-e", f"{ROOT}[dev]"],
    ]
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    for step in steps:
        # An environment that is made anew would take the file away: it is written before every step.
        constraints.write_text(re.sub(r"^torch==.*\n", "", pins, flags=re.MULTILINE), encoding="utf-8")
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"not there: {' '.join(step[2:6])} ...: {last_line(done.stderr or done.stdout)}"
    done = subprocess.run(
        [str(own), "-m", "pytest", "-q", *tests], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n")
    return f"{'failed' if done.returncode else 'passed'}: {last_line(done.stdout)}"


def _places(python: str) -> list[str]:
    """Where that Python may be. pyenv puts one in PATH that starts only in the folders where it is chosen."""
    in_path = shutil.which(f"python{python}")
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    return [*filter(None, [in_path]), *map(str, sorted(pyenv.glob(f"{python}.*/bin/python"), reverse=True))]


def _starts(interpreter: str) -> bool:
    return subprocess.run([interpreter, "-V"], capture_output=True, check=False).returncode == 0


def last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line and not line.startswith("[notice]")]
    return lines[-1] if lines else "nothing was said"


if __name__ == "__main__":
    sys.exit(main())
