"""`python launch/tune.py`: arguments, and where the search is driven from."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from cyclesr_dist.runtime.command import Parser, add_common_arguments, checked_overrides, guarded, own_process

_EPILOG = """\
exit codes: 0 done, 75 stopped (start it again with --resume), 2 bad config or input, 1 anything else, also when
no trial succeeded.

examples:
  python launch/tune.py --config configs/tune_demo.yaml
  python launch/tune.py --config configs/tune_demo.yaml --address auto num_samples=50 workers.gpus=1"""


def build_parser(prog: str = "launch/tune.py") -> argparse.ArgumentParser:
    parser = Parser(
        prog=prog,
        description="Search loss weights and other numbers, each trial a training run, on a Ray cluster.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", required=True, type=Path, help="search configuration (YAML)")
    parser.add_argument("--run-dir", type=Path, metavar="DIR", help="default: runs/<name of the config file>")
    parser.add_argument(
        "--address",
        metavar="A",
        help="Ray cluster: auto, host:port, ray://host:port; default: $RAY_ADDRESS, or one here",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the search in the run folder; num_samples may be larger now"
    )
    parser.add_argument("--dry-run", action="store_true", help="check everything, print the search, begin nothing")
    add_common_arguments(parser)
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value", help="override of the search configuration")
    return parser


def main(argv: Sequence[str] | None = None, prog: str = "launch/tune.py") -> int:
    """Returns the exit code: 0 done, 75 stopped, 2 bad config or input, 1 otherwise."""
    args = build_parser(prog).parse_intermixed_args(argv)
    if argv is None:
        own_process()
    return guarded(lambda: _run(args), debug=args.debug, goes_on=True)


def _run(args: argparse.Namespace) -> int:
    from cyclesr_dist.search.config import load_search
    from cyclesr_dist.search.fitting import check_values
    from cyclesr_dist.search.run import require_ray, run_search

    search = load_search(args.config, checked_overrides(args.overrides))
    check_values(search)
    run_dir: Path = args.run_dir or Path("runs") / args.config.stem
    require_ray()
    if args.address and args.address.startswith("ray://"):
        from cyclesr_dist.search.client import run_on_head as run
    else:
        run = run_search
    run(search, run_dir, args.address, resume=args.resume, dry_run=args.dry_run, quiet=args.quiet)
    return 0
