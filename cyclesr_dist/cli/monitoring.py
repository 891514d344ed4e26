"""`cyclesr monitoring`: the Grafana dashboard and Prometheus rules."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from cyclesr_dist.errors import InputError
from cyclesr_dist.runtime.command import add_common_arguments
from cyclesr_dist.telemetry.monitoring import write_files

_LABELS = re.compile(r"[a-zA-Z_]\w*(, *[a-zA-Z_]\w*)*")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "monitoring",
        description="Write dashboard.json for Grafana and rules.yml for Prometheus; docs/monitoring.md explains them.",
        epilog='example: cyclesr monitoring --out monitoring --by "namespace, run"',
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument(
        "--by",
        default="run",
        metavar="LABELS",
        help="labels that tell one run from another in the alerts; default: %(default)s, the run folder's name",
    )
    add_common_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if not _LABELS.fullmatch(args.by):
        raise InputError(f"--by {args.by!r}; allowed: label names with commas between them")
    for path in write_files(args.out, args.by):
        print(path)
    return 0
