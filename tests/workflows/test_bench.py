"""`cyclesr bench`, small: that it measures what it says, not what it finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers import tiny_overrides

from cyclesr_dist.cli.main import main as cyclesr
from cyclesr_dist.workflows.bench.many_gpus import ManyGPUs, describe_model, predict


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
        assert len(case["first_seconds"]) == (case["name"] != "decoding alone")
    assert [row["encoding"].split()[0] for row in result["encodings"]] == ["tiff", "webp", "png", "jpeg", "npy"]
    assert [row["lossless"] for row in result["encodings"]] == [True, True, True, False, True]
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
    assert case["ratio"] > 50  # 200 and more on a machine that does nothing else
    assert case["name"] in capsys.readouterr().out


def test_bench_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["bench", "checkpoint", "--rounds", "2", "--json", str(tmp_path / "c.json"), "--quiet", *tiny_overrides()]
    assert cyclesr(argv) == 0
    result = json.loads((tmp_path / "c.json").read_text())
    seconds = result["seconds"]
    assert 0 < seconds["stopped"] < seconds["written"]
    assert result["ratio"] == pytest.approx(seconds["torch_save"] / seconds["stopped"])
    assert "step stopped" in capsys.readouterr().out


SMALL_NETS = ["nets.translator.channels=4", "nets.translator.blocks=1", "nets.sr.channels=4", "nets.sr.blocks=1"]
SMALL_NETS += ["nets.d_lr.channels=4", "nets.d_h.channels=4", "global_batch=2", "shards.patch=16", "perceptual.layer=2"]


@pytest.mark.slow
def test_bench_train(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYCLESR_NUM_THREADS", "1")
    argv = ["bench", "train", "--case", "cyclesrgan small", "--rounds", "1", "--json", str(tmp_path / "t.json")]
    argv += ["--variant", "speed.plain=true optim.clip_norm=9"]
    assert cyclesr([*argv, "--quiet", *SMALL_NETS]) == 0
    result = json.loads((tmp_path / "t.json").read_text())
    (case,) = result["cases"]
    assert result["ratio"] == case["ratio"] == pytest.approx(case["reference_s"] / case["seconds"])
    ceiling = max(result["flops_per_second"]["fp32"].values())
    assert case["mfu"] == pytest.approx(case["flops"] / case["seconds"] / ceiling)
    assert {"translators", "sr", "discriminators", "vgg", "optimizer", "other"} <= case["parts"].keys()
    assert min(case["parts"].values()) > 0
    assert case["first_gradients_apart"]["float64"] < 1e-6
    assert case["first_gradients_apart"]["ours"] < 1e-3  # fp32, of tiny networks; tests/nets/test_tuned.py is strict
    assert case["peak_memory_mb"]["ours"] > 0
    (plain,) = case["variants"]
    assert (plain["name"], plain["precision"]) == ("speed.plain=true optim.clip_norm=9", "fp32")
    assert plain["ratio"] == pytest.approx(case["reference_s"] / plain["seconds"])
    assert case["peak_memory_mb"][plain["name"]] > 0
    assert "cyclesrgan small" in capsys.readouterr().out


@pytest.mark.slow
def test_a_contender_that_fails_is_named_with_the_reason(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CYCLESR_NUM_THREADS", "1")
    monkeypatch.setenv("CXX", "/bin/false")  # the compiler's
    argv = ["bench", "train", "--case", "cyclesr small", "--rounds", "1", "--variant", "speed.compile=true"]
    assert cyclesr([*argv, "--quiet", *SMALL_NETS]) != 0
    assert "cyclesr small: speed.compile=true: " in capsys.readouterr().err


@pytest.mark.slow
def test_bench_all_goes_through_every_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cyclesr(["bench", "all", "--quick", "--quiet", "--json", str(tmp_path / "all.json")]) == 0
    results = json.loads((tmp_path / "all.json").read_text())
    assert list(results) == ["train", "upscale", "data", "checkpoint"]
    assert all("error" not in result for result in results.values())
    assert "MP/s" in capsys.readouterr().out


@pytest.mark.slow
def test_a_part_that_fails_does_not_stop_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "broken.png").write_bytes(b"no image")
    argv = ["bench", "all", "--quick", "--quiet", "--part", "data", "--part", "upscale"]
    assert cyclesr([*argv, "--photos", str(tmp_path / "photos"), "--json", str(tmp_path / "all.json")]) == 1
    results = json.loads((tmp_path / "all.json").read_text())
    assert "error" in results["data"]
    assert len(results["upscale"]["cases"]) == 2
    assert "failed: " in capsys.readouterr().out


def test_bench_scaling(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["bench", "scaling", "--rounds", "1", "--step-seconds", "0.25", "--step-batch", "7"]
    argv += ["--json", str(tmp_path / "s.json")]
    assert cyclesr([*argv, *SMALL_NETS]) == 0
    result = json.loads((tmp_path / "s.json").read_text())
    sent = result["bytes_by_collective"]
    assert sent["gradient buckets"] == result["theoretical_bytes"]  # each gradient travels once
    assert result["fakes_bytes"] == 2 * 2 * 3 * 16 * 16 * 4
    assert sent["all_to_all_single"] <= result["fakes_bytes"]
    assert set(sent) == {"gradient buckets", "all_to_all_single"}
    assert [row["gpus"] for row in result["model"]["rows"]] == [1, 8, 64, 512]
    assert result["model"]["assumptions"]["step_s"] == 0.25
    fakes_s = result["model"]["rows"][1]["costs_s"]["pools of fakes"]  # 8 GPUs of 7 samples, half of them swapped
    assert fakes_s == pytest.approx((7 * 8 / 2 + 7 / 2) * result["fakes_bytes"] / 2 / 300e9)
    assert "GB/s" in capsys.readouterr().out


def test_the_model_of_many_gpus() -> None:
    free = {"validation_s": 0.0, "checkpoint_s": 0.0, "latency_us": 0.0, "network_gb_s": 1.0}
    slow = ManyGPUs(0.1, rank_batch=4, gradient_bytes=10**8, fakes_bytes=0, **free, hidden=0.0)
    rows = {row["gpus"]: row for row in predict(slow)}
    assert rows[64]["reduce_s"] == pytest.approx(2 * 63 / 64 * 0.1)
    assert rows[64]["efficiency"] == pytest.approx(0.1 / (0.1 + 2 * 63 / 64 * 0.1))
    assert rows[64]["patches_per_second"] == pytest.approx(64 * 4 / rows[64]["step_s"])
    hidden = ManyGPUs(10.0, rank_batch=4, gradient_bytes=10**8, fakes_bytes=0, **free)
    assert all(row["efficiency"] == 1 for row in predict(hidden))


@pytest.mark.parametrize(
    ("changed", "most"),
    [
        ({"gradient_bytes": 10**10}, "gradients"),
        ({"fakes_bytes": 10**8}, "pools of fakes"),
        ({"cores_a_gpu": 0.01}, "data"),
        ({"validation_s": 10**5}, "validation"),
        ({"checkpoint_s": 10**5}, "checkpoints"),
    ],
)
def test_the_model_names_what_costs_most(changed: dict[str, float], most: str) -> None:
    usual: dict[str, Any] = {"step_s": 0.1, "rank_batch": 4, "gradient_bytes": 10**6, "fakes_bytes": 10**4}
    rows = predict(ManyGPUs(**usual | changed))
    assert {row["most"] for row in rows[1:]} == {most}
    assert rows[2]["costs_s"][most] > 5 * sum(cost for name, cost in rows[2]["costs_s"].items() if name != most)
    lines = describe_model(ManyGPUs(**usual | changed), rows)
    assert sum(f"GPUs: {most} cost most. What helps: " in line for line in lines) == 3


@pytest.mark.slow
def test_bench_upscale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["bench", "upscale", "--model", "bicubic", "--sides", "64", "128x96", "--rounds", "1"]
    assert cyclesr([*argv, "--json", str(tmp_path / "u.json")]) == 0
    found = json.loads((tmp_path / "u.json").read_text())
    cases = found["cases"]
    assert [case["side_px"] for case in cases] == [case["side_px"] for case in found["files"]] == [64, 128]
    assert [case["pixels"] for case in cases] == [case["pixels"] for case in found["files"]] == [64 * 64, 128 * 96]
    assert all(case["cpu_seconds"] > 0 and case["memory_mb"] > 20 for case in found["files"])
    assert all(case["megapixels_per_second"] > 0 for case in cases)
    assert "MP/s" in capsys.readouterr().out


def test_bench_telemetry(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYCLESR_NUM_THREADS", "1")
    argv = ["bench", "telemetry", "--pairs", "6", "--block", "4", "--scrape-seconds", "0.02", "--quiet"]
    assert cyclesr([*argv, "--json", str(tmp_path / "t.json"), *SMALL_NETS]) == 0
    result = json.loads((tmp_path / "t.json").read_text())
    for clock in ("wall", "cpu"):
        measured = result[clock]
        added = sorted(on - off for on, off in zip(measured["rounds"]["on"], measured["rounds"]["off"], strict=True))
        assert len(added) == 6
        assert measured["added_s"] == pytest.approx((added[2] + added[3]) / 2)
        assert (measured["low_s"], measured["high_s"]) == (added[0], added[5])  # of six, no narrower one has 95%
    assert result["scrapes"] > 0
    assert all(seconds > 0 for seconds in result["alone_s"].values())
    assert result["alone_share"]["log"] == pytest.approx(result["alone_s"]["log"] / (4 * result["wall"]["off_s"]))
    assert "telemetry adds" in capsys.readouterr().out


def test_bench_telemetry_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert cyclesr(["bench", "telemetry", "--pairs", "0"]) == 2
    assert cyclesr(["bench", "telemetry", "telemetry.port_search=-1"]) == 2
    assert "telemetry.port_search" in capsys.readouterr().err
