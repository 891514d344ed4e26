"""Runs whose networks begin with trained ones: taken over exactly, on every backend, and the file is needed once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers import other_projects as others
from helpers.data import TinyData, make_tiny_data
from helpers.runs import lines, newest, run, two_ranks
from safetensors.torch import load_file
from torch import Tensor

from cyclesr_dist.models.model_file import load_model
from cyclesr_dist.reports.run_report import write_report

RRDB = ("nets.sr.kind=rrdb", "nets.sr.channels=8", "nets.sr.blocks=1")
ONE_STEP = ("train.steps=4", "train.max_steps=1", "train.checkpoint_every_steps=1", "train.validate_every_steps=0")
STILL = ("optim.lr_sr=1e-30", "optim.lr_cyclegan=1e-30")
"""Learning rates that change nothing in float32: the networks stay what they began with."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An RRDBNet as Real-ESRGAN keeps one."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "RealESRGAN_x4plus.pth"
    torch.save({"params_ema": others.RRDBNet(8, 1, 4).state_dict()}, path)
    return path


def tensors(run_dir: Path) -> dict[str, Tensor]:
    return load_file(newest(run_dir) / "tensors.safetensors")


def sr_of(run_dir: Path, player: str = "g") -> dict[str, Tensor]:
    prefix = f"{player}.params.g_l2h."
    return {k.removeprefix(prefix): t for k, t in tensors(run_dir).items() if k.startswith(prefix)}


def is_the_file(found: dict[str, Tensor], weights: Path) -> bool:
    expected = torch.load(weights, weights_only=True)["params_ema"]
    pairs = (("head", "conv_first"), ("body.1", "conv_body"), ("body.0.body.2.convolutions.4", "body.0.rdb3.conv5"))
    pairs += (("up.1", "conv_up2"), ("tail.0", "conv_hr"), ("tail.2", "conv_last"))
    return len(found) == len(expected) and all(
        torch.equal(found[f"{own}.{part}"], expected[f"{theirs}.{part}"])
        for own, theirs in pairs
        for part in ("weight", "bias")
    )


@pytest.mark.parametrize("system", ["sr_syn", "sr_paired", "cyclesr", "cyclesrgan", "cycle_sr_separate"])
def test_every_system_starts_from_the_file(
    system: str, config_file: Path, tiny_data: TinyData, weights: Path, tmp_path: Path
) -> None:
    own = [*tiny_data.overrides, *RRDB, *ONE_STEP, *STILL, f"nets.sr.init={weights}", f"system={system}"]
    assert run(config_file, tmp_path / "run", *own, "ema_decay=0.9") == 0
    assert is_the_file(sr_of(tmp_path / "run", "sr" if system == "cycle_sr_separate" else "g"), weights)
    averaged = tensors(tmp_path / "run")
    assert is_the_file({k[4:]: t for k, t in averaged.items() if k.startswith("ema.")}, weights)


@pytest.mark.usefixtures("few_fit_steps")
@pytest.mark.parametrize("system", ["estimated", "cyclesr"])
def test_with_a_measured_degradation_both_networks_start_from_it(
    system: str, config_file: Path, weights: Path, measurable: list[str], tmp_path: Path
) -> None:
    own = [*measurable, *RRDB, *ONE_STEP, *STILL, f"nets.sr.init={weights}", f"system={system}"]
    assert run(config_file, tmp_path / "run", *own) == 0
    players = ("g", "e") if system == "cyclesr" else ("g",)
    assert all(is_the_file(sr_of(tmp_path / "run", player), weights) for player in players)
    again = [f"train.start_from={tmp_path / 'run'}", f"system={system}", *RRDB, *ONE_STEP, *STILL]
    assert run(config_file, tmp_path / "again", *measurable, *again, "seed=5", "track=wild") == 0
    before, after = tensors(tmp_path / "run"), tensors(tmp_path / "again")
    for player in players:
        names = [name for name in before if name.startswith(f"{player}.params.")]
        assert all(torch.allclose(before[name], after[name], rtol=0, atol=1e-25) for name in names)  # zeros moved


@pytest.fixture(scope="module")
def measurable(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Settings for photographs that are large enough to be measured."""
    from helpers import write_photos

    from cyclesr_dist.cli.main import main as cyclesr

    root = tmp_path_factory.mktemp("measurable")
    write_photos(root / "hr", 4, 128, 160, seed=0)
    write_photos(root / "clean", 4, 128, 160, seed=1)
    degrade = ["degrade", "--hr", str(root / "clean"), "--track", "mild", "--seed", "0", "--out", str(root / "lr")]
    assert cyclesr([*degrade, "--quiet"]) == 0
    build = ["shards", "build", "--hr", str(root / "hr"), "--lr", str(root / "lr"), "--out", str(root / "shards")]
    (root / "shards.yaml").write_text("shards: {patch: 16, stride: 8}\n")
    assert cyclesr([*build, "--config", str(root / "shards.yaml"), "--quiet"]) == 0
    data = [f"data.hr={root / 'shards/hr'}", f"data.lr={root / 'shards/lr'}"]
    nets = ["nets.translator.kind=degradation", "nets.translator.channels=4", "nets.translator.blocks=1"]
    return [*data, *nets, "nets.d_lr.channels=4", "nets.d_lr.layers=1", "global_batch=2"]


def test_a_run_that_began_with_a_file_says_so_and_resumes_without_it(
    config_file: Path, tiny_data: TinyData, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = Path(shutil.copy(weights, tmp_path / "w.pth"))
    common = [*tiny_data.overrides, *RRDB, "system=sr_syn", "train.steps=6", "train.checkpoint_every_steps=2"]
    own = [*common, f"nets.sr.init={given}"]
    assert run(config_file, tmp_path / "whole", *own) == 0
    assert run(config_file, tmp_path / "parts", *own, "train.max_steps=2") == 0
    given.unlink()
    assert run(config_file, tmp_path / "parts", *own, "--resume") == 0
    whole, parts = tensors(tmp_path / "whole"), tensors(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)

    summary = json.loads((tmp_path / "parts" / "summary.json").read_text())
    assert summary["start"]["what"] == "RRDBNet of Real-ESRGAN and BasicSR, 1 x 8"
    assert len(summary["start"]["sha256"]) == 64
    (began,) = [line for line in lines(tmp_path / "parts" / "events.jsonl") if line["event"] == "began_from"]
    assert f"g_l2h from {given} (nets.sr.init; RRDBNet of Real-ESRGAN" in began["text"]
    assert f"Began with g_l2h from {given}" in write_report(tmp_path / "parts").read_text()
    load_model(tmp_path / "parts" / "model.safetensors")
    capsys.readouterr()

    other = tmp_path / "other.pth"
    torch.save(others.RRDBNet(8, 1, 4).state_dict(), other)
    assert run(config_file, tmp_path / "parts", *common, f"nets.sr.init={other}", "--resume-with-changes") == 2
    said = capsys.readouterr().err
    assert f"nets.sr.init = {other}: the run has begun already, with g_l2h from {given}" in said
    moved = Path(shutil.copy(weights, tmp_path / "moved.pth"))
    assert run(config_file, tmp_path / "parts", *common, f"nets.sr.init={moved}", "--resume") == 0
    assert run(config_file, tmp_path / "parts", *common, "--resume") == 0
    assert run(config_file, tmp_path / "plain", *common, "train.max_steps=2") == 0
    assert run(config_file, tmp_path / "plain", *common, f"nets.sr.init={moved}", "--resume") == 2
    assert "with all networks drawn by seed" in capsys.readouterr().err


def test_what_does_not_fit_is_refused_before_the_folder_is_a_runs(
    config_file: Path, tiny_data: TinyData, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*more: str) -> str:
        for name in ("--dry-run", "--quiet"):
            assert run(config_file, tmp_path / "run", *tiny_data.overrides, *more, name) == 2
        assert not (tmp_path / "run" / "config.yaml").exists()
        return capsys.readouterr().err

    narrow = [*RRDB, "nets.sr.channels=16", f"nets.sr.init={weights}"]
    assert "conv_first.weight is (8, 3, 3, 3) in the file and (16, 3, 3, 3) in this run" in refused(*narrow)
    assert "allowed: one of them" in refused(*RRDB, f"nets.sr.init={weights}", "train.start_from=runs/a")
    assert "allowed: train.start_from" in refused(*RRDB, f"nets.sr.init={weights}", "system=cyclegan")
    assert "no such folder on this machine" in refused("train.start_from=nowhere")
    assert "has no checkpoint" in refused(f"train.start_from={tmp_path}")
    assert "nets.sr.mean_shift = true with nets.sr.kind = compact" in refused("nets.sr.mean_shift=true")


@pytest.mark.parametrize(
    "more",
    [
        ["backend=ddp"],
        pytest.param(["backend=deepspeed", "zero_stage=1"], marks=pytest.mark.slow),
        pytest.param(["backend=deepspeed", "zero_stage=3"], marks=pytest.mark.slow),
    ],
)
def test_two_ranks_start_from_it_as_one_does(
    more: list[str], config_file: Path, tiny_data: TinyData, weights: Path, tmp_path: Path
) -> None:
    own = [*tiny_data.overrides, *RRDB, *ONE_STEP, *STILL, f"nets.sr.init={weights}"]
    assert run(config_file, tmp_path / "one", *own) == 0
    codes, stderr = two_ranks(config_file, tmp_path / "two", *own, *more)
    assert codes == [0, 0], stderr
    assert is_the_file(sr_of(tmp_path / "two"), weights)
    one, two = tensors(tmp_path / "one"), tensors(tmp_path / "two")
    assert one.keys() == two.keys()
    for name in (name for name in one if name.startswith("g.exp_avg.g_l2h.")):  # its first gradients
        torch.testing.assert_close(one[name], two[name], rtol=1e-3, atol=1e-5, msg=name)


def test_two_ranks_leave_together_when_it_does_not_fit(
    config_file: Path, tiny_data: TinyData, weights: Path, tmp_path: Path
) -> None:
    own = [*tiny_data.overrides, *RRDB, "nets.sr.blocks=2", f"nets.sr.init={weights}", "backend=ddp"]
    codes, stderr = two_ranks(config_file, tmp_path / "run", *own)
    assert codes == [2, 2]
    assert stderr.count("body.1.rdb1.conv1.weight, (4, 8, 3, 3) in this run, is missing in the file") >= 1
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_another_runs_networks_with_other_data_and_another_schedule(
    config_file: Path, tiny_data: TinyData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    short = [*tiny_data.overrides, "train.max_steps=4", "train.validate_every_steps=0"]
    assert run(config_file, first, *short, "ema_decay=0.5") == 0
    other = make_tiny_data(tmp_path / "other", seed=7)
    new = [*other.overrides, *ONE_STEP, *STILL, "seed=4", f"train.start_from={first}"]
    assert run(config_file, second, *new) == 0
    before, after = tensors(first), tensors(second)
    names = [name for name in before if ".params." in name]
    assert any(name.startswith("d.params.critics.d_r.") for name in names)
    assert any(name.startswith("g.params.g_r2s.") for name in names)
    for name in names:
        averaged = before.get(f"ema.{name.removeprefix('g.params.g_l2h.')}", before[name])
        assert torch.equal(after[name], averaged), name
    assert not any(torch.equal(before[name], after[name]) for name in before if ".exp_avg_sq." in name)
    facts = json.loads((second / "summary.json").read_text())["start"]
    assert (facts["taken"], facts["what"]) == ("g_s2r, g_r2s, g_l2h, d_r, d_s", "cyclesr after 4 steps")

    gan = [*tiny_data.overrides, *ONE_STEP, *STILL, f"train.start_from={newest(first)}", "system=cyclesrgan"]
    assert run(config_file, third, *gan) == 0
    facts = json.loads((third / "summary.json").read_text())["start"]
    assert facts["new"] == "d_h"

    capsys.readouterr()
    wide = [*tiny_data.overrides, f"train.start_from={first}", "nets.d_lr.channels=8"]
    assert run(config_file, tmp_path / "wide", *wide) == 2
    assert f"train.start_from = {first}: d_r: body.0.weight is (4, 3, 4, 4) in the file and (8, 3, 4, 4)" in (
        capsys.readouterr().err
    )
    scale = [*tiny_data.overrides, f"train.start_from={first}", "nets.sr.bicubic_skip=true"]
    assert run(config_file, tmp_path / "skip", *scale) == 2
    assert "nets.sr.bicubic_skip is false in the file and true in this run" in capsys.readouterr().err
