"""The training loop. Comments say which ranks take part."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import torch

from cyclesr_dist.data.batch import Batch
from cyclesr_dist.data.faults import Fault, FaultLog
from cyclesr_dist.data.loader import batches
from cyclesr_dist.degradation.high_order import with_high_order
from cyclesr_dist.errors import Preempted, TrainingError
from cyclesr_dist.method.parts_of_step import part
from cyclesr_dist.method.step import StepResult
from cyclesr_dist.method.systems.base import SystemState
from cyclesr_dist.models.checkpoint import Checkpoint
from cyclesr_dist.runtime.exit_codes import will_leave
from cyclesr_dist.telemetry.record import StepRecord
from cyclesr_dist.training.bad_numbers import (
    LEFT_OUT_BEFORE,
    BadNumbers,
    RollBack,
    is_settled,
    keep_buffers,
    restore_buffers,
)
from cyclesr_dist.training.checkpoint_store import remove_after
from cyclesr_dist.training.ema import Averages
from cyclesr_dist.training.ending import trouble
from cyclesr_dist.training.exports import Exports
from cyclesr_dist.training.measure import measure, peak_memory_mb
from cyclesr_dist.training.opening import Stopwatch
from cyclesr_dist.training.resume import load_newest
from cyclesr_dist.training.run import Run
from cyclesr_dist.training.run_folder import append_line
from cyclesr_dist.training.saver import Saver


def train(run: Run) -> dict[str, Any]:
    """Train to the schedule's end. Returns the summary, the same on all ranks. All ranks call it.

    Raises TrainingError when gradients stay bad or something cannot be written, Preempted (the other ranks:
    FailedElsewhere) when `run.stop` asks for it and all is saved.
    """
    keep = run.config.train.keep_checkpoints
    saver = Saver(run.checkpoints, run.identity, keep, written=run.metrics.checkpoint_written)
    run.stop.training = True
    try:
        while True:
            try:
                return Attempt(run, saver).to_the_end()
            except RollBack as request:
                _go_back(run, saver, request)
    finally:
        saver.wait()


class Attempt:
    """Training from `run.saved`, or from the beginning, to the end, unless it has to go back."""

    def __init__(self, run: Run, saver: Saver) -> None:
        self.run, self.saver = run, saver
        saved = run.saved or Checkpoint(0, SystemState({}))
        self.step = self.saved_step = self.logged_step = saved.step
        self.averages = Averages(run.config.ema_decay, run.system.sr_players, saved.ema)
        self.exports = Exports(run, self.averages, saved.best)
        self.left_out = list(saved.left_out)
        self.bad = BadNumbers(run.config.train, run.world, run.folder, saved)
        self.num_tried = self.num_learned = 0
        self.validation_due = saved.validation_due
        self.seconds_before = saved.seconds
        self.started = self.logged_at = time.monotonic()
        self.first_step = saved.step
        self.stopwatch = Stopwatch(run.schedule.num_steps)

    def to_the_end(self) -> dict[str, Any]:
        run = self.run
        faults = FaultLog(run.config.data.max_bad_samples, run.world)
        if self.validation_due:
            self._validate()
        # Closed at once, whoever still holds the exception's frames: its worker processes end with it.
        with closing(batches(run.sources, run.config, run.world, self.step, run.schedule.num_steps)) as stream:
            self._steps(stream, faults)
        self._agree(faults, ())  # a stop during the last validation
        return self._finish()

    def _steps(self, stream: Iterable[tuple[Batch, Sequence[Fault]]], faults: FaultLog) -> None:
        run, train = self.run, self.run.config.train
        self._profile()
        for batch, found in run.metrics.waiting(run.profiler.waiting(stream)):
            with part(f"step {self.step + 1}"):
                self.advance(with_high_order(batch, run.config, run.world), found, faults)
            if self._is_due(train.validate_every_steps):
                self._validate()
            if self._is_due(train.checkpoint_every_steps) or self._has_settled():
                self._save()
            self._profile()

    def _profile(self) -> None:
        """Begin or end a trace, on ranks that are to have one."""
        if self.run.profiler.is_due(self.step):
            with self._aside("profile"):
                self.run.profiler.stepped(self.step)

    def advance(self, batch: Batch, found: Sequence[Fault], faults: FaultLog) -> None:
        """One step, and what is told of it. `found` are this rank's samples that could not be read."""
        run = self.run
        with run.metrics.timed("step"):
            with part("ranks agree"):
                self._agree(faults, found)  # all ranks
            result = self._update(batch)  # all ranks: gradients are averaged
        self.step += 1
        run.metrics.stepped(self.step, run.schedule.phase(self.step - 1).value, batch.hr_keys, batch.lr_keys)
        if line := self.stopwatch.stepped(self.step):
            run.progress.say(line)
        if run.work.is_ceiling_due(run.schedule.num_steps - self.step):
            with self._aside("ceiling"):
                run.work.measure()
        if result and self._is_due(run.config.train.log_every_steps):
            self.log(result)

    def _is_due(self, every: int) -> bool:
        return bool(every) and (self.step % every == 0 or self.step == self.run.schedule.num_steps)

    def _has_settled(self) -> bool:
        """Whether the newest checkpoint was written while steps were bad, and one written now could be gone back to."""
        return self.bad.good_step < self.saved_step < self.step and self.bad.is_settled(self.step)

    def _agree(self, faults: FaultLog, found: Sequence[Fault]) -> None:
        """The one exchange that a step needs besides gradients: bad samples, a stop, a checkpoint or a run folder
        that is lost. All ranks."""
        world = self.run.world
        counts = world.totals(len(found), self.run.stop.requested, self._must_end())
        if counts[2]:
            world.together(self.saver.finish)
            world.together(self.run.ownership.hold)
        if counts[1]:
            self._stop()
        if counts[0]:
            self.run.metrics.corrupt(faults.agree(found))

    def _must_end(self) -> bool:
        """Whether a checkpoint could not be written, or the run folder is another process's by now."""
        return self.saver.failed or self.run.ownership.is_lost()

    def _stop(self) -> None:
        world = self.run.world
        reason = next(filter(None, world.gather_objects(self.run.stop.reason)))
        if self.step > self.saved_step:
            self._save()
        world.together(self.saver.finish)
        will_leave(Preempted.exit_code)
        saved = f"saved at step {self.step} of {self.run.schedule.num_steps}"
        message = f"{reason}: {saved}; --resume (in Python resume=True) continues"
        raise world.told_once(Preempted(message))

    def _update(self, batch: Batch) -> StepResult | None:
        """None when the step is left out, or its numbers were bad: parameters, moments, statistics and pools are then
        as before."""
        run, step = self.run, self.step
        if step in self.left_out:
            run.metrics.skipped("rollback")
            return None
        players = run.system.players
        for player in players.values():
            player.set_lr(run.schedule.lr_factor(step))
        _seed_step(run.config.seed, step, run.world.rank)
        if run.config.data.log_keys:
            _log_keys(run, step, batch)
        buffers = keep_buffers(players)
        phase = run.schedule.phase(step)
        with run.work.counted(phase.value):
            result = run.system.step(batch, phase)
        run.metrics.gradients(result.grad_norm)
        bad = self.bad.found(result, players)
        finite = all(math.isfinite(norm) for norm in result.grad_norm.values())
        self.num_tried += 1
        self.num_learned += finite
        if not finite:
            run.metrics.skipped("not_finite" if bad else "loss_scale")
        if bad:
            restore_buffers(buffers)
            self.bad.leave_out(step, result, batch, run.progress)
            return None
        self.averages.update()
        return result

    def log(self, result: StepResult) -> None:
        """Fetch a step's numbers and tell them everywhere. All ranks."""
        with part("log"):
            record = self._record(result)  # all ranks
            for sink in self.run.sinks:
                sink.logged(record)

    def _record(self, result: StepResult) -> StepRecord:
        run, now, schedule = self.run, time.monotonic(), self.run.schedule
        num_steps = self.step - self.logged_step
        rate = num_steps * run.config.global_batch / (now - self.logged_at)
        self.logged_at, self.logged_step = now, self.step
        measured = measure(run.world, run.system, result)  # all ranks; the device is then done with the step
        seconds, phase = run.metrics.seconds(), schedule.phase(self.step - 1).value
        forward, wait = run.pace.forward_seconds(num_steps), seconds.get("data_wait", 0.0) / max(1, num_steps)
        ranks, host = run.pace.of_ranks(forward, wait)  # all ranks
        return StepRecord(
            step=self.step,
            num_steps=schedule.num_steps,
            epoch=schedule.epoch(self.step - 1),
            phase=phase,
            left_seconds=(now - self.started) / (self.step - self.first_step) * (schedule.num_steps - self.step),
            patches_per_second=rate,
            lr_factor=schedule.lr_factor(self.step - 1),
            losses=measured.losses,
            drift=measured.drift,
            grad_norms=result.grad_norm,
            network_norms=measured.norms,
            loss_scales=measured.loss_scales,
            seconds=seconds,
            written_seconds=run.metrics.written_seconds(),
            memory_bytes=run.metrics.memory(),
            ranks=ranks,
            host=host,
            work=run.work.numbers(phase, rate, seconds.get("step", 0.0) / max(1, num_steps)),
            forward_seconds=forward * num_steps,
        )

    @contextmanager
    def _aside(self, name: str) -> Iterator[None]:
        """Time the block as a part of the loop that is no training: throughput is of training alone."""
        began = time.monotonic()
        with self.run.metrics.timed(name):
            yield
        self.logged_at += time.monotonic() - began

    def _validate(self) -> None:
        """All ranks, each its pictures. A stop breaks it off; it is then due when the run resumes."""
        run = self.run
        if not run.validator.enabled or not run.schedule.phase(self.step - 1).trains_g_l2h:
            return
        with self._aside("validation"), part("validation"):
            record = self.exports.validate(self.step)  # all ranks
            self.validation_due = record is None
            if record is not None:
                for sink in run.sinks:
                    sink.validated(record)

    def _save(self) -> None:
        """Copy the state and let it be written. All ranks call it."""
        self.bad.saved(self.step)
        with self._aside("checkpoint"), part("checkpoint"):
            self._copy_state()
        self.saved_step = self.step

    def _copy_state(self) -> None:
        run = self.run
        state = Checkpoint(
            step=self.step,
            system=run.system.state(),  # all ranks
            ema=self.averages.state(),
            best=self.exports.best,
            seconds=round(self._seconds(), 3),
            validation_due=self.validation_due,
            left_out=self.left_out,
            rollbacks=self.bad.rollbacks,
            bad_steps=sorted(self.bad.steps),
            good_step=self.bad.good_step,
        )
        models = self.exports.last_models(self.step, run.schedule.phase(self.step - 1).trains_g_l2h)  # all ranks
        run.world.together(lambda: self.saver.begin(state, models) if run.world.is_main else None)

    def _seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started

    def _finish(self) -> dict[str, Any]:
        run = self.run
        run.world.together(self.saver.finish)
        bad = len(self.bad.steps)
        if self.num_tried and not self.num_learned and self.num_tried == self.step:
            message = "no step gave numbers that can be trained on: nothing was learned"
            raise run.world.told_once(TrainingError(message))
        if 2 * bad > self.step:
            message = (
                f"{bad} of {self.step} steps were left out, their gradients not finite: next to nothing was learned; "
                f"their losses and samples are in {run.folder.bad_steps}; a smaller learning rate may help"
            )
            raise run.world.told_once(TrainingError(message))
        self.exports.finish(self.step)  # all ranks
        return {
            "steps": self.step,
            "best": self.exports.best,
            "train_seconds": round(self._seconds(), 1),
            "peak_memory_mb": round(peak_memory_mb(run.world)),
            "warnings": run.diagnosis.warnings,
            "bad_steps": bad,
            "rollbacks": self.bad.rollbacks,
            "trouble": trouble(self.step, bad, self.step - 1 in self.bad.steps, run.diagnosis.diverged),
        }


def _go_back(run: Run, saver: Saver, request: RollBack) -> None:
    """Load the newest good checkpoint in place, and leave out the batches that may have done the harm. All ranks."""
    world = run.world
    world.together(saver.finish)
    # With the changes that it began with, if it did.
    is_good = partial(is_settled, bad_steps=request.bad_steps)
    found = load_newest(run.checkpoints, run.identity, world, is_good, with_changes=True)
    if found is None:  # somebody has removed it
        message = f"{request}: the gradients are not finite, and the checkpoint to go back to is gone"
        raise world.told_once(TrainingError(message))
    saved, _ = found
    # A run that is killed before the next checkpoint would resume from one of the bad stretch.
    world.together(lambda: remove_after(run.checkpoints, saved.step) if world.is_main else None)
    first = max(saved.step, request.first - LEFT_OUT_BEFORE)
    saved.left_out = sorted({*saved.left_out, *range(first, request.last + 1)})
    saved.rollbacks += 1
    saved.bad_steps = sorted({*saved.bad_steps, *request.bad_steps})
    saved.good_step = saved.step
    run.system.load(saved.system)
    run.saved = saved
    run.metrics.rolled_back()
    if run.world.is_main:
        run.folder.cut_back(saved.step)
        run.journal.note("rolled_back", step=saved.step, reason=f"bad gradients in {request}")


def _seed_step(seed: int, step: int, rank: int) -> None:
    """Whatever a network draws inside (dropout) depends on the step, so a resumed run draws the same."""
    torch.manual_seed((seed * 1_000_003 + step) * 4099 + rank)


def _log_keys(run: Run, step: int, batch: Batch) -> None:
    record = {"step": step + 1, "hr": list(batch.hr_keys), "lr": list(batch.lr_keys)}
    append_line(run.folder.keys(run.world.rank), record)
