"""The training loop, top to bottom. Comments say which ranks take part."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from typing import Any

import torch

from cyclesr_dist.backends.base import TensorDict
from cyclesr_dist.config import Config
from cyclesr_dist.data.faults import FaultLog
from cyclesr_dist.data.loader import Sources, batches
from cyclesr_dist.errors import FailedElsewhere, TrainingError
from cyclesr_dist.model_file import save_model
from cyclesr_dist.nets.build import inference_net
from cyclesr_dist.step import StepResult
from cyclesr_dist.systems.base import System
from cyclesr_dist.telemetry.progress import Progress
from cyclesr_dist.telemetry.prometheus import Metrics
from cyclesr_dist.train import checkpoint as ckpt
from cyclesr_dist.train.checkpoint import Checkpoint
from cyclesr_dist.train.diagnosis import Diagnosis
from cyclesr_dist.train.ema import EMA
from cyclesr_dist.train.run_folder import RunFolder, append_line
from cyclesr_dist.train.schedule import Schedule
from cyclesr_dist.train.validation import Validator
from cyclesr_dist.types import Batch, Phase
from cyclesr_dist.world import World


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


def train(run: Run, progress: Progress, schedule: Schedule) -> dict[str, Any]:
    """Train to the schedule's end. Returns the summary, the same on all ranks. All ranks call it.

    Raises TrainingError when a gradient is not finite: parameters are then lost, the last checkpoint is not.
    """
    config, world = run.config, run.world
    players = run.system.players
    ema = _start_ema(run)
    best = dict(run.saved.best) if run.saved else {}
    diagnosis = Diagnosis(schedule.num_steps)
    step = run.saved.step if run.saved else 0
    seconds_before = run.saved.seconds if run.saved else 0.0
    started = logged_at = time.monotonic()
    logged_step = step

    def snapshot() -> Checkpoint:
        seconds = seconds_before + time.monotonic() - started
        return Checkpoint(step, run.system.state(), ema.state() if ema else {}, best, round(seconds, 3))

    faults = FaultLog(config.data.max_bad_samples, world)
    for batch, found in batches(run.sources, config, world, step, schedule.num_steps):
        run.metrics.corrupt_samples.inc(faults.agree(found))  # all ranks
        phase = schedule.phase(step)
        for player in players.values():
            player.set_lr(schedule.lr_factor(step))
        _seed_step(config.seed, step, world.rank)
        result = run.system.step(batch, phase)  # all ranks: gradients are averaged inside
        if ema:
            ema.update(run.system.sr_player.full_params("g_l2h."), _trainable(run.system.sr_player.module))
        if config.data.log_keys:
            _log_keys(run, step, batch)
        step += 1
        run.metrics.steps.inc()
        _check_finite(run, step, result)

        if step % config.train.log_every_steps == 0 or step == schedule.num_steps:
            now = time.monotonic()
            rate = (step - logged_step) * config.global_batch / (now - logged_at)
            logged_at, logged_step = now, step
            losses, drift = _means(run, result)  # all ranks
            _log(run, progress, schedule, step, phase, losses, drift, result.grad_norm, rate)
            progress.warn(diagnosis.logged(step, losses, drift))

        every = config.train.validate_every_steps
        due = run.validator.enabled and (step % every == 0 or step == schedule.num_steps)
        if due and phase is not Phase.TRANSLATE:  # g_l2h has not begun then
            weights = _model_weights(run, ema)  # all ranks
            scores = run.validator.score(weights, _translators(run))  # all ranks, each its pictures
            run.metrics.validated(scores)
            progress.say(f"step {step}: validation " + ", ".join(f"{name} {x:.4f}" for name, x in scores.items()))
            progress.warn(diagnosis.validated(step, scores))
            improved = run.validator.better(scores, best)
            if improved:
                best = {"step": step, **scores}
            if world.is_main:
                append_line(run.folder.validation, {"step": step, **scores})
                if improved:
                    _export(run, weights)
            logged_at = time.monotonic()  # throughput is of training alone

        if step % config.train.checkpoint_every_steps == 0 or step == schedule.num_steps:
            state = snapshot()  # all ranks
            world.together(lambda state=state: _save(run, state))  # type: ignore[misc]  # mypy and lambda defaults
            logged_at = time.monotonic()
        progress.advance()

    if not best:
        weights = _model_weights(run, ema)
        if world.is_main:
            _export(run, weights)
    seconds = seconds_before + time.monotonic() - started
    return {
        "steps": step,
        "best": best,
        "train_seconds": round(seconds, 1),
        "peak_memory_mb": round(_peak_memory_mb(world)),
        "warnings": diagnosis.warnings,
    }


def _start_ema(run: Run) -> EMA | None:
    if not run.config.ema_decay:
        return None
    initial = run.system.sr_player.full_params("g_l2h.")
    if run.saved and run.saved.ema:
        initial = {name: tensor.to(run.world.device) for name, tensor in run.saved.ema.items()}
    return EMA(run.config.ema_decay, initial)


def _trainable(module: torch.nn.Module) -> set[str]:
    return {name.removeprefix("g_l2h.") for name, _ in module.named_parameters()}


def _seed_step(seed: int, step: int, rank: int) -> None:
    """Whatever a network draws inside (dropout) depends on the step, so a resumed run draws the same."""
    torch.manual_seed((seed * 1_000_003 + step) * 4099 + rank)


def _check_finite(run: Run, step: int, result: StepResult) -> None:
    """Gradient norms are of averaged gradients, so all ranks decide the same."""
    bad = [name for name, norm in result.grad_norm.items() if not torch.isfinite(torch.tensor(norm))]
    if bad and run.config.precision != "fp16":  # fp16 leaves such steps out and lowers its loss scale
        terms = ", ".join(f"{name} {float(value):.4g}" for name, value in result.losses.items())
        message = (
            f"step {step}: the gradient of player {bad[0]} is not finite ({terms}); the last checkpoint is intact, "
            "--resume continues from it"
        )
        raise TrainingError(message) if run.world.is_main else FailedElsewhere(message, TrainingError.exit_code)


def _means(run: Run, result: StepResult) -> tuple[dict[str, float], dict[str, float]]:
    """Loss terms and drift, averaged over ranks."""
    names = list(result.losses)
    means = run.world.mean([float(t) for t in (*result.losses.values(), *result.drift.values())])
    return dict(zip(names, means, strict=False)), dict(zip(result.drift, means[len(names) :], strict=True))


def _log(
    run: Run,
    progress: Progress,
    schedule: Schedule,
    step: int,
    phase: Phase,
    losses: dict[str, float],
    drift: dict[str, float],
    grad_norm: dict[str, float],
    rate: float,
) -> None:
    run.metrics.logged(step, losses, grad_norm, rate)
    progress.show(phase.value, losses, rate)
    if run.world.is_main:
        record: dict[str, Any] = {"step": step, "epoch": schedule.epoch(step - 1), "phase": phase.value}
        record |= {f"loss.{name}": value for name, value in losses.items()}
        record |= {f"grad_norm.{name}": value for name, value in grad_norm.items()}
        record |= {f"drift.{name}": value for name, value in drift.items()}
        record |= {"lr_factor": schedule.lr_factor(step - 1), "patches_per_second": round(rate, 3)}
        append_line(run.folder.metrics, record)


def _log_keys(run: Run, step: int, batch: Batch) -> None:
    record = {"step": step + 1, "hr": list(batch.hr_keys), "lr": list(batch.lr_keys)}
    append_line(run.folder.keys(run.world.rank), record)


def _model_weights(run: Run, ema: EMA | None) -> TensorDict:
    return ema.average if ema else run.system.sr_player.full_params("g_l2h.")


def _translators(run: Run) -> dict[str, TensorDict]:
    """All ranks call it: weights of g_s2r and g_r2s where validation uses them."""
    return {name: run.system.players["g"].full_params(f"{name}.") for name in run.validator.translators}


def _peak_memory_mb(world: World) -> float:
    """Largest over ranks: of the GPU's memory where there is one, else of the process."""
    if world.device.type == "cuda":
        own = torch.cuda.max_memory_allocated(world.device) / 2**20
    else:
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # Linux counts KiB
    return float(max(world.gather_objects(own)))


def _export(run: Run, weights: TensorDict) -> None:
    state = {name: tensor.detach().cpu() for name, tensor in weights.items()}
    save_model(run.folder.model, state, inference_net(run.config), run.config.scale, {"system": run.config.system})


def _save(run: Run, state: Checkpoint) -> None:
    if run.world.is_main:
        ckpt.save(run.folder.checkpoints, state, run.identity, run.config.train.keep_checkpoints)
