"""What a run that has ended says of itself."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cyclesr_dist.config.schema import Config, load
from cyclesr_dist.data.loader import Sources
from cyclesr_dist.degradation.simulate_folder import RECORD
from cyclesr_dist.training.ending import last_lines, summary_of, verdict

PAIRED = {"step": 8, "psnr": 25.0, "psnr_bicubic": 24.0}
ESTIMATED = {"step": 8, "psnr_estimated": 25.0, "psnr_estimated_bicubic": 24.0}


@pytest.mark.parametrize("good", [PAIRED, ESTIMATED])
def test_the_verdict_is_by_decibels_over_bicubic(good: dict[str, float]) -> None:
    name = "psnr" if "psnr" in good else "psnr_estimated"
    text, ok = verdict(good)
    assert ok is True
    assert text.startswith("It worked: the network is 1.00 dB better than bicubic enlargement")
    assert "25.00 dB PSNR against 24.00 dB" in text
    assert ("damaged as yours were measured to be" in text) == (name == "psnr_estimated")
    for psnr in (24.05, 23.95):
        text, ok = verdict(good | {name: psnr})
        assert ok is False
        assert text.startswith("It changed next to nothing")
    text, ok = verdict(good | {name: 23.5})
    assert ok is False
    assert text.startswith("It did not work: the network is 0.50 dB worse than bicubic enlargement")


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", ["brightness", "red", "green", "blue"])
def test_a_shift_of_brightness_or_colour_is_no_success(name: str, sign: int) -> None:
    shifted = ESTIMATED | {f"drift_{name}": 0.06 * sign}
    text, ok = verdict(shifted)
    assert ok is False
    seen = {1: "bright", -1: "dark"}[sign] if name == "brightness" else f"{ {1: 'much', -1: 'little'}[sign] } {name}"
    assert text.startswith("It worked, but for a shift: ")
    assert f"6% too {seen}" in text
    text, ok = verdict(ESTIMATED | {f"drift_{name}": 0.01 * sign})
    assert ok is True
    assert "Enlarged photographs come out" not in text


def test_where_nobody_can_know_the_verdict_says_so_and_what_is_missing() -> None:
    text, ok = verdict({})
    assert ok is None
    assert "not validated" in text
    assert "data.valid_lr" in text
    text, ok = verdict({}, switched_off=True)
    assert ok is None
    assert "train.validate_every_steps is 0" in text
    assert "data.valid_lr" not in text
    text, ok = verdict({"step": 4, "agreement": 0.01, "drift_brightness": 0.0})
    assert ok is None
    assert "data.valid_hr" in text
    text, ok = verdict({"step": 4, "agreement": 0.01, "drift_brightness": -0.1})
    assert ok is False  # that much can be seen without sharp photographs
    assert "10% too dark" in text


def sources(**lr_source: str) -> Sources:
    """Of real LR photographs; of simulated ones where their source says of what they were made."""
    return SimpleNamespace(lr=SimpleNamespace(sources=[lr_source]))  # type: ignore[return-value]


def summary(config: Config, of: Sources, best: dict[str, float], run: str = "runs/mine") -> dict[str, Any]:
    return summary_of(config, of, {"best": best, "steps": 8}, 1, Path(run))


def test_a_track_belongs_to_photographs_that_cyclesr_degrade_made() -> None:
    config = load(None)
    assert config.track
    assert summary(config, sources(), PAIRED)["track"] is None
    assert summary(config, sources(lr_origin_sha256="ab"), PAIRED)["track"] == config.track


def test_without_lr_shards_the_validation_photographs_tell(tmp_path: Path) -> None:
    none: Any = SimpleNamespace(lr=None)
    config = load(None, ["system=sr_syn"])
    config = replace(config, data=replace(config.data, valid_lr=str(tmp_path)))
    assert summary(config, none, PAIRED)["track"] is None
    (tmp_path / RECORD).write_text("{}")
    assert summary(config, none, PAIRED)["track"] == config.track


@pytest.mark.parametrize("run", ["runs/mine", "my runs/first one"])
def test_the_last_lines_say_verdict_network_report_and_what_to_do(run: str) -> None:
    config = load(None)
    told = summary(config, sources(), PAIRED, run)
    (command,) = told["next"]
    assert shlex.split(command)[:5] == ["cyclesr", "upscale", "PHOTOS", "--model", run]
    lines = last_lines(config, told, Path(run))
    assert [line.partition(":")[0] for line in lines] == ["verdict", "model", "report", "next"]
    assert f"{run}/report.html" in lines[2]
    assert "the last step, 8, which is the best" in lines[1]


def test_the_model_line_tells_the_best_from_the_last() -> None:
    config = load(None)

    def model(best: dict[str, float]) -> str:
        return last_lines(config, summary(config, sources(), best), Path("runs/mine"))[1]

    assert "step 5 of 8, the best; the last one: runs/mine@last" in model(PAIRED | {"step": 5})
    assert model({}).endswith("model.safetensors (of the last step, 8)")
    assert "trained on the measured degradation alone" in model(PAIRED | {"estimated": 1.0})
