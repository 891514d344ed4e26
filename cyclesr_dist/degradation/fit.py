"""Kernel and noise from the spectra of two sets: S_real(f | m, c) = |K(f)|^2 S_syn(f | m, c) + N(f | m).

m is a patch's brightness and c its contrast at low frequencies: real and synthetic patches are compared where both
agree, so that it matters less that the two sets show different things. Spectra know no phase, hence a kernel that is
symmetric about its centre; one that is not is found as the symmetric one of equal gain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from cyclesr_dist.degradation.blur import blur
from cyclesr_dist.degradation.spectra import SELECTION_BAND, Spectra, gain_of, in_band, radius, spectra
from cyclesr_dist.distributed.compiler_import import compiler_left_out

KNOTS = (0.1, 0.5, 0.9)
"""Brightnesses at which the noise's variance is fitted; linear between them and beyond."""
STEPS = 500
_LR = 0.04
_ROUNDS = 3  # contrast depends on the kernel, so bins are chosen anew with the kernel found
_BRIGHTNESS_BINS, _CONTRAST_BINS = 4, 4
_SMALLEST_BIN = 24
_COLOURING = 5  # side of the filter that colours the noise
_SLOPE_PRIOR = 0.3
_REACH_PRIOR = 0.3
_FLOOR = 1e-9  # of power
_SMALLEST_GAIN = 1e-4


@dataclass(frozen=True)
class Fit:
    kernel: Tensor
    """(k, k), sum 1, symmetric about its centre; negative beside the centre where LR was sharpened."""
    variance: Tensor
    """(3,) of the noise at `KNOTS`."""
    colouring: Tensor
    """(5, 5), sum of squares 1: white noise through it has the noise's spectrum."""
    distance: float
    """Mean |log10| of real over predicted power, in decades."""
    distance_before: float
    """The same for synthetic LR as it is."""


def variance_at(knots: Tensor, brightness: Tensor) -> Tensor:
    """The piecewise linear variance (3,) at any brightness; never below 0."""
    low, middle, high = KNOTS
    t = (brightness - middle) / (middle - low)
    below = knots[1] + (knots[1] - knots[0]) * t
    above = knots[1] + (knots[2] - knots[1]) * (brightness - middle) / (high - middle)
    return torch.where(brightness < middle, below, above).clamp(min=0)


def fit(patches: Tensor, syn: Spectra, real: Spectra, finish: Callable[[Tensor], Tensor] = lambda x: x) -> Fit:
    """Fit equation (1). `patches` (n, 3, p, p) are the synthetic ones, some hundreds a side; `syn` are the spectra of
    what `finish` makes of them: what real LR went through after blur and noise, as JPEG.

    A product of spectra is not quite the spectrum of a blurred patch: the window smears each over its neighbours, and
    photographs' spectra are steep. So each round blurs the patches themselves, and the next one fits with the ratio.
    """
    p = patches.shape[-1]
    unknowns = _Unknowns(min(15, p // 2 - 1) // 2 * 2 + 1)
    distance = before = 0.0
    for number in range(_ROUNDS):
        with torch.no_grad():
            kernel = unknowns.kernel()
            made = finish(blur(patches, kernel[None], torch.zeros(len(patches)))) if number else None
            blurred = syn if made is None else spectra(made)
            extra = variance_at(unknowns.variance(), syn.brightness) * _band_mean(unknowns.colour_gain(p))
            bins = _binned(
                syn, blurred, real, extra, gain_of(kernel, p).clamp(min=_SMALLEST_GAIN) if number else torch.ones(())
            )
        if number == 0:
            before = float(_residual(bins.syn, _log_power(bins.real, p), p))
        with compiler_left_out():
            distance = _solve(unknowns, bins, p, STEPS if number == 0 else STEPS // 2)
    with torch.no_grad():
        return Fit(unknowns.kernel(), unknowns.variance(), unknowns.colouring(), distance, before)


def _squares(side: int) -> Tensor:
    """(side, side) squared distances from the centre."""
    line = torch.arange(side) - side // 2
    return line[:, None].square() + line[None].square()


class _Unknowns:
    def __init__(self, side: int) -> None:
        self.side = side
        self.logits = (-0.5 * _squares(side) / 0.4**2).clamp(min=-8.0).requires_grad_()
        self.sharpening = torch.tensor(-4.0, requires_grad=True)
        self.noise = torch.full((3,), -4.0, requires_grad=True)
        colour = torch.full((_COLOURING, _COLOURING), 1e-3)
        colour[_COLOURING // 2, _COLOURING // 2] = 1.0
        self.colour = colour.requires_grad_()
        self.slope = torch.zeros(1, requires_grad=True)

    def all(self) -> list[Tensor]:
        return [self.logits, self.sharpening, self.noise, self.colour, self.slope]

    def kernel(self) -> Tensor:
        k = F.softmax(self.logits.flatten(), 0).view_as(self.logits)
        k = (k + k.flip(0, 1)) / 2
        k = k - F.softplus(self.sharpening) * F.conv2d(k[None, None], _LAPLACIAN[None, None], padding=1)[0, 0]
        return k / k.sum()

    def variance(self) -> Tensor:
        return F.softplus(self.noise) * 1e-2

    def colouring(self) -> Tensor:
        q = (self.colour + self.colour.flip(0, 1)) / 2
        return q / q.square().sum().sqrt()

    def colour_gain(self, p: int) -> Tensor:
        return gain_of(self.colouring(), p)


_LAPLACIAN = torch.tensor([[1.0, 2, 1], [2, -12, 2], [1, 2, 1]]) / 16


@dataclass(frozen=True)
class _Bins:
    syn: Tensor
    """(b, *F) mean spectra, times what blurring a patch does beyond the kernel's gain."""
    real: Tensor
    brightness: Tensor
    """(b,) of the real patches."""


def _binned(syn: Spectra, blurred: Spectra, real: Spectra, extra: Tensor, gain: Tensor) -> _Bins:
    """`blurred`: the synthetic patches through the kernel of `gain` (*F); `extra` (3 n,): noise in their contrast."""
    contrast, own = blurred.contrast(extra=extra), real.contrast()
    edges_m = _edges(real.brightness, _BRIGHTNESS_BINS)
    means: list[tuple[Tensor, Tensor, Tensor]] = []
    for i in range(_BRIGHTNESS_BINS):
        of_real = _between(real.brightness, edges_m, i)
        of_syn = _between(syn.brightness, edges_m, i)
        if not of_real.any() or not of_syn.any():
            continue
        edges_c = _edges(own[of_real], _CONTRAST_BINS)
        for j in range(_CONTRAST_BINS):
            a = of_syn & _between(contrast, edges_c, j)
            b = of_real & _between(own, edges_c, j)
            if min(int(a.sum()), int(b.sum())) >= _SMALLEST_BIN:
                means.append((blurred.power[a].mean(0) / gain, real.power[b].mean(0), real.brightness[b].mean()))
    if not means:  # nothing alike in the two sets: compare them as wholes
        means.append((blurred.power.mean(0) / gain, real.power.mean(0), real.brightness.mean()))
    return _Bins(*(torch.stack(column) for column in zip(*means, strict=True)))


def _edges(values: Tensor, count: int) -> Tensor:
    """(count + 1,) quantiles; the outermost are open."""
    step = max(1, len(values) // 100_000)
    edges = torch.quantile(values[::step], torch.linspace(0, 1, count + 1))
    edges[0], edges[-1] = -torch.inf, torch.inf
    return edges


def _between(values: Tensor, edges: Tensor, i: int) -> Tensor:
    return (values > edges[i]) & (values <= edges[i + 1])


def _solve(unknowns: _Unknowns, bins: _Bins, p: int, steps: int) -> float:
    optimizer = torch.optim.Adam(unknowns.all(), lr=_LR)
    frequency = radius(p).clamp(min=1 / p)
    log_f = (frequency / SELECTION_BAND[1]).log()
    log_real, squares = _log_power(bins.real, p), _squares(unknowns.side)
    residual = torch.zeros(())
    for _ in range(steps):
        optimizer.zero_grad()
        gain = gain_of(unknowns.kernel(), p) * (unknowns.slope * log_f).exp()
        noise = variance_at(unknowns.variance(), bins.brightness)[:, None, None] * unknowns.colour_gain(p)
        residual = _residual(bins.syn * gain + noise, log_real, p)
        reach = (unknowns.kernel().square() * squares).sum()
        prior = _SLOPE_PRIOR * unknowns.slope.square().sum() + _REACH_PRIOR * reach
        (residual + prior).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return float(residual.detach())


def _residual(predicted: Tensor, log_real: Tensor, p: int) -> Tensor:
    """Mean |log10| of the ratio above the selection band."""
    return (_log_power(predicted, p) - log_real).abs().mean()


def _log_power(power: Tensor, p: int) -> Tensor:
    """(b, w) log10 of the (b, *F) at the w frequencies above the selection band."""
    return power.flatten(1).index_select(1, _fitted(p)).clamp(min=_FLOOR).log10()


@lru_cache(maxsize=8)
def _fitted(p: int) -> Tensor:
    """(w,) places in a flat (*F) of the frequencies above the selection band."""
    return (radius(p) > SELECTION_BAND[1]).flatten().nonzero()[:, 0]


def _band_mean(gain: Tensor) -> Tensor:
    return gain[in_band(gain.shape[-2])].mean()
