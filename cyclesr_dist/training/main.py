"""`launch/train.py`: arguments, which are read without torch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cyclesr_dist.runtime.command import RankParser, add_common_arguments, checked_overrides, guarded
from cyclesr_dist.training.ahead import read_ahead

if TYPE_CHECKING:
    from cyclesr_dist.config.schema import Config

_EXAMPLE = """example:
  deepspeed --num_gpus 8 launch/train.py --config configs/ntire17_t2.yaml --run-dir runs/t2 data.hr=/data/hr
  torchrun --nproc-per-node 8 launch/train.py --config configs/ntire17_t2.yaml backend=ddp
  python launch/train.py --config configs/demo.yaml train.max_steps=20"""


def build_parser(prog: str = "train.py") -> argparse.ArgumentParser:
    parser = RankParser(
        prog=prog,
        description="Train one system. Run it under deepspeed, torchrun or plain python; the config stays the same.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", required=True, help="YAML file, see configs/")
    parser.add_argument("--run-dir", type=Path, help="run folder; default: runs/<name of the config file>")
    parser.add_argument("--resume", action="store_true", help="continue from the newest checkpoint, if there is one")
    parser.add_argument(
        "--resume-with-changes",
        action="store_true",
        help="the same, though weights, learning rates, schedule, seed, batch or data are others than the checkpoint's",
    )
    parser.add_argument("--dry-run", action="store_true", help="check all, print the resolved config, write nothing")
    parser.add_argument("--local_rank", type=int, default=0, help=argparse.SUPPRESS)  # the deepspeed launcher passes it
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value", help="config overrides")
    add_common_arguments(parser)
    return parser


def main(argv: Sequence[str] | None = None, prog: str = "train.py") -> int:
    """Returns the exit code: 0 done, 2 bad config or input, 1 otherwise."""
    args = build_parser(prog).parse_intermixed_args(argv)
    return guarded(lambda: _run(args), debug=args.debug, goes_on=True)


def _run(args: argparse.Namespace) -> int:
    load_config = read_ahead(lambda: _load(args), trains=not args.dry_run)
    from cyclesr_dist.training.launched import run_training  # takes seconds

    folder = args.run_dir or Path("runs") / Path(args.config).stem
    run_training(
        load_config,
        folder,
        resume=args.resume or args.resume_with_changes,
        with_changes=args.resume_with_changes,
        quiet=args.quiet,
        dry_run=args.dry_run,
    )
    return 0


def _load(args: argparse.Namespace) -> Config:
    from cyclesr_dist.config.schema import load

    return load(args.config, checked_overrides(args.overrides))
