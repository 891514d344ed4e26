"""Scores of g_l2h on held-out photographs during training, spread over the ranks: with pairs PSNR and SSIM, and
always the scores that need none; and the perceptual ones that are asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from cyclesr_dist.config.metrics import metric_of
from cyclesr_dist.data.folders import Pair
from cyclesr_dist.data.images import read_picture, read_rgb8
from cyclesr_dist.degradation.record import Degradation
from cyclesr_dist.distributed.player import TensorDict
from cyclesr_dist.distributed.world import World
from cyclesr_dist.errors import InputError
from cyclesr_dist.models.infer import upscale_image
from cyclesr_dist.models.upscaler import BicubicUpscaler, NetUpscaler, Upscaler
from cyclesr_dist.nets.measured import DegradationTranslator, MeasuredDegradation
from cyclesr_dist.runtime.stopping import StopRequest
from cyclesr_dist.scoring.perceptual.scores import Perceptual
from cyclesr_dist.scoring.reference_free import (
    Nets,
    Record,
    Score,
    own_score,
    real_record,
    reference_free,
    sharp_record,
)
from cyclesr_dist.scoring.score import score_file, to_uint8
from cyclesr_dist.telemetry.diagnosis import drifts

CROP_PX = 96
"""LR side of the central crop that the metrics without pairs look at."""
_LEAST_PX = 16
P = TypeVar("P")
"""A photograph, or a pair."""


@dataclass(frozen=True)
class Photographs:
    """Held-out ones; all empty without validation."""

    real: list[Path]
    """LR."""
    sharp: list[Path]
    pairs: list[Pair]
    """Those among them that show the same scene; either none, or of every LR one."""


@dataclass(frozen=True)
class Copies:
    """Of the networks that a run trains, in eval mode; they are given the trained weights before they are scored."""

    g_l2h: nn.Module
    translators: dict[str, dict[str, nn.Module]]
    """By the network that a system may export, see method/systems/base.py, and by their own names."""
    noise_channels: int
    """Which g_s2r takes behind the colours."""
    starts_measured: bool
    """Whether g_s2r holds the measured degradation, or is that."""


class Validator:
    """Scores copies of the networks, so the training networks' mode, gradients and partitions stay untouched."""

    def __init__(
        self,
        photographs: Photographs,
        copies: Copies,
        metric: str,
        protocol: str,
        scale: int,
        world: World,
        perceptual: Perceptual | None = None,
    ) -> None:
        """`metric` chooses the best, `protocol` says how pairs are scored, `perceptual` what is scored besides. See
        training/validation_set_up.py.

        Without photographs, `enabled` is False. Raises ConfigError for a metric of the user's that cannot be had.
        """
        self.enabled = bool(photographs.real)
        self.real, self.sharp, self.pairs = photographs.real, photographs.sharp, photographs.pairs
        self.copies = copies
        self.g_l2h, self.translators = copies.g_l2h, copies.translators
        self.metric = metric
        self.protocol = protocol
        self.scale = scale
        self.world = world
        self.perceptual = perceptual
        self.upscaler = NetUpscaler("g_l2h", self.g_l2h, scale)
        self._own: dict[str, Score] = {}
        """A metric of the user's, by name."""
        if self.enabled:
            self._spec = metric_of("validate.metric", metric)
            if self._spec.score is not None:
                self._own = {metric: self._spec.score}
                _try_out(metric, self._spec.score, scale, world.device)
        self._estimate: nn.Module | None = None
        self._bicubic: list[dict[str, float]] = []

    @property
    def needs_estimate(self) -> bool:
        """Whether the measured degradation must be there before `score`, given to `measured`."""
        return self.enabled and "estimate" in self._spec.needs

    def measured(self, degradation: Degradation | None) -> None:
        """Score `psnr_estimated` with it, where no network of the system holds one."""
        if degradation is not None:
            self._estimate = MeasuredDegradation(degradation).to(self.world.device).eval()

    def score(
        self, network: str, g_l2h: TensorDict, translators: dict[str, TensorDict], stop: StopRequest
    ) -> dict[str, float] | None:
        """Means over all photographs: `psnr`, `ssim` where there are pairs, the perceptual scores, those of bicubic
        enlargement as `psnr_bicubic`, `ssim_bicubic` and so on, and what scoring/reference_free.py has.

        None when `stop` was requested on any rank meanwhile: the photographs left are then not looked at.

        `network` is a name in `translators`, of which `translators` has the weights. All ranks call it with equal
        weights; all get the result.
        """
        self.g_l2h.load_state_dict(g_l2h)
        for name, weights in translators.items():
            self.translators[network][name].load_state_dict(weights)
        mine = slice(self.world.rank, None, self.world.num_ranks)
        with torch.no_grad():
            own = self._score_pairs(self.pairs[mine], stop) or self._score_alone(self.real[mine], stop)
            records = self._records(network, mine, stop)
        gathered = self.world.gather_objects(None if stop.requested else (own, records))
        parts = [part for part in gathered if part is not None]
        if len(parts) < len(gathered):
            return None
        scored = [score for scores, _ in parts for score in scores]
        means = {key: float(np.mean([score[key] for score in scored])) for key in (scored[0] if scored else ())}
        return means | reference_free([record for _, records in parts for record in records])

    def _score_pairs(self, pairs: list[Pair], stop: StopRequest) -> list[dict[str, float]]:
        return self._beside_bicubic(pairs, self._of_pair, stop)

    def _beside_bicubic(
        self, photographs: list[P], score: Callable[[Upscaler, P], dict[str, float]], stop: StopRequest
    ) -> list[dict[str, float]]:
        """Of those that were looked at before `stop` was requested."""
        own = [score(self.upscaler, one) for one in stop.until(photographs)]
        for one in stop.until(photographs[len(self._bicubic) :]):  # the same at every validation: once is enough
            of_bicubic = score(BicubicUpscaler(self.scale), one)
            self._bicubic.append({f"{name}_bicubic": value for name, value in of_bicubic.items()})
        return [of | bicubic for of, bicubic in zip(own, self._bicubic, strict=False)]

    def _of_pair(self, upscaler: Upscaler, pair: Pair) -> dict[str, float]:
        of = score_file(upscaler, pair, self.protocol, perceptual_scores=self.perceptual)
        return {name: of[name] for name in ("psnr", "ssim", *(self.perceptual.names if self.perceptual else ()))}

    def _score_alone(self, real: list[Path], stop: StopRequest) -> list[dict[str, float]]:
        """The same without originals: the perceptual scores that need none."""
        if self.pairs or self.perceptual is None or not self.perceptual.alone:
            return []
        return self._beside_bicubic(real, self._of_one, stop)

    def _of_one(self, upscaler: Upscaler, path: Path) -> dict[str, float]:
        assert self.perceptual is not None
        return self.perceptual.of_one(to_uint8(upscale_image(upscaler, read_picture(path, srgb=True).rgb)))

    def better(self, scores: dict[str, float], best: dict[str, float]) -> bool:
        """Whether `scores` beat `best` (empty, or without the metric: always) by the chosen metric.

        Without it they do not: a network that is trained beside has no g_r2s to agree with. Where the metric needs no
        pairs, a network that shifts brightness or colour of real photographs loses to one that does not: such metrics
        are blind to it.
        """
        if self.metric not in scores:
            return False
        if self.metric not in best:  # none so far, or of a run that chose by another metric
            return True
        if "pairs" not in self._spec.needs and drifts(scores) != drifts(best):
            return drifts(best)
        own, other = scores[self.metric], best[self.metric]
        return own > other if self._spec.larger_is_better else own < other

    def _records(self, network: str, part: slice, stop: StopRequest) -> list[Record]:
        own = self.translators[network]
        g_s2r = own.get("g_s2r")
        measured: nn.Module | None = g_s2r.measured if isinstance(g_s2r, DegradationTranslator) else g_s2r
        if not self.copies.starts_measured:
            measured = self._estimate
        nets = Nets(self.g_l2h, own.get("g_r2s"), g_s2r, self.copies.noise_channels, measured)
        real = [
            real_record(nets, centre(path, CROP_PX, 4, self.world.device), self.scale, self._own)
            for path in stop.until(self.real[part])
        ]
        sharp = [
            sharp_record(
                nets, centre(path, CROP_PX * self.scale, 4 * self.scale, self.world.device), self.scale, seed=index
            )
            for index, path in stop.until(list(enumerate(self.sharp))[part])
        ]
        return real + sharp


def _try_out(name: str, score: Score, scale: int, device: torch.device) -> None:
    """Raise ConfigError when a metric of the user's cannot be had of the smallest photographs that are validated on."""
    with torch.random.fork_rng(devices=[]):
        sr, lr = (torch.rand(1, 3, side, side).to(device) for side in (_LEAST_PX * scale, _LEAST_PX))
        own_score(name, score, sr, lr)


def centre(path: Path, side: int, multiple: int, device: torch.device) -> Tensor:
    """The central square of at most `side` px, (1, 3, n, n) in [0, 1], n a multiple of `multiple` (4 LR px, which is
    what translators need). Raises InputError when there is no such square of 16 px or more."""
    image = read_rgb8(path)
    height, width = image.shape[:2]
    n = min(side, height, width) // multiple * multiple
    if n < _LEAST_PX:
        raise InputError(
            f"{path}: {width}x{height} px is too small to validate on; at least {_LEAST_PX}x{_LEAST_PX} px are needed"
        )
    top, left = (height - n) // 2, (width - n) // 2
    crop = torch.from_numpy(image[top : top + n, left : left + n].astype(np.float32) / 255)
    return crop.permute(2, 0, 1)[None].to(device)
