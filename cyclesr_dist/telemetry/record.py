"""What is told of a step and of a validation: one record each, and who is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class StepRecord:
    """A logged step. Losses and drift are means over ranks; the rest is this rank's, or alike on all."""

    step: int
    num_steps: int
    epoch: int
    phase: str
    left_seconds: float
    patches_per_second: float
    """Over all ranks, of training alone."""
    lr_factor: float = 1.0
    losses: Mapping[str, float] = field(default_factory=dict)
    """Unweighted, by term."""
    drift: Mapping[str, float] = field(default_factory=dict)
    grad_norms: Mapping[str, float] = field(default_factory=dict)
    """Before clipping, by player."""
    network_norms: Mapping[str, float] = field(default_factory=dict)
    """Of gradients, by network."""
    loss_scales: Mapping[str, float] = field(default_factory=dict)
    """By player."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Since the last record, by part of the loop."""
    memory_bytes: Mapping[str, float] = field(default_factory=dict)
    """By kind."""

    @property
    def data_wait_share(self) -> float:
        """Of the time since the last record, in [0, 1]."""
        wait = self.seconds.get("data_wait", 0.0)
        return wait / max(wait + self.seconds.get("step", 0.0), 1e-9)

    def line(self) -> dict[str, Any]:
        """As metrics.jsonl has it."""
        line: dict[str, Any] = {"step": self.step, "epoch": self.epoch, "phase": self.phase}
        line |= {f"loss.{name}": value for name, value in self.losses.items()}
        line |= {f"grad_norm.{name}": value for name, value in self.grad_norms.items()}
        line |= {f"network_norm.{name}": value for name, value in self.network_norms.items()}
        line |= {f"drift.{name}": value for name, value in self.drift.items()}
        line |= {"lr_factor": self.lr_factor, "patches_per_second": round(self.patches_per_second, 3)}
        line |= {f"seconds.{part}": round(value, 4) for part, value in self.seconds.items()}
        return line | {f"memory_mb.{kind}": round(value / 2**20) for kind, value in self.memory_bytes.items()}


@dataclass(frozen=True)
class ValidationRecord:
    """A validation after `step`."""

    step: int
    scores: Mapping[str, float]
    """Of the system's own g_l2h, by name; psnr in dB."""
    beside: Mapping[str, float] = field(default_factory=dict)
    """Of the g_l2h that is trained beside it on the measured degradation; empty where there is none."""

    def line(self) -> dict[str, Any]:
        """As validation.jsonl has it."""
        return {"step": self.step, **self.scores, **{f"estimated.{name}": value for name, value in self.beside.items()}}


class Sink(Protocol):
    """Is told of both. All ranks have theirs; those of ranks beside the main one show nothing."""

    def logged(self, record: StepRecord) -> None: ...

    def validated(self, record: ValidationRecord) -> None: ...
