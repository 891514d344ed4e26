"""`cyclesr degrade`: LR photographs of a simulated track."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from cyclesr_dist.config.schema import load
from cyclesr_dist.runtime.command import add_common_arguments
from cyclesr_dist.runtime.tally import telling

_EPILOG = """\
tracks (the challenges' parameters are unpublished; the first three are like them):
  unknown  one fixed unusual kernel for all images
  mild     motion blur, Poisson noise and pixel shift, one level for all images
  wild     the same with levels drawn per image, four variants of each
  camera   lens blur, sensor noise under a colour mosaic, sharpening and JPEG, levels drawn per image

A photograph that cannot be read is named on standard error and in degradations.json; the others are done, and the exit
code is 1. If you give the command again, it makes what is missing.

example:
  cyclesr degrade --hr photos/hr --track mild --scale 4 --seed 0 --out photos/lr_mild
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "degrade",
        description="Make LR photographs from HR photographs, seeded, with every parameter recorded beside them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--hr", required=True, type=Path, metavar="DIR", help="folder of HR photographs")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write")
    parser.add_argument("--track", help="one of those below, or your own package.module:TRACK; default: the config's")
    parser.add_argument("--scale", type=int, metavar="N", help="default: the config's")
    parser.add_argument("--seed", type=int, metavar="N", help="default: the config's")
    parser.add_argument("--config", type=Path, metavar="FILE", help="its degrade section has the levels")
    parser.add_argument("--blur-px", type=float, metavar="PX", help="instead of the config's degrade.blur_px")
    parser.add_argument("--noise", type=float, metavar="STD", help="instead of the config's degrade.noise, in [0, 1]")
    parser.add_argument("--shift-px", type=int, metavar="PX", help="instead of the config's degrade.shift_px")
    parser.add_argument("--jpeg-quality", type=int, metavar="N", help="instead of the config's degrade.jpeg_quality")
    parser.add_argument("--recursive", action="store_true", help="enter sub-folders, and keep their layout in --out")
    parser.add_argument("--overwrite", action="store_true", help="replace what the folder holds")
    add_common_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Returns 0, or 1 where some photographs failed; raises CycleSRError."""
    from cyclesr_dist.degradation.simulate_folder import degrade_folder

    config = load(args.config)
    given: dict[str, Any] = {
        name: getattr(args, name)
        for name in ("blur_px", "noise", "shift_px", "jpeg_quality")
        if getattr(args, name) is not None
    }
    with telling("photograph", args.out, args.debug) as tally:
        count = degrade_folder(
            args.hr,
            args.out,
            track=config.track if args.track is None else args.track,
            scale=config.scale if args.scale is None else args.scale,
            seed=config.seed if args.seed is None else args.seed,
            levels=replace(config.degrade, **given),
            overwrite=args.overwrite,
            progress=not args.quiet,
            recursive=args.recursive,
            tally=tally,
        )
    print(f"{args.out}: {count} LR files" if count else f"{args.out}: holds this result already, nothing to do")
    return tally.exit_code
