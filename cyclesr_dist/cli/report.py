"""`cyclesr report`: the page of a run."""

from __future__ import annotations

import argparse
from pathlib import Path

from cyclesr_dist.runtime.command import add_common_arguments


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "report",
        description="Write report.html, one self-contained page, into each run folder from the files it holds.",
        epilog="example: cyclesr report runs/demo",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder")
    add_common_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the pages and print their paths. A wrong folder among them raises InputError before any page is written."""
    from cyclesr_dist.reports.run_files import check_run_folder
    from cyclesr_dist.reports.run_report import write_report

    for folder in args.runs:
        check_run_folder(folder)
    for folder in args.runs:
        print(write_report(folder))
    return 0
