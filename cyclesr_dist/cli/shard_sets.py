"""What `cyclesr shards` does once its arguments are read."""

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
from cyclesr_dist.runtime.patterns import root_of
from cyclesr_dist.runtime.tally import Tally, telling
from cyclesr_dist.runtime.wording import counted

_DONE = "holds this result already, nothing to do"


@dataclass(frozen=True)
class Job:
    """One set to build."""

    kind: Kind
    hr: Path | None
    lr: Path | None


def build(args: argparse.Namespace) -> int:
    """`shards build`. Returns 1 where some photographs failed; raises CycleSRError."""
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
            "that only share a name, choose with patterns ('DIR/*_HR.png'), cut them from different halves "
            "(shards.hr_region, shards.lr_region), or say --allow-overlap"
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
        tally.fail(str(root_of(folder) / name if folder else name), reason)
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
    of_there = f"{used:,}" if used == num_there else f"{used:,} of {num_there:,}"
    what = ("pair" if pairs else "photograph") + ("" if num_there == 1 else "s")
    return f"{of_there} {what}, {counted(manifest['count'], 'patch')} of {side}x{side} px{flat}"


def check(args: argparse.Namespace) -> int:
    """`shards check`. Returns 2 where there are problems; raises CycleSRError."""
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
                found = f"{counted(report.num_samples, 'sample')} in {counted(report.num_shards, 'shard')}"
                print(f"{shown(url)}: sound, {found}", flush=True)
        for problem in problems:
            sound = False
            print(problem, file=sys.stderr, flush=True)
    return 0 if sound else 2
