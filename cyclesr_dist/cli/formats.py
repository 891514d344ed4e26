"""`cyclesr formats`: which files are read as photographs, and which are known and not read."""

from __future__ import annotations

import argparse
from collections import defaultdict

from cyclesr_dist.runtime.command import add_common_arguments


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "formats",
        description="List the formats that are read: their suffixes, the bits of a sample and what becomes of them, "
        "the library that decodes them; then the kinds of photographs that are not read, and why. The first bytes of a "
        "file decide its format; suffixes only choose the files of a folder.",
        epilog="example: cyclesr formats",
    )
    add_common_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the two lists."""
    from cyclesr_dist.data.formats import FORMATS, UNREAD_SUFFIXES

    rows = [("format", "suffixes", "bits", "library", "remarks")]
    rows += [(kind.name, " ".join(kind.suffixes), kind.depths, kind.library, kind.remarks) for kind in FORMATS]
    widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:-1]]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)]
        print("  ".join(cells).rstrip())
    by_reason: dict[str, list[str]] = defaultdict(list)
    for suffix, reason in UNREAD_SUFFIXES.items():
        by_reason[reason].append(suffix)
    print("\nNot read:")
    for reason, suffixes in by_reason.items():
        print(f"  {' '.join(suffixes)}: {reason}")
    return 0
