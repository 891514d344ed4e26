"""`cyclesr demo`: see `cyclesr_dist.workflows.demo`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cyclesr_dist.config.schema import load
from cyclesr_dist.config.shipped import config_file
from cyclesr_dist.runtime.command import add_common_arguments
from cyclesr_dist.runtime.lease import held


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "demo",
        description="Split, degrade, pack, train through the launcher on two ranks, score. Reuses what is there.",
        epilog="example:\n  cyclesr demo --config configs/demo.yaml --run-dir runs/demo",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, default=config_file("demo.yaml"), help="default: %(default)s")
    parser.add_argument("--run-dir", type=Path, default=Path("runs/demo"), help="default: %(default)s")
    parser.add_argument(
        "--data-only", action="store_true", help="make the shards and folders that it trains on, no more"
    )
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value", help="config overrides")
    add_common_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from cyclesr_dist.workflows.demo import format_table, prepare_data, run_demo

    overrides = [*_data_overrides(args.run_dir / "data"), *args.overrides]
    if args.data_only:
        with held(args.run_dir, f"run folder {args.run_dir}"):
            prepare_data(load(args.config, overrides), args.run_dir, args.quiet)
        return 0
    summary = run_demo(args.config, args.run_dir, overrides, args.quiet)
    print(f"\nTest photographs, track {summary['track']}, protocol {summary['protocol']}:")
    print(format_table(summary))
    print(summary["verdict"])
    print(f"{summary['demo_seconds']:.0f} s; pictures and curves: {args.run_dir / 'report.html'}")
    return 0


def _data_overrides(data: Path) -> list[str]:
    """The demo's data lies in its run folder, wherever that is."""
    sets = {name: data / "shards" / name for name in ("hr", "lr", "pairs")}
    folders = {"valid_hr": data / "valid_hr", "valid_lr": data / "valid_lr"}
    return [f"data.{key}={path}" for key, path in (sets | folders).items()]
