"""From a configuration to a `Run`. All ranks call what is here."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from cyclesr_dist.config.reader import write_resolved
from cyclesr_dist.config.schema import Config, uses_estimate
from cyclesr_dist.config.systems import spec_of
from cyclesr_dist.data.loader import Sources, num_epoch_steps, open_sources
from cyclesr_dist.data.mixture import SampleSet
from cyclesr_dist.degradation.record import Degradation
from cyclesr_dist.degradation.sentences import sentences
from cyclesr_dist.distributed.build import build_backend
from cyclesr_dist.distributed.world import World
from cyclesr_dist.errors import InputError
from cyclesr_dist.method.systems.base import System
from cyclesr_dist.method.systems.build import build_system
from cyclesr_dist.models.checkpoint import Checkpoint, ShardSetFacts, identity
from cyclesr_dist.runtime.redact import redact
from cyclesr_dist.runtime.stopping import StopRequest
from cyclesr_dist.telemetry.diagnosis import diagnosis_of
from cyclesr_dist.telemetry.library_warnings import LibraryWarnings
from cyclesr_dist.telemetry.progress import Mute, open_progress
from cyclesr_dist.telemetry.prometheus import Metrics, run_info
from cyclesr_dist.telemetry.rank_log import RankLog
from cyclesr_dist.telemetry.targets import write_targets
from cyclesr_dist.telemetry.trackers import Trackers, open_trackers
from cyclesr_dist.training.agreement import Facts, check_equal, facts_of_data
from cyclesr_dist.training.changes import Change, scores_differ, told
from cyclesr_dist.training.checkpoint_store import CheckpointStore, open_store
from cyclesr_dist.training.estimation import degradation_of_run
from cyclesr_dist.training.journal import Journal
from cyclesr_dist.training.micro_batch import decide, keep, read_kept
from cyclesr_dist.training.mirror import Mirror, MirroredStore
from cyclesr_dist.training.opening import first_lines
from cyclesr_dist.training.ownership import Ownership
from cyclesr_dist.training.pace import Pace
from cyclesr_dist.training.profiling import Profiler
from cyclesr_dist.training.resume import load_newest
from cyclesr_dist.training.run import Run
from cyclesr_dist.training.run_folder import RunFolder
from cyclesr_dist.training.schedule import Schedule
from cyclesr_dist.training.start import Start, begin, check_resumed, open_start, sentence
from cyclesr_dist.training.validation import Validator
from cyclesr_dist.training.validation_set_up import open_validator
from cyclesr_dist.training.work import Work


@dataclass(frozen=True)
class RunInputs:
    """What is known of a run before anything is written."""

    config: Config
    sources: Sources
    validator: Validator
    schedule: Schedule

    @property
    def shard_sets(self) -> dict[str, SampleSet]:
        """By name; those that the system needs."""
        named = {"hr": self.sources.hr, "lr": self.sources.lr, "pairs": self.sources.pairs}
        return {name: shard_set for name, shard_set in named.items() if shard_set is not None}

    @property
    def num_samples(self) -> dict[str, int]:
        """Of each shard set."""
        return {name: len(shard_set) for name, shard_set in self.shard_sets.items()}

    def identity(self) -> dict[str, Any]:
        """Of the run's checkpoints."""
        facts = {name: ShardSetFacts(len(s), s.contents, s.patch) for name, s in self.shard_sets.items()}
        photographs = {name: self._of_data[f"data.{name}"] for name in ("valid_hr", "valid_lr")}
        return identity(self.config, facts, photographs)

    def facts(self) -> Facts:
        """What must be the same on all ranks."""
        return self._of_data

    @cached_property
    def _of_data(self) -> Facts:
        """Every photograph of validation is opened for it, once."""
        samples = {f"data.{name}": shard_set.checksum for name, shard_set in self.shard_sets.items()}
        photographs = {"data.valid_hr": self.validator.sharp, "data.valid_lr": self.validator.real}
        return facts_of_data(samples, photographs)


def open_inputs(config: Config, world: World) -> RunInputs:
    """Open the data that the configuration names. Raises ConfigError and InputError on all ranks."""
    sources = world.together(lambda: open_sources(config))
    validator = world.together(lambda: open_validator(config, world))
    rounds = spec_of(config.system).rounds
    schedule = world.together(lambda: Schedule(config.train, num_epoch_steps(sources, config), rounds))
    inputs = RunInputs(config, sources, validator, schedule)
    check_equal(inputs.facts, world)
    return inputs


def build_run(
    inputs: RunInputs,
    world: World,
    folder: RunFolder,
    *,
    resume: bool = False,
    with_changes: bool = False,
    quiet: bool = False,
    stop: StopRequest | None = None,
    journal: Journal | None = None,
    libraries: LibraryWarnings | None = None,
    system: System | None = None,
    metrics: Metrics | None = None,
    ownership: Ownership | None = None,
    rank_log: RankLog | None = None,
) -> Run:
    """Everything that training needs, with the run folder begun, or with `resume` taken up again. Close it in the end.

    `system` and `metrics` stand for those that the configuration describes: a benchmark has its own. With `ownership`
    the folder and its checkpoints are claimed; who gives it releases it. `rank_log` begins here. Raises ConfigError and
    InputError, on all ranks, before a folder that cannot be used has become a run's.
    """
    config = inputs.config
    claims = ownership or Ownership()
    take = partial(ownership.take, folder, config) if ownership else folder.prepare
    world.together(lambda: take(resume) if world.is_main else None)
    identity = world.together(inputs.identity)
    checkpoints, found = _checkpoints(config, world, folder, identity, claims, resume, with_changes)
    saved, changed = found or (None, [])
    if saved and scores_differ(changed):
        saved.best = {}
    with ExitStack() as opened:
        if metrics is None:
            name, num_steps = folder.path.resolve().name, inputs.schedule.num_steps
            metrics = world.together(
                lambda: Metrics(config.telemetry, config.optim, run_info(config), world, name, num_steps, warn)
            )
        opened.callback(metrics.close)
        if libraries:
            libraries.to(folder.log if world.is_main else None)
        begun = None if saved else open_start(config, world)
        degradation = _degradation(inputs, world, folder, saved)
        system = system or _system(config, world, saved, degradation)
        identity["start"] = saved.start if saved else _begin(system, begun, world)
        start = saved.step if saved else 0
        decided, lines = _micro_batch(inputs, world, folder, system, resume)
        # Before the folder becomes a run's: one that is refused may be started again with what the error names.
        opening = world.together(lambda: _opening(inputs, world, system, start)) + lines
        trackers = world.together(
            lambda: open_trackers(config, folder.path, start, warn) if world.is_main else Trackers({}, warn)
        )
        opened.callback(trackers.close)
        unfinished = start < inputs.schedule.num_steps
        world.together(
            lambda: _start_files(config, folder, start, decided, unfinished=unfinished) if world.is_main else None
        )
        if config.data.log_keys:
            world.together(lambda: None if world.is_main else folder.start_keys(world.rank, start))
        if rank_log:
            rank_log.begin(folder.rank_log(world.rank), _heading(world, start, inputs.schedule.num_steps))
        log = config.telemetry.log
        progress = open_progress(log, config.system, enabled=not quiet) if world.is_main else Mute()
        opened.callback(progress.close)
        pace = Pace(system, world)
        opened.callback(pace.close)
        profiler = Profiler(config.telemetry.profile, world, folder.profile, progress.say, warn)
        opened.callback(profiler.close)
        run = Run(
            config=config,
            world=world,
            folder=folder,
            sources=inputs.sources,
            system=system,
            validator=inputs.validator,
            schedule=inputs.schedule,
            checkpoints=checkpoints,
            identity=identity,
            saved=saved,
            stop=stop or StopRequest(),
            journal=journal or Journal(folder, world),
            ownership=claims,
            diagnosis=diagnosis_of(config, inputs.schedule.num_steps),
            metrics=metrics,
            pace=pace,
            work=Work(config.precision, config.global_batch, config.speed, world),
            profiler=profiler,
            trackers=trackers,
            progress=progress,
        )
        restarts = world.together(lambda: run.journal.started(start, inputs.schedule.num_steps))
        world.together(lambda: run.journal.changed(start, changed))
        if begun:
            world.together(lambda: run.journal.note("began_from", step=start, text=sentence(identity["start"])))
        metrics.started(start, restarts)
        _publish(run, opened)
        line, is_warning = told(changed)
        if line:
            (progress.warn if is_warning else progress.say)(line)
        for line in [
            *opening,
            *trackers.notes,
            *([f"networks: {sentence(identity['start'])}"] if begun else []),
            *(f"measured: {text}" for text in (sentences(degradation.facts) if degradation else [])),
        ]:
            progress.say(line)
        run.closing = opened.pop_all()
    return run


def _heading(world: World, start: int, num_steps: int) -> str:
    where = f"on {socket.gethostname()}, process {os.getpid()}"
    return f"started at step {start} of {num_steps} as rank {world.rank} of {world.num_ranks} {where}"


def warn(line: str) -> None:
    print(f"cyclesr: warning: {redact(line)}", file=sys.stderr, flush=True)


def _checkpoints(
    config: Config,
    world: World,
    folder: RunFolder,
    identity: dict[str, Any],
    claims: Ownership,
    resume: bool,
    with_changes: bool,
) -> tuple[CheckpointStore, tuple[Checkpoint, list[Change]] | None]:
    """Where they are kept, and the newest one where the run is resumed, with what has changed since."""
    place = config.train.checkpoints or str(folder.checkpoints)
    checkpoints = world.together(lambda: open_store(place, config.data.remote, claims.verify))
    if not resume:
        world.together(lambda: _check_is_free(config, checkpoints) if world.is_main else None)
    found = load_newest(checkpoints, identity, world, with_changes=with_changes) if resume else None
    if found:
        world.together(lambda: check_resumed(config, found[0]) if world.is_main else None)
    if resume and found is None and world.is_main:
        print("cyclesr: no checkpoint yet: starting from the beginning", file=sys.stderr)
    if "://" not in config.train.checkpoints:
        return checkpoints, found
    mirror = world.together(lambda: Mirror(folder, config.train.checkpoints, config.data.remote))
    world.together(lambda: mirror.fetch() if found and world.is_main else None)
    return MirroredStore(checkpoints, mirror), found


def _check_is_free(config: Config, checkpoints: CheckpointStore) -> None:
    if names := checkpoints.names():
        raise InputError(
            f"train.checkpoints = {config.train.checkpoints} already holds {names[-1]}; "
            "use --resume (in Python resume=True), or another place"
        )


def _degradation(inputs: RunInputs, world: World, folder: RunFolder, saved: Checkpoint | None) -> Degradation | None:
    """Measured, or read, where the system starts from it or validation scores with it."""
    # The checkpoint of a system that starts from it holds it.
    needed = saved is None if uses_estimate(inputs.config) else inputs.validator.needs_estimate
    if not needed:
        return None
    degradation = degradation_of_run(inputs.config, inputs.sources, folder.path, world, resumed=saved is not None)
    inputs.validator.measured(degradation)
    return degradation


def _system(config: Config, world: World, saved: Checkpoint | None, degradation: Degradation | None) -> System:
    make_player = build_backend(config, world)
    state = saved.system if saved else None
    return world.together(lambda: build_system(config, make_player, world, state, degradation))


def _begin(system: System, begun: Start | None, world: World) -> dict[str, str]:
    """With the networks that the configuration names. Returns what is known of them."""
    return {} if begun is None else world.together(lambda: begin(system, begun))


def _opening(inputs: RunInputs, world: World, system: System, start: int) -> list[str]:
    return first_lines(inputs.config, world, system, inputs.sources.epoch_set.patch, inputs.schedule.num_steps, start)


def _micro_batch(
    inputs: RunInputs, world: World, folder: RunFolder, system: System, resume: bool
) -> tuple[dict[str, object], list[str]]:
    """What `micro_batch: auto` comes to, for the run folder, and what is said of it; nothing with another value."""
    if inputs.config.micro_batch != "auto":
        return {}, []
    kept = world.share(read_kept(folder.micro_batch) if resume and world.is_main else {})
    decided, line = decide(inputs.config, world, system, inputs.sources.epoch_set.patch, kept)
    return decided, [line]


def _start_files(
    config: Config, folder: RunFolder, start: int, decided: dict[str, object], *, unfinished: bool
) -> None:
    if unfinished:
        folder.summary.unlink(missing_ok=True)  # of a run that had ended, and is to go on: it says "completed"
    if decided:
        keep(folder.micro_batch, decided)
    write_resolved(config, folder.config)
    folder.cut_back(start)


def _publish(run: Run, opened: ExitStack) -> None:
    """Where the metrics of all ranks are, while it runs."""
    addresses = run.world.gather_objects(run.metrics.address)

    def publish() -> None:
        run.folder.targets.unlink(missing_ok=True)  # of a process that was killed
        if any(addresses):
            scheme = "https" if run.config.telemetry.tls_certificate else "http"
            write_targets(run.folder.targets, addresses, scheme)
            run.progress.say(f"metrics: {scheme}://{addresses[0]}/metrics; of all ranks: {run.folder.targets}")

    if run.world.is_main:
        opened.callback(lambda: None if run.ownership.is_lost() else run.folder.targets.unlink(missing_ok=True))
    run.world.together(lambda: publish() if run.world.is_main else None)
