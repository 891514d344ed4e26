"""Spectral term: fake_real should have the power spectrum of real LR, which adversarial training alone is slow to find.

Spectra of a small batch are mostly those of its pictures, so running means are compared. Grey and colour have one each:
cameras and JPEG blur colours more than grey, which one kernel for all, as equation (1) has it, does not say.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cyclesr_dist.method.losses.pixel import full
from cyclesr_dist.nets.buffers import StateSized

_KEPT = 0.95  # of the running means at each step
_FLOOR = 1e-9


class SpectrumMatch(StateSized):
    """(N, 3, h, w) twice -> the mean |log10| of the ratio of their running mean radial power spectra, in decades.

    The means are over all ranks and past steps; they are training state, and lie in buffers. The gradient is that of
    the batch, as large as if the means held nothing else.
    """

    fake: Tensor
    real: Tensor

    def __init__(self, mean_over_ranks: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.mean_over_ranks = mean_over_ranks or (lambda x: x)
        self.register_buffer("fake", torch.zeros(0))
        self.register_buffer("real", torch.zeros(0))

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        # Both in one exchange: all ranks call it.
        now_fake, now_real = self.mean_over_ranks(torch.stack([radial_power(full(fake)), radial_power(full(real))]))
        if not len(self.fake):
            self.fake, self.real = now_fake.detach().clone(), now_real.detach().clone()
        mean_fake = self.fake + (1 - _KEPT) * (now_fake.detach() - self.fake)
        mean_real = self.real + (1 - _KEPT) * (now_real.detach() - self.real)
        with torch.no_grad():
            self.fake.copy_(mean_fake)
            self.real.copy_(mean_real)
        passing = mean_fake + (now_fake - now_fake.detach())
        distance: Tensor = ((passing + _FLOOR).log10() - (mean_real + _FLOOR).log10()).abs().mean()
        return distance


def radial_power(x: Tensor) -> Tensor:
    """(N, 3, h, w) -> (2, r) mean power on rings 1, 2, ... cycles a side: of the colours' mean, and of what each colour
    differs from it. The mean of the image is taken off and a Hann window laid over."""
    grey = x.mean(1, keepdim=True)
    return torch.stack([_power(grey), _power(x - grey)])


def _power(x: Tensor) -> Tensor:
    h, w = x.shape[-2:]
    n = min(h, w)
    square = x[..., :n, :n]
    line = torch.hann_window(n, periodic=False, device=x.device, dtype=x.dtype)
    window = line[:, None] * line
    centred = (square - square.mean((-2, -1), keepdim=True)) * window
    transformed = torch.view_as_real(torch.fft.rfft2(centred)).square().sum(-1).mean((0, 1)) / window.square().sum()
    return transformed.flatten() @ _rings(n, x.device).to(x.dtype)


_RINGS: dict[tuple[int, torch.device], Tensor] = {}


def _rings(n: int, device: torch.device) -> Tensor:
    """(n * (n // 2 + 1), n // 2) each column averages a ring."""
    if (n, device) not in _RINGS:
        frequency = (torch.fft.fftfreq(n, 1 / n)[:, None].square() + torch.fft.rfftfreq(n, 1 / n)[None].square()).sqrt()
        ring = frequency.round().long().flatten()
        columns = torch.stack([(ring == r).float() / (ring == r).sum() for r in range(1, n // 2 + 1)], 1)
        _RINGS[n, device] = columns.to(device)
    return _RINGS[n, device]
