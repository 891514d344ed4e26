"""Folders of photographs with one channel: they are trained on as grey RGB, and what comes out is grey."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import tiny_overrides, write_photos
from helpers.runs import lines, run
from PIL import Image, ImageFilter

from cyclesr_dist.cli.main import main as cyclesr
from cyclesr_dist.data.images import read_rgb8
from cyclesr_dist.degradation.apply import degraded
from cyclesr_dist.degradation.estimate import estimate
from cyclesr_dist.degradation.record import Degradation
from cyclesr_dist.degradation.record import load as load_degradation


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """hr and lr, of one channel, the latter blurred and noisy; shard sets and an estimate of both."""
    root = tmp_path_factory.mktemp("grey")
    rng = np.random.default_rng(0)
    for name, (height, width) in {"hr": (192, 256), "lr": (64, 80)}.items():
        for path in write_photos(root / name, 6, height, width, seed=len(name)).iterdir():
            with Image.open(path) as image:
                single = image.convert("L")
            if name == "lr":
                single = single.filter(ImageFilter.GaussianBlur(1))
                noisy = np.asarray(single, float) + rng.normal(0, 8, (height, width))
                single = Image.fromarray(noisy.clip(0, 255).round().astype(np.uint8))
            path.unlink()
            single.save(path.with_name(f"{name}-{path.name}"))
    (root / "c.yaml").write_text("shards: {patch: 16, stride: 16}\n")
    folders = ["--hr", str(root / "hr"), "--lr", str(root / "lr")]
    packed = ["--out", str(root / "data"), "--config", str(root / "c.yaml")]
    assert cyclesr(["shards", "build", *folders, *packed, "--quiet"]) == 0
    assert cyclesr(["estimate", *folders, "--out", str(root / "estimate"), "--quiet"]) == 0
    return root


def spread(images: torch.Tensor) -> float:
    """The largest difference between two channels of a pixel."""
    return float((images.amax(1) - images.amin(1)).max())


def made_of_grey(degradation: Degradation) -> torch.Tensor:
    images = torch.rand(8, 1, 32, 32, generator=torch.Generator().manual_seed(0)).repeat(1, 3, 1, 1)
    made = degraded(degradation, images, 0)
    assert float((made - images).std()) > 0.01
    return made


def test_the_measured_noise_is_the_same_in_all_channels(grey: Path) -> None:
    found = load_degradation(grey / "estimate")
    assert found.facts["noise"]["std_at"]["0.5"] == pytest.approx(8 / 255, rel=0.4)
    assert found.facts["noise"]["colour_correlation"] == [[1.0] * 3] * 3
    assert torch.equal(found.colouring, found.colouring[:1].expand(3, -1, -1, -1))
    assert spread(made_of_grey(found)) == 0


@pytest.mark.usefixtures("few_fit_steps")
def test_so_it_is_where_no_flat_patch_shows_the_noise_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, side in (("hr", 256), ("lr", 64)):
        (tmp_path / name).mkdir()
        for i in range(3):  # blobs everywhere, and no noise
            coarse = Image.fromarray(rng.integers(0, 256, (24, 24), dtype=np.uint8))
            coarse.resize((side, side), Image.Resampling.BICUBIC).save(tmp_path / name / f"{name}{i}.png")
    found = estimate(str(tmp_path / "hr"), str(tmp_path / "lr"), scale=4)
    assert found.facts["noise"]["flat_patches"] < 12
    assert torch.equal(found.colouring, found.colouring[:1].expand(3, -1, -1, -1))
    some = Degradation(found.kernels, torch.full((3,), 1e-3), found.levels, found.colouring, found.noise, {})
    assert spread(made_of_grey(some)) == 0


@pytest.mark.parametrize("system", ["estimated", "cyclesr"])
def test_a_grey_photograph_is_enlarged_into_a_grey_file(system: str, grey: Path, config_file, tmp_path: Path) -> None:
    data = [
        f"data.hr={grey}/data/hr",
        f"data.lr={grey}/data/lr",
        f"data.valid_hr={grey}/hr",
        f"data.valid_lr={grey}/lr",
    ]
    measured = ["nets.translator.kind=degradation", f"nets.translator.estimate={grey}/estimate"]
    steps = ["train.max_steps=6", "train.validate_every_steps=6", "train.log_every_steps=1", "train.pretrain_epochs=0"]
    arguments = [*tiny_overrides(), *data, *measured, *steps, f"system={system}", "nets.sr.bicubic_skip=true"]
    assert run(config_file, tmp_path / "run", *arguments) == 0
    metrics = lines(tmp_path / "run/metrics.jsonl")
    losses = {name: value for line in metrics for name, value in line.items() if name.startswith("loss.")}
    assert all(math.isfinite(value) for value in losses.values())
    # In decades, of grey and colour: colour that is nowhere has no spectrum to differ by.
    assert losses.get("loss.spectrum", 0.0) < 2
    assert all(math.isfinite(value) for value in lines(tmp_path / "run/validation.jsonl")[-1].values())
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["completed"]

    out = tmp_path / "big"
    assert cyclesr(["upscale", str(grey / "lr"), "--model", str(tmp_path / "run"), "--out", str(out), "--quiet"]) == 0
    assert len(list(out.iterdir())) == 6
    for path in out.iterdir():
        with Image.open(path) as image:
            assert (image.mode, image.size) == ("L", (320, 256))
        source = read_rgb8(grey / "lr" / path.name)
        assert abs(float(read_rgb8(path).mean()) - float(source.mean())) < 8
