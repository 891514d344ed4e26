"""How good is g_l2h on real photographs, when nobody has their HR? Scores that need no pairs.

config/metrics.py says which way is better, and what each needs:

- `agreement`: mean |down(g_l2h(real)) - g_r2s(real)|. Two networks say what the photograph would be without its
  degradation; they should agree. Needs g_r2s.
- `spectrum_lr`: how far the power spectrum of fake_real = g_s2r(down(sharp)) is from that of real LR. Needs g_s2r.
- `spectrum_hr`: how far the power spectrum of g_l2h(real) is from that of sharp photographs. Needs g_l2h alone.
- `psnr_estimated`: PSNR of g_l2h on pairs that the measured degradation makes of sharp photographs. Needs an estimate.
  `psnr_estimated_bicubic` is that of bicubic enlargement.

`spectrum_syn`, the distance of the synthetic LR's spectrum from the real LR's, is the scale for `spectrum_lr`: a
translator that does nothing has exactly this. Distances of spectra are mean absolute differences of log10 of the
radial power spectra, each the mean over photographs, in decades. How the scores go with PSNR: docs/results.md.

`drift_brightness`, `drift_red`, `drift_green` and `drift_blue` say by how much g_l2h(real), shrunk again, is brighter
than the photograph it was made of, and by how much more or less so in each colour. A good network has none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cyclesr_dist.data.resize import bicubic_down, bicubic_up
from cyclesr_dist.degradation.apply import DRAW_CHANNELS
from cyclesr_dist.errors import ConfigError
from cyclesr_dist.runtime.user_modules import call_of_user

Net = Callable[[Tensor], Tensor]
Score = Callable[[Tensor, Tensor], float]
"""(g_l2h(real), real) -> a number, see config/metrics.py."""
Record = dict[str, NDArray[np.float64]]
"""Of one photograph: spectra by name, `drift` by colour, and other scores as arrays of one number."""

_SPECTRA = {
    "spectrum_lr": ("fake_real", "real"),
    "spectrum_hr": ("sr", "sharp"),
    "spectrum_syn": ("syn", "real"),
}
_NUMBERS = ("agreement", "psnr_estimated", "psnr_estimated_bicubic")
_COLOURS = ("red", "green", "blue")
_NUM_FREQUENCIES = 32
_FLOOR = 1e-10  # of power: black photographs have a logarithm too


@dataclass(frozen=True)
class Nets:
    """What a system has of the three networks, in eval mode. g_s2r takes its noise channels behind the colours."""

    g_l2h: Net
    g_r2s: Net | None = None
    g_s2r: Net | None = None
    noise_channels: int = 0
    measured: Net | None = None
    """The estimated degradation, which takes `DRAW_CHANNELS` of them."""


@torch.no_grad()
def real_record(nets: Nets, real: Tensor, scale: int, own: Mapping[str, Score] = MappingProxyType({})) -> Record:
    """Of one real LR photograph (1, 3, h, w) in [0, 1], h and w multiples of 4; `own`: scores of the user's, by name.

    Raises ConfigError when one of these fails or gives no finite number."""
    sr = nets.g_l2h(real).clamp(0, 1)
    shrunk = bicubic_down(sr, scale)
    record: Record = {"real": log_spectrum(real), "sr": log_spectrum(sr)}
    record["drift"] = (shrunk - real).mean(dim=(0, 2, 3)).double().cpu().numpy()
    if nets.g_r2s is not None:
        difference = (shrunk - nets.g_r2s(real)).abs().mean()
        record["agreement"] = np.array(float(difference))
    return record | {name: np.array(own_score(name, score, sr, real)) for name, score in own.items()}


def own_score(name: str, score: Score, sr: Tensor, real: Tensor) -> float:
    """What a metric of the user's own gives. Raises ConfigError when it fails or gives no finite number."""
    value = call_of_user(f"validate.metric = {name}", lambda: float(score(sr, real)))
    if not math.isfinite(value):
        raise ConfigError(f"validate.metric = {name} gives {value}; allowed: a finite number")
    return value


@torch.no_grad()
def sharp_record(nets: Nets, sharp: Tensor, scale: int, seed: int) -> Record:
    """Of one sharp photograph (1, 3, H, W) in [0, 1], H and W multiples of 4 * scale; `seed` for g_s2r's noise."""
    syn = bicubic_down(sharp, scale)
    record: Record = {"sharp": log_spectrum(sharp), "syn": log_spectrum(syn)}
    if nets.g_s2r is not None:
        record["fake_real"] = log_spectrum(translated(nets.g_s2r, syn, nets.noise_channels, seed))
    if nets.measured is not None:
        damaged = translated(nets.measured, syn, DRAW_CHANNELS, seed)
        record["psnr_estimated"] = _psnr(nets.g_l2h(damaged).clamp(0, 1), sharp)
        record["psnr_estimated_bicubic"] = _psnr(bicubic_up(damaged, scale).clamp(0, 1), sharp)
    return record


def _psnr(sr: Tensor, sharp: Tensor) -> NDArray[np.float64]:
    return np.array(-10 * math.log10(max(float((sr - sharp).square().mean()), _FLOOR)))


def translated(g_s2r: Net, syn: Tensor, noise_channels: int, seed: int) -> Tensor:
    """fake_real of `syn` (1, 3, h, w), clipped to [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(1, noise_channels, *syn.shape[-2:], generator=generator).to(syn.device)
    return g_s2r(torch.cat([syn, noise], 1)).clamp(0, 1)


def reference_free(records: Sequence[Record]) -> dict[str, float]:
    """The scores of a set of photographs, from the records of its real and its sharp ones; those that can be had."""
    means = {}
    own = (name for record in records for name, value in record.items() if value.ndim == 0)
    numbers = tuple(dict.fromkeys((*_NUMBERS, *own)))
    for name in ("real", "sr", "sharp", "syn", "fake_real", "drift", *numbers):
        found = [record[name] for record in records if name in record]
        if found:
            means[name] = np.mean(np.stack(found), axis=0)
    scores = {
        name: float(np.abs(means[a] - means[b]).mean())
        for name, (a, b) in _SPECTRA.items()
        if a in means and b in means
    }
    if "drift" in means:
        brightness = float(means["drift"].mean())
        scores["drift_brightness"] = brightness
        scores |= {f"drift_{c}": float(of) - brightness for c, of in zip(_COLOURS, means["drift"], strict=True)}
    return scores | {name: float(means[name]) for name in numbers if name in means}


def log_spectrum(image: Tensor) -> NDArray[np.float64]:
    """(1, 3, h, w) in [0, 1] -> log10 of the power at 1/64, 2/64, ... 32/64 cycles a pixel, whatever the size.

    Of the square of n = min(h, w) px; averaged over rings and channels, between rings interpolated. The mean is taken
    off and a Hann window laid over, so that borders make no frequencies.
    """
    n = min(image.shape[-2:])
    plane = image[0, :, :n, :n].detach().cpu().double()
    window = torch.hann_window(n, periodic=False, dtype=torch.float64)
    plane = (plane - plane.mean(dim=(1, 2), keepdim=True)) * window[:, None] * window
    power = torch.fft.fft2(plane).abs().square().mean(dim=0).numpy() / n**2
    frequency = np.fft.fftfreq(n, 1 / n)
    ring = np.rint(np.hypot(frequency[:, None], frequency[None])).astype(np.int64)
    inside = (ring >= 1) & (ring <= n // 2)
    total = np.bincount(ring[inside], power[inside], n // 2 + 1)
    count = np.bincount(ring[inside], minlength=n // 2 + 1)
    rings = np.log10(total[1:] / count[1:] + _FLOOR)
    wanted = np.arange(1, _NUM_FREQUENCIES + 1) / (2 * _NUM_FREQUENCIES)
    return np.interp(wanted, np.arange(1, n // 2 + 1) / n, rings)
