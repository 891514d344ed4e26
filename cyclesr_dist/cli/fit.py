"""`cyclesr fit`: the whole job for one's own two folders."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

from cyclesr_dist.errors import InputError
from cyclesr_dist.runtime.command import add_common_arguments

_EPILOG = """\
Measures blur and noise of the LR photographs, chooses settings for this machine and the time, trains, enlarges LR
photographs that it held back from training, and says whether it worked. If you stop it, give the same command again: it
goes on. DIR/fit.yaml holds the settings; you can change them and give the command again. Without --hours: a quarter of
an hour on CPUs, 2 hours on GPUs.

example:
  cyclesr fit --hr photos/sharp --lr photos/bad --run-dir runs/mine --hours 0.5
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "fit",
        description="Train on your own photographs: a folder of sharp ones and a folder of real low-resolution ones.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--hr", required=True, type=Path, metavar="DIR", help="sharp photographs")
    parser.add_argument(
        "--lr", required=True, type=Path, metavar="DIR", help="low-resolution photographs, other scenes"
    )
    parser.add_argument(
        "--run-dir", "--out", required=True, type=Path, metavar="DIR", help="folder for everything that is made"
    )
    parser.add_argument("--hours", type=float, metavar="H", help="time for all of it; 0.5: half an hour")
    parser.add_argument("--scale", type=int, default=4, choices=(2, 3, 4, 8), help="enlargement; default: 4")
    add_common_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Returns 0, or 1 where photographs could not be read; raises InputError for bad input, FailedElsewhere when one of
    the commands fails."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported; see workflows/fit/commands.py
    from cyclesr_dist.workflows.fit.main import Wanted, fit

    if args.hours is not None and not (math.isfinite(args.hours) and args.hours > 0):
        raise InputError(f"--hours {args.hours:g}: must be above 0")
    return fit(Wanted(args.hr, args.lr, args.run_dir, args.scale, args.hours, args.quiet))
