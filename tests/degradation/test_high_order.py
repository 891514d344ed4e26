"""High-order degradation: what it is made of, what it gives, and that nothing but the seed and the sample decides."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.runs import lines, newest, run
from safetensors.torch import load_file

from cyclesr_dist.config.schema import load
from cyclesr_dist.data.batch import Batch
from cyclesr_dist.data.resize import bicubic_down
from cyclesr_dist.degradation.high_order import gaussian, high_order, sinc, with_high_order
from cyclesr_dist.distributed.world import World
from cyclesr_dist.errors import ConfigError


def pictures(num: int, side: int, seed: int = 0) -> torch.Tensor:
    """Smooth shapes of little colour."""
    generator = torch.Generator().manual_seed(seed)
    coarse = 0.7 * torch.rand(num, 1, 12, 12, generator=generator) + 0.3 * torch.rand(
        num, 3, 12, 12, generator=generator
    )
    return torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 1)


@pytest.mark.parametrize(("scale", "side"), [(4, 64), (2, 34), (3, 51), (8, 64), (4, 128)])
def test_lr_has_its_size_and_range_whatever_is_drawn(scale: int, side: int) -> None:
    made = high_order(pictures(24, side), scale, seed=1, first=0)
    assert made.shape == (24, 3, side // scale, side // scale)
    assert bool(made.isfinite().all())
    assert float(made.min()) >= 0
    assert float(made.max()) <= 1
    torch.testing.assert_close(made * 255, (made * 255).round(), atol=1e-3, rtol=0)


def test_a_sample_is_made_alike_in_any_batch_and_otherwise_at_another_time() -> None:
    hr = pictures(6, 64)
    whole = high_order(hr, 4, seed=5, first=100)
    parts = torch.cat([high_order(hr[:2], 4, 5, 100), high_order(hr[2:5], 4, 5, 102), high_order(hr[5:], 4, 5, 105)])
    assert torch.equal(whole, parts)
    assert not torch.equal(whole[:1], high_order(hr[:1], 4, 5, 106))
    assert not torch.equal(whole[:1], high_order(hr[:1], 4, 6, 100))


def test_ranks_make_the_parts_of_one_batch() -> None:
    config = load(None, ["system=sr_syn", "data.downsampling=high_order", "seed=3"])
    hr = pictures(4, 64)

    def batch(part: slice) -> Batch:
        return Batch(bicubic_down(hr[part], 4), hr[part], hr[part], torch.zeros(0), 40, (), ())

    alone = with_high_order(batch(slice(4)), config, World()).syn
    ranks = [with_high_order(batch(slice(2 * r, 2 * r + 2)), config, World(r, 2)).syn for r in range(2)]
    assert torch.equal(alone, torch.cat(ranks))
    bicubic = load(None, ["system=sr_syn"])
    assert torch.equal(with_high_order(batch(slice(4)), bicubic, World()).syn, bicubic_down(hr, 4))


def test_draws_are_as_various_as_they_should_be_and_shift_no_brightness() -> None:
    hr = pictures(1, 64).mean(1, keepdim=True).expand(300, 3, -1, -1)
    made, clean = high_order(hr, 4, seed=0, first=0), bicubic_down(hr, 4)
    psnr = -10 * (made - clean).square().mean((1, 2, 3)).log10()
    low, middle, high = psnr.quantile(torch.tensor([0.05, 0.5, 0.95])).tolist()
    assert 14 < low < 17 < middle < 20 < high < 28
    change = (made - clean).mean((1, 2, 3))
    assert abs(float(change.mean())) < 0.01
    # Finest detail: mostly blurred away, in a few covered by noise.
    detail = made.diff(dim=-1).abs().mean((1, 2, 3)) / clean.diff(dim=-1).abs().mean()
    assert float(detail.quantile(0.1)) < 0.35
    assert float(detail.quantile(0.95)) > 0.85
    # The pictures are grey, and so is some of the noise; the rest is coloured.
    colour = (made.amax(1) - made.amin(1)).mean((1, 2))
    assert float(colour.quantile(0.1)) < 1e-6
    assert float(colour.quantile(0.9)) > 0.01


def test_gaussian_kernels_have_their_widths() -> None:
    line = torch.arange(21.0) - 10
    kernel = gaussian(21, (2.0, 1.0), 0.0)
    assert float(kernel.sum()) == pytest.approx(1)
    assert float((kernel.sum(0) * line.square()).sum()) == pytest.approx(4, rel=0.01)
    assert float((kernel.sum(1) * line.square()).sum()) == pytest.approx(1, rel=0.01)
    turned = gaussian(21, (2.0, 1.0), math.pi / 2)
    torch.testing.assert_close(turned, kernel.T)
    flat, pointed = (gaussian(21, (2.0, 2.0), 0, "generalized", power) for power in (4.0, 0.5))
    assert float(flat[10, 11] / flat[10, 10]) > 0.95 > 0.8 > float(pointed[10, 11] / pointed[10, 10])
    plateau = gaussian(21, (2.0, 2.0), 0, "plateau", 2.0)
    assert float(plateau[10, 12] / plateau[10, 10]) == pytest.approx(0.5)


@pytest.mark.parametrize("cutoff", [math.pi / 5, math.pi / 3, 2.0])
def test_sinc_kernels_pass_what_lies_below_their_cutoff(cutoff: float) -> None:
    kernel = sinc(21, cutoff)
    assert float(kernel.sum()) == pytest.approx(1)
    assert float(kernel.min()) < 0
    gain = torch.fft.fft(kernel.sum(0), n=420).abs()  # along one axis
    at = torch.arange(210) * 2 * math.pi / 420
    assert float(gain[:210][at < 0.6 * cutoff].min()) > 0.8
    assert float(gain[:210][at > min(1.6 * cutoff, 3)].max()) < 0.25


def test_a_run_on_it_resumes_exactly(config_file, tiny_data, tmp_path) -> None:
    arguments = [*tiny_data.overrides, "system=sr_syn", "data.downsampling=high_order"]
    assert run(config_file, tmp_path / "whole", *arguments, "train.max_steps=6") == 0
    assert run(config_file, tmp_path / "parts", *arguments, "train.max_steps=3") == 0
    assert run(config_file, tmp_path / "parts", *arguments, "train.max_steps=6", "--resume") == 0
    expected, actual = (load_file(newest(tmp_path / name) / "tensors.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(tensor, actual[name]) for name, tensor in expected.items())
    assert run(config_file, tmp_path / "plain", *tiny_data.overrides, "system=sr_syn", "train.max_steps=3") == 0
    losses = [lines(tmp_path / name / "metrics.jsonl")[0]["loss.mse"] for name in ("whole", "plain")]
    assert losses[0] != losses[1]


def test_systems_with_lr_of_their_own_refuse_it() -> None:
    with pytest.raises(ConfigError, match=r"data\.downsampling = high_order with system = cyclesr, .*allowed with it"):
        load(None, ["data.downsampling=high_order"])
