"""The losses of the systems of other papers, in float64, against a transcription of the papers' equations."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import nn

from cyclesr_dist.config.schema import Weights
from cyclesr_dist.config.systems import Phase
from cyclesr_dist.errors import ConfigError
from cyclesr_dist.method.cycle_in_cycle import CycleInCycle
from cyclesr_dist.method.objectives import Discriminators, SRTerms
from cyclesr_dist.method.one_way import OneWay
from cyclesr_dist.method.pseudo_pairs import PseudoPairs
from cyclesr_dist.method.systems.dsgan import near_low_frequencies, synthetic
from cyclesr_dist.method.systems.high_to_low import near_average, unshuffled
from cyclesr_dist.method.systems.pdm import near_blur
from cyclesr_dist.nets.frequencies import HighFrequencies
from cyclesr_dist.nets.high_to_low import HighToLow
from cyclesr_dist.nets.latent_degradation import LatentDegradation
from cyclesr_dist.nets.translate_first import TranslateFirst

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


@pytest.mark.parametrize("phase", [Phase.PRETRAIN, Phase.JOINT])
def test_cincgan_is_its_inner_and_its_outer_cycle(phase: Phase) -> None:
    syn, real, hr, noise = images(7)
    g_1, sr, g_2 = net(3, 3, 8), nn.Sequential(net(3, 3 * S * S, 9), nn.PixelShuffle(S)), net(4, 3, 10)
    g_3, d_1, d_2 = net(3 + 3 * S * S, 3, 11), net(3, 1, 12), net(3, 1, 13)
    w = Weights(adv=0.7, cyc=3.0, id=2.0, tv=0.9, mse=5.0, advsr=0.4)
    objective = CycleInCycle(TranslateFirst(g_1, sr, S), g_2, HighToLow(g_3, S), w, SRTerms())
    critics = nn.ModuleDict({"d_s": d_1, "d_h": d_2})
    losses, fakes = objective(syn, real, hr, noise, phase, critics)
    clean = g_1(real)
    large = sr(clean)
    pixels = [large[:, c, dy::S, dx::S] for c in range(3) for dy in range(S) for dx in range(S)]
    expected = {
        "adv_r2s": mse(d_1(clean), 1.0),
        "cyc_backward": mae(g_2(torch.cat([clean, noise[1]], 1)), real),
        "id_syn": mae(g_1(syn), syn),
        "tv": squares(clean),
        "adv_hr": mse(d_2(large), 1.0),
        "cyc_hr": mae(g_3(torch.cat([pooled(large), torch.stack(pixels, 1)], 1)), real),
        "mse": mse(sr(syn), hr),
        "tv_hr": squares(large),
    }
    of = {"adv_r2s": 0.7, "cyc_backward": 3, "id_syn": 2, "tv": 0.9, "adv_hr": 0.4, "cyc_hr": 3, "mse": 5, "tv_hr": 0.9}
    expected["total"] = sum(weight * expected[name] for name, weight in of.items())
    assert {name: float(value) for name, value in losses.items()} == pytest.approx(expected, rel=1e-12)
    assert torch.equal(fakes["d_s"], clean)
    assert torch.equal(fakes["d_h"], large)
    of_d = Discriminators(critics, torch.mean, relativistic=False)(syn, real, hr, fakes)
    assert float(of_d["d_s"]) == pytest.approx((mse(d_1(syn), 1.0) + mse(d_1(clean), 0.0)) / 2, rel=1e-12)
    assert float(of_d["d_h"]) == pytest.approx((mse(d_2(hr), 1.0) + mse(d_2(large), 0.0)) / 2, rel=1e-12)
    # The outer cycle reaches the translator in the joint phase alone.
    losses["cyc_hr"].backward()
    assert (next(g_1.parameters()).grad is not None) == (phase is Phase.JOINT)
    assert next(g_3.parameters()).grad is not None


@pytest.mark.parametrize("phase", [Phase.PRETRAIN, Phase.JOINT])
def test_pseudo_supervision_learns_from_clean_lr_that_was_real_meanwhile(phase: Phase) -> None:
    syn, real, hr, noise = images(14)
    clean, sr, g_s2r = net(3, 3, 15), nn.Sequential(net(3, 3 * S * S, 16), nn.PixelShuffle(S)), net(4, 3, 17)
    d_r, d_s, d_h = net(3, 1, 18), net(3, 1, 19), net(3, 1, 20)
    w = Weights(adv=0.7, cyc=3.0, id=2.0, geo=0.9, mse=5.0, advsr=0.4, sr_to_s2r=0.0)
    objective = PseudoPairs(TranslateFirst(clean, sr, S), g_s2r, w, SRTerms())
    critics = nn.ModuleDict({"d_r": d_r, "d_s": d_s, "d_h": d_h})
    losses, fakes = objective(syn, real, hr, noise, phase, critics)
    fake_real, fake_syn = g_s2r(torch.cat([syn, noise[0]], 1)), clean(real)
    pseudo = clean(fake_real)
    # Of the eight positions: as it is and turned over, and both with rows and columns in each other's place.
    whole = torch.zeros_like(real)
    for swapped in (False, True):
        for sides in ([], [-1], [-2], [-1, -2]):
            there = (real.transpose(-1, -2) if swapped else real).flip(sides)
            back = clean(there).flip(sides)
            whole = whole + (back.transpose(-1, -2) if swapped else back) / 8
    expected = {
        "adv_s2r": mse(d_r(fake_real), 1.0),
        "adv_r2s": mse(d_s(fake_syn), 1.0),
        "cyc_forward": mae(pseudo, syn),
        "id_syn": mae(clean(syn), syn),
        "geo": mae(fake_syn, whole),
        "adv_hr": mse(d_h(sr(fake_syn)), 1.0),
        "mse": mse(sr(pseudo if phase is Phase.JOINT else syn), hr),
    }
    of = {"adv_s2r": 0.7, "adv_r2s": 0.7, "cyc_forward": 3, "id_syn": 2, "geo": 0.9, "adv_hr": 0.4, "mse": 5}
    expected["total"] = sum(weight * expected[name] for name, weight in of.items())
    assert {name: float(value) for name, value in losses.items()} == pytest.approx(expected, rel=1e-12)
    assert set(fakes) == {"d_r", "d_s", "d_h"}
    losses["mse"].backward()  # with sr_to_s2r = 0 it trains SR alone, in both phases
    assert all(p.grad is None or not p.grad.any() for p in (*clean.parameters(), *g_s2r.parameters()))
    assert all(p.grad is not None for p in sr.parameters())


def squares(x: torch.Tensor) -> float:
    """Mean squared difference of neighbours, both ways."""
    return mse(x[..., 1:, :], x[..., :-1, :]) + mse(x[..., 1:], x[..., :-1])


def test_pdm_is_equation_1_with_a_kernel_and_noise_that_are_drawn() -> None:
    g = torch.Generator().manual_seed(21)
    syn, real = (torch.rand(N, 3, 8, 8, dtype=torch.float64, generator=g) for _ in range(2))
    hr = torch.rand(N, 3, 8 * S, 8 * S, dtype=torch.float64, generator=g)
    noise = torch.randn(2, N, 4, 8, 8, dtype=torch.float64, generator=g)
    g_n, d_r = net(6, 3, 22), net(3, 1, 23)
    degradation = LatentDegradation(g_n, 5, 1, S).double()
    for p in degradation.kernel.parameters():
        p.data.add_(0.3 * torch.randn(p.shape, generator=g))
    made_of, content = partial(unshuffled, S), partial(near_blur, degradation)
    objective = OneWay("g_h2l", degradation, WEIGHTS, made_of, content)
    losses, fakes = objective(syn, real, hr, noise, Phase.TRANSLATE, nn.ModuleDict({"d_r": d_r}))
    kernels = degradation.kernel(noise[0, :, 3].reshape(N, 64)).exp()
    kernels = (kernels / kernels.sum(1, keepdim=True)).view(N, 5 * S, 5 * S)
    wide = nn.functional.pad(hr, (2 * S,) * 4, mode="reflect")
    blurred = torch.empty_like(syn)
    for i in range(8):
        for j in range(8):
            part = wide[:, :, i * S : i * S + 5 * S, j * S : j * S + 5 * S]
            blurred[:, :, i, j] = (part * kernels[:, None]).sum((-2, -1))
    fake = g_n(torch.cat([blurred, noise[0, :, :3]], 1))
    expected = {"adv_s2r": mse(d_r(fake), 1.0), "content": mse(fake, blurred)}
    expected["total"] = 0.7 * expected["adv_s2r"] + 3.0 * expected["content"]
    assert torch.allclose(fakes["d_r"], fake, rtol=1e-10)
    assert {name: float(value) for name, value in losses.items()} == pytest.approx(expected, rel=1e-10)
    losses["content"].backward()
    assert all(p.grad is None or float(p.grad.abs().max()) < 1e-12 for p in degradation.kernel.parameters())
    assert any(float(p.grad.abs().max()) > 1e-6 for p in g_n.parameters())


def test_pdm_starts_with_a_gaussian_and_refuses_patches_that_are_too_small() -> None:
    degradation = LatentDegradation(nn.Identity(), 5, 1, 4)
    flat = torch.full((1, 48 + 4, 8, 8), 0.5)
    assert torch.allclose(degradation.blurred(flat), torch.full((1, 3, 8, 8), 0.5), atol=1e-6)
    kernel = degradation.kernels(flat).view(20, 20)
    assert torch.allclose(kernel, kernel.flip(0), atol=1e-7)  # it lies over the middle of the pixel that it makes
    assert float(kernel[9, 9] / kernel[9, 12]) == pytest.approx(math.exp((2.5**2 - 0.5**2) / (2 * 2**2)), rel=1e-4)
    with pytest.raises(ConfigError, match="8 x 8 px or more"):
        degradation(flat[..., :7])


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
