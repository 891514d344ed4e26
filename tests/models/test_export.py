"""`cyclesr export`, and upscaling from what it wrote."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cyclesr_dist.cli.main import main as cyclesr
from cyclesr_dist.config.schema import SRNet
from cyclesr_dist.models.model_file import save_model
from cyclesr_dist.models.model_name import resolve_model
from cyclesr_dist.models.upscaler import METADATA_KEY
from cyclesr_dist.nets.build import build_sr
from cyclesr_dist.runtime.extras import install_hint

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

KINDS = {
    "compact": SRNet("compact", 4, 1, bicubic_skip=True),
    "srresnet": SRNet("srresnet", 4, 1),
    "vdsr": SRNet("vdsr", 4, 1),
    "enlarged_resnet": SRNet("enlarged_resnet", 4, 1),
    "span": SRNet("span", 4, 1, mean_shift=True),
    "realplksr": SRNet("realplksr", 16, 1),
    "swinir": SRNet("swinir", 6, 1),
}
# The exporter reasons about the sizes of windows, for long.
EACH = [pytest.param(kind, marks=pytest.mark.slow) if kind == "swinir" else kind for kind in KINDS]


def run_folder(path: Path, sr: SRNet) -> Path:
    torch.manual_seed(0)
    net = build_sr(sr, 2)
    for p in net.parameters():
        p.data.add_(0.05 * torch.randn_like(p))
    path.mkdir()
    save_model(path / "model.safetensors", net.state_dict(), sr, 2, {"system": "cyclesr"})
    (path / "summary.json").write_text(json.dumps({"system": "cyclesr", "steps": 7, "best": {"psnr": 20.0}}))
    return path


@pytest.mark.parametrize("kind", EACH)
def test_onnx_equals_torch_for_any_size(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_folder(tmp_path / "run", KINDS[kind])
    out = tmp_path / "model.onnx"
    assert cyclesr(["export", "--model", str(run), "--format", "onnx", "--out", str(out)]) == 0
    assert kind in capsys.readouterr().out
    metadata = json.loads({p.key: p.value for p in onnx.load(out).metadata_props}[METADATA_KEY])
    assert metadata["sr"]["kind"] == kind
    assert metadata["scale"] == 2
    assert metadata["extra"]["training"]["steps"] == 7
    assert "[0, 1]" in metadata["extra"]["values"]
    assert str(Path(torch.__file__).parent).encode() not in out.read_bytes()  # no path of the machine
    ours, other = resolve_model(str(run)), resolve_model(str(out))
    assert (other.scale, other.reach) == (ours.scale, ours.reach)
    for h, w in ((9, 31), (64, 20)):
        x = torch.rand(1, 3, h, w)
        np.testing.assert_allclose(other(x.numpy()), ours(x).numpy(), rtol=0, atol=1e-4)


def test_upscale_from_onnx_in_tiles(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", KINDS["compact"])
    assert cyclesr(["export", "--model", str(run), "--format", "onnx", "--out", str(tmp_path / "m.onnx")]) == 0
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    for model, out in ((run, "torch"), (tmp_path / "m.onnx", "onnx")):
        argv = ["upscale", str(tmp_path / "a.png"), "--model", str(model), "--out", str(tmp_path / out)]
        assert cyclesr([*argv, "--tile", "24", "--quiet"]) == 0
    images = [np.asarray(Image.open(tmp_path / out / "a.png")).astype(int) for out in ("torch", "onnx")]
    assert images[0].shape == (80, 100, 3)
    assert np.abs(images[0] - images[1]).max() <= 1


def test_safetensors_can_be_used_as_a_model(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", KINDS["compact"])
    out = tmp_path / "model.safetensors"
    assert cyclesr(["export", "--model", str(run), "--format", "safetensors", "--out", str(out)]) == 0
    x = torch.rand(1, 3, 12, 12)
    assert torch.equal(resolve_model(str(out))(x), resolve_model(str(run))(x))


def test_a_difference_to_torch_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_folder(tmp_path / "run", KINDS["compact"])
    monkeypatch.setattr("cyclesr_dist.models.export.ONNX_TOLERANCE", 1e-12)
    assert cyclesr(["export", "--model", str(run), "--format", "onnx", "--out", str(tmp_path / "m.onnx")]) == 2
    assert "differs from torch" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]


def test_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_folder(tmp_path / "run", KINDS["compact"])

    def refused(*argv: str) -> str:
        assert cyclesr(list(argv)) == 2
        return capsys.readouterr().err

    assert "bicubic" in refused("export", "--model", "bicubic", "--format", "onnx", "--out", str(tmp_path / "m.onnx"))
    assert "no such folder" in refused(
        "export", "--model", str(run), "--format", "onnx", "--out", str(tmp_path / "no" / "m.onnx")
    )
    for form in ("onnx", "safetensors"):
        said = refused("export", "--model", str(run), "--format", form, "--out", str(run))
        assert f"--out {run}: is a folder; a file is needed" in said
    (tmp_path / "bad.onnx").write_bytes(b"not onnx")
    arguments = ["upscale", str(tmp_path), "--out", str(tmp_path / "out")]
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    assert "bad.onnx" in refused(*arguments, "--model", str(tmp_path / "bad.onnx"))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert install_hint("onnx") in refused(
        "export", "--model", str(run), "--format", "onnx", "--out", str(tmp_path / "m.onnx")
    )
