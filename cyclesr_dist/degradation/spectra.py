"""Power spectra of small patches, and their means by brightness and contrast.

Shapes: n patches, p their side in px, F = (p, p // 2 + 1) frequencies of a real FFT. Images are in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

SELECTION_BAND = (0.02, 0.1)
"""Cycles a px. Contrast is measured here and the fit looks at higher frequencies, so that choosing patches by their
contrast does not bias what is fitted."""


@dataclass(frozen=True)
class Spectra:
    """Of each colour of each patch: 3 n of them, the colours of a patch behind one another."""

    power: Tensor
    """(3 n, *F). White noise of variance v has v everywhere."""
    brightness: Tensor
    """(3 n,) mean."""

    def contrast(self, gain: Tensor | None = None, extra: Tensor | None = None) -> Tensor:
        """(3 n,) mean power in the selection band, of the spectra times `gain` (*F), plus `extra` (3 n,)."""
        band = in_band(self.power.shape[-2])
        power = self.power[:, band] if gain is None else self.power[:, band] * gain[band]
        mean = power.mean(1)
        return mean if extra is None else mean + extra


def spectra(patches: Tensor) -> Spectra:
    """Of (n, 3, p, p) in [0, 1]: the mean off, a Hann window laid over."""
    p = patches.shape[-1]
    window = _window(p)
    flat = patches.flatten(0, 1)
    brightness = flat.mean((-2, -1))
    transformed = torch.fft.rfft2((flat - brightness[:, None, None]) * window)
    return Spectra((transformed.real.square() + transformed.imag.square()) / window.square().sum(), brightness)


@lru_cache(maxsize=8)
def _window(p: int) -> Tensor:
    line = torch.hann_window(p, periodic=False)
    return line[:, None] * line


@lru_cache(maxsize=8)
def radius(p: int) -> Tensor:
    """(*F) distance from the origin in cycles a px."""
    distance: Tensor = (torch.fft.fftfreq(p)[:, None].square() + torch.fft.rfftfreq(p)[None].square()).sqrt()
    return distance


@lru_cache(maxsize=8)
def in_band(p: int, low: float = SELECTION_BAND[0], high: float = SELECTION_BAND[1]) -> Tensor:
    """(*F) bool."""
    return (radius(p) > low) & (radius(p) <= max(high, 1.5 / p))


def gain_of(kernel: Tensor, p: int) -> Tensor:
    """|K|^2 of a kernel (k, k), or of several (..., k, k): (..., *F)."""
    transformed = torch.fft.rfft2(kernel, s=(p, p))
    gain: Tensor = transformed.real.square() + transformed.imag.square()
    return gain


def radial(power: Tensor) -> tuple[Tensor, Tensor]:
    """Means of (*F) over rings: frequencies in cycles a px and values, (p // 2,) each."""
    p = power.shape[-2]
    ring = (radius(p) * p).round().long()
    weight = torch.full_like(power, 2.0)  # a real FFT keeps one of each conjugate pair
    weight[:, 0] = 1.0
    if p % 2 == 0:
        weight[:, -1] = 1.0
    inside = (ring >= 1) & (ring <= p // 2)
    index = ring[inside] - 1
    total = torch.zeros(p // 2, dtype=power.dtype).index_add_(0, index, (power * weight)[inside])
    count = torch.zeros(p // 2, dtype=power.dtype).index_add_(0, index, weight[inside])
    return torch.arange(1, p // 2 + 1, dtype=power.dtype) / p, total / count
