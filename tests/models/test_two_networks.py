"""A model file of two networks, as cincgan exports it: it enlarges with both, and a bad description is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cyclesr_dist.cli.main import main as cyclesr
from cyclesr_dist.config.schema import SRNet, load
from cyclesr_dist.errors import ConfigError, InputError
from cyclesr_dist.models.model_file import describe, load_model, save_model
from cyclesr_dist.models.model_name import resolve_model
from cyclesr_dist.nets.build import build_sr, inference_net

TINY = ["system=cincgan", "nets.translator.channels=4", "nets.translator.blocks=1", "nets.sr.kind=compact"]
TINY += ["nets.sr.channels=4", "nets.sr.blocks=1"]


def model(path: Path, sr: SRNet) -> torch.nn.Module:
    torch.manual_seed(0)
    net = build_sr(sr, 4)
    for p in net.parameters():
        p.data.add_(0.05 * torch.randn_like(p))
    save_model(path, net.state_dict(), sr, 4, {"system": "cincgan"})
    return net.eval()


@pytest.mark.parametrize("kind", ["resnet", "residual"])
def test_both_networks_are_in_the_file(kind: str, tmp_path: Path) -> None:
    sr = inference_net(load(None, [*TINY, f"nets.translator.kind={kind}"]))
    net = model(tmp_path / "m.safetensors", sr)
    assert describe(tmp_path / "m.safetensors")[0] == sr
    ours = resolve_model(str(tmp_path / "m.safetensors"))
    x = torch.rand(1, 3, 9, 14)  # no multiple of 4, which the translator needs
    with torch.no_grad():
        assert torch.allclose(ours(x), net(x), atol=1e-5)
        even = torch.rand(1, 3, 12, 16)
        assert torch.equal(net(even), net.sr(net.translator(even)))


@pytest.mark.slow
def test_both_networks_are_in_onnx(tmp_path: Path) -> None:
    path, out = tmp_path / "m.safetensors", tmp_path / "m.onnx"
    model(path, inference_net(load(None, [*TINY, "nets.translator.kind=resnet"])))
    assert cyclesr(["export", "--model", str(path), "--format", "onnx", "--out", str(out)]) == 0
    x = torch.rand(1, 3, 9, 14)
    np.testing.assert_allclose(
        resolve_model(str(out))(x.numpy()), resolve_model(str(path))(x).numpy(), rtol=0, atol=1e-4
    )


def described(**changes: Any) -> SRNet:
    arguments = dict(inference_net(load(None, TINY)).arguments)
    return SRNet(kind="translated", arguments=arguments | changes)


@pytest.mark.parametrize(
    ("sr", "reason"),
    [
        (SRNet(kind="translated"), "`translator` and `sr`"),
        (described(translator={"kind": "mine:Net", "channels": 4, "blocks": 1}), "not kind"),
        (described(translator={"kind": "resnet", "channels": 10**9, "blocks": 1}), "translator.channels"),
        (described(sr={"kind": "compact", "channels": 10**9}), "channels is 1000000000"),
        (described(sr={"kind": "translated"}), "in another one"),
        (described(sr={"kind": "module", "module": "os:system", "arguments": {}}), "--allow-module"),
    ],
)
def test_a_description_of_two_that_cannot_be_is_refused(sr: SRNet, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_model(path, {}, sr, 4, {})
    with pytest.raises(InputError, match=reason):
        load_model(path)


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["nets.sr.kind=translated"], "systems of two networks make themselves"),
        ([*TINY, "nets.sr.init=x.pth"], "begins with a translator"),
        ([*TINY, "nets.translator.kind=mine:Net"], "allowed: resnet, residual"),
    ],
)
def test_what_a_configuration_cannot_say_of_two(overrides: list[str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        load(None, overrides)
