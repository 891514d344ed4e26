"""`speed:` changes how a step is computed, not what: against PyTorch's layers, and against the reference loop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers import tiny_overrides
from helpers.plain_and_fast import both
from torch import Tensor, nn

from cyclesr_dist.config.schema import Config, Speed, load
from cyclesr_dist.data.batch import Batch
from cyclesr_dist.data.resize import bicubic_down
from cyclesr_dist.distributed.local_ranks import run_ranks
from cyclesr_dist.distributed.world import World
from cyclesr_dist.nets.few_outputs import FewOutputsConv, by_blocks, fits_blocks
from cyclesr_dist.nets.layers import InstanceNorm
from cyclesr_dist.nets.srresnet import SRResNet
from cyclesr_dist.nets.translator import ResnetTranslator
from cyclesr_dist.nets.tune import tune
from cyclesr_dist.workflows.bench.gradients import first_gradients_apart, in_double
from cyclesr_dist.workflows.bench.project_step import ProjectStep
from cyclesr_dist.workflows.bench.reference import ReferenceLoop

PLAIN = Speed(plain=True)
# The paper's kinds of networks, small. With BatchNorm of few samples rounding grows, so steps of it are not compared.
PAPER_KINDS = ["nets.translator.kind=resnet", "nets.translator.channels=8", "nets.translator.noise_channels=0"]
PAPER_KINDS += ["nets.translator.blocks=1", "nets.sr.kind=srresnet", "nets.sr.channels=8", "nets.sr.blocks=1"]
SWITCHES = {
    "default": [],
    "plain": ["speed.plain=true"],
    "recompute": ["speed.recompute=true"],
}


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    "layer",
    [
        InstanceNorm(5),
        FewOutputsConv(4, 3, 9, padding=4),
        FewOutputsConv(4, 3, 7),
        FewOutputsConv(4, 2, (3, 5), padding=(0, 2), bias=False),
        FewOutputsConv(16, 1, 4, padding=1),
        FewOutputsConv(31, 2, (3, 5), padding=(2, 0), bias=False),
        FewOutputsConv(2, 2, 1),
    ],
    ids=str,
)
def test_layers_equal_those_of_pytorch(layer: nn.Module, memory_format: torch.memory_format) -> None:
    channels = layer.num_features if isinstance(layer, InstanceNorm) else layer.in_channels
    torch.manual_seed(0)
    x = torch.randn(2, channels, 11, 13, dtype=torch.float64).contiguous(memory_format=memory_format)
    plain, fast = both(layer.double(), x)
    for expected, actual in zip(plain, fast, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("side", "padding", "bias"), [(9, 4, True), (7, 0, True), (7, 3, False), (3, 1, True)])
def test_a_convolution_by_blocks_equals_the_plain_one(side: int, padding: int, bias: bool) -> None:
    """What GPUs run, tried in float64."""
    torch.manual_seed(0)
    b = side // 2
    conv = nn.Conv2d(4, 3, side, padding=padding, bias=bias).double()
    x = torch.randn(2, 4, 5 * b, 4 * b, dtype=torch.float64, requires_grad=True)
    assert fits_blocks(x, conv.weight, (padding, padding))
    results = []
    for y in (conv(x), by_blocks(x, conv.weight, conv.bias, padding)):
        weights = torch.sin(torch.arange(y.numel(), dtype=y.dtype)).view(y.shape)
        results.append([y, *torch.autograd.grad((y * weights).sum(), [x, *conv.parameters()])])
    for expected, actual in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


def test_sizes_that_are_no_whole_blocks_are_told() -> None:
    weight = torch.zeros(3, 4, 9, 9)
    assert not fits_blocks(torch.zeros(1, 4, 10, 8), weight, (4, 4))
    assert not fits_blocks(torch.zeros(1, 4, 8, 8), weight, (2, 2))
    assert not fits_blocks(torch.zeros(1, 4, 8, 8), torch.zeros(3, 4, 3, 5), (1, 2))


def test_layers_in_bf16() -> None:
    x = torch.randn(2, 4, 12, 12).contiguous(memory_format=torch.channels_last)
    for layer in (InstanceNorm(4), FewOutputsConv(4, 3, 7, padding=3)):
        with torch.autocast("cpu", torch.bfloat16):
            given = x.bfloat16() if isinstance(layer, InstanceNorm) else x
            plain, fast = both(layer, given)
        for expected, actual in zip(plain, fast, strict=True):
            assert actual.dtype == expected.dtype
            torch.testing.assert_close(actual, expected, rtol=0.05, atol=0.05)


def batch_of(step: int, noise_channels: int, n: int = 2, size: int = 24) -> Batch:
    g = torch.Generator().manual_seed(step)
    hr = torch.rand(n, 3, 4 * size, 4 * size, generator=g)
    real = torch.rand(n, 3, size, size, generator=g)
    noise = torch.randn(2, n, noise_channels, size, size, generator=g)
    return Batch(bicubic_down(hr, 4), real, hr, noise, step * n, (), ())


def small_config(networks: list[str], overrides: list[str]) -> Config:
    common = ["backend=single", "global_batch=2", "weights.mse=50"]
    return load(None, [*tiny_overrides(), *common, *networks, *overrides])


def apart(world: World, networks: list[str], overrides: list[str]) -> dict[str, float]:
    config = small_config(networks, overrides)
    return first_gradients_apart(config, batch_of(0, config.nets.translator.noise_channels, size=16), world.device)


def all_apart(world: World, names: list[str]) -> dict[tuple[str, str, str], dict[str, float]]:
    found = {}
    for kind, networks in {"tiny": [], "paper": PAPER_KINDS}.items():
        for name in names:
            found["cyclesrgan", kind, name] = apart(world, networks, ["system=cyclesrgan", *SWITCHES[name]])
        found["cyclesr", kind, names[0]] = apart(world, networks, ["system=cyclesr", *SWITCHES[names[0]]])
    return found


@pytest.mark.parametrize(
    "names", [["default"], pytest.param([name for name in SWITCHES if name != "default"], marks=pytest.mark.slow)]
)
def test_first_gradients_are_those_of_the_reference_loop(names: list[str]) -> None:
    for key, distances in run_ranks(all_apart, 1, names)[0].items():
        assert distances["float64"] <= 1e-6, key  # moments are handed out as float32
        # BatchNorm of a few samples and InstanceNorm of a few pixels magnify rounding, the reference's own as well.
        assert distances["ours"] <= max(1e-5, 4 * distances["reference"]), (key, distances)


def curves(world: World, overrides: list[str]) -> list[list[dict[str, float]]]:
    """Losses of 100 steps in float64: of ours, and of the reference loop in both its ways."""
    config = small_config(PAPER_KINDS, overrides)
    steppers = [
        ProjectStep(config),
        *(ReferenceLoop(config, world.device, one_backward) for one_backward in (False, True)),
    ]
    for stepper in steppers:
        in_double(stepper)
    rows: list[list[dict[str, float]]] = [[], [], []]
    for step in range(100):
        batch = batch_of(step, 0, n=1, size=16)
        precise = replace(
            batch, syn=batch.syn.double(), real=batch.real.double(), hr=batch.hr.double(), noise=batch.noise.double()
        )
        for row, stepper in zip(rows, steppers, strict=True):
            result: Any = stepper.step(precise)
            losses = result if isinstance(result, dict) else result.losses
            row.append({name: float(value) for name, value in losses.items() if name != "g"})
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("system", ["cyclesr", "cyclesrgan"])
def test_loss_curves_coincide_over_100_steps(system: str) -> None:
    ours, *references = run_ranks(curves, 1, [f"system={system}"])[0]
    assert ours[-1]["mse"] < 0.9 * ours[0]["mse"]  # it learns
    for reference in references:
        for own, other in zip(ours, reference, strict=True):
            assert own == pytest.approx(other, rel=1e-5)


def test_networks_with_instance_norm_are_tuned() -> None:
    torch.manual_seed(0)
    net, x = ResnetTranslator(8, 1), torch.rand(2, 3, 16, 16)
    expected = net(x)
    tune(net, Speed())
    actual = net(x)
    assert not torch.equal(actual, expected)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)
    assert actual.is_contiguous(memory_format=torch.channels_last) or actual.is_contiguous()


def statistics(speed: Speed) -> list[Tensor]:
    torch.manual_seed(0)
    net = SRResNet(8, 1, 2)
    tune(net, speed)
    net(torch.rand(2, 3, 12, 12)).square().mean().backward()
    return [*net.buffers(), *(p.grad for p in net.parameters() if p.grad is not None)]


def test_recomputation_leaves_batch_norms_statistics_alone() -> None:
    once = statistics(PLAIN)
    again = statistics(Speed(plain=True, recompute=True))
    for a, b in zip(once, again, strict=True):
        assert torch.equal(a, b)
