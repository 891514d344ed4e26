"""The fast end of an SR network against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from helpers.plain_and_fast import both

from cyclesr_dist.data.resize import bicubic_up
from cyclesr_dist.nets.compact import Compact
from cyclesr_dist.nets.to_pixels import BicubicSkip, ToPixels

FORMATS = [torch.contiguous_format, torch.channels_last]


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("sides", [(1, 1), (5, 3), (2, 17), (24, 24)])
def test_equal_to_pytorch(scale: int, sides: tuple[int, int], memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    for layer, channels in ((ToPixels(scale), 3 * scale**2), (BicubicSkip(scale), 3)):
        x = torch.randn(2, channels, *sides, dtype=torch.float64).contiguous(memory_format=memory_format)
        for expected, actual in zip(*both(layer, x), strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def test_layout_is_what_its_neighbours_want() -> None:
    y, gradient = both(ToPixels(2), torch.randn(2, 12, 8, 8).contiguous(memory_format=torch.channels_last))[1]
    assert y.is_contiguous()
    assert gradient.is_contiguous(memory_format=torch.channels_last)


def test_large_images_and_low_precision_go_the_plain_way() -> None:
    """There a matrix product is slower, or less exact."""
    skip, patch, large = BicubicSkip(2), torch.rand(1, 3, 16, 16), torch.rand(1, 3, 8, 200)
    skip.fast = True
    assert torch.equal(skip(large), bicubic_up(large, 2))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(skip(patch), bicubic_up(patch, 2))


def test_training_after_validation_of_the_same_size() -> None:
    """What inference has made must not be unusable for gradients."""
    net = Compact(4, 1, 2, bicubic_skip=True)
    for module in net.modules():
        if isinstance(module, ToPixels | BicubicSkip):
            module.fast = True
    x = torch.rand(1, 3, 37, 41, requires_grad=True)
    with torch.inference_mode():
        net(x.detach())
    net(x).mean().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
