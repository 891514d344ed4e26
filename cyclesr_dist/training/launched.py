"""A training under any launcher, whose ranks stop together."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import torch.distributed as dist

from cyclesr_dist.config.reader import dump
from cyclesr_dist.config.schema import Config
from cyclesr_dist.distributed.build import build_backend, check_backend
from cyclesr_dist.distributed.compiler_import import compiler_left_out
from cyclesr_dist.distributed.hang import record_collectives
from cyclesr_dist.distributed.placement import check_launch
from cyclesr_dist.distributed.watch import Watch
from cyclesr_dist.distributed.world import World
from cyclesr_dist.errors import ConfigError, CycleSRError
from cyclesr_dist.method.systems.build import build_system
from cyclesr_dist.runtime.command import show_traceback
from cyclesr_dist.runtime.exit_codes import started_as
from cyclesr_dist.runtime.files import write_text
from cyclesr_dist.runtime.stopping import StopRequest
from cyclesr_dist.runtime.wording import counted
from cyclesr_dist.telemetry.access import check_endpoint
from cyclesr_dist.telemetry.library_warnings import LibraryWarnings
from cyclesr_dist.telemetry.rank_log import RankLog
from cyclesr_dist.telemetry.trackers import tracker_class
from cyclesr_dist.training.agreement import check_equal, facts_of_launch
from cyclesr_dist.training.ending import last_lines, summary_of
from cyclesr_dist.training.expectation import expected
from cyclesr_dist.training.journal import Journal
from cyclesr_dist.training.loop import train
from cyclesr_dist.training.mirror import MirroredStore
from cyclesr_dist.training.ownership import Ownership
from cyclesr_dist.training.run import Run
from cyclesr_dist.training.run_folder import RunFolder
from cyclesr_dist.training.setup import RunInputs, build_run, open_inputs, warn
from cyclesr_dist.training.start import begin, open_start, sentence


def run_training(
    load_config: Callable[[], Config],
    run_dir: Path,
    *,
    resume: bool = False,
    with_changes: bool = False,
    quiet: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Train in this process, one rank of those that the launcher's variables tell of, or alone.

    `resume` goes on from the newest checkpoint; `with_changes` also where it then is another experiment.

    Returns what summary.json holds; empty with `dry_run`, which prints the configuration and writes nothing. Raises
    CycleSRError; where another rank failed first, with its cause.
    """
    if threading.current_thread() is not threading.main_thread():
        raise CycleSRError("training must be started from the main thread, which alone can take signals")
    if dist.is_initialized():
        raise CycleSRError("torch.distributed has a process group in this process; training makes its own: destroy it")
    stop = StopRequest()
    with stop.listening(), LibraryWarnings() as libraries, RankLog() as log, ExitStack() as until_the_end:
        world = World.from_env()
        started_as(world.rank, world.local_num_ranks)
        folder = RunFolder(run_dir)
        if world.num_ranks > 1:
            record_collectives(folder.logs)
        store = world.join(str(run_dir))
        watch = Watch(store, world, stop)
        journal = Journal(folder, world)
        ownership = Ownership()
        try:
            check_launch(world, warn)
            config = world.together(load_config)
            if not config.speed.compile:
                until_the_end.enter_context(compiler_left_out())
            options = {"--resume": resume, "--resume-with-changes": with_changes, "--dry-run": dry_run}
            check_equal(lambda: facts_of_launch(config, options), world)
            world.together(lambda: _check(config, world))
            stop.grace_seconds = config.train.grace_seconds
            watch.silence_seconds = config.train.lost_rank_seconds
            inputs = open_inputs(config, world)
            summary: dict[str, Any] = {}
            if dry_run:
                _dry_run(inputs, world)
            else:
                how: dict[str, Any] = {"resume": resume, "with_changes": with_changes, "quiet": quiet}
                how |= {"stop": stop, "journal": journal, "libraries": libraries, "ownership": ownership}
                run = build_run(inputs, world, folder, rank_log=log, **how)
                watch.evidence.folder = folder.logs
                summary = _train(run)
                log.note("--- finished")
            world.leave()
        except BaseException as error:
            first = watch.failed(error)
            log.note(f"--- left: {first}")
            if not ownership.is_lost():
                journal.ended(first)
            if first is error:
                raise
            if not isinstance(error, CycleSRError):
                show_traceback()
            raise first from None
        finally:
            ownership.release()
            watch.close()
            if world.num_ranks == 1:
                world.leave()  # with others, who may be stuck, taking the group apart could wait for ever
    return summary


def _train(run: Run) -> dict[str, Any]:
    """To the end, with all its files. Returns the summary. All ranks call it."""
    with closing(run):
        numbers = train(run)
        summary = summary_of(run.config, run.sources, numbers, run.world.num_ranks, run.folder.path)
        if run.identity["start"]:
            summary["start"] = run.identity["start"]
        if numbers["trouble"]:
            run.progress.warn(numbers["trouble"])
        for text in last_lines(run.config, summary, run.folder.path):
            run.progress.say(text)
    run.world.together(lambda: _finish(run, summary) if run.world.is_main else None)
    return summary


def _check(config: Config, world: World) -> None:
    """Raises ConfigError for what only this launch shows to be wrong."""
    check_backend(config, world)
    world.rank_batch(config.global_batch)
    check_endpoint(config.telemetry)
    for name in config.telemetry.trackers:
        tracker_class(name)
    if missing := [rank for rank in config.telemetry.profile.ranks if rank >= world.num_ranks]:
        raise ConfigError(
            f"telemetry.profile.ranks has {missing[0]}; allowed: 0 to {world.num_ranks - 1}, the ranks of this run"
        )


def _dry_run(inputs: RunInputs, world: World) -> None:
    """All ranks call it."""
    config, schedule = inputs.config, inputs.schedule
    begun = open_start(config, world)
    system = build_system(config, build_backend(config, world), world)
    taken = world.together(lambda: begin(system, begun)) if begun else {}
    lines = expected(config, world, system, inputs.sources.epoch_set.patch, schedule.num_steps)
    if not world.is_main:
        return
    print(dump(config), end="")
    for name, player in system.players.items():
        for part, module in player.module.named_children():
            print(f"# {name}.{part}: {sum(p.numel() for p in module.parameters()):,} parameters")
    if taken:
        print(f"# networks: {sentence(taken)}")
    print(f"# samples: {inputs.num_samples}; {schedule.epoch_steps} steps an epoch, {schedule.num_steps} in all")
    for line in lines:
        print(f"# {line}")
    each = world.rank_batch(config.global_batch)
    print(f"# {counted(world.num_ranks, 'rank')}, {counted(each, 'sample')} each a step; nothing was written")


def _finish(run: Run, summary: dict[str, Any]) -> None:
    """The main rank: summary and report."""
    from cyclesr_dist.reports.run_report import write_report  # what it imports need not be there for the first step

    run.ownership.verify()
    write_text(run.folder.summary, json.dumps(summary, indent=1) + "\n")
    run.journal.ended()
    write_report(run.folder.path)
    if isinstance(run.checkpoints, MirroredStore):
        run.checkpoints.mirror.send()
