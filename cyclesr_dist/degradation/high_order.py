"""High-order degradation: LR as Real-ESRGAN makes it, two rounds of blur, resizing, noise and JPEG, all drawn.

Wang et al. 2021, "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data". Kinds, chances and
ranges are those of its published configuration for x4plus. Different here: the targets are not sharpened; every sample
has draws of its own, where there a batch shares the sizes and is mixed in a pool; photon noise is drawn from the normal
distribution of the same variance.

Images are (N, 3, H, W) in [0, 1]. Everything is a function of the seed and of the sample's index since the start of
training: ranks, devices and restarts draw alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cyclesr_dist.config.schema import Config
from cyclesr_dist.data.batch import Batch
from cyclesr_dist.data.images import luma
from cyclesr_dist.data.order import degradation_draws
from cyclesr_dist.data.resize import to_8bit_grid
from cyclesr_dist.degradation.blur import blur
from cyclesr_dist.degradation.jpeg_blocks import through_jpeg
from cyclesr_dist.distributed.world import World

Range = tuple[float, float]


@dataclass(frozen=True)
class Round:
    """One of the two rounds. Lengths in px of the image that the round is given, noise in levels of 255."""

    blur_chance: float
    blur_std_px: Range
    up_down_keep: tuple[float, float, float]
    """Chances of a larger image, a smaller one, the same size."""
    resize: Range
    """The smallest and the largest factor."""
    gaussian: Range
    """Standard deviation."""
    photons: Range
    """Factor of the noise that 255 photons in white would have."""


FIRST = Round(1.0, (0.2, 3.0), (0.2, 0.7, 0.1), (0.15, 1.5), (1.0, 30.0), (0.05, 3.0))
SECOND = Round(0.8, (0.2, 1.5), (0.3, 0.4, 0.3), (0.3, 1.2), (1.0, 25.0), (0.05, 2.5))
JPEG_QUALITY = (30, 95)
_GAUSSIAN_CHANCE = 0.5
_GREY_CHANCE = 0.4
_SIDES = range(7, 22, 2)
_SHAPES = ("normal", "generalized", "plateau")
_SHAPE_CHANCES = (0.70, 0.15, 0.15)
_ROUND_SHARE = {"normal": 0.45 / 0.70, "generalized": 0.12 / 0.15, "plateau": 0.12 / 0.15}
_SHARPNESS: dict[str, Range] = {"normal": (1.0, 1.0), "generalized": (0.5, 4.0), "plateau": (1.0, 2.0)}
_SINC_CHANCE, _LAST_SINC_CHANCE = 0.1, 0.8
_MODES = ("area", "bilinear", "bicubic")


def with_high_order(batch: Batch, config: Config, world: World) -> Batch:
    """The batch with LR of high-order degradation where `data.downsampling` says so; else as it is."""
    if config.data.downsampling != "high_order":
        return batch
    first = batch.index + world.rank * len(batch.hr)
    return replace(batch, syn=high_order(batch.hr, config.scale, config.seed, first))


@torch.no_grad()
def high_order(hr: Tensor, scale: int, seed: int, first: int) -> Tensor:
    """LR of HR: (N, 3, h * scale, w * scale) -> (N, 3, h, w) on the 8-bit grid. `first`: index of the first sample."""
    made = [_one(image[None], scale, degradation_draws(seed, first + i)) for i, image in enumerate(hr)]
    return torch.cat(made)


def _one(x: Tensor, scale: int, draws: np.random.Generator) -> Tensor:
    height, width = x.shape[-2] // scale, x.shape[-1] // scale
    x = _blurred(x, FIRST, draws)
    factor = _factor(FIRST, draws)
    x = _resized(x, int(x.shape[-2] * factor), int(x.shape[-1] * factor), draws)
    x = _jpeg(_noisy(x, FIRST, draws), draws)
    x = _blurred(x, SECOND, draws)
    factor = _factor(SECOND, draws)
    x = _noisy(_resized(x, int(height * factor), int(width * factor), draws), SECOND, draws)
    jpeg_last = draws.random() < 0.5
    if not jpeg_last:
        x = _jpeg(x, draws)
    x = _resized(x, height, width, draws)
    if draws.random() < _LAST_SINC_CHANCE:
        x = _convolved(x, sinc(int(draws.choice(_SIDES)), draws.uniform(math.pi / 3, math.pi)))
    return to_8bit_grid(_jpeg(x, draws) if jpeg_last else x)


def _blurred(x: Tensor, of: Round, draws: np.random.Generator) -> Tensor:
    if draws.random() >= of.blur_chance:
        return x
    side = int(draws.choice(_SIDES))
    if draws.random() < _SINC_CHANCE:
        return _convolved(x, sinc(side, draws.uniform(math.pi / (3 if side < 13 else 5), math.pi)))
    shape = str(draws.choice(_SHAPES, p=_SHAPE_CHANCES))
    along = across = draws.uniform(*of.blur_std_px)
    angle = 0.0
    if draws.random() >= _ROUND_SHARE[shape]:
        across, angle = draws.uniform(*of.blur_std_px), draws.uniform(-math.pi, math.pi)
    low, high = _SHARPNESS[shape]
    # Half of them on either side of 1, however far the range reaches there.
    power = draws.uniform(low, 1.0) if draws.random() < 0.5 else draws.uniform(1.0, high)
    return _convolved(x, gaussian(side, (along, across), angle, shape, power))


def gaussian(side: int, std_px: tuple[float, float], angle: float, shape: str = "normal", power: float = 1.0) -> Tensor:
    """A kernel (side, side) of sum 1: exp(-q^power / 2), or 1 / (1 + q^power) for a `plateau`; q is the squared
    distance from the centre in standard deviations along two axes, turned by `angle`."""
    line = torch.arange(side, dtype=torch.float64) - side // 2
    y, x = line[:, None], line[None]
    along = (x * math.cos(angle) + y * math.sin(angle)) / std_px[0]
    across = (y * math.cos(angle) - x * math.sin(angle)) / std_px[1]
    q = (along.square() + across.square()) ** power
    kernel = 1 / (1 + q) if shape == "plateau" else torch.exp(-0.5 * q)
    return (kernel / kernel.sum()).float()


def sinc(side: int, cutoff: float) -> Tensor:
    """A kernel (side, side) of sum 1 that lets frequencies below `cutoff` (radians a px) pass: it rings as sharpened
    and compressed photographs do."""
    line = torch.arange(side, dtype=torch.float64) - side // 2
    r = (line[:, None].square() + line[None].square()).sqrt()
    kernel: Tensor = cutoff * torch.special.bessel_j1(cutoff * r) / (2 * math.pi * r)
    kernel[side // 2, side // 2] = cutoff**2 / (4 * math.pi)  # the limit
    return (kernel / kernel.sum()).float()


def _convolved(x: Tensor, kernel: Tensor) -> Tensor:
    return blur(x, kernel[None].to(x), x.new_zeros(len(x)))


def _factor(of: Round, draws: np.random.Generator) -> float:
    low, high = of.resize
    kind = draws.choice(3, p=of.up_down_keep)
    return float(draws.uniform(1, high) if kind == 0 else draws.uniform(low, 1) if kind == 1 else 1.0)


def _resized(x: Tensor, height: int, width: int, draws: np.random.Generator) -> Tensor:
    """Without antialiasing, as there."""
    size = (max(1, height), max(1, width))
    return F.interpolate(x, size=size, mode=str(draws.choice(_MODES)))


def _noisy(x: Tensor, of: Round, draws: np.random.Generator) -> Tensor:
    is_gaussian, is_grey = draws.random() < _GAUSSIAN_CHANCE, draws.random() < _GREY_CHANCE
    x = x.clamp(0, 1)
    if is_gaussian:
        std: Tensor | float = draws.uniform(*of.gaussian) / 255
    else:
        seen = luma(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) if is_grey else x
        std = draws.uniform(*of.photons) * (seen / 256).sqrt()
    normal = draws.standard_normal((1, 1 if is_grey else 3, *x.shape[-2:]), dtype=np.float32)
    return (x + std * torch.from_numpy(normal).to(x)).clamp(0, 1)


def _jpeg(x: Tensor, draws: np.random.Generator) -> Tensor:
    return through_jpeg(x, int(draws.integers(*JPEG_QUALITY, endpoint=True)))
