"""The `cyclesr` command: one module per subcommand, listed here."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from cyclesr_dist import __version__
from cyclesr_dist.cli import bench, degrade, demo, evaluate, report, shards, supervise, table, upscale
from cyclesr_dist.cli.guard import guarded

COMMANDS = (degrade, shards, evaluate, upscale, report, demo, table, bench, supervise)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cyclesr", description="Super-resolution for real photographs without pairs (CycleSR, CycleSRGAN)."
    )
    parser.add_argument("--version", action="version", version=f"cyclesr {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand. Returns the exit code: 0 done, 2 bad usage or input, 75 preempted, 1 otherwise."""
    args = build_parser().parse_args(argv)
    return guarded(lambda: args.run(args), debug=args.debug)


if __name__ == "__main__":
    raise SystemExit(main())
