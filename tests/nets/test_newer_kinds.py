"""SPAN, RealPLKSR and SwinIR in training: gradients, mixed precision, memory layout, sizes; what they refuse."""

from __future__ import annotations

import pytest
import torch
from helpers import newer_projects as newer
from torch import Tensor, nn

from cyclesr_dist.config.schema import Speed, SRNet, load
from cyclesr_dist.errors import ConfigError
from cyclesr_dist.nets.build import build_sr
from cyclesr_dist.nets.tune import tune

KINDS = {
    "span": SRNet("span", 8, 2),
    "realplksr": SRNet("realplksr", 16, 1),
    "realplksr, LayerNorm": SRNet("realplksr", 16, 1, layer_norm=True),
    "swinir": SRNet("swinir", 12, 1),
}


def gradients(net: nn.Module, x: Tensor, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
    """The output, and all gradients of its mean square as one vector."""
    net.zero_grad()
    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
        y = net(x)
    y.float().square().mean().backward()
    return y.detach().float(), torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def test_merged_kernels_train_as_their_parts_do() -> None:
    torch.manual_seed(0)
    theirs = newer.SPAN(6, 2, normed=False).double()
    ours = build_sr(SRNet("span", 6, 6), 2).double()
    ours.load_state_dict({name: theirs.state_dict()[name] for name in ours.state_dict()})
    x = torch.rand(2, 3, 7, 9, dtype=torch.float64)
    theirs(x).square().mean().backward()
    ours(x).square().mean().backward()
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs.get_parameter(name).grad, rtol=1e-6, atol=1e-12, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_mixed_precision_and_layout_change_rounding_alone(kind: str) -> None:
    torch.manual_seed(0)
    net, x = build_sr(KINDS[kind], 2), torch.rand(2, 3, 13, 18)
    plain, mixed = gradients(net, x), gradients(net, x, torch.bfloat16)
    tune(net, Speed())
    tuned = gradients(net, x)
    tune(net, Speed(recompute=True))
    again = gradients(net, x)
    for which in range(2):
        assert distance(mixed[which], plain[which]) < 0.05
        assert distance(tuned[which], plain[which]) < 1e-5
        assert distance(again[which], plain[which]) < 1e-5
    assert distance(mixed[0], plain[0]) > 1e-6  # it was another precision


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 1), (3, 10), (8, 8), (17, 5)])
def test_images_of_every_size(kind: str, size: tuple[int, int]) -> None:
    with torch.no_grad():
        y = build_sr(KINDS[kind], 3).eval()(torch.rand(1, 3, *size))
    assert y.shape == (1, 3, 3 * size[0], 3 * size[1])
    assert torch.isfinite(y).all()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["nets.sr.kind=realplksr", "nets.sr.channels=6"], "allowed: a multiple of 4"),
        (["nets.sr.kind=swinir", "nets.sr.channels=64"], "nets.sr.channels = 64 with nets.sr.kind = swinir"),
        (["nets.sr.kind=rrdb", "nets.sr.mean_shift=true"], "allowed with: edsr, span"),
        (["nets.sr.kind=swinir", "nets.sr.channels=60", "nets.sr.layer_norm=true"], "allowed with: realplksr"),
        (["nets.sr.kind=span", "nets.sr.upsampler=pixelshuffle"], "allowed with: swinir"),
        (["nets.sr.kind=swinir", "nets.sr.channels=60", "nets.sr.upsampler=dysample"], "nets.sr.upsampler"),
        (
            ["nets.sr.kind=swinir", "nets.sr.channels=60", "nets.sr.upsampler=nearest+conv", "scale=3"],
            "allowed: scale 2, 4 or 8",
        ),
    ],
)
def test_what_no_network_can_be_made_of_is_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, overrides)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("sr", "scale"),
    [(SRNet("realplksr", 6, 1), 4), (SRNet("swinir", 8, 1), 4), (SRNet("swinir", 6, 1, upsampler="nearest+conv"), 3)],
)
def test_a_file_that_names_such_a_network_cannot_be_built(sr: SRNet, scale: int) -> None:
    with pytest.raises(ValueError, match=r"multiple of|2, 4 and 8"):
        build_sr(sr, scale)
