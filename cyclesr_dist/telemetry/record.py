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
    written_seconds: float = 0.0
    """In which checkpoints were written beside training, since the last record."""
    memory_bytes: Mapping[str, float] = field(default_factory=dict)
    """By kind."""
    ranks: Mapping[str, float] = field(default_factory=dict)
    """The slowest rank against the others, see training/pace.py; seconds a step."""
    host: Mapping[str, float] = field(default_factory=dict)
    """What machines took from the ranks since the last record, see runtime/host_load.py; the largest over ranks."""
    work: Mapping[str, float] = field(default_factory=dict)
    """FLOPs, see training/work.py."""
    forward_seconds: float = 0.0
    """Of this rank, since the last record."""

    @property
    def data_wait_share(self) -> float:
        """Of the time since the last record, in [0, 1]."""
        wait = self.seconds.get("data_wait", 0.0)
        return wait / max(wait + self.seconds.get("step", 0.0), 1e-9)

    @property
    def speed(self) -> str:
        """For a person: `12.3 patches/s, 45 GFLOP/s (MFU 31%)`, as far as it is known."""
        text = f"{self.patches_per_second:.1f} patches/s"
        if rate := self.work.get("flops_per_second"):
            text += f", {rate / 1e12:.3g} TFLOP/s" if rate >= 1e12 else f", {rate / 1e9:.3g} GFLOP/s"
            text += f" (MFU {self.work['mfu']:.0%})" if "mfu" in self.work else ""
        return text

    def line(self) -> dict[str, Any]:
        """As metrics.jsonl has it."""
        line: dict[str, Any] = {"step": self.step, "epoch": self.epoch, "phase": self.phase}
        line |= {f"loss.{name}": value for name, value in self.losses.items()}
        line |= {f"grad_norm.{name}": value for name, value in self.grad_norms.items()}
        line |= {f"network_norm.{name}": value for name, value in self.network_norms.items()}
        line |= {f"drift.{name}": value for name, value in self.drift.items()}
        line |= {"lr_factor": self.lr_factor, "patches_per_second": round(self.patches_per_second, 3)}
        line |= {f"seconds.{part}": round(value, 4) for part, value in self.seconds.items()}
        line |= {"beside.checkpoint": round(self.written_seconds, 4)} if self.written_seconds else {}
        line |= {f"memory_mb.{kind}": round(value / 2**20) for kind, value in self.memory_bytes.items()}
        line |= {f"ranks.{name}": round(value, 5) for name, value in self.ranks.items()}
        line |= {f"host.{name}": round(value, 4) for name, value in self.host.items()}
        return line | {f"work.{name}": float(f"{value:.5g}") for name, value in self.work.items()}


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
