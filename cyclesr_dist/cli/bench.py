"""`cyclesr bench`: measure on this machine."""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import resources
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, get_args, get_type_hints

from cyclesr_dist.config.reader import check_range
from cyclesr_dist.config.schema import Shards, load
from cyclesr_dist.runtime.command import add_common_arguments
from cyclesr_dist.runtime.files import check_writable, write_text
from cyclesr_dist.runtime.guard import guarded_children
from cyclesr_dist.runtime.passing import failed
from cyclesr_dist.runtime.signals import deaf_children
from cyclesr_dist.workflows.bench import plans

_DATA_EPILOG = """\
Compares the stream with a plain webdataset pipeline over the same tars, with a Dataset over folders of PNG files, with
raw pixels in LMDB where lmdb is installed, and with decoding alone, in rounds that take turns; prints medians
and their ratios, the sizes and times of all encodings, and the memory used over many epochs.

example:
  cyclesr bench data --json data.json
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command and its actions."""
    bench = subparsers.add_parser("bench")
    bench.set_defaults(run=run)
    actions = bench.add_subparsers(dest="action", required=True, metavar="MEASUREMENT")
    data = actions.add_parser(
        "data",
        help="the stream",
        description="Measure how fast patches come.",
        epilog=_DATA_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = plans.Settings()
    data.add_argument("--photos", type=Path, metavar="DIR", help="default: the bundled photographs")
    data.add_argument("--patch", type=int, default=default.patch, metavar="PX", help="LR patch; default: %(default)s")
    data.add_argument("--scale", type=int, default=default.scale, metavar="N", help="default: %(default)s")
    data.add_argument("--pairs", type=int, default=default.pairs, metavar="N", help="at least; default: %(default)s")
    data.add_argument("--batch", type=int, default=default.batch, metavar="N", help="default: %(default)s")
    data.add_argument("--workers", type=int, default=default.workers, metavar="N", help="default: %(default)s")
    data.add_argument("--rounds", type=int, default=default.rounds, metavar="N", help="default: %(default)s")
    data.add_argument("--seconds", type=float, default=default.seconds, metavar="S", help="each; default: %(default)s")
    data.add_argument("--epochs", type=int, default=default.epochs, metavar="N", help="default: %(default)s")
    data.add_argument(
        "--encoding",
        choices=get_args(get_type_hints(Shards)["encoding"]),
        default=default.encoding,
        help="default: %(default)s",
    )
    data.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    add_common_arguments(data)
    data.set_defaults(measure=run_data)
    _add_all(actions)
    _add_train(actions)
    _add_scaling(actions)
    _add_upscale(actions)
    _add_score(actions)
    _add_checkpoint(actions)
    _add_search(actions)
    _add_telemetry(actions)
    _add_estimate(actions)


def _add_all(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "all",
        help="the figures of docs/performance.md, one after the other",
        description="Measure the joint step, inference, the stream and checkpoints in one run to leave alone. "
        "--json is written after each part, and a part that fails does not stop the rest.",
        epilog="example: cyclesr bench all --json gpu.json",
    )
    parser.add_argument("--part", action="append", choices=plans.PARTS, help="again for more; default: all")
    parser.add_argument("--photos", type=Path, metavar="DIR", help="default: the bundled photographs")
    parser.add_argument("--quick", action="store_true", help="the smallest sizes, once: to see that all of it runs")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="where to write the figures")
    add_common_arguments(parser)
    parser.set_defaults(measure=run_all)


def _add_train(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    default = plans.StepBench()
    parser = actions.add_parser(
        "train",
        help="the joint step",
        description="Time the joint step against a plain loop of the same mathematics (fp32, eager, one call per image "
        "set, separate backward calls), in turns: patches/s, ratio, time by part, FLOPs, share of the measured "
        "rate of matrix products or convolutions, memory.",
        epilog="example: cyclesr bench train --case 'cyclesr paper' --batch 2 --json train.json",
    )
    parser.add_argument(
        "--case",
        action="append",
        choices=list(plans.CASES),
        help="again for more; default: the small ones, with a GPU all",
    )
    parser.add_argument(
        "--variant",
        action="append",
        metavar="OVERRIDES",
        help="time the step with these, too, e.g. 'precision=bf16 speed.compile=true'; again for more",
    )
    parser.add_argument("--batch", type=int, metavar="N", help="of the paper's sizes; default: 32 on a GPU, 1 on a CPU")
    parser.add_argument("--rounds", type=int, default=default.rounds, metavar="N", help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value", help="config overrides of all cases")
    add_common_arguments(parser)
    parser.set_defaults(measure=run_train)


def _add_scaling(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "scaling",
        help="several ranks",
        description="Time 1 and 2 ranks, count the bytes that they exchange, and predict 8, 64 and 512 GPUs.",
        epilog="example: cyclesr bench scaling --case 'cyclesr paper' --step-seconds 0.25 --json scaling.json",
    )
    parser.add_argument("--case", choices=list(plans.CASES), default="cyclesr small", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="default: %(default)s")
    parser.add_argument("--step-seconds", type=float, metavar="S", help="of one GPU, for the model; default: measured")
    parser.add_argument("--step-batch", type=int, metavar="N", help="samples of that step; default: as measured here")
    parser.add_argument(
        "--validation-seconds", type=float, metavar="S", help="of 100 photographs on one GPU; default: 20"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value", help="config overrides")
    add_common_arguments(parser)
    parser.set_defaults(measure=run_scaling)


def _add_upscale(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "upscale",
        help="inference",
        description="Measure megapixels a second and memory against the size of the image, of arrays and from file to "
        "file; .onnx files also beside a plain program with onnxruntime.",
        epilog="example: cyclesr bench upscale --model runs/demo --model demo.onnx --sides 256 512 1024",
    )
    parser.add_argument("--model", action="append", required=True, help="as of `cyclesr upscale`; again for more")
    parser.add_argument(
        "--sides",
        type=_size,
        nargs="+",
        default=[plans.Size(side, side) for side in (256, 512, 1024, 2048)],
        metavar="PX",
        help="of the image, LR px: of a square, or 1024x768; default: 256 512 1024 2048",
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    add_common_arguments(parser)
    parser.set_defaults(measure=run_upscale)


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
    parser.set_defaults(measure=run_score)


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
    parser.set_defaults(measure=run_checkpoint)


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
    parser.set_defaults(measure=run_search)


def _add_telemetry(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    default = plans.TelemetryBench()
    parser = actions.add_parser(
        "telemetry",
        help="what watching costs",
        description="Time the training loop with all telemetry (metrics, an endpoint that is scraped, metrics.jsonl, "
        "the live view) and without any, in blocks of steps that take turns.",
        epilog="example: cyclesr bench telemetry --pairs 200 telemetry.trackers=[tensorboard]",
    )
    parser.add_argument("--case", choices=list(plans.CASES), default=default.case, help="default: %(default)s")
    parser.add_argument("--pairs", type=int, default=default.pairs, metavar="N", help="default: %(default)s")
    parser.add_argument("--block", type=int, default=default.block, metavar="STEPS", help="default: %(default)s")
    parser.add_argument(
        "--scrape-seconds", type=float, default=default.scrape_seconds, metavar="S", help="default: %(default)s"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value", help="config overrides")
    add_common_arguments(parser)
    parser.set_defaults(measure=run_telemetry)


def _add_estimate(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    default = plans.EstimateBench()
    parser = actions.add_parser(
        "estimate",
        help="how well a degradation is estimated",
        description="Degrade photographs in ways that are known, estimate each from sets that show different scenes, "
        "and print the estimates beside the truth.",
        epilog="example: cyclesr bench estimate --photos DIV2K_valid_HR --json estimate.json",
    )
    parser.add_argument("--photos", type=Path, metavar="DIR", help="sharp ones; default: the bundled photographs")
    parser.add_argument(
        "--counts",
        type=_counts,
        default=default.counts,
        metavar="N,N,...",
        help=f"photographs a side of the tracks; default: {','.join(map(str, default.counts))}",
    )
    parser.add_argument("--seed", type=int, default=default.seed, metavar="N", help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="one small case of each kind")
    parser.add_argument("--cost", action="store_true", help="measure time and memory instead")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    add_common_arguments(parser)
    parser.set_defaults(measure=run_estimate)


def _size(text: str) -> plans.Size:
    sides = text.split("x") if "x" in text else [text, text]
    if len(sides) != 2 or not all(side.isdecimal() for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r}: a side in px, or width x height as in 1024x768, is needed")
    return plans.Size(int(sides[0]), int(sides[1]))


def _counts(text: str) -> tuple[int, ...]:
    try:
        counts = tuple(int(part) for part in text.split(","))
    except ValueError:
        counts = ()
    if not counts or min(counts) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: numbers of at least 1 with commas between them are needed")
    return counts


def run(args: argparse.Namespace) -> int:
    """Of every measurement. Raises CycleSRError, before any work where the figures cannot be written."""
    if args.json:
        check_writable(args.json, "--json")
    code: int = args.measure(args)
    return code


@contextmanager
def _at_work(place: Path | None = None) -> Iterator[Path]:
    """A folder for what is measured, at `place` or among temporary files. It, and all processes that are started in the
    block, end with this one, also where that is killed."""
    with deaf_children():
        resource_tracker.ensure_running()  # multiprocessing's: ahead of the block, as it ends by itself, after the rest
    with guarded_children() as own, tempfile.TemporaryDirectory(prefix="cyclesr-bench-", dir=place or own) as folder:
        yield Path(folder)


def run_data(args: argparse.Namespace) -> int:
    """Returns 0; raises CycleSRError."""
    from cyclesr_dist.workflows.bench.data import bench_data, describe

    settings = plans.Settings(**{name: getattr(args, name) for name in plans.Settings.__dataclass_fields__})
    for name in ("patch", "scale", "pairs", "batch", "workers", "rounds", "epochs"):
        check_range(f"--{name}", getattr(settings, name), minimum=1)
    check_range("--seconds", settings.seconds, above=0, below=math.inf)
    photos = _photos(args)
    with _at_work() as folder:
        result = bench_data(photos, folder, settings, progress=not args.quiet)
    print(describe(result))
    _write(args.json, result)
    return 0


def run_all(args: argparse.Namespace) -> int:
    """Returns 0, and 1 when a part has failed; raises CycleSRError."""
    from cyclesr_dist.workflows.bench import whole

    results: dict[str, Any] = {}

    def so_far(part: str, result: dict[str, Any]) -> None:
        results[part] = result
        _write(args.json, results)

    with _at_work() as folder:
        parts = tuple(args.part or plans.PARTS)
        whole.bench_all(parts, _photos(args), folder, args.quick, not args.quiet, so_far)
    for part, result in results.items():
        print(f"{part}\n{whole.describe(part, result)}\n")
    return 1 if any("error" in result for result in results.values()) else 0


def run_train(args: argparse.Namespace) -> int:
    """Returns 0; raises CycleSRError."""
    check_range("--rounds", args.rounds, minimum=1)
    if args.batch is not None:
        check_range("--batch", args.batch, minimum=1)
    from cyclesr_dist.workflows.bench import train

    plan = plans.StepBench(
        tuple(args.case or train.default_cases()),
        args.rounds,
        args.batch,
        tuple(args.overrides),
        tuple(args.variant or ()),
    )
    with _at_work() as folder:
        result = train.bench_train(plan, _photos(args), folder, not args.quiet, partial(_write, args.json))
    print(train.describe(result))
    return 0


def run_scaling(args: argparse.Namespace) -> int:
    """Returns 0; raises CycleSRError."""
    check_range("--rounds", args.rounds, minimum=1)
    flags = {"step_s": "--step-seconds", "rank_batch": "--step-batch", "validation_s": "--validation-seconds"}
    known = {field: getattr(args, flag[2:].replace("-", "_")) for field, flag in flags.items()}
    known = {field: value for field, value in known.items() if value is not None}
    for field, value in known.items():
        check_range(flags[field], value, above=0, below=math.inf)
    from cyclesr_dist.workflows.bench import scaling

    load(None, [*plans.CASES[args.case], *args.overrides])  # before any process is started
    with _at_work():
        result = scaling.bench_scaling(args.case, tuple(args.overrides), args.rounds, **known)
    print(scaling.describe(result))
    _write(args.json, result)
    return 0


def run_upscale(args: argparse.Namespace) -> int:
    """Returns 0; raises CycleSRError."""
    check_range("--rounds", args.rounds, minimum=1)
    for size in args.sides:
        check_range("--sides", min(size), minimum=64)
    from cyclesr_dist.workflows.bench import upscale

    with _at_work() as folder:
        result = upscale.bench_upscale(args.model, args.sides, args.rounds, folder)
    print(upscale.describe(result))
    _write(args.json, result)
    return 0


def run_score(args: argparse.Namespace) -> int:
    """Returns 0; raises CycleSRError."""
    check_range("--images", args.images, minimum=1)
    check_range("--rounds", args.rounds, minimum=1)
    from cyclesr_dist.workflows.bench import score

    result = score.bench_score(_photos(args)[: args.images], args.rounds, progress=not args.quiet)
    print(score.describe(result))
    _write(args.json, result)
    return 0


def run_checkpoint(args: argparse.Namespace) -> int:
    """Returns 0; raises CycleSRError."""
    check_range("--rounds", args.rounds, minimum=1)
    from cyclesr_dist.workflows.bench import checkpoint

    config = load(args.config, ["backend=single", *args.overrides])
    try:
        with _at_work(args.folder) as folder:
            result = checkpoint.bench_checkpoint(config, folder, args.rounds, progress=not args.quiet)
    except OSError as error:
        raise failed(f"--folder {args.folder}: {error}", error) from error
    print(checkpoint.describe(result))
    _write(args.json, result)
    return 0


def run_search(args: argparse.Namespace) -> int:
    """Returns 0; raises CycleSRError."""
    check_range("--trials", args.trials, minimum=1)
    check_range("--steps", args.steps, minimum=1)
    from cyclesr_dist.search.config import load_search
    from cyclesr_dist.workflows.bench import search

    config = load_search(args.config, args.overrides)
    with _at_work() as folder:
        result = search.bench_search(config, folder, args.trials, args.steps, progress=not args.quiet)
    print(search.describe(result))
    _write(args.json, result)
    return 0


def run_telemetry(args: argparse.Namespace) -> int:
    """Returns 0; raises CycleSRError."""
    check_range("--pairs", args.pairs, minimum=1)
    check_range("--block", args.block, minimum=1)
    check_range("--scrape-seconds", args.scrape_seconds, above=0, below=math.inf)
    from cyclesr_dist.workflows.bench import telemetry

    plan = plans.TelemetryBench(args.case, args.pairs, args.block, args.scrape_seconds, tuple(args.overrides))
    plan.config()  # before anything is begun
    with _at_work() as folder:
        result = telemetry.bench_telemetry(plan, _photos(args), folder, progress=not args.quiet)
    print(telemetry.describe(result))
    _write(args.json, result)
    return 0


def run_estimate(args: argparse.Namespace) -> int:
    """Returns 0; raises CycleSRError."""
    check_range("--seed", args.seed, minimum=0)
    from cyclesr_dist.workflows.bench import estimate

    plan = plans.EstimateBench(args.counts, args.seed, args.quick, args.cost)
    with _at_work() as folder:
        result = estimate.bench_estimate(_photos(args), plan, folder, progress=not args.quiet)
    print(estimate.describe(result))
    _write(args.json, result)
    return 0


def _write(path: Path | None, result: dict[str, Any]) -> None:
    if path:
        write_text(path, json.dumps(result, indent=1) + "\n")


def _photos(args: argparse.Namespace) -> list[Path]:
    from cyclesr_dist.data.folders import list_images

    return list_images(
        getattr(args, "photos", None) or Path(str(resources.files("cyclesr_dist.workflows") / "demo_photos"))
    )
