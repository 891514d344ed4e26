"""Scores of g_l2h on held-out photographs during training, spread over the ranks: with pairs PSNR and SSIM, and
always the scores that need none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cyclesr_dist.config.metrics import Need, metric_of
from cyclesr_dist.config.schema import MEASURED, Config, noise_channels, uses_estimate
from cyclesr_dist.config.systems import SYSTEMS, spec_of
from cyclesr_dist.data.images import Pair, hr_stem, images_folder, list_images, match_pairs, read_rgb8
from cyclesr_dist.degradation.record import Degradation
from cyclesr_dist.distributed.player import TensorDict
from cyclesr_dist.distributed.world import World
from cyclesr_dist.errors import ConfigError, InputError
from cyclesr_dist.method.systems.base import ESTIMATED, G_L2H
from cyclesr_dist.models.upscaler import BicubicUpscaler, NetUpscaler
from cyclesr_dist.nets.build import build_g_s2r, build_sr, build_translator, inference_net
from cyclesr_dist.nets.measured import DegradationTranslator, MeasuredDegradation
from cyclesr_dist.runtime.stopping import StopRequest
from cyclesr_dist.scoring.reference_free import (
    Nets,
    Record,
    Score,
    own_score,
    real_record,
    reference_free,
    sharp_record,
)
from cyclesr_dist.scoring.score import score_file, scorer_of
from cyclesr_dist.telemetry.diagnosis import drifts

CROP_PX = 96
"""LR side of the central crop that the metrics without pairs look at."""
_LEAST_PX = 16
_TRANSLATING = ", ".join(name for name, spec in SYSTEMS.items() if spec.translates)


class Validator:
    """Scores copies of the networks, so the training networks' mode, gradients and partitions stay untouched."""

    def __init__(self, config: Config, world: World) -> None:
        """Raises InputError when the folders do not fit, ConfigError when `validate.metric` cannot be had.

        Without `data.valid_lr`, `enabled` is False.
        """
        scorer_of(config.validate.protocol)  # refused now rather than at the first validation
        self.enabled = bool(config.data.valid_lr and config.train.validate_every_steps)
        self.config = config
        self.world = world
        self.real = _images(config.data.valid_lr, config.scale) if self.enabled else []
        self.sharp = _images(config.data.valid_hr, config.scale) if self.enabled and config.data.valid_hr else []
        self.pairs = _pairs(self.sharp, self.real)
        spec = spec_of(config.system)
        self.translates = spec.translates
        self.starts_measured = uses_estimate(config)
        self._unpaired = bool(spec.data == "unpaired" and config.data.hr and config.data.lr)
        self._own: dict[str, Score] = {}
        """A metric of the user's, by name."""
        if self.enabled:
            self.metric = self._metric()
            self._spec = metric_of("validate.metric", self.metric)
            if self._spec.score is not None:
                self._own = {self.metric: self._spec.score}
                _try_out(self.metric, self._spec.score, config.scale, world.device)
        net = inference_net(config)
        self.g_l2h = build_sr(net, config.scale).to(world.device).eval()
        self.upscaler = NetUpscaler("g_l2h", self.g_l2h, config.scale)
        self.translators = _translators(config, world.device)
        """By the network that a system may export, see method/systems/base.py, and by their own names."""
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
        """Means over all photographs: `psnr`, `ssim` where there are pairs, those of bicubic enlargement as
        `psnr_bicubic` and `ssim_bicubic`, and what scoring/reference_free.py has.

        None when `stop` was requested on any rank meanwhile: the photographs left are then not looked at.

        `network` is a name in `translators`, of which `translators` has the weights. All ranks call it with equal
        weights; all get the result.
        """
        self.g_l2h.load_state_dict(g_l2h)
        for name, weights in translators.items():
            self.translators[network][name].load_state_dict(weights)
        mine = slice(self.world.rank, None, self.world.num_ranks)
        with torch.no_grad():
            own = self._score_pairs(self.pairs[mine], stop)
            records = self._records(network, mine, stop)
        gathered = self.world.gather_objects(None if stop.requested else (own, records))
        parts = [part for part in gathered if part is not None]
        if len(parts) < len(gathered):
            return None
        paired = [score for scores, _ in parts for score in scores]
        keys = ("psnr", "ssim", "psnr_bicubic", "ssim_bicubic") if paired else ()
        means = {key: float(np.mean([score[key] for score in paired])) for key in keys}
        return means | reference_free([record for _, records in parts for record in records])

    def _score_pairs(self, pairs: list[Pair], stop: StopRequest) -> list[dict[str, float]]:
        """Of those that were looked at before `stop` was requested."""
        protocol = self.config.validate.protocol
        own = [score_file(self.upscaler, pair, protocol) for pair in stop.until(pairs)]
        for pair in stop.until(pairs[len(self._bicubic) :]):  # the same at every validation: once is enough
            of = score_file(BicubicUpscaler(self.config.scale), pair, protocol)
            self._bicubic.append({"psnr_bicubic": of["psnr"], "ssim_bicubic": of["ssim"]})
        return [score | bicubic for score, bicubic in zip(own, self._bicubic, strict=False)]

    def better(self, scores: dict[str, float], best: dict[str, float]) -> bool:
        """Whether `scores` beat `best` (empty: always) by the chosen metric.

        Without it they do not: a network that is trained beside has no g_r2s to agree with. Where the metric needs no
        pairs, a network that shifts brightness or colour of real photographs loses to one that does not: such metrics
        are blind to it.
        """
        if self.metric not in scores:
            return False
        if not best:
            return True
        if "pairs" not in self._spec.needs and drifts(scores) != drifts(best):
            return drifts(best)
        own, other = scores[self.metric], best[self.metric]
        return own > other if self._spec.larger_is_better else own < other

    def _records(self, network: str, part: slice, stop: StopRequest) -> list[Record]:
        c = self.config
        own = self.translators[network]
        g_s2r = own.get("g_s2r")
        measured: nn.Module | None = g_s2r.measured if isinstance(g_s2r, DegradationTranslator) else g_s2r
        if not self.starts_measured:
            measured = self._estimate
        nets = Nets(self.g_l2h, own.get("g_r2s"), g_s2r, noise_channels(c), measured)
        real = [
            real_record(nets, centre(path, CROP_PX, 4, self.world.device), c.scale, self._own)
            for path in stop.until(self.real[part])
        ]
        sharp = [
            sharp_record(nets, centre(path, CROP_PX * c.scale, 4 * c.scale, self.world.device), c.scale, seed=index)
            for index, path in stop.until(list(enumerate(self.sharp))[part])
        ]
        return real + sharp

    def _usual_metric(self) -> str:
        """Of those without pairs the one that lost least by choosing with it (docs/results.md)."""
        if self.pairs:
            return "psnr"
        if self.sharp:
            return "psnr_estimated" if self._unpaired else "spectrum_hr"
        return "agreement"

    def _metric(self) -> str:
        wanted: str = self.config.validate.metric
        if wanted == "auto":
            wanted = self._usual_metric()
            if wanted == "agreement" and not self.translates:
                raise ConfigError(
                    f"validate.metric = auto cannot choose for system = {self.config.system} without data.valid_hr; "
                    "give a folder of sharp photographs, or data.valid_lr= for no validation"
                )
        spec = metric_of("validate.metric", wanted)
        has: dict[Need, tuple[Any, str]] = {
            "pairs": (self.pairs, "HR of the same scenes in data.valid_hr"),
            "sharp": (self.sharp, "sharp photographs in data.valid_hr"),
            "translator": (self.translates, f"a system that translates LR: {_TRANSLATING}"),
            "estimate": (self._unpaired, "a system that trains on data.hr and data.lr"),
        }
        if not all(has[need][0] for need in spec.needs):
            raise ConfigError(f"validate.metric = {wanted} needs {' and '.join(has[need][1] for need in spec.needs)}")
        return wanted


def _try_out(name: str, score: Score, scale: int, device: torch.device) -> None:
    """Raise ConfigError when a metric of the user's cannot be had of the smallest photographs that are validated on."""
    with torch.random.fork_rng(devices=[]):
        sr, lr = (torch.rand(1, 3, side, side).to(device) for side in (_LEAST_PX * scale, _LEAST_PX))
        own_score(name, score, sr, lr)


def _translators(config: Config, device: torch.device) -> dict[str, dict[str, nn.Module]]:
    """Copies of what stands before g_l2h, for each network that a run may export."""
    found: dict[str, dict[str, nn.Module]] = {G_L2H: {}}
    spec = spec_of(config.system)
    if spec.measured:
        found[G_L2H] = {"g_s2r": MeasuredDegradation()}
    elif spec.translates:
        found[G_L2H] = {"g_s2r": build_g_s2r(config), "g_r2s": build_translator(config.nets.translator)}
        if config.nets.translator.kind == MEASURED and spec.keeps_estimated:
            found[ESTIMATED] = {"g_s2r": MeasuredDegradation()}
    return {name: {key: net.to(device).eval() for key, net in nets.items()} for name, nets in found.items()}


def _images(folder: str, scale: int) -> list[Path]:
    return list_images(images_folder(Path(folder), scale))


def _pairs(sharp: list[Path], real: list[Path]) -> list[Pair]:
    """The pairs of two folders; none where no name matches, and InputError where only some do."""
    stems = {path.stem for path in sharp}
    if not any(path.stem in stems or hr_stem(path.stem) in stems for path in real):
        return []
    return match_pairs(sharp[0].parent, real[0].parent)


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
