"""Every metric this software exports, once. Exporters, dashboards, alerts and their tests all take them from here.

Names follow Prometheus: base units, `_total` for counters, `_seconds` for durations. Labels are bounded: terms,
players, networks, phases and scores are those of the code, never of the data. Every series of a training has two more
labels, `run` (the name of its run folder) and `rank`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cyclesr_dist.config.systems import Phase


@dataclass(frozen=True)
class Definition:
    """One metric. As text it is its name in queries."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    """As a query says it: a counter's ends in `_total`."""
    help: str
    labels: tuple[str, ...] = ()
    """Besides those that all series of the process share."""
    values: tuple[str, ...] = ()
    """Values of its one label that are known beforehand: a counter then starts at 0, so that the first event is an
    increase."""
    buckets: tuple[float, ...] = ()

    def __str__(self) -> str:
        return self.name

    @property
    def bucket(self) -> str:
        """The series of a histogram that `histogram_quantile` takes."""
        return f"{self.name}_bucket"

    @property
    def sum(self) -> str:
        return f"{self.name}_sum"

    @property
    def count(self) -> str:
        return f"{self.name}_count"


_STEP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_LONG_BUCKETS = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)

BUILD_INFO = Definition("gauge", "cyclesr_build_info", "1; versions in the labels", ("version", "torch", "python"))
RUN_INFO = Definition(
    "gauge", "cyclesr_run_info", "1; what is trained, and how", ("system", "backend", "precision", "track", "seed")
)

WORLD_SIZE = Definition("gauge", "cyclesr_world_size", "Ranks of the run")
STEP = Definition("gauge", "cyclesr_step", "Steps since the start of training, over all restarts")
STEPS_PLANNED = Definition("gauge", "cyclesr_steps_planned", "Step at which training ends")
STEPS = Definition("counter", "cyclesr_steps_total", "Steps done by this process")
REMAINING = Definition("gauge", "cyclesr_remaining_seconds", "Time left at the speed since the last log")
LAST_STEP = Definition(
    "gauge", "cyclesr_last_step_timestamp_seconds", "When the last step ended; before the first one, the start"
)
EPOCH = Definition("gauge", "cyclesr_epoch", "Epoch, from 0")
PHASE = Definition(
    "gauge", "cyclesr_phase", "1 for the training phase of the last step", ("phase",), tuple(p.value for p in Phase)
)
LOSS = Definition("gauge", "cyclesr_loss", "Unweighted loss term, mean over ranks", ("term",))
GRAD_NORM = Definition("gauge", "cyclesr_grad_norm", "Gradient norm of a player before clipping", ("player",))
NETWORK_GRAD_NORM = Definition(
    "gauge",
    "cyclesr_network_grad_norm",
    "Gradient norm of a network before clipping (not under DeepSpeed)",
    ("network",),
)
CLIPPED = Definition("counter", "cyclesr_clipped_steps_total", "Steps whose gradient norm was clipped", ("player",))
LEARNING_RATE = Definition("gauge", "cyclesr_learning_rate", "Learning rate", ("group",), ("cyclegan", "sr"))
LOSS_SCALE = Definition("gauge", "cyclesr_loss_scale", "Factor of the loss in backward; 1 without fp16", ("player",))
SKIPPED = Definition(
    "counter",
    "cyclesr_skipped_steps_total",
    "Steps without an update: not_finite, gradients that are bad; loss_scale, fp16 looking for its scale; rollback, "
    "batches left out after going back",
    ("reason",),
    ("not_finite", "loss_scale", "rollback"),
)
ROLLBACKS = Definition("counter", "cyclesr_rollbacks_total", "Times that the run went back to a checkpoint")
RESTARTS = Definition("counter", "cyclesr_restarts_total", "Times that the run was started again, by any process")
STEP_SECONDS = Definition(
    "histogram", "cyclesr_step_seconds", "A step without the wait for its batch", buckets=_STEP_BUCKETS
)
DATA_WAIT_SECONDS = Definition(
    "histogram", "cyclesr_data_wait_seconds", "Wait of a step for its batch", buckets=_STEP_BUCKETS
)
FORWARD_SECONDS = Definition(
    "counter",
    "cyclesr_forward_seconds_total",
    "Time in forward passes on this rank, in which it waits for no other rank; grows with every log",
)
STEP_FLOPS = Definition("gauge", "cyclesr_step_flops", "FLOPs of a rank's step; 0 before they are counted")
MODEL_FLOPS = Definition(
    "gauge", "cyclesr_model_flops_per_second", "FLOPs a second of all ranks; 0 before they are counted"
)
MFU = Definition("gauge", "cyclesr_mfu", "Share of what the devices can do, measured at the start; NaN: not measured")
VALIDATION_SECONDS = Definition(
    "histogram", "cyclesr_validation_seconds", "A validation, for which training waits", buckets=_LONG_BUCKETS
)
CHECKPOINT_COPY_SECONDS = Definition(
    "histogram",
    "cyclesr_checkpoint_copy_seconds",
    "Copy of the state, for which training waits",
    buckets=_LONG_BUCKETS,
)
CHECKPOINT_SECONDS = Definition(
    "histogram", "cyclesr_checkpoint_seconds", "Writing a checkpoint, beside training", buckets=_LONG_BUCKETS
)
LAST_CHECKPOINT = Definition(
    "gauge",
    "cyclesr_last_checkpoint_timestamp_seconds",
    "When the last checkpoint was whole, on the main rank; before the first one, the start",
)
PATCHES = Definition("counter", "cyclesr_patches_total", "Patches trained on by this rank", ("domain",), ("hr", "lr"))
PHOTOGRAPHS = Definition(
    "gauge",
    "cyclesr_photographs_seen",
    "Photographs that this process has seen a patch of",
    ("domain",),
    ("hr", "lr"),
)
THROUGHPUT = Definition("gauge", "cyclesr_patches_per_second", "HR patches a second, all ranks, since the last log")
MEMORY = Definition("gauge", "cyclesr_memory_bytes", "Memory of this rank: resident, device, device_peak", ("kind",))
CORRUPT_SAMPLES = Definition(
    "counter", "cyclesr_corrupt_samples_total", "Samples that no rank could read, each counted once"
)
VALIDATION = Definition("gauge", "cyclesr_validation", "Newest score on held-out photographs; psnr in dB", ("score",))
DRIFT = Definition("gauge", "cyclesr_drift", "What g_s2r changes of an image in [0, 1]: mean, std, colour", ("kind",))

TRAINING = (
    BUILD_INFO,
    RUN_INFO,
    WORLD_SIZE,
    STEP,
    STEPS_PLANNED,
    STEPS,
    REMAINING,
    LAST_STEP,
    EPOCH,
    PHASE,
    LOSS,
    GRAD_NORM,
    NETWORK_GRAD_NORM,
    CLIPPED,
    LEARNING_RATE,
    LOSS_SCALE,
    SKIPPED,
    ROLLBACKS,
    RESTARTS,
    STEP_SECONDS,
    DATA_WAIT_SECONDS,
    FORWARD_SECONDS,
    STEP_FLOPS,
    MODEL_FLOPS,
    MFU,
    VALIDATION_SECONDS,
    CHECKPOINT_COPY_SECONDS,
    CHECKPOINT_SECONDS,
    LAST_CHECKPOINT,
    PATCHES,
    PHOTOGRAPHS,
    THROUGHPUT,
    MEMORY,
    CORRUPT_SAMPLES,
    VALIDATION,
    DRIFT,
)
"""Of every rank."""

TRIAL_STEP = Definition("gauge", "cyclesr_trial_step", "Steps that a trial has done", ("trial",))
TRIAL_VALIDATION = Definition(
    "gauge", "cyclesr_trial_validation", "Newest score of a trial; psnr in dB", ("trial", "score")
)
TRIAL_THROUGHPUT = Definition("gauge", "cyclesr_trial_patches_per_second", "HR patches a second", ("trial",))
SEARCH_TRIALS = Definition("gauge", "cyclesr_search_trials", "Trials by state", ("state",))
SEARCH_BEST = Definition("gauge", "cyclesr_search_best", "Best score so far", ("score",))

SEARCH = (TRIAL_STEP, TRIAL_VALIDATION, TRIAL_THROUGHPUT, SEARCH_TRIALS, SEARCH_BEST)
"""Of the process that drives a search."""
