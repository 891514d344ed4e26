"""The training loop. Comments say which ranks take part."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cyclesr_dist.config.schema import Config
from cyclesr_dist.data.batch import Batch
from cyclesr_dist.data.faults import Fault, FaultLog
from cyclesr_dist.data.loader import Sources, batches
from cyclesr_dist.distributed.player import TensorDict
from cyclesr_dist.distributed.world import World
from cyclesr_dist.errors import FailedElsewhere, Preempted, TrainingError
from cyclesr_dist.method.step import StepResult
from cyclesr_dist.method.systems.base import ESTIMATED, G_L2H, System, SystemState
from cyclesr_dist.models.checkpoint import Checkpoint
from cyclesr_dist.models.model_file import BEST, LAST, save_model
from cyclesr_dist.nets.build import inference_net
from cyclesr_dist.runtime.exit_codes import will_leave
from cyclesr_dist.runtime.stopping import StopRequest
from cyclesr_dist.telemetry.diagnosis import Diagnosis, diagnosis_of
from cyclesr_dist.telemetry.progress import Progress, Status
from cyclesr_dist.telemetry.prometheus import Metrics
from cyclesr_dist.telemetry.trackers import Trackers, grouped
from cyclesr_dist.train.bad_numbers import LEFT_OUT_BEFORE, BadNumbers, RollBack, keep_buffers, restore_buffers
from cyclesr_dist.train.checkpoint_store import CheckpointStore
from cyclesr_dist.train.ema import Averages
from cyclesr_dist.train.journal import Journal
from cyclesr_dist.train.opening import Stopwatch
from cyclesr_dist.train.pictures import Pictures
from cyclesr_dist.train.resume import load_newest
from cyclesr_dist.train.run_folder import RunFolder, append_line
from cyclesr_dist.train.saver import Saver
from cyclesr_dist.train.schedule import Schedule
from cyclesr_dist.train.validation import Validator


@dataclass
class Run:
    """Everything one training run is made of; `train` moves it forward."""

    config: Config
    world: World
    folder: RunFolder
    sources: Sources
    system: System
    validator: Validator
    metrics: Metrics
    saved: Checkpoint | None
    identity: dict[str, Any]
    checkpoints: CheckpointStore
    stop: StopRequest
    journal: Journal
    trackers: Trackers
    """None but on the main rank."""


def train(run: Run, progress: Progress, schedule: Schedule) -> dict[str, Any]:
    """Train to the schedule's end. Returns the summary, the same on all ranks. All ranks call it.

    Raises TrainingError when gradients stay bad or something cannot be written, Preempted (the other ranks:
    FailedElsewhere) when `run.stop` asks for it and all is saved.
    """
    saver = Saver(
        run.checkpoints, run.identity, run.config.train.keep_checkpoints, written=run.metrics.checkpoint_written
    )
    diagnosis = diagnosis_of(run.config, schedule.num_steps)
    run.stop.training = True
    try:
        while True:
            try:
                return Attempt(run, progress, schedule, saver, diagnosis).to_the_end()
            except RollBack as request:
                _go_back(run, saver, progress, request)
    finally:
        saver.wait()


class Attempt:
    """Training from `run.saved`, or from the beginning, to the end, unless it has to go back."""

    def __init__(self, run: Run, progress: Progress, schedule: Schedule, saver: Saver, diagnosis: Diagnosis) -> None:
        self.run, self.progress, self.schedule, self.saver, self.diagnosis = run, progress, schedule, saver, diagnosis
        saved = run.saved or Checkpoint(0, SystemState({}))
        self.step = self.saved_step = self.logged_step = saved.step
        self.averages = Averages(run.config.ema_decay, run.system.sr_players, saved.ema)
        self.best = dict(saved.best)
        self.left_out = list(saved.left_out)
        self.bad = BadNumbers(run.config, run.world, run.folder, saved.rollbacks)
        self.validation_due = saved.validation_due
        self.seconds_before = saved.seconds
        self.started = self.logged_at = time.monotonic()
        self.first_step = saved.step
        self.stopwatch = Stopwatch(schedule.num_steps)

    def to_the_end(self) -> dict[str, Any]:
        run = self.run
        faults = FaultLog(run.config.data.max_bad_samples, run.world)
        if self.validation_due:
            self._validate()
        # Closed at once, whoever still holds the exception's frames: its worker processes end with it.
        with closing(batches(run.sources, run.config, run.world, self.step, self.schedule.num_steps)) as stream:
            self._steps(stream, faults)
        self._agree(faults, ())  # a stop during the last validation
        return self._finish()

    def _steps(self, stream: Iterable[tuple[Batch, Sequence[Fault]]], faults: FaultLog) -> None:
        run, train = self.run, self.run.config.train
        for batch, found in run.metrics.waiting(stream):
            self.advance(batch, found, faults)
            if self._is_due(train.validate_every_steps):
                self._validate()
            if self._is_due(train.checkpoint_every_steps):
                self._save()

    def advance(self, batch: Batch, found: Sequence[Fault], faults: FaultLog) -> None:
        """One step, and what is told of it. `found` are this rank's samples that could not be read."""
        metrics = self.run.metrics
        with metrics.timed("step"):
            self._agree(faults, found)  # all ranks
            result = self._update(batch)  # all ranks: gradients are averaged
        self.step += 1
        metrics.stepped(self.step, self.schedule.phase(self.step - 1).value, batch.hr_keys, batch.lr_keys)
        if line := self.stopwatch.stepped(self.step):
            self.progress.say(line)
        if result and self._is_due(self.run.config.train.log_every_steps):
            self.log(result)

    def _is_due(self, every: int) -> bool:
        return bool(every) and (self.step % every == 0 or self.step == self.schedule.num_steps)

    def _agree(self, faults: FaultLog, found: Sequence[Fault]) -> None:
        """The one exchange that a step needs besides gradients: bad samples, a stop, a failed checkpoint. All ranks."""
        world = self.run.world
        counts = world.totals(len(found), self.run.stop.requested, self.saver.failed)
        if counts[2]:
            world.together(self.saver.finish)
        if counts[1]:
            self._stop()
        if counts[0]:
            self.run.metrics.corrupt(faults.agree(found))

    def _stop(self) -> None:
        world = self.run.world
        reason = next(filter(None, world.gather_objects(self.run.stop.reason)))
        if self.step > self.saved_step:
            self._save()
        world.together(self.saver.finish)
        will_leave(Preempted.exit_code)
        message = f"{reason}: saved at step {self.step} of {self.schedule.num_steps}; --resume continues"
        raise Preempted(message) if world.is_main else FailedElsewhere(message, Preempted.exit_code)

    def _update(self, batch: Batch) -> StepResult | None:
        """None when the step is left out, or its numbers were bad: parameters, moments, statistics and pools are then
        as before."""
        run, step = self.run, self.step
        if step in self.left_out:
            run.metrics.skipped("rollback")
            return None
        players = run.system.players
        for player in players.values():
            player.set_lr(self.schedule.lr_factor(step))
        _seed_step(run.config.seed, step, run.world.rank)
        if run.config.data.log_keys:
            _log_keys(run, step, batch)
        buffers = keep_buffers(players)
        result = run.system.step(batch, self.schedule.phase(step))
        run.metrics.gradients(result.grad_norm)
        bad = self.bad.found(result)
        if not all(math.isfinite(norm) for norm in result.grad_norm.values()):
            run.metrics.skipped("not_finite" if bad else "loss_scale")
        if bad:
            restore_buffers(buffers)
            self.bad.leave_out(step, result, batch, self.progress, can_go_back=self.saved_step > 0)
            return None
        self.averages.update()
        return result

    def log(self, result: StepResult) -> None:
        """Fetch a step's numbers and tell them everywhere. All ranks."""
        now = time.monotonic()
        rate = (self.step - self.logged_step) * self.run.config.global_batch / (now - self.logged_at)
        self.logged_at, self.logged_step = now, self.step
        measured = _measure(self.run, result)  # all ranks
        metrics, phase = self.run.metrics, self.schedule.phase(self.step - 1)
        left = (now - self.started) / (self.step - self.first_step) * (self.schedule.num_steps - self.step)
        epoch, lr_factor = self.schedule.epoch(self.step - 1), self.schedule.lr_factor(self.step - 1)
        metrics.measured(measured.losses, measured.drift, measured.norms, measured.loss_scales)
        metrics.logged(epoch, lr_factor, left, rate)
        seconds = metrics.seconds()
        wait = seconds.get("data_wait", 0.0)
        share = wait / max(wait + seconds.get("step", 0.0), 1e-9)
        num_steps = self.schedule.num_steps
        self.progress.show(Status(self.step, num_steps, epoch, phase.value, left, rate, share, measured.losses))
        if self.run.world.is_main:
            record: dict[str, Any] = {"step": self.step, "epoch": epoch, "phase": phase.value}
            record |= {f"loss.{name}": value for name, value in measured.losses.items()}
            record |= {f"grad_norm.{name}": value for name, value in result.grad_norm.items()}
            record |= {f"network_norm.{name}": value for name, value in measured.norms.items()}
            record |= {f"drift.{name}": value for name, value in measured.drift.items()}
            record |= {"lr_factor": lr_factor, "patches_per_second": round(rate, 3)}
            record |= {f"seconds.{part}": round(value, 4) for part, value in seconds.items()}
            record |= {f"memory_mb.{kind}": round(value / 2**20) for kind, value in metrics.memory().items()}
            append_line(self.run.folder.metrics, record)
            self.run.trackers.scalars(self.step, grouped(record, leave_out=("step",)))
        self.progress.warn(self.diagnosis.logged(self.step, measured.losses, measured.drift))

    @contextmanager
    def _aside(self, part: str) -> Iterator[None]:
        """Time the block as a part of the loop that is no training: throughput is of training alone."""
        began = time.monotonic()
        with self.run.metrics.timed(part):
            yield
        self.logged_at += time.monotonic() - began

    def _validate(self) -> None:
        """All ranks, each its pictures. A stop breaks it off; it is then due when the run resumes."""
        run, step = self.run, self.step
        if not run.validator.enabled or not self.schedule.phase(step - 1).trains_g_l2h:  # g_l2h has not begun then
            return
        with self._aside("validation"):
            self._score()

    def _score(self) -> None:
        run, step = self.run, self.step
        found: dict[str, dict[str, float]] = {}
        for name in reversed(run.system.sr_players):  # the system's own comes last: its networks stay in the validator
            weights = self.averages.weights(name)  # all ranks
            one = run.validator.score(name, weights, _translators(run, name), run.stop)  # all ranks
            self.validation_due = one is None
            if one is None:
                return
            found[name] = one
        scores = found[G_L2H]
        run.metrics.validated(scores)
        self.progress.validated(step, scores)
        self.progress.warn(self.diagnosis.validated(step, scores))
        improved = [name for name in found if self._keep_better(name, found[name])]
        last = self.averages.weights(G_L2H)  # all ranks
        chosen = self.averages.weights(improved[-1]) if improved else {}  # all ranks
        if run.world.is_main:
            beside = {f"estimated.{key}": value for key, value in found.get(ESTIMATED, {}).items()}
            append_line(run.folder.validation, {"step": step, **scores, **beside})
            _export(run, run.folder.last, last, step, LAST)
            if improved:
                _export(run, run.folder.model, chosen, step, BEST)
                run.validator.g_l2h.load_state_dict(chosen)  # pictures show what is exported
            pictures = Pictures(run.validator, run.folder.pictures, run.config.validate.pictures)
            for name, strip in pictures.draw(bool(improved)).items():
                run.trackers.picture(step, f"pictures/{name}", strip)
            run.trackers.scalars(step, {f"validation/{name}": value for name, value in scores.items()})

    def _keep_better(self, name: str, scores: dict[str, float]) -> bool:
        """Whether they are the best so far; `estimated` says that they are of the network beside the system's own."""
        if not self.run.validator.better(scores, self.best):
            return False
        self.best = {"step": self.step, **scores} | ({"estimated": 1.0} if name == ESTIMATED else {})
        return True

    def _save(self) -> None:
        """Copy the state and let it be written. All ranks call it."""
        with self._aside("checkpoint"):
            self._copy_state()
        self.saved_step = self.step
        self.bad.saved()

    def _copy_state(self) -> None:
        seconds = self.seconds_before + time.monotonic() - self.started
        state = Checkpoint(
            step=self.step,
            system=self.run.system.state(),  # all ranks
            ema=self.averages.state(),
            best=self.best,
            seconds=round(seconds, 3),
            validation_due=self.validation_due,
            left_out=self.left_out,
            rollbacks=self.bad.rollbacks,
        )
        last = self.averages.weights(G_L2H) if self.schedule.phase(self.step - 1).trains_g_l2h else {}  # all ranks
        models = self._last_models(last) if self.run.world.is_main else (lambda: None)
        self.run.world.together(lambda: self.saver.begin(state, models) if self.run.world.is_main else None)

    def _last_models(self, weights: TensorDict) -> Callable[[], None]:
        """Writes copies of them as the last network, and where none was chosen yet as the run's. None before g_l2h
        begins to learn."""
        run, step = self.run, self.step
        paths = [run.folder.last] + ([] if self.best else [run.folder.model])
        state = {name: tensor.detach().to("cpu", copy=True) for name, tensor in weights.items()}

        def write() -> None:
            for path in paths if state else []:
                _export(run, path, state, step, LAST)

        return write

    def _finish(self) -> dict[str, Any]:
        run = self.run
        run.world.together(self.saver.finish)
        if not self.best:
            weights = self.averages.weights(G_L2H)  # all ranks
            if run.world.is_main:
                _export(run, run.folder.model, weights, self.step, LAST)
        return {
            "steps": self.step,
            "best": self.best,
            "train_seconds": round(self.seconds_before + time.monotonic() - self.started, 1),
            "peak_memory_mb": round(_peak_memory_mb(run.world)),
            "warnings": self.diagnosis.warnings,
            "bad_steps": self.bad.num_left_out,
            "rollbacks": self.bad.rollbacks,
        }


def _go_back(run: Run, saver: Saver, progress: Progress, request: RollBack) -> None:
    """Load the newest checkpoint in place, and leave out the batches that may have done the harm. All ranks."""
    run.world.together(saver.finish)
    saved = load_newest(run.checkpoints, run.identity, run.world)
    assert saved is not None, "a run goes back only where it has saved"
    first = max(saved.step, request.first - LEFT_OUT_BEFORE)
    saved.left_out = sorted({*saved.left_out, *range(first, request.last + 1)})
    saved.rollbacks += 1
    run.system.load(saved.system)
    run.saved = saved
    run.metrics.rolled_back()
    if run.world.is_main:
        run.folder.cut_back(saved.step)
        run.journal.note("rolled_back", step=saved.step, reason=f"bad gradients in {request}")


def _seed_step(seed: int, step: int, rank: int) -> None:
    """Whatever a network draws inside (dropout) depends on the step, so a resumed run draws the same."""
    torch.manual_seed((seed * 1_000_003 + step) * 4099 + rank)


@dataclass(frozen=True)
class Measured:
    """Numbers of a logged step on the host. Losses and drift are means over ranks, the rest is alike on all."""

    losses: dict[str, float]
    drift: dict[str, float]
    norms: dict[str, float]
    """Of gradients, by network."""
    loss_scales: dict[str, float]
    """By player."""


def _measure(run: Run, result: StepResult) -> Measured:
    """One copy from the device, one exchange between ranks. All ranks call it."""
    players = run.system.players
    norms: dict[str, Tensor] = {}
    for player_name, player in players.items():
        for name, norm in player.network_norms().items():
            norms[f"{name}.{player_name}" if name in norms else name] = norm
    scales = {name: player.loss_scale() for name, player in players.items()}
    on_device = {name: scale for name, scale in scales.items() if scale is not None}
    groups: list[dict[str, Tensor]] = [result.losses, result.drift, norms, on_device]
    flat = [t.detach().float().reshape(()) for group in groups for t in group.values()]
    fetched = torch.stack(flat).tolist()
    num_means = len(result.losses) + len(result.drift)
    values = iter(run.world.mean(fetched[:num_means]) + fetched[num_means:])
    losses, drift, norms_, scales_ = ({name: next(values) for name in group} for group in groups)
    return Measured(losses, drift, norms_, dict.fromkeys(players, 1.0) | scales_)


def _log_keys(run: Run, step: int, batch: Batch) -> None:
    record = {"step": step + 1, "hr": list(batch.hr_keys), "lr": list(batch.lr_keys)}
    append_line(run.folder.keys(run.world.rank), record)


def _translators(run: Run, name: str) -> dict[str, TensorDict]:
    """All ranks call it: weights of g_s2r and g_r2s where validation uses them."""
    player = run.system.players["g"] if name == G_L2H else run.system.sr_players[name]
    return {net: player.full_params(f"{net}.") for net in run.validator.translators[name]}


def _peak_memory_mb(world: World) -> float:
    """Largest over ranks: of the GPU's memory where there is one, else of the process."""
    if world.device.type == "cuda":
        own = torch.cuda.max_memory_allocated(world.device) / 2**20
    else:
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # Linux counts KiB
    return float(max(world.gather_objects(own)))


def _export(run: Run, path: Path, weights: TensorDict, step: int, chosen: str) -> None:
    state = {name: tensor.detach().cpu() for name, tensor in weights.items()}
    extra = {"system": run.config.system, "step": step, "chosen": chosen}
    try:
        save_model(path, state, inference_net(run.config), run.config.scale, extra)
    except OSError as error:
        raise TrainingError(f"{path} cannot be written: {error}; checkpoints are intact") from error
