"""An .onnx file enlarges photographs without torch, which takes longer to import than a small photograph to enlarge."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cyclesr_dist.data.images import read_picture, to_samples, write_png
from cyclesr_dist.models.upscaler import METADATA_KEY

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

COMMAND = """
import sys
from cyclesr_dist.cli.main import main
code = main(sys.argv[1:])
print(*sorted({"torch", "safetensors", "scipy", "onnx", "sympy"} & set(sys.modules)))
sys.exit(code)
"""


def doubled(path: Path, factor: float = 1.0) -> Path:
    """A file as `export` writes it: every pixel four times, times `factor`."""
    helper = onnx.helper
    lr = helper.make_tensor_value_info("lr", onnx.TensorProto.FLOAT, [1, 3, "h", "w"])
    hr = helper.make_tensor_value_info("hr", onnx.TensorProto.FLOAT, [1, 3, "h2", "w2"])
    constants = [
        helper.make_tensor("scales", onnx.TensorProto.FLOAT, [4], [1, 1, 2, 2]),
        helper.make_tensor("factor", onnx.TensorProto.FLOAT, [], [factor]),
    ]
    nodes = [
        helper.make_node("Resize", ["lr", "", "scales"], ["wide"], mode="nearest"),
        helper.make_node("Mul", ["wide", "factor"], ["hr"]),
    ]
    graph = helper.make_graph(nodes, "doubled", [lr], [hr], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {METADATA_KEY: json.dumps({"scale": 2, "reach_px": 1})})
    onnx.save(model, path)
    return path


def upscale(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", COMMAND, "upscale", *map(str, words), "--quiet"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=300)


@pytest.fixture
def photos(tmp_path: Path) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    found = {
        "colour": rng.integers(0, 256, (30, 41, 3), dtype=np.uint8),
        "grey16": rng.integers(0, 65536, (3, 5, 1), dtype=np.uint16),
        "tiled": rng.integers(0, 256, (390, 400, 3), dtype=np.uint8),
    }
    (tmp_path / "in").mkdir()
    for name, samples in found.items():
        write_png(tmp_path / "in" / f"{name}.png", samples)
    return found


def test_a_folder_is_enlarged_without_torch(tmp_path: Path, photos: dict[str, np.ndarray]) -> None:
    done = upscale(tmp_path / "in", "--model", doubled(tmp_path / "m.onnx"), "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"3 images in {tmp_path / 'out'}", ""]
    for name, samples in photos.items():
        found = to_samples(read_picture(tmp_path / "out" / f"{name}.png"))
        if name == "grey16":  # through the luma of three equal colours, whose weights are rounded
            assert np.abs(found.astype(int) - samples.repeat(2, axis=0).repeat(2, axis=1)).max() <= 1
        else:
            np.testing.assert_array_equal(found, samples.repeat(2, axis=0).repeat(2, axis=1))


def test_transparency_is_enlarged_too(tmp_path: Path) -> None:
    samples = np.full((12, 9, 4), 200, np.uint8)
    write_png(tmp_path / "a.png", samples)
    done = upscale(tmp_path / "a.png", "--model", doubled(tmp_path / "m.onnx"), "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    found = to_samples(read_picture(tmp_path / "out" / "a.png"))
    np.testing.assert_array_equal(found, np.full((24, 18, 4), 200, np.uint8))


def test_values_that_are_not_finite_are_refused(tmp_path: Path, photos: dict[str, np.ndarray]) -> None:
    model = doubled(tmp_path / "m.onnx", float("inf"))
    done = upscale(tmp_path / "in" / "colour.png", "--model", model, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr == f"cyclesr: error: model {model}: gives values that are not finite\n"
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_model_is_refused_without_torch(tmp_path: Path, photos: dict[str, np.ndarray]) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    done = upscale(tmp_path / "in", "--model", tmp_path / "bad.onnx", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "cannot be used as an ONNX file" in done.stderr
    assert done.stdout.splitlines() == [""]
