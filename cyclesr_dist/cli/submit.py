"""`cyclesr submit`: launch/submit.py as a command."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the name; the arguments are read by `run`."""
    subparsers.add_parser("submit", help="run a training, or a search, on a Kubernetes cluster", add_help=False)


def run(argv: Sequence[str]) -> int:
    """Returns the exit code."""
    from cyclesr_dist.cluster.submit import main

    return main(argv, "cyclesr submit")
