"""`cyclesr tune`: launch/tune.py as a command."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the name; the arguments are read by `run`."""
    subparsers.add_parser("tune", help="search loss weights and other numbers on a Ray cluster", add_help=False)


def run(argv: Sequence[str]) -> int:
    """Returns the exit code."""
    from cyclesr_dist.search.main import main

    return main(argv, "cyclesr tune")
