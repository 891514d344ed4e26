"""`cyclesr shards`: pack photographs into shard sets, and verify them."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclesr_dist.config.schema import Config, load
from cyclesr_dist.data.build import build_set, describe_set
from cyclesr_dist.data.check import check_set, find_sets
from cyclesr_dist.data.choose import choose, say
from cyclesr_dist.data.folders import images_folder
from cyclesr_dist.data.overlap import describe, shared_photographs
from cyclesr_dist.data.remote import RemoteSource
from cyclesr_dist.data.shards import Kind, ShardSet
from cyclesr_dist.data.source import below, is_remote, local_folder, shown
from cyclesr_dist.data.upload import held_set, staging_folder, upload
from cyclesr_dist.errors import InputError, StorageError
from cyclesr_dist.runtime.command import add_common_arguments
from cyclesr_dist.runtime.tally import Tally, telling

_BUILD_EPILOG = """\
Writes the shard sets URL/hr and URL/lr, and URL/pairs with --pairs-hr. The config's scale and shards section say how.
Photographs that are smaller than one patch are left out and named. So are those that cannot be read, and the exit code
is then 1. Killed and called again, it goes on where it was.
The domains must not show the same photographs.

examples:
  cyclesr shards build --hr hr --lr lr --out data/mine --config configs/own_photos.yaml shards.patch=32
  cyclesr shards build --hr DIV2K/DIV2K_train_HR --lr DIV2K/DIV2K_train_LR_mild --out shards/mild \\
      --config configs/ntire18_t2.yaml
"""
_CHECK_EPILOG = """\
Verifies all checksums and decodes every sample. Exit code 0: sound; 2: a line for each problem.

example:
  cyclesr shards check shards/mild
"""
_DONE = "holds this result already, nothing to do"


@dataclass(frozen=True)
class Job:
    """One set to build."""

    kind: Kind
    hr: Path | None
    lr: Path | None


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
    build.add_argument("--hr", required=True, type=Path, metavar="DIR", help="folder of HR photographs")
    build.add_argument("--lr", required=True, type=Path, metavar="DIR", help="folder of real LR photographs")
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
    return _check(args) if args.action == "check" else _build(args)


def _build(args: argparse.Namespace) -> int:
    config = load(args.config, args.overrides)
    if args.workers is not None and args.workers < 1:
        raise InputError(f"--workers {args.workers} is not allowed; at least 1 is needed")
    remote = is_remote(args.out)
    out = args.out.rstrip("/") if remote else str(local_folder(args.out))
    if remote:
        RemoteSource(out, config.data.remote)  # whether there is such storage, before the work
    with telling("photograph", None if remote else Path(out), args.debug) as tally:
        _build_sets(args, config, out, remote, tally)
    return tally.exit_code


def _build_sets(args: argparse.Namespace, config: Config, out: str, remote: bool, tally: Tally) -> None:
    """`tally` hears of the photographs that cannot be read."""
    hr, lr = (images_folder(folder, config.scale) for folder in (args.hr, args.lr))
    jobs = [Job("hr", hr, None), Job("lr", None, lr)]
    if args.pairs_hr is not None:
        jobs.append(Job("pairs", images_folder(args.pairs_hr, config.scale), lr))
    choices = [
        choose(
            job.kind,
            config.shards,
            scale=config.scale,
            hr_dir=job.hr,
            lr_dir=job.lr,
            recursive=args.recursive,
            tally=tally,
        )
        for job in jobs
    ]
    requests = [
        describe_set(
            job.kind,
            config.shards,
            scale=config.scale,
            workers=args.workers,
            choice=choice,
            hr_dir=job.hr,
            lr_dir=job.lr,
        )
        for job, choice in zip(jobs, choices, strict=True)
    ]
    shared = shared_photographs(requests[0], requests[1])
    if shared and not args.allow_overlap:
        raise InputError(
            f"--hr and --lr hold the same photographs: {describe(shared)}; give unrelated ones, rename those "
            "that only share a name, cut them from different halves (shards.hr_region, shards.lr_region), or say "
            "--allow-overlap"
        )
    for choice in choices:
        choice.check()
    for choice in choices:
        say(choice.notices)
    for job, choice, request in zip(jobs, choices, requests, strict=True):
        place = below(out, job.kind)
        manifest = held_set(place, config.data.remote, request, args.overwrite) if remote else None
        count = 0
        if manifest is None:
            folder = staging_folder(place, config.data.remote) if remote else Path(place)
            count = build_set(
                job.kind,
                folder,
                config.shards,
                scale=config.scale,
                overwrite=args.overwrite or remote,
                workers=args.workers,
                progress=not args.quiet,
                request=request,
                leave_out=True,
                hr_dir=job.hr,
                lr_dir=job.lr,
            )
            manifest = ShardSet.open(str(folder), job.kind).manifest
            if remote:
                upload(folder, place, config.data.remote, progress=not args.quiet)
                count = count or manifest["count"]  # staged by an earlier call
        contents = _contents(manifest, choice.num_there, config.shards.min_std)
        print(f"{shown(place)}: {contents if count else f'{_DONE} ({contents})'}", flush=True)
        _count(job, manifest, tally)


def _count(job: Job, manifest: dict[str, Any], tally: Tally) -> None:
    """Hand on what became of the photographs of a set."""
    failed = manifest.get("failed", {})
    folder = job.hr if job.kind == "hr" else job.lr
    for name, reason in failed.items():
        tally.fail(str(folder / name if folder else name), reason)
    if job.kind != "pairs":  # whose LR photographs are those of the set before
        tally.done += len(manifest["sources"]) - len(failed)


def _contents(manifest: dict[str, Any], num_there: int, min_std: float) -> str:
    """How much of what there was is in a set, in words."""
    pairs = manifest["kind"] == "pairs"
    left_out = set(manifest.get("left_out", ()))  # sets of earlier versions lack it
    used = sum(source["lr" if pairs else manifest["kind"]] not in left_out for source in manifest["sources"])
    side = manifest["patch"] * (manifest["scale"] if manifest["kind"] == "hr" else 1)
    num_flat = manifest.get("flat", 0)
    flat = f", {num_flat:,} left out for shards.min_std = {min_std}" if num_flat else ""
    counted = f"{used:,}" if used == num_there else f"{used:,} of {num_there:,}"
    what = ("pair" if pairs else "photograph") + ("" if num_there == 1 else "s")
    patches = "patch" if manifest["count"] == 1 else "patches"
    return f"{counted} {what}, {manifest['count']:,} {patches} of {side}x{side} px{flat}"


def _check(args: argparse.Namespace) -> int:
    sound = True
    for url in find_sets(args.url):
        try:
            report = check_set(url, progress=not args.quiet)
        except StorageError:
            raise
        except InputError as error:
            problems: tuple[str, ...] = (str(error),)
        else:
            problems = report.problems
            if not problems:
                print(f"{shown(url)}: sound, {report.num_samples} samples in {report.num_shards} shards", flush=True)
        for problem in problems:
            sound = False
            print(problem, file=sys.stderr, flush=True)
    return 0 if sound else 2
