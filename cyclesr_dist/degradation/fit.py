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
    return _between_knots(knots, brightness).clamp(min=0)


def _between_knots(knots: Tensor, brightness: Tensor) -> Tensor:
    low, middle, high = KNOTS
    t = (brightness - middle) / (middle - low)
    below = knots[1] + (knots[1] - knots[0]) * t
    above = knots[1] + (knots[2] - knots[1]) * (brightness - middle) / (high - middle)
    return torch.where(brightness < middle, below, above)


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
            found = unknowns.found()
            made = finish(blur(patches, found.kernel[None], torch.zeros(len(patches)))) if number else None
            blurred = syn if made is None else spectra(made)
            extra = variance_at(found.variance, syn.brightness) * _band_mean(gain_of(found.colouring, p))
            bins = _binned(
                syn,
                blurred,
                real,
                extra,
                gain_of(found.kernel, p).clamp(min=_SMALLEST_GAIN) if number else torch.ones(()),
            )
        if number == 0:
            before = float(_residual(_fitted_of(bins.syn), _fitted_of(bins.real)))
        with compiler_left_out():
            distance = _solve(unknowns, bins, p, STEPS if number == 0 else STEPS // 2)
    with torch.no_grad():
        found = unknowns.found()
    return Fit(found.kernel, found.variance, found.colouring, distance, before)


def _squares(side: int) -> Tensor:
    """(side, side) squared distances from the centre."""
    line = torch.arange(side) - side // 2
    return line[:, None].square() + line[None].square()


@dataclass(frozen=True)
class _Found:
    kernel: Tensor
    variance: Tensor
    colouring: Tensor
    slope: Tensor


class _Unknowns:
    def __init__(self, side: int) -> None:
        self.side = side
        kernel = (-0.5 * _squares(side) / 0.4**2).clamp(min=-8.0)
        colour = torch.full((_COLOURING, _COLOURING), 1e-3)
        colour[_COLOURING // 2, _COLOURING // 2] = 1.0
        sharpening, noise, slope = torch.tensor([-4.0]), torch.full((3,), -4.0), torch.zeros(1)
        parts = [kernel.flatten(), sharpening, noise, colour.flatten(), slope]
        self.sizes = [len(part) for part in parts]
        # One tensor: a step's time goes into calls, and Adam's are as many for five numbers as for all.
        self.all = torch.cat(parts).requires_grad_()

    def found(self) -> _Found:
        logits, sharpening, noise, colour, slope = torch.split(self.all, self.sizes)
        k = F.softmax(logits, 0)
        k = (k + k.flip(0)) / 2  # about the centre
        k = k - F.softplus(sharpening) * (_laplacian(self.side) @ k)
        q = (colour + colour.flip(0)) / 2
        return _Found(
            (k / k.sum()).view(self.side, self.side),
            F.softplus(noise) * 1e-2,
            (q / q.square().sum().sqrt()).view(_COLOURING, _COLOURING),
            slope,
        )


@lru_cache(maxsize=8)
def _laplacian(side: int) -> Tensor:
    """(side^2, side^2): the Laplacian of a flat kernel, zeros around it."""
    ones = torch.eye(side * side).view(-1, 1, side, side)
    laplacian = torch.tensor([[1.0, 2, 1], [2, -12, 2], [1, 2, 1]]) / 16
    return F.conv2d(ones, laplacian[None, None], padding=1).flatten(1)  # symmetric


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
    optimizer = torch.optim.Adam([unknowns.all], lr=_LR)
    frequency = radius(p).clamp(min=1 / p)
    log_f = _fitted_of((frequency / SELECTION_BAND[1]).log()[None])[0]
    syn, log_real = _fitted_of(bins.syn), _log_power(_fitted_of(bins.real))
    of_kernel, of_colouring = _cosines(unknowns.side, p), _cosines(_COLOURING, p)
    of_knots = torch.stack([_between_knots(knot, bins.brightness) for knot in torch.eye(3)], 1)
    squares = _squares(unknowns.side).float().flatten()
    residual = torch.zeros(())
    for _ in range(steps):
        optimizer.zero_grad()
        found = unknowns.found()
        kernel = found.kernel.flatten()
        gain = (of_kernel @ kernel).square() * (found.slope * log_f).exp()
        noise = torch.outer(
            (of_knots @ found.variance).clamp(min=0), (of_colouring @ found.colouring.flatten()).square()
        )
        residual = (_log_power(syn * gain + noise) - log_real).abs().mean()
        prior = _SLOPE_PRIOR * found.slope.square().sum() + _REACH_PRIOR * (kernel.square() @ squares)
        (residual + prior).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return float(residual.detach())


def _residual(predicted: Tensor, real: Tensor) -> Tensor:
    """Mean |log10| of the ratio."""
    return (_log_power(predicted) - _log_power(real)).abs().mean()


def _log_power(power: Tensor) -> Tensor:
    return power.clamp(min=_FLOOR).log10()


def _fitted_of(power: Tensor) -> Tensor:
    """(b, w) of (b, *F): at the w frequencies above the selection band."""
    return power.flatten(1).index_select(1, _fitted(power.shape[-2]))


@lru_cache(maxsize=8)
def _fitted(p: int) -> Tensor:
    """(w,) places in a flat (*F) of the frequencies above the selection band."""
    return (radius(p) > SELECTION_BAND[1]).flatten().nonzero()[:, 0]


@lru_cache(maxsize=8)
def _cosines(side: int, p: int) -> Tensor:
    """(w, side^2): what a flat kernel is multiplied by for its transform at the fitted frequencies, which is real for
    one that is symmetric about its centre."""
    line = torch.arange(side, dtype=torch.float64) - side // 2
    y = torch.fft.fftfreq(p, dtype=torch.float64)[:, None, None, None] * line[:, None]
    x = torch.fft.rfftfreq(p, dtype=torch.float64)[None, :, None, None] * line
    return _fitted_of((2 * torch.pi * (y + x)).cos().float().flatten(2).permute(2, 0, 1)).t().contiguous()


def _band_mean(gain: Tensor) -> Tensor:
    return gain[in_band(gain.shape[-2])].mean()
