"""Runs of which many steps are bad: whatever the checkpoints are, they do not end as if all were well."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.runs import lines, run
from safetensors.torch import load_file

from cyclesr_dist.config.schema import load
from cyclesr_dist.distributed.world import World
from cyclesr_dist.method.step import StepResult
from cyclesr_dist.method.systems.joint import JointSystem
from cyclesr_dist.models.checkpoint import Checkpoint, unpack
from cyclesr_dist.telemetry.diagnosis import Diagnosis
from cyclesr_dist.training.bad_numbers import BadNumbers
from cyclesr_dist.training.ending import summary_of, trouble
from cyclesr_dist.training.run_folder import RunFolder

BATCH = 4


@pytest.fixture
def make_bad(monkeypatch) -> Callable[[Collection[int]], None]:
    """A function that lets these steps (from 1) have numbers that are not finite."""
    true_step = JointSystem.step

    def make(steps: Collection[int]) -> None:
        def step(self: JointSystem, batch: Any, phase: Any) -> Any:
            if batch.index // BATCH + 1 in steps:
                batch.hr.fill_(torch.nan)
            return true_step(self, batch, phase)

        monkeypatch.setattr(JointSystem, "step", step)

    return make


def summary(run_dir: Path) -> dict[str, Any]:
    return dict(json.loads((run_dir / "summary.json").read_text()))


def states(run_dir: Path) -> dict[int, dict[str, Any]]:
    found = sorted((run_dir / "checkpoints").iterdir())
    return {state["step"]: state for state in (json.loads((path / "state.json").read_text()) for path in found)}


def test_checkpoints_do_not_reset_the_count(make_bad, config_file, tiny_data, tmp_path, capfd) -> None:
    """59 of 60 steps bad, a checkpoint at each fifth: before, the count began anew with each."""
    make_bad(range(2, 61))
    settings = ["train.max_steps=60", "train.checkpoint_every_steps=5", "train.max_bad_steps=5"]
    assert run(config_file, tmp_path / "run", *tiny_data.overrides, *settings, "train.validate_every_steps=0") == 1
    said = capfd.readouterr().err.strip().splitlines()[-1]
    assert "step 7: " in said
    assert "6 bad steps since the last good checkpoint, and there is no good checkpoint to go back to" in said
    assert "bad_steps.jsonl" in said
    assert not (tmp_path / "run/summary.json").exists()


def test_a_stop_among_bad_steps_is_no_new_beginning(make_bad, config_file, tiny_data, tmp_path, capfd) -> None:
    """A good checkpoint outlives those of the bad stretch; a resumed run counts on, and goes back to the good one."""
    settings = ["train.checkpoint_every_steps=2", "train.keep_checkpoints=1", "train.max_bad_steps=3"]
    arguments = [*tiny_data.overrides, *settings, "train.validate_every_steps=0", "train.steps=40"]
    assert run(config_file, tmp_path / "run", *arguments, "train.max_steps=2") == 0
    make_bad((3, 5, 6))
    assert run(config_file, tmp_path / "run", *arguments, "train.max_steps=6", "--resume") == 0
    found = states(tmp_path / "run")
    assert list(found) == [2, 6]  # with one kept the newest, and the newest good one
    assert found[6]["bad_steps"] == [2, 4, 5]
    assert found[6]["good_step"] == 2
    ended = summary(tmp_path / "run")
    assert ended["verdict_ok"] is False
    assert "3 of 6 steps were left out, since their gradients were not finite, the last one too" in ended["verdict"]
    assert "optim.lr_sr=2.5e-05" in ended["next"][0]
    make_bad((7,))
    assert run(config_file, tmp_path / "run", *arguments, "train.max_steps=30", "--resume") == 0
    said = capfd.readouterr().err
    assert "too many since the last good checkpoint, going back to it" in said
    assert "resuming at step 2 from step-00000002" in said
    ended = summary(tmp_path / "run")
    assert (ended["bad_steps"], ended["rollbacks"]) == (4, 1)
    state = states(tmp_path / "run")
    assert all(found["left_out"] == [2, 3, 4, 5, 6] for found in state.values())
    assert max(found["good_step"] for found in state.values()) == 30
    tensors = load_file(tmp_path / "run/checkpoints/step-00000030/tensors.safetensors")
    assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_a_run_of_which_most_was_left_out_has_failed(make_bad, config_file, tiny_data, tmp_path, capfd) -> None:
    make_bad((2, 3, 5, 6))
    settings = ["train.max_steps=6", "train.max_bad_steps=100", "train.checkpoint_every_steps=2"]
    assert run(config_file, tmp_path / "run", *tiny_data.overrides, *settings) == 1
    assert "4 of 6 steps were left out" in capfd.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "run/summary.json").exists()


class Scaled:
    """Of a player, what fp16 overflows are judged by."""

    def __init__(self, scale: float | None) -> None:
        self.scale = scale

    def loss_scale(self) -> torch.Tensor | None:
        return None if self.scale is None else torch.tensor(self.scale)


@pytest.mark.parametrize(("scale", "bad"), [(None, True), (2.0**15, False), (2.0**-4, False), (2.0**-5, True)])
def test_overflows_that_seek_the_loss_scale_are_not_bad(scale, bad, tmp_path) -> None:
    numbers = BadNumbers(load(None).train, World(), RunFolder(tmp_path), unpacked())
    players: Any = {"g": Scaled(scale), "d": Scaled(None if scale is None else 65536.0)}
    assert numbers.found(StepResult({}, {"g": float("inf")}, {}), players) is bad
    assert not numbers.found(StepResult({}, {"g": 1.0, "d": 2.0}, {}), players)


def unpacked(**more: Any) -> Checkpoint:
    """A checkpoint as an earlier version wrote it, without a word of bad steps."""
    scalars = {"step": 40, "best": {}, "seconds": 1.0, "validation_due": False, "left_out": [], "rollbacks": 0}
    return unpack(scalars | {"players": {}} | more, {})


def test_a_checkpoint_of_an_earlier_version_can_be_gone_back_to(tmp_path) -> None:
    saved = unpacked()
    assert (saved.bad_steps, saved.good_step) == ([], 40)
    numbers = BadNumbers(load(None).train, World(), RunFolder(tmp_path), unpacked(bad_steps=[45], good_step=40))
    numbers.saved(60)
    assert numbers.good_step == 40
    numbers.saved(66)
    assert numbers.good_step == 66


@pytest.mark.parametrize("name", ["mse", "cyc_forward", "mse_estimated"])
def test_losses_that_explode_are_told_and_no_success(name, tmp_path) -> None:
    diagnosis = Diagnosis(100, measured=False, translates=True, lr_cyclegan=2e-4)
    assert not diagnosis.logged(1, {name: 2.0, "g": 1e9, "percep": 1e5}, {})
    (said,) = diagnosis.logged(2, {name: 1e30, "g": 1e33}, {})
    assert "step 2: the training has diverged" in said
    assert f"{name} 1e+30" in said
    assert not diagnosis.logged(3, {name: 1e30}, {})
    numbers = {"best": {}, "steps": 4, "trouble": trouble(4, 0, False, diagnosis.diverged)}
    config = load(None, ["system=sr_paired", "data.pairs=x"])
    ended = summary_of(config, sources_of_pairs(), numbers, 1, tmp_path)
    assert ended["verdict_ok"] is False
    assert ended["verdict"].startswith("It did not work: the training has diverged: its last losses are")
    good = numbers | {"best": {"step": 2, "psnr": 25.0, "psnr_bicubic": 24.0}}
    ended = summary_of(config, sources_of_pairs(), good, 1, tmp_path)
    assert ended["verdict_ok"] is False
    assert ended["verdict"].startswith("The training went wrong.")
    assert "The network is 1.00 dB better than bicubic" in ended["verdict"]
    diagnosis.logged(4, {name: 0.1}, {})
    assert not trouble(4, 0, False, diagnosis.diverged)


def sources_of_pairs() -> Any:
    return SimpleNamespace(lr=None)


def test_bad_steps_are_logged_with_what_they_were(make_bad, config_file, tiny_data, tmp_path) -> None:
    """One in a good run: it is left out, and the run is what it was."""
    make_bad((3,))
    settings = ["train.max_steps=12", "train.validate_every_steps=0"]
    assert run(config_file, tmp_path / "run", *tiny_data.overrides, *settings) == 0
    (record,) = lines(tmp_path / "run/bad_steps.jsonl")
    assert record["step"] == 3
    ended = summary(tmp_path / "run")
    assert ended["bad_steps"] == 1
    assert "left out" not in ended["verdict"]


def test_a_network_that_validation_cannot_score_has_diverged_and_is_no_bad_input(
    config_file, tiny_data, tmp_path, capfd
) -> None:
    """Its gradients were finite, and the step that followed was too long. The run had ended well before."""
    given = [*tiny_data.overrides, "train.checkpoint_every_steps=2"]
    assert run(config_file, tmp_path / "run", *given, "train.max_steps=2") == 0
    assert summary(tmp_path / "run")["completed"]
    rates = ["optim.lr_sr=1e30", "optim.lr_cyclegan=1e30", "train.validate_every_steps=1", "train.max_steps=9"]
    assert run(config_file, tmp_path / "run", *given, *rates, "--resume-with-changes") == 1
    said = capfd.readouterr().err.strip().splitlines()[-1]
    assert "after step 3 training has diverged: " in said
    assert "gives values that are not finite; a smaller learning rate" in said
    assert not (tmp_path / "run/summary.json").exists()
