"""`cyclesr shards`: pack photographs into shard sets, and verify them."""

from __future__ import annotations

import argparse
from pathlib import Path

from cyclesr_dist.runtime.command import add_common_arguments

_BUILD_EPILOG = """\
Writes the shard sets URL/hr and URL/lr, and URL/pairs with --pairs-hr. The config's scale and shards section say how.
Photographs that are smaller than one patch are left out and named. So are those that cannot be read, and the exit code
is then 1. If it is killed, give the command again: it goes on where it was.
The domains must not show the same photographs.

examples:
  cyclesr shards build --hr hr --lr lr --out data/mine --config configs/own_photos.yaml shards.patch=32
  cyclesr shards build --hr DIV2K/DIV2K_train_HR --lr DIV2K/DIV2K_train_LR_mild --out shards/mild \\
      --config configs/ntire18_t2.yaml
  cyclesr shards build --hr 'data/*[13579]_HR.png' --lr 'data/*[02468]_LR4.png' --out shards/real
"""
_CHECK_EPILOG = """\
Verifies all checksums and decodes every sample. Exit code 0: sound; 2: a line for each problem.

example:
  cyclesr shards check shards/mild
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command and its two actions."""
    shards = subparsers.add_parser("shards")
    actions = shards.add_subparsers(dest="action", required=True, metavar="build|check")

    build = actions.add_parser(
        "build",
        help="cut and pack",
        description="Cut photographs into patches and pack them into shard sets.",
        epilog=_BUILD_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    build.add_argument("--hr", required=True, type=Path, metavar="DIR", help="folder of HR photographs, or a pattern")
    build.add_argument(
        "--lr",
        required=True,
        type=Path,
        metavar="DIR",
        help="folder of real LR photographs, or a pattern: 'data/*_LR4.png'",
    )
    build.add_argument(
        "--out", required=True, metavar="URL", help="folder to write: a path or any URL, as s3://bucket/name"
    )
    build.add_argument("--config", type=Path, metavar="FILE", help="default: the built-in values")
    build.add_argument("--pairs-hr", type=Path, metavar="DIR", help="HR partners of the --lr files (for sr_paired)")
    build.add_argument("--workers", type=int, metavar="N", help="threads; default: one a core")
    build.add_argument("--recursive", action="store_true", help="enter sub-folders")
    build.add_argument("--overwrite", action="store_true", help="replace what the folders hold")
    build.add_argument("--allow-overlap", action="store_true", help="--hr and --lr may show the same photographs")
    build.add_argument("overrides", nargs="*", metavar="key.sub=value", help="config overrides, e.g. shards.patch=48")
    add_common_arguments(build)
    build.set_defaults(run=run)

    check = actions.add_parser(
        "check",
        help="verify",
        description="Verify a shard set, or the sets hr, lr and pairs in a folder.",
        epilog=_CHECK_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_argument("url", metavar="URL", help="a path or any URL, as s3://bucket/name")
    add_common_arguments(check)
    check.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Returns 0, or 2 when `check` finds problems; raises CycleSRError."""
    from cyclesr_dist.cli.shard_sets import build, check

    return check(args) if args.action == "check" else build(args)
