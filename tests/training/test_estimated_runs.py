"""Runs that start from the measured degradation: what they leave, that they resume and that ranks agree."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny_overrides, write_photos
from helpers.quick_fit import few_steps
from helpers.runs import lines, newest, run, two_ranks
from safetensors.torch import load_file

from cyclesr_dist.cli.main import main as cyclesr

pytestmark = pytest.mark.usefixtures("few_fit_steps")
MEASURED = ["nets.translator.kind=degradation", "system=cyclesr"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shard sets of patches of 16 LR px: below that nothing is measured."""
    root = tmp_path_factory.mktemp("measured")
    write_photos(root / "hr", 7, 128, 160, seed=0)
    write_photos(root / "clean", 7, 128, 160, seed=1)
    write_photos(root / "valid_clean", 2, 96, 96, seed=2)
    for name, out in (("clean", "lr"), ("valid_clean", "valid_lr")):
        command = ["degrade", "--hr", str(root / name), "--track", "mild", "--noise", "0.05", "--shift-px", "0"]
        assert cyclesr([*command, "--seed", "0", "--out", str(root / out), "--quiet"]) == 0
    config = root / "shards.yaml"
    config.write_text("shards: {patch: 16, stride: 8, samples_per_shard: 40}\n")
    build = ["shards", "build", "--hr", str(root / "hr"), "--lr", str(root / "lr"), "--out", str(root / "shards")]
    assert cyclesr([*build, "--config", str(config), "--quiet"]) == 0
    return root


@pytest.fixture(scope="module")
def estimate(data: Path) -> Path:
    out = data / "estimate"
    command = ["estimate", "--hr", str(data / "hr"), "--lr", str(data / "lr"), "--out", str(out), "--quiet"]
    with few_steps():
        assert cyclesr(command) == 0
    return out


def arguments(data: Path, *more: str) -> list[str]:
    train_ = ["steps=8", "epochs=4", "pretrain_epochs=1", "constant_epochs=2", "log_every_steps=1"]
    train_ += ["validate_every_steps=4", "checkpoint_every_steps=4"]
    sets = {"hr": "shards/hr", "lr": "shards/lr", "valid_hr": "valid_clean", "valid_lr": "valid_lr"}
    return [
        *tiny_overrides(),
        *(f"data.{key}={data / name}" for key, name in sets.items()),
        *(f"train.{text}" for text in train_),
        "ema_decay=0.9",
        *more,
    ]


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(newest(folder) / "tensors.safetensors")


def equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def test_estimated_leaves_what_it_measured_and_cyclesr_trains_the_same_network_beside(
    config_file: Path, data: Path, estimate: Path, tmp_path: Path
) -> None:
    given = f"nets.translator.estimate={estimate}"
    assert run(config_file, tmp_path / "estimated", *arguments(data, given, "system=estimated")) == 0
    assert run(config_file, tmp_path / "cyclesr", *arguments(data, given, *MEASURED)) == 0
    for name in ("estimated", "cyclesr"):
        facts = json.loads((tmp_path / name / "degradation.json").read_text())
        assert facts["scale"] == 4
        assert (tmp_path / name / "degradation.safetensors").is_file()
    alone, beside = tensors(tmp_path / "estimated"), tensors(tmp_path / "cyclesr")
    networks = [{k: t for k, t in state.items() if k.startswith(p)} for state, p in ((alone, "g."), (beside, "e."))]
    assert networks[0]
    assert equal(*({k[2:]: t for k, t in net.items()} for net in networks))
    averages = {k.removeprefix("ema.g_l2h_estimated."): t for k, t in beside.items() if "ema.g_l2h_est" in k}
    assert equal({k.removeprefix("ema."): t for k, t in alone.items() if k.startswith("ema.")}, averages)
    own, other = (lines(tmp_path / name / "validation.jsonl") for name in ("cyclesr", "estimated"))
    assert [row["estimated.psnr"] for row in own] == [row["psnr"] for row in other]
    assert all({"psnr_estimated", "spectrum_lr"} <= row.keys() for row in other)
    summary = json.loads((tmp_path / "cyclesr" / "summary.json").read_text())
    assert summary["best"]["psnr"] >= max(row["psnr"] for row in other)
    assert {"loss.spectrum", "loss.mse_estimated", "network_norm.g_l2h.e"} <= lines(
        tmp_path / "cyclesr" / "metrics.jsonl"
    )[-1].keys()


def test_without_pairs_the_network_is_chosen_on_pairs_that_the_estimate_makes(
    config_file: Path, data: Path, estimate: Path, tmp_path: Path
) -> None:
    unrelated = write_photos(tmp_path / "sharp", 2, 96, 96, seed=9)
    for path in unrelated.iterdir():
        path.rename(path.with_name(f"other_{path.name}"))
    more = [f"nets.translator.estimate={estimate}", *MEASURED, f"data.valid_hr={unrelated}"]
    assert run(config_file, tmp_path / "run", *arguments(data, *more)) == 0
    rows = lines(tmp_path / "run" / "validation.jsonl")
    best = json.loads((tmp_path / "run" / "summary.json").read_text())["best"]
    candidates = [row[key] for row in rows for key in ("psnr_estimated", "estimated.psnr_estimated")]
    assert best["psnr_estimated"] == max(candidates)


def test_a_score_that_the_network_beside_has_not_chooses_among_the_others(
    config_file: Path, data: Path, estimate: Path, tmp_path: Path
) -> None:
    more = [f"nets.translator.estimate={estimate}", *MEASURED, "validate.metric=agreement"]
    assert run(config_file, tmp_path / "run", *arguments(data, *more)) == 0
    rows = lines(tmp_path / "run" / "validation.jsonl")
    best = json.loads((tmp_path / "run" / "summary.json").read_text())["best"]
    assert best["agreement"] == min(row["agreement"] for row in rows)


@pytest.mark.parametrize(
    "system",
    ["cyclesr", pytest.param("estimated", marks=pytest.mark.slow), pytest.param("cyclesrgan", marks=pytest.mark.slow)],
)
def test_a_stopped_run_resumes_to_the_bit_without_the_files_it_measured(
    system: str, config_file: Path, data: Path, tmp_path: Path
) -> None:
    own = arguments(data, *MEASURED, f"system={system}")
    assert run(config_file, tmp_path / "whole", *own) == 0
    assert run(config_file, tmp_path / "parts", *own, "train.max_steps=4") == 0
    for path in (tmp_path / "parts").glob("degradation.*"):
        path.unlink()
    gone = "nets.translator.estimate=gone"  # not read: the checkpoint has it
    assert run(config_file, tmp_path / "parts", *own, gone, "--resume") == 0
    assert equal(tensors(tmp_path / "whole"), tensors(tmp_path / "parts"))


@pytest.mark.parametrize("system", ["cyclegan", "cycle_sr_separate"])
def test_the_other_systems_take_such_a_translator(system: str, config_file: Path, data: Path, tmp_path: Path) -> None:
    own = arguments(data, *MEASURED, f"system={system}", "train.max_steps=2")
    assert run(config_file, tmp_path / "run", *own) == 0
    assert (tmp_path / "run" / "degradation.json").exists() == (system != "cyclegan")


@pytest.mark.parametrize("backend", ["ddp", pytest.param("deepspeed", marks=pytest.mark.slow)])
def test_two_ranks_measure_and_train_as_one_does(backend: str, config_file: Path, data: Path, tmp_path: Path) -> None:
    own = arguments(data, *MEASURED)
    assert run(config_file, tmp_path / "one", *own) == 0
    codes, stderr = two_ranks(config_file, tmp_path / "two", *own, f"backend={backend}")
    assert codes == [0, 0], stderr
    one, two = tensors(tmp_path / "one"), tensors(tmp_path / "two")
    assert one.keys() == two.keys()
    measured = [key for key in one if ".measured." in key or key.startswith("e.buffers.g_s2r.")]
    assert len(measured) == 12
    assert all(torch.equal(one[key], two[key]) for key in measured)
    for key in one:
        assert torch.allclose(one[key].float(), two[key].float(), rtol=2e-2, atol=2e-3), key


def refused(capsys: Any, code: int) -> str:
    assert code == 2
    return str(capsys.readouterr().err)


def test_what_cannot_be_measured_or_read_is_refused(
    config_file: Path, data: Path, estimate: Path, tiny_data: Any, tmp_path: Path, capsys: Any
) -> None:
    small = [*tiny_data.overrides, "system=estimated"]
    assert "at least 16 px" in refused(capsys, run(config_file, tmp_path / "a", *small))
    missing = arguments(data, *MEASURED, f"nets.translator.estimate={tmp_path / 'nowhere'}")
    assert "degradation.json: missing" in refused(capsys, run(config_file, tmp_path / "b", *missing))
    other = tmp_path / "other_scale"
    shutil.copytree(estimate, other)
    facts = json.loads((other / "degradation.json").read_text())
    (other / "degradation.json").write_text(json.dumps(facts | {"scale": 2}))
    wrong = arguments(data, *MEASURED, f"nets.translator.estimate={other}")
    assert "measured for scale 2" in refused(capsys, run(config_file, tmp_path / "c", *wrong))
    metric = arguments(data, "system=sr_syn", "validate.metric=psnr_estimated")
    assert "psnr_estimated needs" in refused(capsys, run(config_file, tmp_path / "d", *metric))
