"""What each `cyclesr bench` measures, as its arguments say: they are read without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from cyclesr_dist.config.schema import Config, load

if TYPE_CHECKING:
    import torch

PARTS = ("train", "upscale", "data", "checkpoint")
"""In the order in which they are measured: what is asked for most comes first."""
COUNTS = (400, 40, 10, 3)
"""Photographs a side, of the tracks."""
ENDLESS = 1 << 40
"""Steps."""


class Size(NamedTuple):
    """Of an LR image, px. `str()` is `1024x768`; of a square its side."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}" if self.width != self.height else str(self.width)


_SMALL = (
    *("global_batch=8", "shards.patch=32", "weights.cyc=5", "weights.cyc_backward=0", "weights.id=0.5"),
    *("weights.mse=20", "nets.translator.kind=residual", "nets.translator.channels=16", "nets.translator.blocks=2"),
    *("nets.translator.noise_channels=1", "nets.d_lr.channels=32", "nets.d_lr.layers=1", "nets.d_h.channels=32"),
    *("nets.d_h.layers=2", "nets.sr.kind=compact", "nets.sr.channels=32", "nets.sr.blocks=4"),
    "nets.sr.bicubic_skip=true",
)
"""As configs/demo.yaml."""
_PAPER = ("shards.patch=120", "weights.mse=100", "nets.sr.kind=srresnet", "nets.sr.blocks=16")
"""As configs/ntire18_t4.yaml."""
CASES = {
    "cyclesr small": ("system=cyclesr", *_SMALL),
    "cyclesrgan small": ("system=cyclesrgan", *_SMALL),
    "cyclesr paper": ("system=cyclesr", *_PAPER),
    "cyclesrgan paper": ("system=cyclesrgan", *_PAPER),
}
_FAST = ("backend=single", "perceptual.source=random")  # features cost the same whatever their weights
_WATCHED = (*_FAST, f"train.steps={ENDLESS}", "train.validate_every_steps=0")


@dataclass(frozen=True)
class Settings:
    """What to measure. `patch` is of LR, in px."""

    patch: int = 120
    scale: int = 4
    pairs: int = 256
    """About how many: few enough for memory, as the file system's cache would hold those of a training."""
    batch: int = 16
    workers: int = 2
    rounds: int = 5
    seconds: float = 4.0
    epochs: int = 20
    encoding: str = "tiff"


@dataclass(frozen=True)
class StepBench:
    """What to measure. `batch` is of the paper's sizes; None: 32 on a GPU, 1 on a CPU."""

    cases: tuple[str, ...] = tuple(CASES)
    rounds: int = 7
    batch: int | None = None
    overrides: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    """Further overrides, several with blanks between them: the step with each is timed, too."""

    def config(self, case: str, device: torch.device, variant: str = "") -> Config:
        """Raises ConfigError for bad overrides."""
        batch = self.batch or (32 if device.type == "cuda" else 1)
        sizes = (f"global_batch={batch}",) if CASES[case][-len(_PAPER) :] == _PAPER else ()
        return load(None, [*_FAST, *CASES[case], *sizes, *self.overrides, *variant.split()])


@dataclass(frozen=True)
class TelemetryBench:
    """What to measure. `overrides` are of the configuration, telemetry's own included."""

    case: str = "cyclesr small"
    pairs: int = 100
    """Of blocks, one with telemetry and one without, neighbours in time; who is first changes."""
    block: int = 20
    """Steps of a block. Every block with telemetry logs once, as configs/demo.yaml does."""
    scrape_seconds: float = 5.0
    """Between scrapes; Prometheus itself leaves 15 s and more."""
    overrides: tuple[str, ...] = ()

    def config(self) -> Config:
        """Raises ConfigError for bad overrides."""
        return load(None, [*_WATCHED, *CASES[self.case], *self.overrides])


@dataclass(frozen=True)
class EstimateBench:
    counts: tuple[int, ...] = COUNTS
    seed: int = 0
    quick: bool = False
    """One small case of each kind."""
    cost: bool = False
    """Time and memory instead of the table."""
