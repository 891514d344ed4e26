"""Perceptual scores in validation: what is taken, what they choose, and what is said of it."""

from __future__ import annotations

from html import unescape
from pathlib import Path

import pytest
from helpers import write_photos
from helpers.data import TinyData
from helpers.runs import lines, run

from cyclesr_dist.config.metrics import ASKED_FOR
from cyclesr_dist.config.schema import load
from cyclesr_dist.distributed.world import World
from cyclesr_dist.errors import ConfigError, InputError
from cyclesr_dist.reports.run_report import write_report
from cyclesr_dist.scoring.perceptual.backbones import FOLDER_VARIABLE
from cyclesr_dist.telemetry.diagnosis import diagnosis_of, under_bicubic
from cyclesr_dist.training.ending import verdict
from cyclesr_dist.training.run_folder import read_summary
from cyclesr_dist.training.validation import Validator
from cyclesr_dist.training.validation_set_up import open_validator

GOOD = {"psnr": 23.0, "psnr_bicubic": 24.0, "lpips": 0.3, "lpips_bicubic": 0.5}
"""A GAN's: nearer to the eye than bicubic enlargement, farther in decibels."""


@pytest.fixture
def backbones(drawn_backbones: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(drawn_backbones))


def validator(data: TinyData, *more: str) -> Validator:
    return open_validator(load(None, [*data.overrides, "system=sr_syn", *more]), World())


@pytest.mark.usefixtures("backbones")
def test_a_run_chosen_by_lpips_keeps_the_lowest_and_says_so(
    config_file: Path, tiny_data: TinyData, tmp_path: Path
) -> None:
    chosen = ["system=sr_syn", "validate.metric=lpips", "validate.pictures=0"]
    assert run(config_file, tmp_path / "run", *tiny_data.overrides, *chosen) == 0
    rows = lines(tmp_path / "run/validation.jsonl")
    assert len(rows) > 1
    for found in rows:
        assert {"psnr", "psnr_bicubic", "lpips", "lpips_bicubic"} <= found.keys()
        assert not {"niqe", "lpips_vgg", "dists"} & found.keys()
    best = read_summary(tmp_path / "run")["best"]
    assert best["lpips"] == min(found["lpips"] for found in rows)
    assert "LPIPS (AlexNet)" in read_summary(tmp_path / "run")["verdict"]
    write_report(tmp_path / "run")
    page = " ".join(unescape((tmp_path / "run/report.html").read_text()).split())
    assert "Perceptual distance to the original, in AlexNet's features. Lower is better." in page
    assert "PSNR of the network with the best LPIPS (AlexNet)" in page


@pytest.mark.parametrize(
    "chosen", [["system=sr_syn", "validate.metric=niqe"], ["system=cyclesr", "validate.scores=[niqe]"]]
)
def test_niqe_needs_no_originals_and_is_taken_besides_too(
    chosen: list[str], config_file: Path, tiny_data: TinyData, tmp_path: Path
) -> None:
    write_photos(tmp_path / "real", 2, 24, 48, seed=3)
    data = [f"data.valid_lr={tmp_path / 'real'}", "data.valid_hr="]
    short = ["validate.pictures=0", "train.max_steps=4"]
    assert run(config_file, tmp_path / "run", *tiny_data.overrides, *data, *chosen, *short) == 0
    rows = lines(tmp_path / "run/validation.jsonl")
    assert all(found["niqe"] > 0 and found["niqe_bicubic"] == rows[0]["niqe_bicubic"] for found in rows)
    assert not any("psnr" in found for found in rows)
    best = read_summary(tmp_path / "run")["best"]
    by = "niqe" if "validate.metric=niqe" in chosen else "agreement"
    assert best[by] == min(found[by] for found in rows)


def test_what_validation_cannot_take_is_refused_at_the_start(
    tiny_data: TinyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(InputError, match=r"photo0x4m\.png, enlarged x4: 96x64 px is too small for niqe"):
        validator(tiny_data, "validate.scores=[niqe]")
    with pytest.raises(InputError, match=r"holds neither alexnet-owt-7be5be79\.pth"):
        validator(tiny_data, "validate.metric=lpips")
    write_photos(tmp_path / "real", 1, 64, 64, seed=3)
    unpaired = [f"data.valid_lr={tmp_path / 'real'}", "data.valid_hr=", "system=cyclesr"]
    for key, text in (("scores", "[dists]"), ("metric", "dists")):
        with pytest.raises(
            ConfigError, match=rf"validate\.{key} = dists needs HR of the same scenes in data\.valid_hr"
        ):
            validator(tiny_data, *unpaired, f"validate.{key}={text}")
    with pytest.raises(ConfigError, match=r"validate\.scores\[0\] = 'psnr' .*allowed: lpips, lpips_vgg, dists"):
        validator(tiny_data, "validate.scores=[psnr]")


def test_without_validation_nothing_is_needed(
    tiny_data: TinyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    assert validator(tiny_data, "data.valid_lr=", "validate.scores=[lpips]").perceptual is None


@pytest.mark.usefixtures("backbones")
@pytest.mark.parametrize("name", ["lpips", "lpips_vgg", "dists"])
def test_lower_wins(name: str, tiny_data: TinyData) -> None:
    judge = validator(tiny_data, f"validate.metric={name}")
    low, high = ({name: value, "psnr": psnr} for value, psnr in ((0.3, 20.0), (0.4, 30.0)))
    assert judge.better(low, high)
    assert not judge.better(high, low)
    assert judge.better(low, {})
    assert not judge.better({"psnr": 30.0}, low)


def test_the_verdict_is_by_the_distance_that_chose() -> None:
    text, ok = verdict(GOOD, metric="lpips")
    assert ok is True
    assert text.startswith("It worked: its enlargements of the validation photographs are nearer to the originals")
    assert "LPIPS (AlexNet) 0.300 against 0.500, lower is better; PSNR 23.00 dB against 24.00 dB" in text
    assert verdict(GOOD)[1] is verdict(GOOD, metric="psnr")[1] is False
    for value, start in ((0.499, "It changed next to nothing"), (0.6, "It did not work"), (float("nan"), "It did not")):
        text, ok = verdict(GOOD | {"lpips": value}, metric="lpips")
        assert ok is False
        assert text.startswith(start)
    text, ok = verdict(GOOD | {"drift_red": 0.1}, metric="lpips")
    assert ok is False
    assert "but for a shift" in text


def test_warnings_go_by_it_too() -> None:
    def said(metric: str, **scores: float) -> list[str]:
        return diagnosis_of(load(None, [f"validate.metric={metric}"]), 10).validated(10, GOOD | scores)

    assert said("lpips") == []
    (line,) = said("lpips", lpips=0.6)
    assert "farther from their originals than bicubic enlargement: lpips 0.6000" in line
    (line,) = said("psnr")
    assert "worse than bicubic enlargement: psnr 23.00 dB" in line
    assert [name for name in ASKED_FOR if under_bicubic({name: 1.0, f"{name}_bicubic": 2.0}, name) == 0.5] == [
        *("lpips", "lpips_vgg", "dists")
    ]
