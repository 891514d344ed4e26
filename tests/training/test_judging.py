"""How a run judges its networks: the metric, what it needs, and the warnings about what a person would see."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import tiny_overrides, write_photos
from helpers.runs import lines
from PIL import Image

from cyclesr_dist.cli.main import main as cyclesr
from cyclesr_dist.config.schema import load
from cyclesr_dist.data.folders import match_pairs
from cyclesr_dist.data.loader import open_sources
from cyclesr_dist.distributed.world import World
from cyclesr_dist.errors import ConfigError
from cyclesr_dist.models.upscaler import BicubicUpscaler
from cyclesr_dist.scoring.score import score_file
from cyclesr_dist.training import estimation
from cyclesr_dist.training.ending import simulated
from cyclesr_dist.training.main import main as train
from cyclesr_dist.training.validation_set_up import open_validator

# Bicubic enlargement, brightened; its parameter changes nothing.
NETWORK = """
import torch
from torch import nn
from cyclesr_dist.data.resize import bicubic_up

class Brightened(nn.Module):
    def __init__(self, by=0.0, red=0.0):
        super().__init__()
        self.by, self.red = by, red
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        shift = torch.tensor([self.by + self.red, self.by, self.by], device=x.device)
        return bicubic_up(x, 4) + shift[:, None, None] + 0 * self.unused
"""
SHORT = ["train.steps=4", "train.log_every_steps=1", "train.validate_every_steps=2", "validate.pictures=0"]
MEASURED = "nets.translator.kind=degradation"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unrelated HR and very noisy LR photographs of middle brightness, for training and for validation."""
    root = tmp_path_factory.mktemp("judging")
    (root / "shards.yaml").write_text("shards: {patch: 16, stride: 8, samples_per_shard: 40}\n")
    for name, number, side, seed in (
        ("hr", 7, 160, 0),
        ("clean", 7, 160, 1),
        ("sharp", 2, 128, 2),
        ("scene", 2, 128, 3),
    ):
        write_photos(root / name, number, side, side, seed)
        for path in (root / name).iterdir():
            pixels = np.asarray(Image.open(path)) // 2 + 64
            path.unlink()
            Image.fromarray(pixels.astype(np.uint8)).save(path.with_name(f"{name}_{path.name}"))
    for name, out in (("clean", "lr"), ("scene", "real")):
        command = ["degrade", "--hr", str(root / name), "--track", "mild", "--noise", "0.1", "--shift-px", "0"]
        assert cyclesr([*command, "--seed", "0", "--out", str(root / out), "--quiet"]) == 0
    build = ["shards", "build", "--hr", str(root / "hr"), "--lr", str(root / "lr"), "--out", str(root / "shards")]
    assert cyclesr([*build, "--config", str(root / "shards.yaml"), "--quiet"]) == 0
    return root


@pytest.fixture(scope="module")
def estimate(data: Path) -> str:
    """As an override; measured once for all runs."""
    command = ["estimate", "--hr", str(data / "hr"), "--lr", str(data / "lr"), "--out", str(data / "estimate")]
    assert cyclesr([*command, "--quiet"]) == 0
    return f"nets.translator.estimate={data / 'estimate'}"


def arguments(data: Path, *more: str, valid_hr: str = "sharp") -> list[str]:
    folders = {"hr": "shards/hr", "lr": "shards/lr", "valid_hr": valid_hr, "valid_lr": "real"}
    return [*tiny_overrides(), *(f"data.{key}={data / name}" for key, name in folders.items()), *SHORT, *more]


def run(config_file: Path, folder: Path, *arguments: str) -> dict[str, Any]:
    """Its summary."""
    assert train(["--config", str(config_file), "--run-dir", str(folder), "--quiet", *arguments]) == 0
    return dict(json.loads((folder / "summary.json").read_text()))


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    (tmp_path / "brightened.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    return ["nets.sr.kind=module", "nets.sr.module=brightened:Brightened"]


def metric(data: Path, *more: str, valid_hr: str = "sharp") -> str:
    return open_validator(load(None, arguments(data, *more, valid_hr=valid_hr)), World()).metric


def test_the_metric_is_psnr_wherever_photographs_allow_it(data: Path) -> None:
    for system in ("estimated", "cyclegan", "cycle_sr_separate", "cyclesr", "cyclesrgan"):
        for kind in ("nets.translator.kind=residual", MEASURED):
            assert metric(data, f"system={system}", kind) == "psnr_estimated"
            assert metric(data, f"system={system}", kind, valid_hr="scene") == "psnr"
    assert metric(data, "system=sr_syn") == "spectrum_hr"  # no LR photograph to measure
    assert metric(data, "system=sr_syn", valid_hr="scene") == "psnr"
    assert metric(data, "system=cyclesr", "data.valid_hr=") == "agreement"
    for system in ("sr_syn", "cyclegan", "estimated"):
        with pytest.raises(ConfigError, match=r"data\.valid_hr"):
            metric(data, f"system={system}", "data.valid_hr=")
    assert not open_validator(load(None, arguments(data, valid_hr="scene")), World()).needs_estimate


def test_a_network_that_shifts_brightness_or_colour_is_not_chosen(data: Path) -> None:
    validator = open_validator(load(None, arguments(data)), World())
    good, better = {"psnr_estimated": 24.0, "drift_brightness": 0.01}, {"psnr_estimated": 26.0}
    for name in ("brightness", "red", "green", "blue"):
        for by in (0.05, -0.05):
            shifted = better | {f"drift_{name}": by}
            assert not validator.better(shifted, good)
            assert validator.better(good, shifted)
            assert validator.better(shifted, {"psnr_estimated": 25.0, "drift_red": 0.1})  # the lesser evil
            assert not validator.better(shifted, {"psnr_estimated": 27.0, "drift_red": 0.1})
            assert validator.better(shifted, {})
    assert validator.better(better, good)
    assert not validator.better(good, better)
    # PSNR of pairs sees a shift by itself.
    paired = open_validator(load(None, arguments(data, valid_hr="scene")), World())
    assert paired.better({"psnr": 26.0, "drift_red": 0.05}, {"psnr": 24.0})


def test_bicubic_enlargement_is_scored_beside_the_network(
    config_file: Path, data: Path, network: list[str], tmp_path: Path
) -> None:
    own = arguments(data, "system=sr_syn", *network, valid_hr="scene")
    run(config_file, tmp_path / "run", *own)
    rows = lines(tmp_path / "run/validation.jsonl")
    pairs = match_pairs(data / "scene", data / "real")
    scores = [score_file(BicubicUpscaler(4), pair, "plain") for pair in pairs]
    for row in rows:  # the network is bicubic enlargement, too
        for name in ("psnr", "ssim"):
            assert row[f"{name}_bicubic"] == pytest.approx(np.mean([score[name] for score in scores]))
            assert row[name] == pytest.approx(row[f"{name}_bicubic"], abs=1e-3)


@pytest.mark.usefixtures("few_fit_steps")
def test_without_pairs_the_degradation_is_measured_once_and_found_again(
    config_file: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []

    def measure(*arguments: Any) -> Any:
        measured.append(true(*arguments))
        return measured[-1]

    true = estimation.measure
    monkeypatch.setattr(estimation, "measure", measure)
    own = arguments(data, "system=cyclesr", "train.checkpoint_every_steps=2")
    run(config_file, tmp_path / "whole", *own)
    assert len(measured) == 1
    assert (tmp_path / "whole/degradation.json").is_file()
    run(config_file, tmp_path / "parts", *own, "train.max_steps=2")
    run(config_file, tmp_path / "parts", *own, "--resume")
    assert len(measured) == 2
    whole, parts = (lines(tmp_path / name / "validation.jsonl") for name in ("whole", "parts"))
    assert [row["step"] for row in whole] == [2, 4]
    assert whole == parts
    assert all({"psnr_estimated", "psnr_estimated_bicubic", "spectrum_lr", "drift_red"} <= row.keys() for row in whole)
    assert whole[0]["psnr_estimated_bicubic"] == whole[1]["psnr_estimated_bicubic"]


def about(summary: dict[str, Any], text: str) -> list[str]:
    return [line for line in summary["warnings"] if text in line]


def test_a_network_that_brightens_is_told_by_what_a_person_sees(
    config_file: Path, data: Path, network: list[str], tmp_path: Path
) -> None:
    own = arguments(data, "system=sr_syn", *network, valid_hr="scene")
    bright = run(config_file, tmp_path / "bright", *own, "nets.sr.arguments={by: 0.06}")
    (line,) = about(bright, "6% too bright")
    assert "your enlarged photographs come out" in line
    assert about(bright, "worse than bicubic enlargement")
    assert bright["verdict_ok"] is False
    red = run(config_file, tmp_path / "red", *own, "nets.sr.arguments={red: -0.09}")
    assert len(about(red, "6% too little red")) == 1
    assert red["verdict_ok"] is False
    honest = run(config_file, tmp_path / "honest", *own)
    assert honest["warnings"] == []
    assert honest["verdict"].startswith("It changed next to nothing")


def test_unpaired_a_brightening_network_is_no_success(
    config_file: Path, data: Path, estimate: str, network: list[str], tmp_path: Path
) -> None:
    own = arguments(data, "system=estimated", estimate, *network)
    bright = run(config_file, tmp_path / "bright", *own, "nets.sr.arguments={by: 0.06}")
    assert len(about(bright, "6% too bright")) == 1
    assert bright["verdict_ok"] is False
    assert "too bright" in bright["verdict"]
    honest = run(config_file, tmp_path / "honest", *own)
    assert about(honest, "too bright") == about(honest, "worse than bicubic") == []


def test_a_translator_that_learns_no_noise_is_told_and_a_measured_one_is_not(
    config_file: Path, data: Path, estimate: str, tmp_path: Path
) -> None:
    own = arguments(data, "system=cyclesr", "nets.sr.bicubic_skip=true", estimate)
    identity = run(config_file, tmp_path / "identity", *own, "weights.adv=0")
    (line,) = about(identity, "g_s2r is near the identity")
    assert MEASURED in line
    measured = run(config_file, tmp_path / "measured", *own, MEASURED)
    for text in ("identity", "moves away", "no nearer"):
        assert about(measured, text) == []


def test_a_track_is_told_of_simulated_photographs_alone(data: Path, tmp_path: Path) -> None:
    config = load(None, arguments(data))
    assert simulated(config, open_sources(config))
    real = tmp_path / "real"
    shutil.copytree(data / "lr", real, ignore=shutil.ignore_patterns("*.json"))
    build = ["shards", "build", "--hr", str(data / "hr"), "--lr", str(real), "--out", str(tmp_path / "shards")]
    assert cyclesr([*build, "--config", str(data / "shards.yaml"), "--quiet"]) == 0
    config = load(None, arguments(data, *(f"data.{name}={tmp_path / 'shards' / name}" for name in ("hr", "lr"))))
    assert not simulated(config, open_sources(config))
