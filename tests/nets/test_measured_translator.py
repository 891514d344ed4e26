"""g_s2r that starts from a measured degradation, and the terms that train it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cyclesr_dist.config.schema import load, noise_channels
from cyclesr_dist.degradation.record import NAMES, Degradation
from cyclesr_dist.method.losses.spectrum import SpectrumMatch, radial_power
from cyclesr_dist.method.passes import passing
from cyclesr_dist.nets.build import build_g_s2r, build_translator
from cyclesr_dist.nets.measured import DegradationTranslator, MeasuredDegradation
from cyclesr_dist.training.bad_numbers import keep_buffers, restore_buffers


def found(**changes: Tensor) -> Degradation:
    values = {
        "kernels": torch.full((1, 3, 3), 1 / 9),
        "variance": torch.tensor([0.001, 0.002, 0.003]),
        "levels": torch.tensor([0.5, 1.5]),
        "colouring": torch.eye(3)[..., None, None],
        "noise": torch.zeros(0, 3, 8, 8),
    }
    return Degradation(**(values | changes), facts={})


def inputs(n: int = 2, size: int = 24) -> Tensor:
    g = torch.Generator().manual_seed(0)
    return torch.cat([torch.rand(n, 3, size, size, generator=g), torch.randn(n, 3, size, size, generator=g)], 1)


def test_without_an_estimate_it_is_the_identity_on_8_bit_images() -> None:
    x = inputs()
    x[:, :3] = (x[:, :3] * 255).round() / 255
    assert torch.equal(MeasuredDegradation()(x), x[:, :3])


def test_it_starts_exactly_at_what_was_measured() -> None:
    x = inputs()
    net = DegradationTranslator(8, 1, found())
    assert torch.allclose(net(x), MeasuredDegradation(found())(x), atol=1e-6)
    assert {name.split(".")[0] for name, _ in net.named_parameters()} == {"residual"}


def test_whatever_it_learns_brightness_and_colour_stay() -> None:
    torch.manual_seed(0)
    net = DegradationTranslator(8, 1, found(variance=torch.zeros(3)))
    for p in net.residual.parameters():
        p.data += 0.3 * torch.randn_like(p)
    x = inputs(4, 40)
    x[:, :3] = 0.2 + 0.5 * x[:, :1]
    change = (net(x) - x[:, :3])[..., 8:-8, 8:-8]
    assert float(change.detach().std()) > 0.05
    assert float(change.detach().mean((0, 2, 3)).abs().max()) < 0.1 * float(change.detach().std())


def test_a_state_of_other_sizes_is_taken_over() -> None:
    saved = DegradationTranslator(8, 1, found(noise=torch.randn(5, 3, 16, 16), kernels=torch.full((4, 5, 5), 1 / 25)))
    net = DegradationTranslator(8, 1)
    net.load_state_dict(saved.state_dict())
    x = inputs()
    assert torch.equal(net(x), saved(x))
    assert all(torch.equal(getattr(net.measured, name), getattr(saved.measured, name)) for name in NAMES)


def test_it_is_as_exact_under_autocast() -> None:
    x = inputs()
    net = MeasuredDegradation(found())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net(x), net(x.float()))
    assert net(x).dtype == torch.float32


def test_the_configuration_says_how_many_channels_are_drawn() -> None:
    measured = load(None, ["nets.translator.kind=degradation", "nets.translator.noise_channels=1"])
    assert noise_channels(measured) == noise_channels(load(None, ["system=estimated"])) == 3
    assert noise_channels(load(None, ["nets.translator.noise_channels=1"])) == 1
    assert isinstance(build_g_s2r(measured), DegradationTranslator)
    assert isinstance(build_g_s2r(load(None, ["system=estimated"])), MeasuredDegradation)
    assert build_translator(measured.nets.translator)(inputs()[:, :3]).shape == (2, 3, 24, 24)


@pytest.mark.parametrize("factor", [0.0, 0.25, 1.0])
def test_a_gradient_passes_in_part(factor: float) -> None:
    x = torch.rand(5, requires_grad=True)
    y = passing(x, factor)
    assert torch.equal(y, x)
    if factor:
        (3 * y).sum().backward()
        assert x.grad is not None
        assert torch.allclose(x.grad, torch.full((5,), 3 * factor))
    else:
        assert not y.requires_grad


def test_the_spectral_term_is_zero_for_equal_spectra_and_sees_blur_noise_and_colour() -> None:
    g = torch.Generator().manual_seed(0)
    real = torch.rand(16, 3, 24, 24, generator=g)
    assert float(SpectrumMatch()(real, real)) == 0
    smooth = torch.nn.functional.avg_pool2d(real, 3, 1, 1)
    grey = real.mean(1, keepdim=True).expand_as(real)
    for other in (smooth, real * 2, grey):
        assert float(SpectrumMatch()(other, real)) > 0.2
    assert radial_power(real).shape == (2, 12)


def test_the_spectral_term_pulls_towards_real_spectra() -> None:
    g = torch.Generator().manual_seed(0)
    real = 0.5 + 0.2 * torch.randn(64, 3, 16, 16, generator=g)
    level = torch.tensor(0.05, requires_grad=True)
    match, adam = SpectrumMatch(), torch.optim.Adam([level], lr=0.003)
    for _ in range(200):
        adam.zero_grad()
        match(0.5 + level * torch.randn(64, 3, 16, 16, generator=g), real).backward()
        adam.step()
    assert abs(float(level)) == pytest.approx(0.2, abs=0.04)


class _Player:
    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module


def test_a_step_that_is_left_out_leaves_the_running_means_as_they_were() -> None:
    match = SpectrumMatch()
    bad = torch.full((2, 3, 8, 8), torch.nan)
    kept = keep_buffers({"g": _Player(match)})  # type: ignore[dict-item]
    match(bad, bad)
    restore_buffers(kept)
    good = torch.rand(2, 3, 8, 8)
    assert float(match(good, good)) == 0
    kept = keep_buffers({"g": _Player(match)})  # type: ignore[dict-item]
    before = match.real.clone()
    match(bad, bad)
    restore_buffers(kept)
    assert torch.equal(match.real, before)
    assert keep_buffers({"g": _Player(MeasuredDegradation(found()))}) == []  # type: ignore[dict-item]
