"""`cyclesr bench`, small: that it measures what it says, not what it finds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cyclesr_dist.cli.main import main as cyclesr
from cyclesr_dist.testing import tiny_overrides


def test_bench_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["bench", "data", "--patch", "24", "--scale", "2", "--pairs", "48", "--batch", "4", "--workers", "1"]
    argv += ["--rounds", "1", "--seconds", "0.5", "--epochs", "3", "--json", str(tmp_path / "data.json"), "--quiet"]
    assert cyclesr(argv) == 0
    result = json.loads((tmp_path / "data.json").read_text())
    cases = {case["name"]: case for case in result["cases"]}
    assert cases.keys() == {"stream", "webdataset", "png folders", "decoding alone"}
    for case in cases.values():
        assert case["ratio"] == pytest.approx(cases["stream"]["median"] / case["median"])
        assert case["per_cpu_second"] > 0
    assert [row["encoding"].split()[0] for row in result["encodings"]] == ["tiff", "webp", "png", "jpeg"]
    assert [row["lossless"] for row in result["encodings"]] == [True, True, True, False]
    assert result["storage"]["ratio"] == result["storage"]["shard_sets"] / result["storage"]["png_folders"]
    assert len(result["memory_mb_by_epoch"]) == 3
    assert "decoding alone" in capsys.readouterr().out


def test_bench_data_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert cyclesr(["bench", "data", "--batch", "0", "--quiet"]) == 2
    assert "--batch" in capsys.readouterr().err


@pytest.mark.slow
def test_bench_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["bench", "score", "--images", "1", "--rounds", "3", "--json", str(tmp_path / "score.json"), "--quiet"]
    assert cyclesr(argv) == 0
    (case,) = json.loads((tmp_path / "score.json").read_text())["cases"]
    assert case["max_difference_db"] < 1e-6
    assert case["ssim_difference"] < 1e-9
    assert case["ratio"] == pytest.approx(case["loop_s"] / case["seconds"])
    assert case["ratio"] > 100  # 200 and more on a machine that does nothing else
    assert case["name"] in capsys.readouterr().out


def test_bench_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["bench", "checkpoint", "--rounds", "2", "--json", str(tmp_path / "c.json"), "--quiet", *tiny_overrides()]
    assert cyclesr(argv) == 0
    result = json.loads((tmp_path / "c.json").read_text())
    seconds = result["seconds"]
    assert 0 < seconds["stopped"] < seconds["written"]
    assert result["ratio"] == pytest.approx(seconds["torch_save"] / seconds["stopped"])
    assert "step stopped" in capsys.readouterr().out
