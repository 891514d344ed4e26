"""A camera: from HR to LR through a lens, a sensor with a colour mosaic, sharpening and JPEG.

Outside equation (1) on purpose. The noise is that of light, not of display values, and demosaicing, sharpening and JPEG
make it depend on its neighbours and on what the picture shows. None of it is one kernel with noise added.

Images are (1, 3, H, W), the sensor's raw values (1, 1, H, W), both in [0, 1]. "Display values" are those of a file,
"linear light" is their power 2.2, in proportion to photons.
"""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from cyclesr_dist.config.schema import Degrade
from cyclesr_dist.data.resize import bicubic_down, to_8bit_grid
from cyclesr_dist.degradation.track import Draws, SimulatedTrack

SMALLEST_PX = 2  # sides of the LR image: one square of the mosaic has all colours

_GAMMA = 2.2
_READ = 0.15  # noise in the dark, as a share of the photon noise at full light
_SHARPENING = 0.5
_TENT = ((1.0, 2.0, 1.0), (2.0, 4.0, 2.0), (1.0, 2.0, 1.0))  # [1 2 1] x [1 2 1]


def photograph(
    hr: Tensor, scale: int, *, blur_px: float, noise: float, jpeg_quality: int, random: np.random.RandomState
) -> Tensor:
    """LR of `hr` (1, 3, H, W) in [0, 1]: (1, 3, H // scale, W // scale) in [0, 1] on the 8-bit grid.

    `blur_px`: standard deviation of the lens blur in HR px; `noise`: that of the sensor's noise at mid grey, in display
    values; 0 is none of it. `jpeg_quality`: 1 to 100. H and W are multiples of `scale`; LR has 2 to 65500 px (JPEG's
    limit) a side. Other versions of libjpeg may round otherwise by a level.
    """
    light = bicubic_down(lens_blur(hr, blur_px), scale).pow(_GAMMA)
    raw = (light * bayer(light)).sum(dim=1, keepdim=True)  # each photosite sees one colour
    if noise > 0:
        raw = sensor_noise(raw, noise, random)
    return jpeg(sharpen(demosaic(raw).pow(1 / _GAMMA)), jpeg_quality)


def lens_blur(x: Tensor, std_px: float) -> Tensor:
    """Isotropic Gaussian of standard deviation `std_px` on (1, 3, H, W); the border is replicated. 0: none."""
    if std_px == 0:
        return x
    radius = math.ceil(4 * std_px)  # beyond it lie 6e-5 of the weight
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (offsets / std_px) ** 2)
    kernel = (kernel / kernel.sum()).to(x.dtype)
    channels = F.pad(x, (radius,) * 4, mode="replicate").transpose(0, 1)  # they go through as a batch
    return F.conv2d(F.conv2d(channels, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1)).transpose(0, 1)


def bayer(x: Tensor) -> Tensor:
    """Which colour each photosite sees, RGGB: 1 or 0, (1, 3, H, W) as `x`. Red lies at even row and even column."""
    mask = torch.zeros(1, 3, *x.shape[-2:], dtype=x.dtype)
    mask[:, 0, 0::2, 0::2] = 1
    mask[:, 1, 0::2, 1::2] = 1
    mask[:, 1, 1::2, 0::2] = 1
    mask[:, 2, 1::2, 1::2] = 1
    return mask


def sensor_noise(raw: Tensor, noise: float, random: np.random.RandomState) -> Tensor:
    """Poisson-Gauss noise (Foi et al. 2008) on linear light (1, 1, H, W), clipped to [0, 1] as a sensor does.

    The variance is gain^2 (light + 0.15^2): photons, and reading out. Photons are many here, so a normal distribution
    stands for theirs. `noise` is the standard deviation at mid grey in display values; see `_gain`.
    """
    std = _gain(noise) * (raw + _READ**2).sqrt()
    normal = torch.from_numpy(random.standard_normal(tuple(raw.shape))).to(raw.dtype)
    return (raw + std * normal).clamp(0, 1)


def demosaic(raw: Tensor) -> Tensor:
    """(1, 1, H, W) to (1, 3, H, W), bilinear, by normalised convolution.

    Each value is the weighted mean of those of its colour in 3 x 3 px; green is smoothed at its own photosites, too.
    """
    mask = bayer(raw)
    return _smooth(raw * mask, "reflect") / _smooth(mask, "reflect")  # reflect: it goes on with the mosaic's pattern


def sharpen(x: Tensor) -> Tensor:
    """Unsharp mask of amount 0.5 on display values (1, 3, H, W), clipped to [0, 1]."""
    return (x + _SHARPENING * (x - _smooth(x, "replicate"))).clamp(0, 1)


def jpeg(x: Tensor, quality: int) -> Tensor:
    """(1, 3, H, W) as it comes back from a JPEG file of `quality` 1 to 100, with halved chroma as Pillow's default."""
    levels = (to_8bit_grid(x)[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    with io.BytesIO() as file:
        Image.fromarray(levels).save(file, format="JPEG", quality=quality)
        with Image.open(file) as image:
            decoded = np.array(image)
    return torch.from_numpy(decoded).permute(2, 0, 1)[None].to(x.dtype) / 255


def _gain(noise: float) -> float:
    """Factor of the noise in linear light that gives the standard deviation `noise` in display values at mid grey.

    Display values are light^(1 / 2.2), so a small change of light at display value 0.5 is 2.2 * 0.5^1.2 = 0.958 times
    that of the display value.
    """
    std_light = noise * _GAMMA * 0.5 ** (_GAMMA - 1)
    return float(std_light / math.sqrt(0.5**_GAMMA + _READ**2))


def _smooth(x: Tensor, border: str) -> Tensor:
    """Each channel of (1, 3, H, W) convolved with [1 2 1] x [1 2 1] / 16."""
    kernel = (torch.tensor(_TENT, dtype=x.dtype) / 16)[None, None]
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode=border).transpose(0, 1), kernel).transpose(0, 1)


def _draw(levels: Degrade, draws: Draws) -> dict[str, Any]:
    """`blur_px`: standard deviation of the lens blur; `noise`: that of the sensor's noise; `jpeg_quality`."""
    random = draws("parameters")
    return {
        "blur_px": float(random.uniform(0.8, 1.2) * levels.blur_px),
        "noise": float(random.uniform(0.7, 1.3) * levels.noise),
        "jpeg_quality": min(max(levels.jpeg_quality + int(random.randint(-8, 9)), 1), 100),
    }


def _apply(hr: Tensor, scale: int, levels: Degrade, parameters: dict[str, Any], draws: Draws) -> Tensor:
    return photograph(hr, scale, **parameters, random=draws("noise"))


CAMERA = SimulatedTrack(_draw, _apply, smallest_lr_px=SMALLEST_PX)
