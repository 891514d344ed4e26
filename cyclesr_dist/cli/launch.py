"""`cyclesr train`, `tune` and `submit`: launch/train.py, tune.py and submit.py as commands."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module

SCRIPTS = {
    "train": ("cyclesr_dist.training.main", "train one system; also beneath deepspeed and torchrun"),
    "tune": ("cyclesr_dist.search.main", "search loss weights and other numbers on a Ray cluster"),
    "submit": ("cyclesr_dist.kubernetes.submit", "run a training, or a search, on a Kubernetes cluster"),
}
"""Module with `main`, and help, by command."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the names; the arguments are read by the scripts themselves."""
    for command, (_, text) in SCRIPTS.items():
        subparsers.add_parser(command, help=text, add_help=False)


def run(command: str, argv: Sequence[str]) -> int:
    """Returns the exit code."""
    return int(import_module(SCRIPTS[command][0]).main(argv, f"cyclesr {command}"))
