"""The losses of the systems of other papers, in float64, against a transcription of the papers' equations."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import nn

from cyclesr_dist.config.schema import Weights
from cyclesr_dist.config.systems import Phase
from cyclesr_dist.method.objectives import Discriminators
from cyclesr_dist.method.one_way import OneWay
from cyclesr_dist.method.systems.dsgan import near_low_frequencies, synthetic
from cyclesr_dist.method.systems.high_to_low import near_average, unshuffled
from cyclesr_dist.nets.frequencies import HighFrequencies
from cyclesr_dist.nets.high_to_low import HighToLow

N, S, H = 2, 2, 6
WEIGHTS = Weights(adv=0.7, content=3.0)


def net(channels_in: int, channels_out: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    layers = (nn.Conv2d(channels_in, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, channels_out, 3, padding=1))
    return nn.Sequential(*layers).double()


def images(seed: int) -> tuple[torch.Tensor, ...]:
    """syn, real, HR and noise."""
    g = torch.Generator().manual_seed(seed)
    syn, real = (torch.rand(N, 3, H, H, dtype=torch.float64, generator=g) for _ in range(2))
    hr = torch.rand(N, 3, S * H, S * H, dtype=torch.float64, generator=g)
    return syn, real, hr, torch.randn(2, N, 1, H, H, dtype=torch.float64, generator=g)


def mean(values: object) -> float:
    listed = list(values)  # type: ignore[call-overload]
    return math.fsum(listed) / len(listed)


def mse(x: torch.Tensor, y: torch.Tensor | float) -> float:
    other = y.flatten().tolist() if isinstance(y, torch.Tensor) else [y] * x.numel()
    return mean((a - b) ** 2 for a, b in zip(x.flatten().tolist(), other, strict=True))


def mae(x: torch.Tensor, y: torch.Tensor) -> float:
    return mean(abs(a - b) for a, b in zip(x.flatten().tolist(), y.flatten().tolist(), strict=True))


def pooled(hr: torch.Tensor) -> torch.Tensor:
    """Average pooling by S, pixel by pixel."""
    out = torch.empty(N, 3, H, H, dtype=torch.float64)
    for y in range(H):
        for x in range(H):
            out[:, :, y, x] = hr[:, :, S * y : S * y + S, S * x : S * x + S].mean((-2, -1))
    return out


def blurred(x: torch.Tensor) -> torch.Tensor:
    """The mean of 5 x 5 pixels, of those inside."""
    out = torch.empty_like(x)
    for i in range(H):
        for j in range(H):
            out[:, :, i, j] = x[:, :, max(0, i - 2) : i + 3, max(0, j - 2) : j + 3].mean((-2, -1))
    return out


def high(x: torch.Tensor) -> torch.Tensor:
    return 0.5 + (x - blurred(x)) / 2


def test_high_to_low_is_the_pixel_loss_to_pooled_hr_and_the_adversarial_one() -> None:
    syn, real, hr, noise = images(1)
    inner, d_r = net(3 + 3 * S * S + 1, 3, 2), net(3, 1, 3)
    objective = OneWay("g_h2l", HighToLow(inner, S), WEIGHTS, partial(unshuffled, S), partial(near_average, S))
    critics = nn.ModuleDict({"d_r": d_r})
    losses, fakes = objective(syn, real, hr, noise, Phase.TRANSLATE, critics)
    # All S * S pixels of a colour lie behind one another: HR itself, rearranged by hand.
    pixels = [hr[:, c, dy::S, dx::S] for c in range(3) for dy in range(S) for dx in range(S)]
    fake = inner(torch.cat([pooled(hr), torch.stack(pixels, 1), noise[0]], 1))
    assert torch.allclose(fakes["d_r"], fake, rtol=1e-12)
    assert not fakes["d_r"].requires_grad
    expected = {"adv_s2r": mse(d_r(fake), 1.0), "content": mse(fake, pooled(hr))}
    expected["total"] = 0.7 * expected["adv_s2r"] + 3.0 * expected["content"]
    assert {name: float(value) for name, value in losses.items()} == pytest.approx(expected, rel=1e-12)
    of_d = Discriminators(critics, torch.mean)(syn, real, hr, fakes)
    judged = (mse(d_r(real), 1.0) + mse(d_r(fake), 0.0)) / 2
    assert {name: float(value) for name, value in of_d.items()} == pytest.approx(
        {"d_r": judged, "total": judged}, rel=1e-12
    )


def test_dsgan_keeps_low_frequencies_and_judges_high_ones() -> None:
    syn, real, hr, noise = images(4)
    g_s2r, judge = net(4, 3, 5), net(3, 1, 6)
    critics = nn.ModuleDict({"d_r": HighFrequencies(judge)})
    objective = OneWay("g_s2r", g_s2r, WEIGHTS, synthetic, near_low_frequencies)
    losses, fakes = objective(syn, real, hr, noise, Phase.TRANSLATE, critics)
    fake = g_s2r(torch.cat([syn, noise[0]], 1))
    expected = {"adv_s2r": mse(judge(high(fake)), 1.0), "content": mae(blurred(fake), blurred(syn))}
    expected["total"] = 0.7 * expected["adv_s2r"] + 3.0 * expected["content"]
    assert {name: float(value) for name, value in losses.items()} == pytest.approx(expected, rel=1e-12)
    of_d = Discriminators(critics, torch.mean)(syn, real, hr, fakes)
    judged = (mse(judge(high(real)), 1.0) + mse(judge(high(fake)), 0.0)) / 2
    assert float(of_d["d_r"]) == pytest.approx(judged, rel=1e-12)
    # What has low frequencies alone, such as a brightness, is not seen.
    same = critics["d_r"](syn + 0.2)
    assert torch.allclose(same, critics["d_r"](syn), atol=1e-12)
