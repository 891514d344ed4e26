"""`cyclesr diagnose`: why a run is slow."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from cyclesr_dist.runtime.command import add_common_arguments


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "diagnose",
        description="Say in three sentences what limits a run, from the files of its folder, and which key to change. "
        "The run may still go on.",
        epilog="example: cyclesr diagnose runs/demo",
    )
    parser.add_argument("folder", type=Path, metavar="RUN", help="run folder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the findings there, too")
    add_common_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the sentences. Raises InputError for what is no run folder, or a file that cannot be written."""
    from cyclesr_dist.reports.run_files import check_run_folder, read_run
    from cyclesr_dist.reports.slow_run import slow_run
    from cyclesr_dist.runtime.files import check_writable, write_text

    check_run_folder(args.folder)
    if args.json:
        check_writable(args.json, "--json")
    found = slow_run(read_run(args.folder))
    print("\n".join(found.sentences))
    if args.json:
        write_text(args.json, json.dumps({"run": str(args.folder), **found.to_json()}, indent=1) + "\n")
    return 0
