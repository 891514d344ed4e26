"""`cyclesr train`, `tune` and `submit`: launch/train.py, tune.py and submit.py as commands."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module

SCRIPTS = {
    "train": "cyclesr_dist.training.main",
    "tune": "cyclesr_dist.search.main",
    "submit": "cyclesr_dist.kubernetes.submit",
}
"""Module with `main` by command."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the names; the arguments are read by the scripts themselves."""
    for command in SCRIPTS:
        subparsers.add_parser(command, add_help=False)


def run(command: str, argv: Sequence[str]) -> int:
    """Returns the exit code."""
    return int(import_module(SCRIPTS[command]).main(argv, f"cyclesr {command}"))
