"""Whole training runs through `launch/train.py`, under every launcher."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest
import torch
from helpers import write_photos
from helpers.runs import REPOSITORY, launch, lines, newest, outcome_alone, run, run_alone, two_ranks, without_time
from helpers.waiting import until
from safetensors.torch import load_file

from cyclesr_dist.models.model_name import resolve_model
from cyclesr_dist.training.validation import Validator

# One epoch, 4 steps, a round, so that cycle_sr_separate reaches its second one.
ONE_EPOCH = ["train.epochs=1", "train.pretrain_epochs=0", "train.constant_epochs=0"]
PHASES = {
    "sr_syn": ["sr"] * 7,
    "sr_paired": ["sr"] * 7,
    "cyclegan": ["cyclegan"] * 7,
    "cycle_sr_separate": ["translate"] * 4 + ["separate"] * 3,
    "cyclesr": ["pretrain"] * 4 + ["joint"] * 3,
    "cyclesrgan": ["pretrain"] * 4 + ["joint"] * 3,
    "high_to_low": ["translate"] * 4 + ["separate"] * 3,
    "dsgan": ["translate"] * 4 + ["separate"] * 3,
    "cincgan": ["pretrain"] * 4 + ["joint"] * 3,
    "pseudo_supervision": ["pretrain"] * 4 + ["joint"] * 3,
    "pdm": ["translate"] * 4 + ["separate"] * 3,
}
TWO_ROUNDS = ("cycle_sr_separate", "high_to_low", "dsgan", "pdm")
RIVALS = [
    pytest.param(name, marks=pytest.mark.slow)
    for name in ("high_to_low", "dsgan", "cincgan", "pseudo_supervision", "pdm")
]


@pytest.mark.parametrize("system", [*list(PHASES)[:6], *RIVALS])
def test_a_run_leaves_what_the_interface_promises(system, config_file, tiny_data, tmp_path) -> None:
    arguments = [*tiny_data.overrides, f"system={system}", "train.max_steps=7", "data.log_keys=true"]
    arguments += ONE_EPOCH if system in TWO_ROUNDS else []
    assert run(config_file, tmp_path / "run", *arguments) == 0
    folder = tmp_path / "run"
    metrics = lines(folder / "metrics.jsonl")
    assert [m["step"] for m in metrics] == list(range(1, 8))
    assert {"step", "epoch", "phase", "loss.g", "grad_norm.g", "patches_per_second"} <= metrics[-1].keys()
    assert ("loss.mse" in metrics[-1]) == (system != "cyclegan")
    assert [m["phase"] for m in metrics] == PHASES[system]
    validated = lines(folder / "validation.jsonl")
    assert [v["step"] for v in validated] == ([7] if system in TWO_ROUNDS else [4, 7])
    translating = system in ("cycle_sr_separate", "cyclesr", "cyclesrgan")
    assert all(("agreement" in v and "spectrum_lr" in v) == translating for v in validated)
    assert all({"psnr", "ssim", "spectrum_hr"} <= v.keys() for v in validated)
    keys = lines(folder / "keys.rank0.jsonl")
    assert [k["step"] for k in keys] == list(range(1, 8))
    assert all(len(k["hr"]) == 4 for k in keys)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["completed"] is True
    assert summary["best"]["psnr"] == max(v["psnr"] for v in lines(folder / "validation.jsonl"))
    assert summary["peak_memory_mb"] > 100
    assert (folder / "report.html").stat().st_size > 1000
    assert (folder / "pictures/translated.last.png").exists() == translating
    assert lines(folder / "events.jsonl")[0]["num_steps"] == 7
    assert resolve_model(str(folder))(torch.rand(1, 3, 9, 10)).shape == (1, 3, 36, 40)
    if system == "cyclesrgan":
        assert {"loss.advsr", "loss.percep", "loss.d_h"} <= metrics[-1].keys()
        assert "random features" in (folder / "report.html").read_text()


@pytest.mark.parametrize("launcher", ["torchrun", pytest.param("deepspeed", marks=pytest.mark.slow)])
def test_launchers_agree_with_one_process(launcher, config_file, tiny_data, tmp_path) -> None:
    backend = {"torchrun": "backend=ddp", "deepspeed": "backend=deepspeed"}[launcher]
    arguments = [*tiny_data.overrides, "train.max_steps=6", "data.log_keys=true"]
    assert run(config_file, tmp_path / "one", *arguments) == 0
    done = launch(launcher, config_file, tmp_path / "two", *arguments, backend)
    assert done.returncode == 0, done.stderr
    for mine, other in zip(lines(tmp_path / "one/metrics.jsonl"), lines(tmp_path / "two/metrics.jsonl"), strict=True):
        assert mine["loss.mse"] == pytest.approx(other["loss.mse"], rel=1e-4)
    one, two = load_file(tmp_path / "one/model.safetensors"), load_file(tmp_path / "two/model.safetensors")
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], atol=1e-5, rtol=1e-3)
    keys = [lines(tmp_path / f"two/keys.rank{rank}.jsonl") for rank in (0, 1)]
    merged = [{"step": a["step"], "hr": a["hr"] + b["hr"], "lr": a["lr"] + b["lr"]} for a, b in zip(*keys, strict=True)]
    assert merged == lines(tmp_path / "one/keys.rank0.jsonl")


def test_loader_processes_change_nothing(config_file, tiny_data, tmp_path) -> None:
    arguments = [*tiny_data.overrides, "train.max_steps=6", "data.log_keys=true"]
    for workers in (0, 2):
        run_alone(config_file, tmp_path / str(workers), *arguments, f"data.workers={workers}")
    for name in ("keys.rank0.jsonl", "model.safetensors"):
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


@pytest.mark.parametrize("backend", [["backend=single"], ["backend=deepspeed", "zero_stage=1"]])
def test_a_gradient_that_is_not_finite_stops_the_run(backend, config_file, tiny_data, tmp_path) -> None:
    arguments = [*tiny_data.overrides, *backend, "train.checkpoint_every_steps=2"]
    run_alone(config_file, tmp_path / "run", *arguments, "train.max_steps=2")
    arguments += ["train.max_bad_steps=1", "weights.mse=1e38"]
    code, stderr = outcome_alone(config_file, tmp_path / "run", *arguments, "--resume-with-changes")
    assert code == 1
    last = stderr.strip().splitlines()[-1]
    # Steps 3 and 4 are bad; back at step 2 they are left out, and 5 and 6 are bad, too.
    assert "error: step 6: the gradient of player g is not finite" in last
    assert "after going back 1 times" in last
    bad = lines(tmp_path / "run/bad_steps.jsonl")
    assert [record["step"] for record in bad] == [3, 4, 5, 6]
    assert bad[0]["ranks"][0]["losses"]["mse"]
    assert len(bad[0]["ranks"][0]["hr"]) == 4
    assert newest(tmp_path / "run").name == "step-00000004"
    saved = load_file(newest(tmp_path / "run") / "tensors.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in saved.values())


@pytest.mark.parametrize("system", ["cyclesr", "cyclegan", "cycle_sr_separate", *RIVALS])
def test_resume_is_exact(system, config_file, tiny_data, tmp_path) -> None:
    arguments = [*tiny_data.overrides, "data.log_keys=true", f"system={system}"]
    arguments += ONE_EPOCH if system in TWO_ROUNDS else []
    assert run(config_file, tmp_path / "whole", *arguments, "train.max_steps=8") == 0
    assert run(config_file, tmp_path / "parts", *arguments, "train.max_steps=4") == 0
    assert run(config_file, tmp_path / "parts", *arguments, "train.max_steps=8", "--resume") == 0
    whole, parts = newest(tmp_path / "whole"), newest(tmp_path / "parts")
    expected, actual = load_file(whole / "tensors.safetensors"), load_file(parts / "tensors.safetensors")
    assert expected.keys() == actual.keys()
    assert any(name.startswith("pool.") for name in expected)
    assert any(name.startswith("ema.") for name in expected)
    assert all(torch.equal(tensor, actual[name]) for name, tensor in expected.items())
    for name in ("metrics.jsonl", "validation.jsonl", "keys.rank0.jsonl"):
        of_whole, of_parts = (without_time(lines(tmp_path / run_dir / name)) for run_dir in ("whole", "parts"))
        assert of_whole == of_parts
    assert (tmp_path / "whole/model.safetensors").read_bytes() == (tmp_path / "parts/model.safetensors").read_bytes()


def test_a_killed_run_resumes_to_the_same_result(config_file, tiny_data, tmp_path) -> None:
    arguments = [*tiny_data.overrides, "train.max_steps=12"]
    assert run(config_file, tmp_path / "whole", *arguments) == 0
    command = [sys.executable, str(REPOSITORY / "launch/train.py"), "--config", str(config_file), "--quiet"]
    command += ["--run-dir", str(tmp_path / "killed"), *arguments, "train.max_steps=100000", "train.epochs=100000"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        fourth = tmp_path / "killed/checkpoints/step-00000004"
        until(lambda: process.poll() is not None or fourth.exists())
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    # Back to the checkpoint of step 4, as if killed right after it.
    for later in sorted((tmp_path / "killed/checkpoints").iterdir())[1:]:
        later.rename(tmp_path / later.name)
    assert run(config_file, tmp_path / "killed", *arguments, "--resume-with-changes") == 0
    expected = load_file(newest(tmp_path / "whole") / "tensors.safetensors")
    actual = load_file(newest(tmp_path / "killed") / "tensors.safetensors")
    assert all(torch.equal(tensor, actual[name]) for name, tensor in expected.items())
    resumed = without_time(lines(tmp_path / "killed/metrics.jsonl"))
    for mine, other in zip(resumed, without_time(lines(tmp_path / "whole/metrics.jsonl")), strict=True):
        assert mine["step"] == other["step"]
        assert mine["loss.mse"] == other["loss.mse"]


@pytest.mark.parametrize(("first", "second"), [("ddp", "deepspeed"), ("deepspeed", "ddp")])
def test_a_checkpoint_resumes_under_the_other_backend(first, second, config_file, tiny_data, tmp_path) -> None:
    arguments = [*tiny_data.overrides, "zero_stage=2"]
    assert run(config_file, tmp_path / "whole", *arguments, "train.max_steps=8") == 0
    run_alone(config_file, tmp_path / "parts", *arguments, f"backend={first}", "train.max_steps=4")
    run_alone(config_file, tmp_path / "parts", *arguments, f"backend={second}", "train.max_steps=8", "--resume")
    expected = load_file(newest(tmp_path / "whole") / "tensors.safetensors")
    actual = load_file(newest(tmp_path / "parts") / "tensors.safetensors")
    assert expected.keys() == actual.keys()
    for name, tensor in expected.items():
        if ".params.g_l2h" in name or name.startswith("ema."):
            torch.testing.assert_close(tensor, actual[name], atol=1e-6, rtol=1e-4)


def test_bf16_trains(config_file, tiny_data, tmp_path) -> None:
    for backend in ("ddp", "deepspeed"):
        arguments = [*tiny_data.overrides, "precision=bf16", f"backend={backend}", "train.max_steps=6"]
        run_alone(config_file, tmp_path / backend, *arguments)
    ddp, zero = (lines(tmp_path / backend / "metrics.jsonl") for backend in ("ddp", "deepspeed"))
    assert [m["loss.mse"] for m in ddp] == pytest.approx([m["loss.mse"] for m in zero], rel=2e-2)


def test_dry_run_writes_nothing(config_file, tiny_data, tmp_path, capsys) -> None:
    assert run(config_file, tmp_path / "run", *tiny_data.overrides, "--dry-run") == 0
    assert not (tmp_path / "run").exists()
    out = capsys.readouterr().out
    assert "global_batch: 4" in out
    assert "g.g_l2h" in out


def test_a_world_size_that_does_not_divide_stops_all_ranks(config_file, tiny_data, tmp_path) -> None:
    codes, stderr = two_ranks(
        config_file, tmp_path / "run", *tiny_data.overrides, "backend=deepspeed", "global_batch=3"
    )
    assert codes == [2, 2]
    assert stderr.count("cyclesr: error:") == 1
    assert "global_batch = 3 is not divisible by the 2 ranks" in stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_throughput_is_of_training_alone(config_file, tiny_data, tmp_path, monkeypatch) -> None:
    true_score = Validator.score

    def slow_score(self: Validator, *args: Any) -> Any:
        threading.Event().wait(0.5)
        return true_score(self, *args)

    monkeypatch.setattr(Validator, "score", slow_score)
    settings = [*tiny_data.overrides, "train.max_steps=8", "train.log_every_steps=4", "train.validate_every_steps=2"]
    assert run(config_file, tmp_path / "run", *settings, "train.checkpoint_every_steps=3") == 0
    logged = lines(tmp_path / "run/metrics.jsonl")[1]  # of steps 5 to 8, a validation and a checkpoint among them
    spent = logged["seconds.step"] + logged["seconds.data_wait"]
    assert logged["seconds.validation"] > 0.5
    assert logged["patches_per_second"] == pytest.approx(4 * 4 / spent, rel=0.3)


def test_a_start_after_half_a_line_is_noted_on_a_line_of_its_own(config_file, tiny_data, tmp_path) -> None:
    settings = [*tiny_data.overrides, "train.validate_every_steps=0"]
    assert run(config_file, tmp_path / "run", *settings, "train.max_steps=4") == 0
    with (tmp_path / "run/events.jsonl").open("a") as file:
        file.write('{"event": "roll')
    (tmp_path / "run/prometheus_targets.json").write_text("[]")  # of a process that was killed
    assert run(config_file, tmp_path / "run", *settings, "train.max_steps=5", "--resume") == 0
    events = (tmp_path / "run/events.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for i, line in enumerate(events) if i != 2] == [
        *("started", "finished", "started", "changed", "finished")
    ]
    assert not (tmp_path / "run/prometheus_targets.json").exists()


def test_validation_without_pairs_chooses_by_a_score_that_needs_none(config_file, tiny_data, tmp_path, capsys) -> None:
    write_photos(tmp_path / "sharp", 2, 64, 96, seed=7)
    for path in (tmp_path / "sharp").iterdir():
        path.rename(path.with_name(f"unrelated_{path.name}"))
    arguments = [*tiny_data.overrides, f"data.valid_hr={tmp_path / 'sharp'}", "train.max_steps=8"]
    # The usual one needs the measured degradation, and the patches are too small for that (test_judging.py has it).
    assert run(config_file, tmp_path / "run", *arguments) == 2
    assert "at least 16 px" in (refused := capsys.readouterr().err)
    assert "validate.metric=spectrum_hr does without" in refused
    for metric in ("spectrum_lr", "agreement", "spectrum_hr"):
        assert run(config_file, tmp_path / metric, *arguments, f"validate.metric={metric}") == 0
        rows = lines(tmp_path / metric / "validation.jsonl")
        assert all("psnr" not in row for row in rows)
        chosen = json.loads((tmp_path / metric / "summary.json").read_text())["best"]
        assert chosen[metric] == min(row[metric] for row in rows)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["validate.metric=psnr", "data.valid_hr="], "validate.metric = psnr needs HR of the same scenes"),
        (["validate.metric=agreement", "system=sr_syn"], "needs a system that translates LR"),
        (["data.valid_hr=", "system=sr_syn"], "cannot choose for system = sr_syn"),
    ],
)
def test_a_metric_that_cannot_be_had_is_refused(overrides, message, config_file, tiny_data, tmp_path, capsys) -> None:
    assert run(config_file, tmp_path / "run", *tiny_data.overrides, *overrides) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", ["bilinear", "nearest"])
def test_synthetic_lr_by_other_ways_of_downsampling(method, config_file, tiny_data, tmp_path) -> None:
    arguments = [*tiny_data.overrides, "train.max_steps=2", "system=sr_syn"]
    for name in ("bicubic", method):
        assert run(config_file, tmp_path / name, *arguments, f"data.downsampling={name}") == 0
    first, other = (lines(tmp_path / name / "metrics.jsonl")[0]["loss.mse"] for name in ("bicubic", method))
    assert first != other
