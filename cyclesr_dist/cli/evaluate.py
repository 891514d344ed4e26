"""`cyclesr evaluate`: score a model on a folder of LR photographs and their HR originals."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cyclesr_dist.config.metrics import ASKED_FOR, lower_is_better
from cyclesr_dist.config.schema import PROTOCOLS
from cyclesr_dist.runtime.command import add_common_arguments
from cyclesr_dist.runtime.files import check_writable
from cyclesr_dist.runtime.memory import keep_freed
from cyclesr_dist.runtime.tally import telling
from cyclesr_dist.runtime.wording import counted

if TYPE_CHECKING:
    from cyclesr_dist.scoring.score import Part

_EPILOG = """\
An image that cannot be scored is named on standard error and in the JSON file; the means are of the others, and the
exit code is 1. BasicSR's figures for Y at scale 4: --y --crop-border 4.

examples:
  cyclesr evaluate --model runs/demo --lr valid/lr --hr valid/hr --protocol ntire2018 --json scores.json
  cyclesr evaluate --model runs/demo --lr valid/lr --hr valid/hr --y --crop-border 4
  cyclesr evaluate --model runs/demo --lr valid/lr --hr valid/hr --scores lpips,dists,niqe
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "evaluate",
        description="Enlarge LR photographs, round to 8 bits and score against HR. Files are matched by name: the same "
        "stem, DIV2K's (0801.png with 0801x4.png, 0801x4m.png, 0801x4w1.png), or what the wildcards of two patterns "
        "stand for.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--model",
        required=True,
        help="run folder (RUN@last: its last network instead of its best), checkpoint folder, .safetensors file, or "
        "bicubic",
    )
    parser.add_argument(
        "--allow-module", action="store_true", help="the model file may name a Python class, which is imported"
    )
    parser.add_argument(
        "--lr", required=True, type=Path, metavar="DIR", help="folder of LR images, or a pattern: 'data/*_LR4.png'"
    )
    parser.add_argument("--hr", required=True, type=Path, metavar="DIR", help="folder of HR images, or a pattern")
    parser.add_argument(
        "--protocol",
        default="plain",
        metavar="NAME",
        help=f"{', '.join(PROTOCOLS)}, or yours: package.module:function",
    )
    parser.add_argument(
        "--vgg",
        metavar="SOURCE",
        help="also score the distance of VGG features: torchvision (fetched), or a .safetensors file with its weights",
    )
    parser.add_argument("--vgg-layer", type=int, default=34, metavar="N", help="default: 34, conv5_4 of VGG19")
    parser.add_argument(
        "--scores",
        default="",
        metavar="NAMES",
        help=f"also take perceptual scores: {', '.join(ASKED_FOR)}, several with commas; lower is better",
    )
    parser.add_argument(
        "--recursive", action="store_true", help="enter sub-folders, which are named alike on both sides"
    )
    parser.add_argument(
        "--crop-border", type=int, default=0, metavar="N", help="px cut from every side before scoring; default: 0"
    )
    parser.add_argument(
        "--y", action="store_true", help="psnr and ssim of luma (BT.601), as other toolkits have them; plain alone"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the scores of every image and their mean")
    parser.add_argument(
        "--scale",
        type=int,
        default=4,
        choices=range(1, 17),
        metavar="N",
        help="enlargement of --model bicubic; default: 4",
    )
    add_common_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Score, print the means and write the JSON file. Returns 1 where some images failed. Raises InputError."""
    from cyclesr_dist.data.folders import images_folder
    from cyclesr_dist.errors import InputError
    from cyclesr_dist.models.model_name import resolve_model
    from cyclesr_dist.nets.vgg import build_vgg
    from cyclesr_dist.scoring.perceptual.scores import Perceptual, check_names, device_of
    from cyclesr_dist.scoring.score import Part, evaluate_folder, scorer_of, write_scores

    if args.json:
        check_writable(args.json, "--json")
    scorer_of(args.protocol)
    part = Part(args.crop_border, args.y)
    part.check(args.protocol)
    names = check_names("--scores", [name.strip() for name in args.scores.split(",")] if args.scores else [])
    model = resolve_model(args.model, args.scale, args.allow_module)
    if model.scale > 1 and args.lr.is_dir() and args.lr.resolve() == args.hr.resolve():
        raise InputError(
            f"--lr and --hr are both {args.lr}; where names tell LR from HR, give patterns, as "
            f"'{args.lr}/*_LR4.png' and '{args.hr}/*_HR.png'"
        )
    keep_freed()  # of a photograph, for the next one
    with telling("image", None, args.debug) as tally:
        scores = evaluate_folder(
            model,
            images_folder(args.lr, model.scale),
            args.hr,
            args.protocol,
            not args.quiet,
            features=build_vgg(args.vgg, (args.vgg_layer,)) if args.vgg else None,
            part=part,
            recursive=args.recursive,
            tally=tally,
            perceptual_scores=Perceptual(names, device_of(model)) if names else None,
        )
    print(f"{scores['model']}, {scores['protocol']}{_of_what(part)}, mean of {counted(len(scores['images']), 'image')}")
    for name, value in scores["mean"].items():
        better = "  lower is better" if lower_is_better(name) else ""
        print(f"  {name:14}{value:8.3f} dB" if name.startswith("psnr") else f"  {name:14}{value:9.4f}{better}")
    sys.stdout.flush()  # before the file, which may fail
    if args.json:
        write_scores(args.json, scores)
    return tally.exit_code


def _of_what(part: Part) -> str:
    return ", luma" * part.y + f", {part.crop_border} px cut from every side" * bool(part.crop_border)
