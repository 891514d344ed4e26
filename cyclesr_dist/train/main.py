"""`launch/train.py`: from a config file to a finished run folder, under any launcher."""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cyclesr_dist.config.reader import dump, write_resolved
from cyclesr_dist.config.schema import Config, load, uses_estimate
from cyclesr_dist.config.systems import spec_of
from cyclesr_dist.data.loader import Sources, num_epoch_steps, open_sources
from cyclesr_dist.degradation.sentences import sentences
from cyclesr_dist.distributed.build import build_backend, check_backend
from cyclesr_dist.distributed.placement import check_launch
from cyclesr_dist.distributed.watch import Watch
from cyclesr_dist.distributed.world import World
from cyclesr_dist.errors import ConfigError, CycleSRError, InputError
from cyclesr_dist.method.systems.build import build_system
from cyclesr_dist.models.checkpoint import Checkpoint
from cyclesr_dist.models.checkpoint import identity as run_identity
from cyclesr_dist.reports.run_report import write_report
from cyclesr_dist.runtime.command import RankParser, add_common_arguments, guarded
from cyclesr_dist.runtime.exit_codes import started_as
from cyclesr_dist.runtime.files import write_text
from cyclesr_dist.runtime.stopping import StopRequest
from cyclesr_dist.telemetry.library_warnings import LibraryWarnings
from cyclesr_dist.telemetry.progress import Progress, open_progress
from cyclesr_dist.telemetry.prometheus import Metrics, run_info
from cyclesr_dist.telemetry.targets import write_targets
from cyclesr_dist.telemetry.trackers import Trackers, open_trackers, tracker_class
from cyclesr_dist.train.checkpoint_store import CheckpointStore, open_store
from cyclesr_dist.train.ending import last_lines, summary_of
from cyclesr_dist.train.estimation import degradation_of_run
from cyclesr_dist.train.journal import Journal
from cyclesr_dist.train.loop import Run, train
from cyclesr_dist.train.mirror import Mirror, MirroredStore
from cyclesr_dist.train.opening import first_lines
from cyclesr_dist.train.resume import load_newest
from cyclesr_dist.train.run_folder import RunFolder
from cyclesr_dist.train.schedule import Schedule
from cyclesr_dist.train.validation import Validator

_EXAMPLE = """example:
  deepspeed --num_gpus 8 launch/train.py --config configs/ntire17_t2.yaml --run-dir runs/t2 data.hr=/data/hr
  torchrun --nproc-per-node 8 launch/train.py --config configs/ntire17_t2.yaml backend=ddp
  python launch/train.py --config configs/demo.yaml train.max_steps=20"""


def build_parser(prog: str = "train.py") -> argparse.ArgumentParser:
    parser = RankParser(
        prog=prog,
        description="Train one system. Run it under deepspeed, torchrun or plain python; the config stays the same.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", required=True, help="YAML file, see configs/")
    parser.add_argument("--run-dir", type=Path, help="run folder; default: runs/<name of the config file>")
    parser.add_argument("--resume", action="store_true", help="continue from the newest checkpoint, if there is one")
    parser.add_argument("--dry-run", action="store_true", help="check all, print the resolved config, write nothing")
    parser.add_argument("--local_rank", type=int, default=0, help=argparse.SUPPRESS)  # the deepspeed launcher passes it
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value", help="config overrides")
    add_common_arguments(parser)
    return parser


def main(argv: Sequence[str] | None = None, prog: str = "train.py") -> int:
    """Returns the exit code: 0 done, 2 bad config or input, 1 otherwise."""
    args = build_parser(prog).parse_intermixed_args(argv)
    return guarded(lambda: _run(args), debug=args.debug)


def _run(args: argparse.Namespace) -> int:
    stop = StopRequest()
    with stop.listening(), LibraryWarnings() as libraries:
        world = World.from_env()
        started_as(world.rank)
        store = world.join()
        watch = Watch(store, world, stop)
        folder = RunFolder(args.run_dir or Path("runs") / Path(args.config).stem)
        journal = Journal(folder, world)
        try:
            with ExitStack() as closing:
                _train(args, world, stop, watch, folder, journal, libraries, closing)
            world.leave()
        except BaseException as error:
            first = watch.failed(error)
            journal.ended(first)
            if first is error:
                raise
            if not isinstance(error, CycleSRError):
                traceback.print_exc()
            raise first from None
        finally:
            watch.close()
            if world.num_ranks == 1:
                world.leave()  # with others, who may be stuck, taking the group apart could wait for ever
    return 0


def _train(
    args: argparse.Namespace,
    world: World,
    stop: StopRequest,
    watch: Watch,
    folder: RunFolder,
    journal: Journal,
    libraries: LibraryWarnings,
    closing: ExitStack,
) -> None:
    check_launch(world, _warn)
    config = world.together(lambda: _load_config(args, world))
    stop.grace_seconds = config.train.grace_seconds
    watch.silence_seconds = config.train.lost_rank_seconds
    sources = world.together(lambda: open_sources(config))
    validator = world.together(lambda: Validator(config, world))
    schedule = Schedule(config.train, num_epoch_steps(sources, config), spec_of(config.system).rounds)
    if args.dry_run:
        _dry_run(config, world, sources, schedule)
        return
    world.together(lambda: folder.prepare(args.resume) if world.is_main else None)
    identity = run_identity(config, _num_samples(sources))
    place = config.train.checkpoints or str(folder.checkpoints)
    checkpoints = world.together(lambda: open_store(place, config.data.remote))
    world.together(lambda: _check_store_is_free(args, config, checkpoints) if world.is_main else None)
    saved = _load_checkpoint(args, checkpoints, identity, world)
    if "://" in config.train.checkpoints:
        mirror = world.together(lambda: Mirror(folder, config.train.checkpoints, config.data.remote))
        world.together(lambda: mirror.fetch() if saved and world.is_main else None)
        checkpoints = MirroredStore(checkpoints, mirror)
    run_name = folder.path.resolve().name
    metrics = world.together(
        lambda: Metrics(config.telemetry, config.optim, run_info(config), world, run_name, schedule.num_steps, _warn)
    )
    closing.callback(metrics.close)
    libraries.to(folder.log if world.is_main else None)
    make_player = build_backend(config, world)
    degradation = None
    # The checkpoint of a system that starts from it holds it.
    if (not saved) if uses_estimate(config) else validator.needs_estimate:
        degradation = degradation_of_run(config, sources, folder.path, world, resumed=saved is not None)
        validator.measured(degradation)
    system = world.together(
        lambda: build_system(config, make_player, world, saved.system if saved else None, degradation)
    )
    start = saved.step if saved else 0
    # Before the folder becomes a run's: one that is refused may be started again with what the error names.
    opening = world.together(
        lambda: first_lines(config, world, system, sources.epoch_set.patch, schedule.num_steps, start)
    )
    world.together(lambda: _start_files(config, folder, saved) if world.is_main else None)
    if config.data.log_keys:
        world.together(lambda: None if world.is_main else folder.start_keys(world.rank, start))

    trackers = world.together(
        lambda: open_trackers(config, folder.path, start, _warn) if world.is_main else Trackers({}, _warn)
    )
    closing.callback(trackers.close)
    run = Run(
        config,
        world,
        folder,
        sources,
        system,
        validator,
        metrics,
        saved,
        identity,
        checkpoints,
        stop,
        journal,
        trackers,
    )
    metrics.started(start, world.together(lambda: journal.started(start, schedule.num_steps)))
    progress = open_progress(config.telemetry.log, config.system, enabled=world.is_main and not args.quiet)
    closing.callback(progress.close)
    addresses = world.gather_objects(metrics.address)
    if world.is_main:
        closing.callback(folder.targets.unlink, missing_ok=True)
    world.together(lambda: _publish(run, progress, addresses))
    measured = sentences(degradation.facts) if degradation else []
    for text in [*opening, *(f"measured: {text}" for text in measured)]:
        progress.say(text)
    numbers = train(run, progress, schedule)
    summary = summary_of(config, sources, numbers, world.num_ranks, folder.path)
    for text in last_lines(config, summary, folder.path):
        progress.say(text)
    closing.close()
    world.together(lambda: _finish(run, summary) if world.is_main else None)


def _warn(line: str) -> None:
    print(f"cyclesr: warning: {line}", file=sys.stderr, flush=True)


def _publish(run: Run, progress: Progress, addresses: list[str]) -> None:
    """Where the metrics of all ranks are."""
    if not run.world.is_main:
        return
    run.folder.targets.unlink(missing_ok=True)  # of a process that was killed
    if any(addresses):
        write_targets(run.folder.targets, addresses)
        progress.say(f"metrics: http://{addresses[0]}/metrics; of all ranks: {run.folder.targets}")


def _load_config(args: argparse.Namespace, world: World) -> Config:
    for text in args.overrides:
        if "=" not in text:
            raise ConfigError(f"argument {text!r} is no override; expected key.sub=value")
    config = load(args.config, args.overrides)
    check_backend(config, world)
    world.rank_batch(config.global_batch)
    for name in config.telemetry.trackers:
        tracker_class(name)
    return config


def _num_samples(sources: Sources) -> dict[str, int]:
    named = {"hr": sources.hr, "lr": sources.lr, "pairs": sources.pairs}
    return {name: len(shard_set) for name, shard_set in named.items() if shard_set is not None}


def _check_store_is_free(args: argparse.Namespace, config: Config, checkpoints: CheckpointStore) -> None:
    if not args.resume and (names := checkpoints.names()):
        raise InputError(
            f"train.checkpoints = {config.train.checkpoints} already holds {names[-1]}; use --resume, or another place"
        )


def _load_checkpoint(
    args: argparse.Namespace, checkpoints: CheckpointStore, identity: dict[str, Any], world: World
) -> Checkpoint | None:
    saved = load_newest(checkpoints, identity, world) if args.resume else None
    if args.resume and saved is None and world.is_main:
        print("cyclesr: no checkpoint yet: starting from the beginning", file=sys.stderr)
    return saved


def _start_files(config: Config, folder: RunFolder, saved: Checkpoint | None) -> None:
    write_resolved(config, folder.config)
    folder.cut_back(saved.step if saved else 0)


def _dry_run(config: Config, world: World, sources: Sources, schedule: Schedule) -> None:
    system = build_system(config, build_backend(config, world), world)
    if not world.is_main:
        return
    print(dump(config), end="")
    for name, player in system.players.items():
        for part, module in player.module.named_children():
            print(f"# {name}.{part}: {sum(p.numel() for p in module.parameters()):,} parameters")
    print(f"# samples: {_num_samples(sources)}; {schedule.epoch_steps} steps an epoch, {schedule.num_steps} in all")
    each = world.rank_batch(config.global_batch)
    print(f"# {world.num_ranks} ranks, {each} samples each a step; nothing was written")


def _finish(run: Run, summary: dict[str, Any]) -> None:
    """The main rank: summary and report."""
    write_text(run.folder.summary, json.dumps(summary, indent=1) + "\n")
    run.journal.ended()
    write_report(run.folder.path)
    if isinstance(run.checkpoints, MirroredStore):
        run.checkpoints.mirror.send()
