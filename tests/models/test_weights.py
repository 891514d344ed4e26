"""Weights of other projects as a start: every generation of names, wrappers, precision; what does not fit is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import newer_projects as newer
from helpers import other_projects as others
from safetensors.torch import save_file
from torch import Tensor, nn

from cyclesr_dist.config.schema import SRNet
from cyclesr_dist.errors import ConfigError, InputError
from cyclesr_dist.models.model_file import save_model
from cyclesr_dist.models.weights import weights_for
from cyclesr_dist.nets.build import build_sr

RRDB = SRNet("rrdb", 8, 2)
SRVGG = SRNet("srvgg", 6, 3)
MSR = SRNet("msrresnet", 6, 2)
EDSR = SRNet("edsr", 6, 2, mean_shift=True, res_scale=0.1)
KEY = "nets.sr.init"
LAYER = "layers.0.residual_group.blocks.0"


def drawn(net: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    for p in net.parameters():
        nn.init.normal_(p, std=0.1)
    return net.eval()


def small(net: newer.SPAN) -> nn.Module:
    """Of outputs about as large as an image's: its layers multiply, and see 255 levels."""
    nn.init.normal_(drawn(net).get_submodule("conv_1.sk").weight, std=1e-3)  # type: ignore[arg-type]
    return net


CASES: dict[str, tuple[nn.Module, SRNet, int, Any]] = {
    "Real-ESRGAN": (drawn(others.RRDBNet(8, 2, 4)), RRDB, 4, dict),
    "RealSR": (drawn(others.RRDBNet(8, 2, 4)), RRDB, 4, others.in_real_names),
    "ESRGAN x4": (drawn(others.OldRRDBNet(8, 2, 4, 2)), RRDB, 4, dict),
    "ESRGAN x2": (drawn(others.OldRRDBNet(8, 1, 4, 1)), SRNet("rrdb", 8, 1), 2, dict),
    "ESRGAN x8": (drawn(others.OldRRDBNet(8, 1, 4, 3)), SRNet("rrdb", 8, 1), 8, dict),
    "SRVGGNetCompact x4": (drawn(others.SRVGGNetCompact(6, 3, 4)), SRVGG, 4, dict),
    "SRVGGNetCompact x2": (drawn(others.SRVGGNetCompact(6, 3, 2)), SRVGG, 2, dict),
    **{f"MSRResNet x{scale}": (drawn(others.MSRResNet(6, 2, scale)), MSR, scale, dict) for scale in (2, 3, 4)},
    "MSRResNet of mmsr": (drawn(others.MSRResNet(6, 2, 4)), MSR, 4, others.in_mmsr_names),
    **{f"EDSR x{s}": (drawn(others.EDSR(6, 2, s, 0.1, shifted=True)), EDSR, s, dict) for s in (2, 3, 4, 8)},
    "EDSR-PyTorch": (
        drawn(others.EDSR(6, 2, 4, 0.1, shifted=True)),
        EDSR,
        4,
        lambda state: others.in_authors_names(state, 2),
    ),
    **{
        f"SPAN x{s}, {'normed' if normed else 'plain'}": (
            small(newer.SPAN(6, s, normed=normed)),
            SRNet("span", 6, 6, mean_shift=normed),
            s,
            newer.as_in_a_file,
        )
        for s, normed in ((2, True), (4, True), (4, False))
    },
    **{f"RealPLKSR x{s}": (drawn(newer.RealPLKSR(16, 2, s)), SRNet("realplksr", 16, 2), s, dict) for s in (2, 4)},
    "RealPLKSR with LayerNorm": (
        drawn(newer.RealPLKSR(8, 2, 4, layer_norm=True)),
        SRNet("realplksr", 8, 2, layer_norm=True),
        4,
        dict,
    ),
    **{
        f"SwinIR x{s}, {up}": (
            drawn(newer.SwinIR(12, 1, s, up)),
            SRNet("swinir", 12, 1, upsampler=up),  # type: ignore[arg-type]  # one of its words
            s,
            newer.as_in_a_file,
        )
        for s, up in ((4, "pixelshuffledirect"), (3, "pixelshuffle"), (4, "pixelshuffle"), (4, "nearest+conv"))
    },
}


def ours(state: dict[str, Tensor], sr: SRNet, scale: int) -> nn.Module:
    net = build_sr(sr, scale).eval()
    net.load_state_dict(state)
    return net


@pytest.mark.parametrize("name", CASES)
def test_the_result_is_that_of_the_other_project(name: str, tmp_path: Path) -> None:
    theirs, sr, scale, named = CASES[name]
    torch.save(named(theirs.state_dict()), tmp_path / "w.pth")
    found = weights_for(KEY, str(tmp_path / "w.pth"), sr, scale)
    x = torch.rand(1, 3, 11, 14)
    with torch.no_grad():
        torch.testing.assert_close(ours(found.state, sr, scale)(x), theirs(x), rtol=0, atol=1e-5)
    assert f"{sr.blocks} x {sr.channels}" in found.what


@pytest.mark.parametrize("wrapper", ["params_ema", "params", "state_dict", "model", "module."])
def test_weights_are_found_where_training_programs_put_them(wrapper: str, tmp_path: Path) -> None:
    state = CASES["Real-ESRGAN"][0].state_dict()
    content: dict[str, Any] = {wrapper: state, "iter": 7, "optimizers": [{"lr": 0.1}]}
    if wrapper == "params_ema":
        content["params"] = {name: torch.zeros_like(t) for name, t in state.items()}
    if wrapper.endswith("."):
        content = {wrapper + name: t for name, t in state.items()}
    torch.save(content, tmp_path / "w.pth")
    found = weights_for(KEY, str(tmp_path / "w.pth"), RRDB, 4).state
    assert torch.equal(found["head.weight"], state["conv_first.weight"])


def test_half_precision_safetensors_and_old_pickles(tmp_path: Path) -> None:
    state = CASES["Real-ESRGAN"][0].state_dict()
    save_file({name: t.half() for name, t in state.items()}, tmp_path / "half.safetensors")
    half = weights_for(KEY, str(tmp_path / "half.safetensors"), RRDB, 4).state
    assert {t.dtype for t in half.values()} == {torch.float32}
    torch.testing.assert_close(half["tail.2.weight"], state["conv_last.weight"], rtol=0, atol=1e-3)
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    old = weights_for(KEY, str(tmp_path / "old.pth"), RRDB, 4).state
    assert torch.equal(old["tail.2.weight"], state["conv_last.weight"])
    (tmp_path / "old.pth").rename(tmp_path / "noname")
    assert weights_for(KEY, str(tmp_path / "noname"), RRDB, 4).state.keys() == old.keys()


def refusal(place: Path | str, sr: SRNet, scale: int) -> str:
    with pytest.raises((ConfigError, InputError)) as caught:
        weights_for(KEY, str(place), sr, scale)
    assert caught.value.exit_code == 2
    said = str(caught.value)
    assert said.startswith(f"{KEY} = {place}: ")
    assert "\n" not in said
    return said


@pytest.mark.parametrize(
    ("sr", "scale", "expected"),
    [
        (SRNet("rrdb", 16, 2), 4, "conv_first.weight is (8, 3, 3, 3) in the file and (16, 3, 3, 3) in this run"),
        (SRNet("rrdb", 8, 3), 4, "body.2.rdb1.conv1.weight, (4, 8, 3, 3) in this run, is missing in the file"),
        (SRNet("rrdb", 8, 1), 4, "body.1.rdb1.conv1.weight, (4, 8, 3, 3) in the file, is not in this run's network"),
        (RRDB, 2, "conv_up2.weight, (8, 8, 3, 3) in the file, is not in this run's network"),
        (RRDB, 8, "conv_up3.weight, (8, 8, 3, 3) in this run, is missing in the file"),
        (SRNet("vdsr", 8, 2), 4, "which has conv_first.weight, (8, 3, 3, 3) instead"),
        (SRNet("compact", 8, 2), 4, "which has conv_first.weight, (8, 3, 3, 3) instead"),
    ],
)
def test_another_network_is_refused_by_its_first_tensor(sr: SRNet, scale: int, expected: str, tmp_path: Path) -> None:
    torch.save({"params": CASES["Real-ESRGAN"][0].state_dict()}, tmp_path / "w.pth")
    said = refusal(tmp_path / "w.pth", sr, scale)
    assert expected in said
    assert "nets.sr.kind=rrdb nets.sr.channels=8 nets.sr.blocks=2 scale=4" in said


def test_what_no_network_of_ours_has_is_named(tmp_path: Path) -> None:
    torch.save(others.RRDBNet(8, 1, 4, inputs=12).state_dict(), tmp_path / "plus.pth")
    said = refusal(tmp_path / "plus.pth", SRNet("rrdb", 8, 1), 2)
    assert "conv_first.weight is (8, 12, 3, 3) in the file and (8, 3, 3, 3)" in said
    assert "12 input channels" in said
    torch.save(others.RRDBNet(8, 1, 8).state_dict(), tmp_path / "lite.pth")
    said = refusal(tmp_path / "lite.pth", SRNet("rrdb", 8, 1), 4)
    assert "body.0.rdb1.conv1.weight is (8, 8, 3, 3) in the file and (4, 8, 3, 3)" in said
    assert "grows by 8 channels" in said


@pytest.mark.parametrize(
    ("theirs", "sr", "scale", "expected"),
    [
        (newer.SPAN(6, 4, normed=True), SRNet("span", 6, 6), 4, "nets.sr.mean_shift is true in the file"),
        (
            newer.SPAN(6, 4, normed=False),
            SRNet("span", 6, 6, mean_shift=True),
            4,
            "no_norm, (1,) in the file, is not in",
        ),
        (
            newer.SPAN(6, 4, normed=True),
            SRNet("span", 6, 2, mean_shift=True),
            4,
            "nets.sr.kind=span nets.sr.channels=6 nets.sr.blocks=6",
        ),
        (newer.RealPLKSR(8, 1, 4, layer_norm=True), SRNet("realplksr", 8, 1), 4, "nets.sr.layer_norm=true"),
        (newer.RealPLKSR(8, 1, 2), SRNet("realplksr", 8, 1), 4, "scale=2"),
        (newer.SwinIR(12, 1, 4, "nearest+conv"), SRNet("swinir", 12, 1), 4, "nets.sr.upsampler=nearest+conv scale=4"),
        (newer.SwinIR(12, 1, 3, "pixelshuffle"), SRNet("swinir", 12, 1, upsampler="pixelshuffle"), 2, "scale=3"),
    ],
)
def test_another_variant_is_refused_with_the_settings_of_the_file(
    theirs: nn.Module, sr: SRNet, scale: int, expected: str, tmp_path: Path
) -> None:
    torch.save({"params": theirs.state_dict()}, tmp_path / "w.pth")
    assert expected in refusal(tmp_path / "w.pth", sr, scale)


@pytest.mark.parametrize(
    ("change", "sr", "said"),
    [
        ({"to_img.init_pos": torch.zeros(1, 32, 1, 1)}, SRNet("realplksr", 8, 1), "enlarges with DySample"),
        (
            {"feats.1.lk.conv.weight": torch.zeros(2, 2, 13, 13)},
            SRNet("realplksr", 8, 1),
            "kernels of 13 x 13 on 2 of 8",
        ),
        ({"feats.1.attn.f.0.weight": None}, SRNet("realplksr", 8, 1), "no element-wise attention"),
        (
            {f"{LAYER}.attn.relative_position_bias_table": torch.zeros(169, 8)},
            SRNet("swinir", 12, 1),
            "6 layers a block, 8 heads and windows of 7 x 7",
        ),
        ({f"{LAYER}.mlp.fc1.bias": torch.zeros(48)}, SRNet("swinir", 12, 1), "48 hidden features"),
        ({"conv_after_body.0.weight": torch.zeros(3, 12, 3, 3)}, SRNet("swinir", 12, 1), "three convolutions"),
        ({"upsample.0.weight": None}, SRNet("swinir", 12, 1), "does not enlarge"),
    ],
)
def test_variants_that_ours_has_not_are_named(
    change: dict[str, Tensor | None], sr: SRNet, said: str, tmp_path: Path
) -> None:
    theirs = newer.RealPLKSR(8, 1, 4) if sr.kind == "realplksr" else newer.SwinIR(12, 1, 4, "pixelshuffledirect")
    state = {name: tensor for name, tensor in (theirs.state_dict() | change).items() if tensor is not None}
    torch.save(state, tmp_path / "w.pth")
    assert said in refusal(tmp_path / "w.pth", sr, 4)


def test_settings_that_no_shape_shows_are_compared(tmp_path: Path) -> None:
    torch.save(CASES["EDSR x4"][0].state_dict(), tmp_path / "edsr.pth")
    assert "nets.sr.mean_shift is true in the file" in refusal(tmp_path / "edsr.pth", SRNet("edsr", 6, 2), 4)
    state = others.in_authors_names(CASES["EDSR x4"][0].state_dict(), 2)
    torch.save(state | {"sub_mean.bias": torch.zeros(3)}, tmp_path / "other.pth")
    assert "sub_mean.bias is not the one of EDSR" in refusal(tmp_path / "other.pth", EDSR, 4)
    sr = SRNet("compact", 4, 1, bicubic_skip=True)
    save_model(tmp_path / "own.safetensors", build_sr(sr, 4).state_dict(), sr, 4, {})
    assert weights_for(KEY, str(tmp_path / "own.safetensors"), sr, 4).what == "g_l2h of this project"
    said = refusal(tmp_path / "own.safetensors", SRNet("compact", 4, 1), 4)
    assert "nets.sr.bicubic_skip is true in the file and false in this run" in said
    said = refusal(tmp_path / "own.safetensors", SRNet("compact", 8, 1, bicubic_skip=True), 4)
    assert "head.weight is (4, 3, 3, 3) in the file and (8, 3, 3, 3) in this run" in said


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("executed"),))


def test_files_that_cannot_be_used_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    state = CASES["Real-ESRGAN"][0].state_dict()
    torch.save({"params": state, "hook": Hostile()}, "hostile.pth")
    assert "would have to be executed" in refusal("hostile.pth", RRDB, 4)
    assert not Path("executed").exists()
    Path("text.pth").write_text("weights")
    assert "neither a safetensors file nor" in refusal("text.pth", RRDB, 4)
    Path("empty.pth").touch()
    assert "neither a safetensors file nor" in refusal("empty.pth", RRDB, 4)
    torch.save(state, "cut.pth")
    Path("cut.pth").write_bytes(Path("cut.pth").read_bytes()[:3000])
    assert "neither a safetensors file nor" in refusal("cut.pth", RRDB, 4)
    save_file(state, "cut.safetensors")
    Path("cut.safetensors").write_bytes(Path("cut.safetensors").read_bytes()[:3000])
    assert "cannot be read as a safetensors file" in refusal("cut.safetensors", RRDB, 4)
    torch.save([1, 2], "list.pth")
    assert "no tensors by name" in refusal("list.pth", RRDB, 4)
    torch.save({"params": {"body": torch.zeros(3)}}, "strange.pth")
    assert "body, (3,) instead" in refusal("strange.pth", RRDB, 4)
    torch.save(state | {"conv_hr.bias": torch.full((8,), torch.nan)}, "nan.pth")
    assert "tail.0.bias has values that are not finite" in refusal("nan.pth", RRDB, 4)
    assert "no such file" in refusal("missing.pth", RRDB, 4)
    assert "is not fetched" in refusal("https://host/w.pth", RRDB, 4)
    Path("folder").mkdir()
    assert "no model in this folder" in refusal("folder", RRDB, 4)
    Path("m.onnx").write_bytes(b"x")
    assert "ONNX" in refusal("m.onnx", RRDB, 4)
