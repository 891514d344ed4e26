"""`cyclesr compare`: runs side by side."""

from __future__ import annotations

import argparse
from pathlib import Path

from cyclesr_dist.errors import InputError
from cyclesr_dist.runtime.command import add_common_arguments


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "compare",
        description="Write one self-contained page with the scores, curves, pictures and settings of several runs.",
        epilog="example: cyclesr compare runs/seed0 runs/seed1 --out compare.html",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder, two or more")
    parser.add_argument("--out", type=Path, default=Path("compare.html"), metavar="FILE", help="default: %(default)s")
    add_common_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the page and print its path."""
    from cyclesr_dist.reports.compare import write_comparison

    if len(args.runs) < 2:
        raise InputError(f"compare {args.runs[0]}: one run alone; give two or more, or use `cyclesr report`")
    write_comparison(args.runs, args.out)
    print(args.out)
    return 0
