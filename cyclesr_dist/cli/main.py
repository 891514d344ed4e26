"""The `cyclesr` command: one module of this package per subcommand, by its name.

Only the module asked for is imported: `cyclesr supervise` is the first process of containers and needs no torch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from cyclesr_dist import __version__
from cyclesr_dist.cli.guard import guarded

COMMANDS = {
    "degrade": "degrade",
    "estimate": "estimate",
    "shards": "shards",
    "evaluate": "evaluate",
    "upscale": "upscale",
    "report": "report",
    "compare": "compare",
    "monitoring": "monitoring",
    "demo": "demo",
    "table": "table",
    "ablate": "table",
    "export": "export",
    "bench": "bench",
    "supervise": "supervise",
}
"""Modules by command."""


def build_parser(command: str = "") -> argparse.ArgumentParser:
    """With one command, or with all."""
    parser = argparse.ArgumentParser(
        prog="cyclesr", description="Super-resolution for real photographs without pairs (CycleSR, CycleSRGAN)."
    )
    parser.add_argument("--version", action="version", version=f"cyclesr {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    modules = [COMMANDS[command]] if command in COMMANDS else dict.fromkeys(COMMANDS.values())
    for name in modules:
        import_module(f"cyclesr_dist.cli.{name}").add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand. Returns the exit code: 0 done, 2 bad usage or input, 75 preempted, 1 otherwise."""
    argv = sys.argv[1:] if argv is None else argv
    parser = build_parser(argv[0] if argv else "")
    args, rest = parser.parse_known_args(argv)
    if rest and (not hasattr(args, "overrides") or any(text.startswith("-") for text in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:  # argparse takes one run of overrides, and leaves those that follow behind options
        args.overrides = [*args.overrides, *rest]
    return guarded(lambda: args.run(args), debug=args.debug)


if __name__ == "__main__":
    raise SystemExit(main())
