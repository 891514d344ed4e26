"""The noise of real photographs: where hardly anything is to be seen, what is left is noise.

Sensor noise is Gaussian, but for its level, colour and correlation, and is drawn anew for every sample. JPEG leaves
something else: blocks with much and blocks with none. Such noise is kept as it is found, in a pool of flat patches (Ji
et al. 2020, "Real-World Super-Resolution via Kernel Estimation and Noise Injection").
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from cyclesr_dist.degradation.fit import Fit, variance_at
from cyclesr_dist.degradation.sample import Sample
from cyclesr_dist.degradation.spectra import Spectra, gain_of, in_band

HIGH_BAND = (0.3, 0.75)
"""Cycles a px, where photographs have little and noise much."""
POOL_SIZE = 768
_SMALLEST_POOL = 12
_LARGEST_TEXTURE = 0.5  # of the noise's power in the high band: what the picture itself may have there
_CLIPPED_SHARE = 0.02  # of pixels that are black or white: noise is cut off there
_MEAN_PX = 9
_BLOCK_PX = 8
_NUM_CALM, _NUM_CALMEST = 96, 32  # patches; colours and bursts of texture are none of the noise
_BURSTS = 1.3  # of what Gaussian noise of the same colour has; sensor noise has 1.0 to 1.1, that of JPEG 80 has 1.6
_NUM_LEVELS = 64
_CORRECTION = (0.0, 2.0)  # flat patches know better than the fit that there is no noise
_EQUAL = torch.tensor([[1.0, 0, 0], [1, 0, 0], [1, 0, 0]])  # one noise for all three channels
_CALM = 0.1  # of patches, and of photographs
_RARELY_SEEN = 0.05  # of patches, that are flat but for noise: with fewer, noise may be none at all


@dataclass(frozen=True)
class Noise:
    variance: Tensor
    """(3,) at `fit.KNOTS`: the fitted one, corrected by what flat patches have. Where photographs differ in noise, the
    fit, which compares patches of equal contrast, gives those with more of it too much weight."""
    levels: Tensor
    """(m,) of photographs, each as likely as the others, over its standard deviation; mean square 1."""
    colouring: Tensor
    """(3, 3, 5, 5): unit white noise in three channels, convolved with it, has the noise's colour and correlation."""
    patches: Tensor
    """(L, 3, p, p) noise as it was found, over the fitted standard deviation; L = 0 where it is Gaussian."""
    num_flat: int
    """Patches in which noise outweighs the picture."""
    correlation: Tensor
    """(3, 3) of the colours."""


def find_noise(sample: Sample, real: Spectra, syn: Spectra, fitted: Fit) -> Noise:
    """Levels of photographs, correlation of colours, and a pool where the noise is not Gaussian."""
    grey = _is_grey(sample.patches)
    texture, ratio = _texture_and_level(real, syn, fitted)
    ends = (sample.patches <= 0.5 / 255) | (sample.patches >= 254.5 / 255)
    unclipped = ends.float().mean((1, 2, 3)) < _CLIPPED_SHARE
    flat = unclipped & (texture < _LARGEST_TEXTURE)
    places = _evenly(sample.photo, texture, flat)
    most = _ceiling(sample, real, fitted, unclipped) if flat.float().mean() < _RARELY_SEEN else 1.0
    if len(places) < _SMALLEST_POOL:
        white = torch.zeros(3, 3, 5, 5) + (_EQUAL if grey else torch.eye(3))[..., None, None] * fitted.colouring
        correlation = torch.ones(3, 3) if grey else torch.eye(3)
        return Noise(fitted.variance * most, torch.ones(1), white, sample.patches[:0], len(places), correlation)
    places = places[sample.photo[places].argsort(stable=True)]  # neighbours in the pool are of one photograph
    chosen = sample.patches[places]
    calmest = texture[places].argsort(stable=True)
    calm = chosen[calmest[:_NUM_CALM]]
    covariance = _covariance(calm, variance_at(fitted.variance, calm.mean((-2, -1))))
    std = covariance.diag().sqrt()
    correlation = covariance / std[:, None] / std
    # Three equal channels have no square root that is exact, and they are to stay equal.
    factor = _EQUAL if grey else torch.linalg.cholesky(covariance + 1e-4 * torch.eye(3))
    colouring = factor[..., None, None] * fitted.colouring
    unit = _unit(chosen, fitted)
    comes_in_bursts = _bursts(unit[calmest[:_NUM_CALMEST]]) > _BURSTS * _bursts(
        _coloured(unit[:_NUM_CALMEST].shape, colouring)
    )
    pool = unit if comes_in_bursts else unit[:0]
    squares = _squares(sample, ratio, flat, unclipped)
    correction = squares.mean().clamp(*_CORRECTION)
    levels = _quantiles((squares / squares.mean()).sqrt())
    return Noise(
        fitted.variance * torch.minimum(correction, torch.as_tensor(most)),
        levels,
        colouring,
        pool,
        int(flat.sum()),
        correlation,
    )


def _ceiling(sample: Sample, real: Spectra, fitted: Fit, unclipped: Tensor) -> Tensor:
    """What noise can be at most, over the fitted one, where it is hardly seen: what the calmest photographs have in
    the high band. More detail in real LR than in synthetic LR is fitted as noise, and is none."""
    high = in_band(real.power.shape[-2], *HIGH_BAND)
    colour = gain_of(fitted.colouring, real.power.shape[-2])[high].mean()
    noise = (variance_at(fitted.variance, real.brightness) * colour).clamp(min=1e-9)
    level = (real.power[:, high].mean(1) / noise).view(-1, 3).mean(1)
    calm = [
        level[own].quantile(_CALM)
        for number in range(sample.num_photos)
        if bool((own := unclipped & (sample.photo == number)).any())
    ]
    return torch.stack(calm).quantile(_CALM).clamp(max=1) if calm else torch.ones(())


def _texture_and_level(real: Spectra, syn: Spectra, fitted: Fit) -> tuple[Tensor, Tensor]:
    """Of each patch (n,): the picture's power in the high band, and the rest there, over the noise's."""
    p = real.power.shape[-2]
    high, low = in_band(p, *HIGH_BAND), in_band(p)
    gain, colour = gain_of(fitted.kernel, p), gain_of(fitted.colouring, p)
    # What a picture has in the high band for each unit of its contrast: flat synthetic patches say so.
    contrast = syn.contrast(gain)
    calm = contrast <= contrast.quantile(0.3)
    share = (syn.power[calm][:, high] * gain[high]).mean() / contrast[calm].mean().clamp(min=1e-12)
    variance = variance_at(fitted.variance, real.brightness)
    noise = (variance * colour[high].mean()).clamp(min=1e-9)
    picture = (real.contrast() - variance * colour[low].mean()).clamp(min=0) * share
    level = ((real.power[:, high].mean(1) - picture).clamp(min=0) / noise).view(-1, 3).mean(1)
    return (picture / noise).view(-1, 3).amax(1), level


def _evenly(photo: Tensor, texture: Tensor, flat: Tensor) -> Tensor:
    """Indices of flat patches: the flattest of each photograph first, then the next of each, POOL_SIZE in all."""
    order = texture.argsort(stable=True)
    taken: dict[int, int] = {}
    ranked: list[tuple[int, int, int]] = []
    for place in order[flat[order]].tolist():
        number = int(photo[place])
        taken[number] = taken.get(number, 0) + 1
        ranked.append((taken[number], len(ranked), place))
    return torch.tensor([place for _, _, place in sorted(ranked)[:POOL_SIZE]], dtype=torch.long)


def _squares(sample: Sample, ratio: Tensor, flat: Tensor, unclipped: Tensor) -> Tensor:
    """(num_photos,) of each photograph the power of its noise over the fitted one.

    One without a flat patch has at most what its calmest ones have, and may have less than others: leaving it out would
    leave out photographs with little noise. Above that it is texture, and nothing is known.
    """
    found = torch.full((sample.num_photos,), torch.nan)
    bounds = torch.full((sample.num_photos,), torch.inf)
    for number in range(sample.num_photos):
        own = sample.photo == number
        if bool((own & flat).any()):
            found[number] = ratio[own & flat].median()
        elif bool((own & unclipped).any()):
            bounds[number] = ratio[own & unclipped].quantile(0.1)
    known = found[found.isfinite()]
    return torch.where(found.isfinite(), found, bounds.clamp(max=float(known.mean())))


def _quantiles(levels: Tensor) -> Tensor:
    """In order; no more than _NUM_LEVELS."""
    chances = (torch.arange(_NUM_LEVELS) + 0.5) / _NUM_LEVELS
    return levels.quantile(chances) if len(levels) > _NUM_LEVELS else levels.sort().values


def _covariance(patches: Tensor, variance: Tensor) -> Tensor:
    """(3, 3) of the colours in the high band, where the picture takes no part; trace 3. `variance` is (L, 3)."""
    high = in_band(patches.shape[-1], *HIGH_BAND)
    centred = patches - patches.mean((-2, -1), keepdim=True)
    found = torch.fft.rfft2(centred / variance.clamp(min=1e-8).sqrt()[..., None, None])[:, :, high]
    covariance = torch.einsum("ncf,ndf->cd", found, found.conj()).real
    return covariance * (3 / covariance.trace().clamp(min=1e-12))


def _is_grey(patches: Tensor) -> bool:
    """Whether the three colours are the same, as they are of photographs with one channel."""
    return bool((patches == patches[:, :1]).all())


def _unit(patches: Tensor, fitted: Fit) -> Tensor:
    """The noise of flat patches over its fitted standard deviation, mean square 1."""
    half = _MEAN_PX // 2
    smooth = F.avg_pool2d(F.pad(patches, (half,) * 4, mode="reflect"), _MEAN_PX, stride=1)
    std = variance_at(fitted.variance, patches.mean((-2, -1), keepdim=True)).sqrt()
    unit = (patches - smooth) / std.clamp(min=1e-4)
    unit = unit - unit.mean((-2, -1), keepdim=True)
    return unit / unit.square().mean().sqrt().clamp(min=1e-6)


def _bursts(unit: Tensor) -> float:
    """How unevenly a patch's finest detail is spread over its blocks: standard deviation over mean of their power."""
    fine = unit - F.avg_pool2d(F.pad(unit, (1,) * 4, mode="reflect"), 3, stride=1)
    power = F.avg_pool2d(fine.square(), _BLOCK_PX).mean(1).flatten(1)
    return float((power.std(1) / power.mean(1).clamp(min=1e-12)).median())


def _coloured(shape: torch.Size, colouring: Tensor) -> Tensor:
    white = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    half = colouring.shape[-1] // 2
    return F.conv2d(F.pad(white, (half,) * 4, mode="reflect"), colouring)
