"""`cyclesr estimate`: the degradation between two unpaired sets."""

from __future__ import annotations

import argparse

from cyclesr_dist.runtime.command import add_common_arguments

_EPILOG = """\
Writes degradation.json (docs/estimate.md explains it), degradation.safetensors and degradation.html into the folder.
Photographs of the two sets need not show the same, but should be of the same kind; 20 or more of each are best.
Photographs that cannot be read are named on standard error and left out; the exit code is then 1.

example:
  cyclesr estimate --hr photos/sharp --lr photos/camera --out estimates/camera
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "estimate",
        description="Measure what makes real LR photographs differ from HR photographs shrunk to their size: blur, "
        "noise and JPEG. No pairs are needed. Training can start from it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    where = "folder of photographs, pattern ('data/*_LR4.png') or shard set; a path or any URL"
    parser.add_argument("--hr", required=True, metavar="DIR|URL", help=f"sharp: {where}")
    parser.add_argument("--lr", required=True, metavar="DIR|URL", help=f"real LR: {where}")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--scale", type=int, default=4, metavar="N", help="HR is so many times larger; default: 4")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="which photographs and patches; default: 0")
    parser.add_argument("--overwrite", action="store_true", help="replace what the folder holds")
    add_common_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, write the three files and say what was found. Returns 1 where some photographs could not be read. Raises
    InputError; then nothing is written."""
    from cyclesr_dist.data.source import local_folder
    from cyclesr_dist.degradation.record import ARRAYS, FACTS
    from cyclesr_dist.degradation.sentences import doubts, what_follows
    from cyclesr_dist.reports.estimate_page import PAGE
    from cyclesr_dist.runtime.tally import telling
    from cyclesr_dist.workflows.estimate import measure

    with telling("photograph", None, args.debug) as tally:
        found = measure(
            args.hr,
            args.lr,
            out=args.out,
            scale=args.scale,
            seed=args.seed,
            overwrite=args.overwrite,
            progress=not args.quiet,
            tally=tally,
        )
        tally.done = sum(found.facts["looked_at"][domain]["photographs"] for domain in ("hr", "lr"))
    out = local_folder(args.out)
    for text in found.sentences:
        print(f"Doubt: {text}" if text in doubts(found.facts) else text)
    print(*what_follows(found.facts, str(out)), sep="\n  ")
    print(f"{out}: {FACTS}, {ARRAYS}, {PAGE}")
    return tally.exit_code
