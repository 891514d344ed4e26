"""`cyclesr export --layout native`: what other projects load, and what we read again to the bit."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import newer_projects as newer
from helpers import other_projects as others
from helpers.data import TinyData
from helpers.runs import run
from safetensors.torch import load_file
from torch import nn

from cyclesr_dist.cli.main import main as cyclesr
from cyclesr_dist.config.schema import SRNet
from cyclesr_dist.models.model_file import save_model
from cyclesr_dist.models.weights import weights_for
from cyclesr_dist.nets.build import build_sr

EDSR = SRNet("edsr", 6, 2, res_scale=0.1)
CASES: dict[str, tuple[SRNet, int, nn.Module, str]] = {
    "rrdb x4": (SRNet("rrdb", 8, 2), 4, others.RRDBNet(8, 2, 4), "num_grow_ch=4"),
    "rrdb x4, as loaders expect": (SRNet("rrdb", 64, 1), 4, others.RRDBNet(64, 1, 32), ""),
    "rrdb x2": (SRNet("rrdb", 8, 1), 2, others.OldRRDBNet(8, 1, 4, 1), "num_grow_ch=4"),
    "rrdb x8": (SRNet("rrdb", 8, 1), 8, others.OldRRDBNet(8, 1, 4, 3), "num_grow_ch=4"),
    "srvgg x4": (SRNet("srvgg", 6, 3), 4, others.SRVGGNetCompact(6, 3, 4), ""),
    "srvgg x2": (SRNet("srvgg", 6, 3), 2, others.SRVGGNetCompact(6, 3, 2), ""),
    **{f"msrresnet x{s}": (SRNet("msrresnet", 6, 2), s, others.MSRResNet(6, 2, s), "") for s in (2, 3, 4)},
    **{f"edsr x{s}": (EDSR, s, others.EDSR(6, 2, s, 0.1, shifted=False), "img_range=1.0") for s in (2, 3, 4, 8)},
    "edsr, shifted": (
        SRNet("edsr", 6, 2, mean_shift=True),
        4,
        others.EDSR(6, 2, 4, 1.0, shifted=True),
        "",
    ),
    "span x4": (SRNet("span", 6, 6, mean_shift=True), 4, newer.SPAN(6, 4, normed=True), ""),
    "span x3, plain": (SRNet("span", 6, 6), 3, newer.SPAN(6, 3, normed=False), ""),
    "realplksr x8": (SRNet("realplksr", 16, 1), 8, newer.RealPLKSR(16, 1, 8), ""),
    "realplksr x2, LayerNorm": (
        SRNet("realplksr", 8, 1, layer_norm=True),
        2,
        newer.RealPLKSR(8, 1, 2, layer_norm=True),
        "GroupNorm alone",
    ),
    **{
        f"swinir x{s}, {up}": (SRNet("swinir", 12, 1, upsampler=up), s, newer.SwinIR(12, 1, s, up), "")  # type: ignore[arg-type]
        for s, up in ((2, "pixelshuffledirect"), (8, "pixelshuffle"), (2, "nearest+conv"), (8, "nearest+conv"))
    },
}


def model(path: Path, sr: SRNet, scale: int) -> nn.Module:
    torch.manual_seed(0)
    net = build_sr(sr, scale).eval()
    save_model(path, net.state_dict(), sr, scale, {"system": "estimated", "step": 7, "chosen": "best"})
    return net


def export(source: Path, out: Path, *more: str) -> int:
    return cyclesr(["export", "--model", str(source), "--layout", "native", "--out", str(out), *more])


@pytest.mark.parametrize("name", CASES)
def test_the_other_project_loads_it_and_gives_the_same(name: str, tmp_path: Path, capsys: Any) -> None:
    sr, scale, theirs, remark = CASES[name]
    net = model(tmp_path / "m.safetensors", sr, scale)
    out = tmp_path / "native.safetensors"
    assert export(tmp_path / "m.safetensors", out) == 0
    said = capsys.readouterr().err
    assert remark in said if remark else not said
    theirs.load_state_dict(load_file(out))
    x = torch.rand(1, 3, 11, 14)
    with torch.no_grad():
        torch.testing.assert_close(theirs.eval()(x), net(x), rtol=1e-5, atol=1e-5)
    again = weights_for("nets.sr.init", str(out), sr, scale).state
    assert again.keys() == net.state_dict().keys()
    assert all(torch.equal(again[key], tensor) for key, tensor in net.state_dict().items())
    written = out.read_bytes()
    assert export(tmp_path / "m.safetensors", out) == 0
    assert out.read_bytes() == written


@pytest.mark.parametrize(
    ("sr", "scale", "reason"),
    [
        (SRNet("vdsr", 4, 2), 4, "the paper's own variant"),
        (SRNet("srresnet", 4, 1), 4, "BatchNorm, PReLU and convolutions of 9 x 9"),
        (SRNet("compact", 4, 1, bicubic_skip=True), 4, "bicubic skip"),
        (SRNet("enlarged_residual", 4, 1), 4, "translator behind bicubic"),
        (SRNet("rrdb", 8, 1), 3, "of one for x2"),
        (SRNet("msrresnet", 4, 1), 8, "x2, x3 and x4"),
        (SRNet("span", 4, 2), 4, "SPAN has 6 blocks; this one has 2"),
    ],
)
def test_a_network_of_our_own_is_refused_with_the_difference(
    sr: SRNet, scale: int, reason: str, tmp_path: Path, capsys: Any
) -> None:
    model(tmp_path / "m.safetensors", sr, scale)
    assert export(tmp_path / "m.safetensors", tmp_path / "native.safetensors") == 2
    assert reason in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


def test_what_cannot_be_written_so_is_refused(tmp_path: Path, capsys: Any) -> None:
    model(tmp_path / "m.safetensors", SRNet("srvgg", 4, 1), 2)
    assert export(tmp_path / "m.safetensors", tmp_path / "a.onnx", "--format", "onnx") == 2
    assert "allowed with: safetensors" in capsys.readouterr().err
    assert export(tmp_path / "m.safetensors", tmp_path / "a.md") == 2
    assert "allowed: a name in .safetensors" in capsys.readouterr().err
    assert export(tmp_path / "m.safetensors", tmp_path / "none" / "a.safetensors") == 2
    assert "no such folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


def test_card_and_entry_say_what_is_known_of_a_run(
    config_file: Path, tiny_data: TinyData, tmp_path: Path, capsys: Any
) -> None:
    torch.save(others.SRVGGNetCompact(4, 1, 4).state_dict(), tmp_path / "base.pth")
    own = [*tiny_data.overrides, "nets.sr.kind=srvgg", f"nets.sr.init={tmp_path / 'base.pth'}", "train.max_steps=4"]
    assert run(config_file, tmp_path / "run", *own) == 0
    for name in (
        str(tmp_path / "run"),
        f"{tmp_path / 'run'}@last",
        *map(str, (tmp_path / "run/checkpoints").iterdir()),
    ):
        out = tmp_path / "4xMine.safetensors"
        assert export(Path(name), out) == 0
        card = out.with_suffix(".md").read_text()
        assert card.startswith("# 4xMine\n")
        assert "SRVGGNetCompact of Real-ESRGAN: 1 block of 4 channels" in card
        assert "`system: cyclesr` of cyclesr-dist, after 4 steps" in card
        assert "`data.hr`: 18 patches of 8 LR px" in card
        assert "the licence of those weights binds, too" in card
        assert "psnr: " in card
        entry = json.loads(out.with_suffix(".json").read_text())
        assert (entry["scale"], entry["architecture"], entry["size"]) == (4, "compact", ["4nf", "1nc"])
        assert (entry["trainingIterations"], entry["trainingBatchSize"], entry["trainingHRSize"]) == (4, 4, 32)
        (resource,) = entry["resources"]
        assert resource["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
        assert resource["size"] == out.stat().st_size


def test_a_network_of_yours_has_its_own_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_native.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Sequential):\n    def __init__(self):\n"
        "        super().__init__(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    sr = SRNet("module", module="mine_native:Net")
    net = model(tmp_path / "m.safetensors", sr, 2)
    assert export(tmp_path / "m.safetensors", tmp_path / "native.safetensors") == 2
    assert export(tmp_path / "m.safetensors", tmp_path / "native.safetensors", "--allow-module") == 0
    assert load_file(tmp_path / "native.safetensors").keys() == net.state_dict().keys()
    torch.save({"params": net.state_dict()}, tmp_path / "bare.pth")
    found = weights_for("nets.sr.init", str(tmp_path / "bare.pth"), sr, 2)
    assert torch.equal(found.state["0.weight"], net.state_dict()["0.weight"])
