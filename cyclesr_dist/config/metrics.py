"""What each score of validation is: one description each, which the schema, searches, validation and reports read.

How ours are taken is in scoring/. This module imports no torch. docs/extending.md shows how to add one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from cyclesr_dist.errors import ConfigError
from cyclesr_dist.runtime.user_modules import ours_or_yours

Need = Literal["pairs", "sharp", "translator", "estimate"]
"""Of validation: HR of the same scenes; sharp photographs; a system with a g_s2r and a g_r2s; the measured
degradation, which only a system that trains on `data.hr` and `data.lr` has."""


@dataclass(frozen=True)
class MetricSpec:
    """One score by which networks may be chosen."""

    title: str
    """For charts: what it is, in a few words."""
    text: str = ""
    """For reports: the same in a sentence or two."""
    unit: str = ""
    larger_is_better: bool = False
    worst: float = 1e9
    """A finite number that no network is as bad as: what a failed trial of a search is given."""
    needs: tuple[Need, ...] = ()
    asked_for: bool = False
    """Taken only where a configuration or an option names it: it costs time, and some need weights of others."""
    score: Callable[[Any, Any], float] | None = None
    """Of a metric of yours: (g_l2h(lr), lr) -> a number, both tensors (1, 3, height, width) in [0, 1]. Its mean over
    the photographs of `data.valid_lr`, of each the centre, is the score."""

    def __post_init__(self) -> None:
        if unknown := [need for need in self.needs if need not in get_args(Need)]:
            raise ConfigError(f"MetricSpec(needs={self.needs!r}) has {unknown}; allowed: {', '.join(get_args(Need))}")
        if not isinstance(self.worst, int | float) or not math.isfinite(self.worst):
            raise ConfigError(f"MetricSpec(worst={self.worst!r}); allowed: a finite number")


METRICS: dict[str, MetricSpec] = {
    "psnr": MetricSpec(
        "PSNR on real LR", "Likeness to the original.", "dB", larger_is_better=True, worst=0.0, needs=("pairs",)
    ),
    "ssim": MetricSpec(
        "SSIM on real LR",
        "Likeness of structures to those of the original.",
        "SSIM",
        larger_is_better=True,
        worst=-1.0,
        needs=("pairs",),
    ),
    "agreement": MetricSpec(
        "Disagreement of g_l2h and g_r2s",
        "How much g_l2h (the network that enlarges) and g_r2s (the network that makes LR photographs clean) disagree.",
        "in [0, 1]",
        needs=("translator",),
    ),
    "spectrum_lr": MetricSpec(
        "Distance of fake_real's spectrum to real LR's",
        "How far imitations of LR photographs are from real ones in how strong coarse and fine detail is.",
        "decades",
        needs=("sharp", "translator"),
    ),
    "spectrum_hr": MetricSpec(
        "Distance of the enlargement's spectrum to that of sharp photographs",
        "How far enlarged photographs are from sharp ones in how strong coarse and fine detail is.",
        "decades",
        needs=("sharp",),
    ),
    "psnr_estimated": MetricSpec(
        "PSNR on the measured degradation",
        "PSNR on sharp photographs that the measured degradation was applied to.",
        "dB",
        larger_is_better=True,
        worst=0.0,
        needs=("sharp", "estimate"),
    ),
    "lpips": MetricSpec(
        "LPIPS (AlexNet)",
        "Perceptual distance to the original, in AlexNet's features.",
        "LPIPS",
        needs=("pairs",),
        asked_for=True,
    ),
    "lpips_vgg": MetricSpec(
        "LPIPS (VGG16)",
        "Perceptual distance to the original, in VGG16's features.",
        "LPIPS",
        needs=("pairs",),
        asked_for=True,
    ),
    "dists": MetricSpec(
        "DISTS",
        "Perceptual distance to the original, which forgives texture that differs pixel by pixel.",
        "DISTS",
        needs=("pairs",),
        asked_for=True,
    ),
    "niqe": MetricSpec(
        "NIQE",
        "How far the statistics of enlarged photographs are from those of undamaged ones; without an original.",
        "NIQE",
        asked_for=True,
    ),
}
"""Ours, by the word of `validate.metric`, which is also their name in validation.jsonl."""

ASKED_FOR = tuple(name for name, spec in METRICS.items() if spec.asked_for)
"""The perceptual scores (scoring/perceptual/)."""

if TYPE_CHECKING:
    MetricName = str
    PerceptualName = str
else:  # a type checker cannot read the names from the dictionary, the schema can
    MetricName = Literal[tuple(METRICS)]
    PerceptualName = Literal[ASKED_FOR]


def lower_is_better(name: str) -> bool:
    """Whether `name` is one of our scores that says so."""
    return name in METRICS and not METRICS[name].larger_is_better


def metric_of(key: str, name: str) -> MetricSpec:
    """One of ours, or of yours (`package.module:METRIC`). Raises ConfigError, naming `key`, when it is neither."""
    found = ours_or_yours(key, name, METRICS, "package.module:METRIC", "a MetricSpec", MetricSpec)
    if name not in METRICS and not callable(found.score):
        raise ConfigError(f"{key} = {name} has score = {found.score!r:.80}; allowed: a function of (sr, lr)")
    return found
