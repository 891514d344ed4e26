"""By how much photographs of a set differ among each other, in blur and in noise.

Pictures differ in sharpness by themselves. What the real photographs vary beyond the synthetic ones is the blur's.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cyclesr_dist.degradation.fit import Fit, variance_at
from cyclesr_dist.degradation.noise import Noise
from cyclesr_dist.degradation.sample import Sample
from cyclesr_dist.degradation.spectra import Spectra, gain_of, in_band

_BAND = (0.12, 0.3)
_FEWEST_PHOTOS = 8
_FEWEST_PATCHES = 6
_NUM_KERNELS = 9
_SMALLEST_SPREAD = 0.1
_GRID = 64


def noise_spread(noise: Noise) -> float | None:
    """Standard deviation of the natural logarithm of photographs' noise levels.

    None where too few show their noise, and after JPEG, which takes more of it from one place than from another.
    """
    if len(noise.levels) < _FEWEST_PHOTOS or len(noise.patches):
        return None
    return float(noise.levels.clamp(min=0.02).log().std())


def blur_spread(syn_sample: Sample, real_sample: Sample, syn: Spectra, real: Spectra, fitted: Fit) -> float | None:
    """Standard deviation of the exponent t by which photographs' gains are |K|^(2 t), 1 in the mean.

    None where it cannot be told: too few photographs, hardly any blur, or noise that covers it.
    """
    p = syn.power.shape[-2]
    band = in_band(p, *_BAND)
    strength = -float(gain_of(fitted.kernel, p)[band].mean().log())
    if strength < 0.2:
        return None
    own = _sharpness(real_sample, real, fitted, subtract=True)
    other = _sharpness(syn_sample, syn, fitted, subtract=False)
    if min(len(own), len(other)) < _FEWEST_PHOTOS:
        return None
    squares = [float(_robust_std(values)) ** 2 for values in (own, other)]
    excess = squares[0] - squares[1]
    # Of a variance from so few photographs; what is within twice of it may be chance.
    error = math.hypot(
        *(square * math.sqrt(2 / len(values)) for square, values in zip(squares, (own, other), strict=True))
    )
    return min(1.0, math.sqrt(excess) / strength) if excess > 2 * error else 0.0


def kernels_of(kernel: Tensor, spread: float | None) -> Tensor:
    """(m, k, k): the kernel alone, or a range of kernels that differ by so much, each as likely as the others."""
    if not spread or spread < _SMALLEST_SPREAD:
        return kernel[None]
    chances = (torch.arange(_NUM_KERNELS) + 0.5) / _NUM_KERNELS
    return to_powers(kernel, (1 + spread * torch.special.ndtri(chances)).clamp(min=0.0))


def to_powers(kernel: Tensor, exponents: Tensor) -> Tensor:
    """(k, k), (m,) -> (m, k, k): kernels whose gain is that of `kernel` to a power; 0 is no blur, 1 the kernel."""
    amplitude = gain_of(kernel, _GRID).sqrt()
    side, half = kernel.shape[-1], kernel.shape[-1] // 2
    wide = torch.fft.irfft2(amplitude ** exponents[:, None, None], s=(_GRID, _GRID))
    moved = torch.roll(wide, (half, half), (-2, -1))[:, :side, :side]
    return moved / moved.sum((-2, -1), keepdim=True)


def _sharpness(sample: Sample, spectra: Spectra, fitted: Fit, subtract: bool) -> Tensor:
    """Of each photograph whose patches rise above the noise: log of its power in the band over its contrast."""
    p = spectra.power.shape[-2]
    band, low = in_band(p, *_BAND), in_band(p)
    colour = gain_of(fitted.colouring, p)
    variance = variance_at(fitted.variance, spectra.brightness) if subtract else torch.zeros(len(spectra.brightness))
    power = spectra.power[:, band].mean(1) - variance * colour[band].mean()
    contrast = spectra.contrast() - variance * colour[low].mean()
    clear = contrast > contrast.quantile(0.5)
    if subtract:
        clear &= spectra.power[:, band].mean(1) > 2 * variance * colour[band].mean()
    photo = sample.photo.repeat_interleave(3)
    found = []
    for number in range(sample.num_photos):
        own = clear & (photo == number)
        if int(own.sum()) >= _FEWEST_PATCHES:
            ratio = power[own].sum() / contrast[own].sum()
            if ratio > 0:
                found.append(ratio.log())
    return torch.stack(found) if found else torch.empty(0)


def _robust_std(values: Tensor) -> Tensor:
    return (values.quantile(0.84) - values.quantile(0.16)) / 2
