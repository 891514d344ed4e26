"""`cyclesr bench`: measure on this machine."""

from __future__ import annotations

import argparse
import json
import tempfile
from importlib import resources
from pathlib import Path

from cyclesr_dist.bench import checkpoint, score, search
from cyclesr_dist.bench.data import Settings, bench_data, describe
from cyclesr_dist.cli.guard import add_common_arguments
from cyclesr_dist.config import load
from cyclesr_dist.configfile import check_range
from cyclesr_dist.data.encoding import EXTENSIONS
from cyclesr_dist.errors import InputError
from cyclesr_dist.files import write_text
from cyclesr_dist.images import list_images
from cyclesr_dist.search.config import load_search

_DATA_EPILOG = """\
Compares the stream with a plain webdataset pipeline over the same tars, with a Dataset over folders of PNG files, and
with decoding alone, in rounds that take turns; prints medians and their ratios, the sizes and times of all encodings,
and the memory used over many epochs.

example:
  cyclesr bench data --json data.json
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command and its actions."""
    bench = subparsers.add_parser("bench", help="measure on this machine")
    actions = bench.add_subparsers(dest="action", required=True, metavar="data|score|checkpoint|search")
    data = actions.add_parser(
        "data",
        help="the stream",
        description="Measure how fast patches come.",
        epilog=_DATA_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = Settings()
    data.add_argument("--photos", type=Path, metavar="DIR", help="default: the bundled photographs")
    data.add_argument("--patch", type=int, default=default.patch, metavar="PX", help="LR patch; default: %(default)s")
    data.add_argument("--scale", type=int, default=default.scale, metavar="N", help="default: %(default)s")
    data.add_argument("--pairs", type=int, default=default.pairs, metavar="N", help="at least; default: %(default)s")
    data.add_argument("--batch", type=int, default=default.batch, metavar="N", help="default: %(default)s")
    data.add_argument("--workers", type=int, default=default.workers, metavar="N", help="default: %(default)s")
    data.add_argument("--rounds", type=int, default=default.rounds, metavar="N", help="default: %(default)s")
    data.add_argument("--seconds", type=float, default=default.seconds, metavar="S", help="each; default: %(default)s")
    data.add_argument("--epochs", type=int, default=default.epochs, metavar="N", help="default: %(default)s")
    data.add_argument("--encoding", choices=EXTENSIONS, default=default.encoding, help="default: %(default)s")
    data.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    add_common_arguments(data)
    data.set_defaults(run=run)
    _add_score(actions)
    _add_checkpoint(actions)
    _add_search(actions)


def _add_score(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "score",
        help="the NTIRE 2018 scorer",
        description="Measure how fast NTIRE 2018 scores come, against a loop over all shifts, and how far they differ.",
    )
    parser.add_argument("--photos", type=Path, metavar="DIR", help="default: the bundled photographs")
    parser.add_argument("--images", type=int, default=3, metavar="N", help="how many; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    add_common_arguments(parser)
    parser.set_defaults(run=run_score)


def _add_checkpoint(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "checkpoint",
        help="what a checkpoint costs",
        description="Measure for how long a checkpoint stops the training step, against torch.save.",
    )
    parser.add_argument("--config", type=Path, help="whose networks; default: the paper's on NTIRE17")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where to write; default: the temporary folder")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value", help="config overrides")
    add_common_arguments(parser)
    parser.set_defaults(run=run_checkpoint)


def _add_search(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "search",
        help="what Ray and Tune cost",
        description="Measure the wall time of short trials against that of the same training runs without a search.",
    )
    parser.add_argument("--config", type=Path, required=True, help="search configuration, as launch/tune.py takes it")
    parser.add_argument("--trials", type=int, default=6, metavar="N", help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=40, metavar="N", help="each; default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value", help="overrides of the search configuration")
    add_common_arguments(parser)
    parser.set_defaults(run=run_search)


def run(args: argparse.Namespace) -> int:
    """Returns 0; raises CycleSRError."""
    settings = Settings(**{name: getattr(args, name) for name in Settings.__dataclass_fields__})
    for name in ("patch", "scale", "pairs", "batch", "workers", "rounds", "epochs"):
        check_range(f"--{name}", getattr(settings, name), minimum=1)
    check_range("--seconds", settings.seconds, above=0)
    photos = _photos(args)
    with tempfile.TemporaryDirectory(prefix="cyclesr-bench-") as folder:
        result = bench_data(photos, Path(folder), settings, progress=not args.quiet)
    print(describe(result))
    if args.json:
        write_text(args.json, json.dumps(result, indent=1) + "\n")
    return 0


def run_score(args: argparse.Namespace) -> int:
    """Returns 0; raises CycleSRError."""
    check_range("--images", args.images, minimum=1)
    check_range("--rounds", args.rounds, minimum=1)
    result = score.bench_score(_photos(args)[: args.images], args.rounds, progress=not args.quiet)
    print(score.describe(result))
    if args.json:
        write_text(args.json, json.dumps(result, indent=1) + "\n")
    return 0


def run_checkpoint(args: argparse.Namespace) -> int:
    """Returns 0; raises CycleSRError."""
    check_range("--rounds", args.rounds, minimum=1)
    config = load(args.config, ["backend=single", *args.overrides])
    try:
        with tempfile.TemporaryDirectory(prefix="cyclesr-bench-", dir=args.folder) as folder:
            result = checkpoint.bench_checkpoint(config, Path(folder), args.rounds, progress=not args.quiet)
    except OSError as error:
        raise InputError(f"--folder {args.folder}: {error}") from error
    print(checkpoint.describe(result))
    if args.json:
        write_text(args.json, json.dumps(result, indent=1) + "\n")
    return 0


def run_search(args: argparse.Namespace) -> int:
    """Returns 0; raises CycleSRError."""
    check_range("--trials", args.trials, minimum=1)
    check_range("--steps", args.steps, minimum=1)
    config = load_search(args.config, args.overrides)
    with tempfile.TemporaryDirectory(prefix="cyclesr-bench-") as folder:
        result = search.bench_search(config, Path(folder), args.trials, args.steps, progress=not args.quiet)
    print(search.describe(result))
    if args.json:
        write_text(args.json, json.dumps(result, indent=1) + "\n")
    return 0


def _photos(args: argparse.Namespace) -> list[Path]:
    return list_images(args.photos or Path(str(resources.files("cyclesr_dist") / "demo_photos")))
