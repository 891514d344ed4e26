"""`cyclesr upscale`: enlarge photographs."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from cyclesr_dist.errors import InputError
from cyclesr_dist.runtime.command import add_common_arguments
from cyclesr_dist.runtime.files import clear_abandoned, is_file, is_folder
from cyclesr_dist.runtime.memory import keep_freed
from cyclesr_dist.runtime.passing import unwritable
from cyclesr_dist.runtime.tally import Tally
from cyclesr_dist.runtime.wording import counted

_EPILOG = """\
A file that cannot be read does not end the work: the others are done, it is named on standard error, and the exit code
is 1. Called again, the command goes on: results are kept that are of the same photograph and model. A file of another
origin is in the way until --overwrite is given. One for which memory is short is named with a --tile that fits.

examples:
  cyclesr upscale holiday/ portrait.jpg --model runs/demo --out enlarged
  cyclesr upscale archive/ --recursive --model runs/demo --out enlarged
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "upscale",
        description="Enlarge image files, or all images of folders, into --out as PNG of the same name. Grey, alpha, "
        "16 bits and the colour profile are kept. Large images are worked on in overlapping tiles without seams.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
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
    parser.add_argument("--recursive", action="store_true", help="enter sub-folders, and keep their layout in --out")
    parser.add_argument("--overwrite", action="store_true", help="replace files in --out that are of another origin")
    parser.add_argument(
        "--tile", type=int, metavar="PX", help="side of the tiles in px of the input; 0: one piece; default: by size"
    )
    parser.add_argument(
        "--scale", type=int, default=4, choices=range(1, 17), metavar="N", help="of bicubic; default: 4"
    )
    add_common_arguments(parser)
    parser.set_defaults(run=run)


@dataclass(frozen=True)
class Input:
    """One photograph to enlarge."""

    name: str
    source: Path
    target: Path
    listed: bool
    """Found in a folder, not given by name."""


def run(args: argparse.Namespace) -> int:
    """Enlarge all inputs and print where they are. Returns 1 where some failed. Raises InputError, before any work
    where names clash."""
    if args.tile is not None and args.tile < 0:
        raise InputError(f"--tile {args.tile}: must be 0 or more")
    tally = Tally(debug=args.debug)
    inputs = _inputs(args.inputs, args.out, args.recursive, tally)
    from cyclesr_dist.models.flat_colours import colour_warning
    from cyclesr_dist.models.model_name import fingerprint, resolve_model
    from cyclesr_dist.models.tiles import tile_warning
    from cyclesr_dist.models.upscale_files import Enlarging, Task, upscale_files

    # First: a training may replace the file in between, and results must not pass for those of the later network.
    model = fingerprint(args.model, args.scale)
    upscaler = resolve_model(args.model, args.scale, args.allow_module)
    keep_freed()  # of a tile, for the next one
    for warning in filter(None, (colour_warning(upscaler), tile_warning(upscaler, args.tile))):
        print(f"cyclesr: warning: {warning}", file=sys.stderr, flush=True)
    _make(args.out, {entry.target.parent for entry in inputs})
    how = Enlarging(upscaler, model, args.tile, args.overwrite, one_by_one=args.allow_module)
    if len(args.inputs) == 1 and inputs and not inputs[0].listed:  # a single file: its error is the command's
        made = how.file(inputs[0].source, inputs[0].target)
        tally.done, tally.kept, code = int(made), int(not made), 0
    else:
        tasks = [Task(entry.name, entry.source, entry.target) for entry in inputs]
        try:
            upscale_files(how, tasks, tally, not args.quiet)
        finally:
            code = tally.tell("image", args.out)
    count = tally.done + tally.kept
    kept = f", {tally.kept:,} of them from an earlier call" if tally.kept else ""
    print(f"{counted(count, 'image')} in {args.out}{kept}")
    return code


def _make(out: Path, folders: Set[Path]) -> None:
    """`folders` are those below it for results. Raises InputError where there is a file, UnwritableError where `out`
    cannot be made or written into."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for folder in {out} | folders:
            clear_abandoned(folder)
        trial = out / ".cyclesr-trial.tmp"
        trial.touch()
        trial.unlink(missing_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"--out {out}: cannot be made ({error.strerror})") from error
    except OSError as error:
        raise unwritable(f"--out {out}", error) from error


def _inputs(paths: Sequence[Path], out: Path, recursive: bool, tally: Tally) -> list[Input]:
    """All photographs to enlarge; `tally` hears of what folders hold besides.

    Raises InputError when an input is missing or empty, a result would replace an input, or a file given by name
    would have the result of another one. Those of a folder are failures.
    """
    from cyclesr_dist.data.folders import check_some, look_into
    from cyclesr_dist.runtime.patterns import pattern_of

    found: list[Input] = []
    for path in paths:
        if is_folder(path) or pattern_of(path):
            folder = look_into(path, recursive, without=out)
            folder.note(tally, whole_paths=len(paths) > 1)
            check_some(folder)
            for source in folder.images:
                name = folder.name_of(source)
                found.append(Input(name if len(paths) == 1 else str(source), source, _target(out / name), listed=True))
        elif is_file(path):
            found.append(Input(str(path), path, _target(out / path.name), listed=False))
        else:
            special = path.is_symlink() or path.exists()
            raise InputError(f"{path}: {'is no file and no folder' if special else 'no such file or folder'}")
    originals = {entry.source.resolve() for entry in found}
    for entry in found:
        if entry.target.resolve() in originals:
            raise InputError(
                f"--out {out}: {entry.target} is itself an input (of {entry.source}); choose another folder"
            )
    return _without_clashes(found, tally)


def _target(path: Path) -> Path:
    return path.with_name(f"{path.stem}.png")


def _without_clashes(found: Sequence[Input], tally: Tally) -> list[Input]:
    uses = Counter(entry.target for entry in found)
    of: dict[Path, Input] = {}
    for entry in found:
        if uses[entry.target] == 1:
            continue
        other = of.setdefault(entry.target, entry)
        if other is entry:
            continue
        text = f"{other.source} and {entry.source} would both become {entry.target}"
        if not (entry.listed and other.listed):
            raise InputError(text)
        for either in (other, entry):
            tally.fail(either.name, f"{text}; enlarge one of them by itself")
    return [entry for entry in found if uses[entry.target] == 1]
