"""`cyclesr upscale`: enlarge photographs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from cyclesr_dist.data.images import list_images
from cyclesr_dist.errors import InputError
from cyclesr_dist.runtime.bars import each
from cyclesr_dist.runtime.command import add_common_arguments
from cyclesr_dist.runtime.passing import failed


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "upscale",
        help="enlarge photographs",
        description="Enlarge image files, or all images of folders, into --out as PNG of the same name. Grey, alpha, "
        "16 bits and the colour profile are kept. Large images are worked on in overlapping tiles without seams.",
        epilog="example: cyclesr upscale holiday/ portrait.jpg --model runs/demo --out enlarged",
    )
    parser.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help="image file or folder of images")
    parser.add_argument(
        "--model",
        required=True,
        help="run folder (RUN@last: its last network instead of its best), checkpoint folder, .safetensors or .onnx "
        "file, or bicubic",
    )
    parser.add_argument(
        "--allow-module", action="store_true", help="the model file may name a Python class, which is imported"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for <stem>.png, made if needed")
    parser.add_argument(
        "--tile", type=int, metavar="PX", help="side of the tiles in px of the input; 0: one piece; default: by size"
    )
    parser.add_argument(
        "--scale", type=int, default=4, choices=range(1, 17), metavar="N", help="of bicubic; default: 4"
    )
    add_common_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Enlarge all inputs and print where they are. Raises InputError, before any work where names clash."""
    from cyclesr_dist.models.infer import upscale_file
    from cyclesr_dist.models.model_file import resolve_model

    if args.tile is not None and args.tile < 0:
        raise InputError(f"--tile {args.tile}: must be 0 or more")
    targets = _targets(args.inputs, args.out)
    upscaler = resolve_model(args.model, args.scale, args.allow_module)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise failed(f"--out {args.out}: cannot be made ({error.strerror})", error) from error
    for target, source in each(targets.items(), f"x{upscaler.scale}", "image", not args.quiet):
        upscale_file(upscaler, source, target, args.tile)
    print(f"{len(targets)} image{'s' * (len(targets) > 1)} in {args.out}")
    return 0


def _targets(inputs: Sequence[Path], out: Path) -> dict[Path, Path]:
    """Output file -> input file. InputError when two inputs would have one output, or an output is an input."""
    sources = [file for path in inputs for file in (list_images(path) if path.is_dir() else [path])]
    targets: dict[Path, Path] = {}
    for source in sources:
        if not source.exists():
            raise InputError(f"{source}: no such file or folder")
        target = out / f"{source.stem}.png"
        if target in targets:
            raise InputError(f"{targets[target]} and {source} would both become {target}")
        targets[target] = source
    originals = {source.resolve() for source in sources}
    for target, source in targets.items():
        if target.resolve() in originals:
            raise InputError(f"--out {out}: {target} is itself an input (of {source}); choose another folder")
    return targets
