"""What `cyclesr fit` chooses on five machines: each file is a training that can start, and the guide shows them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from helpers import write_photos
from helpers.runs import REPOSITORY

from cyclesr_dist.cli.main import main as cyclesr
from cyclesr_dist.config.schema import load
from cyclesr_dist.degradation.record import Degradation, save
from cyclesr_dist.errors import ConfigError
from cyclesr_dist.kubernetes.plan import training_plan
from cyclesr_dist.training import micro_batch
from cyclesr_dist.training.main import main as train
from cyclesr_dist.workflows.fit import machine


def module_of(path: Path) -> ModuleType:
    spec = util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    made = util.module_from_spec(spec)
    sys.modules[path.stem] = made  # dataclasses look their module up
    spec.loader.exec_module(made)
    return made


CHOICES = module_of(REPOSITORY / "examples" / "choices.py")
SITUATIONS = {situation.title: situation for situation in CHOICES.SITUATIONS}


def measured() -> Degradation:
    kernel = torch.full((1, 3, 3), 1 / 9)
    colouring = torch.zeros(3, 3, 5, 5)
    colouring[range(3), range(3), 2, 2] = 1.0
    facts = {"version": 1, "scale": 4}
    return Degradation(kernel, torch.full((3,), 1e-4), torch.ones(1), colouring, torch.zeros(0, 3, 1, 1), facts)


def with_data(run: Path, config: Path) -> Path:
    """What `fit` has in its run folder before it trains; few photographs stand for many."""
    photos = run / "photos"
    for name, (count, height, width, seed) in {
        "train_hr": (3, 256, 320, 0),
        "train_lr": (3, 64, 80, 1),
        "valid_hr": (1, 256, 320, 2),
        "valid_lr": (1, 64, 80, 3),
    }.items():
        for path in write_photos(photos / name, count, height, width, seed).iterdir():
            path.rename(path.with_name(f"{name}-{path.name}"))
    save(run / "estimate", measured())
    folders = ["--hr", str(photos / "train_hr"), "--lr", str(photos / "train_lr"), "--out", str(run / "data")]
    assert cyclesr(["shards", "build", *folders, "--config", str(config), "--quiet"]) == 0
    return config


@pytest.mark.parametrize(
    "title", [title if "laptop" in title else pytest.param(title, marks=pytest.mark.slow) for title in SITUATIONS]
)
def test_what_is_chosen_for_a_machine_can_be_trained(title: str, tmp_path: Path, capsys) -> None:
    situation = SITUATIONS[title]
    path = with_data(tmp_path, CHOICES.chosen(situation, tmp_path))
    config = load(path)
    assert config.micro_batch == "auto"
    assert config.global_batch % situation.ranks == 0
    assert CHOICES.rank_bytes(config, situation.ranks) < situation.machine.free_bytes / 2
    # This process stands for one of the ranks.
    own = [f"global_batch={config.global_batch // situation.ranks}", "backend=single"]
    capsys.readouterr()
    assert train(["--config", str(path), "--run-dir", str(tmp_path / "run"), *own, "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert f"{config.train.steps} in all" in told
    assert "# micro_batch = auto: " in told
    assert "# time: " in told


def test_two_nodes_are_given_the_file_by_kubernetes_too(tmp_path: Path) -> None:
    situation = SITUATIONS["2 nodes of 8 cards"]
    path = CHOICES.chosen(situation, tmp_path)
    cluster = [f"cluster.nodes={situation.nodes}", f"cluster.gpus_per_node={situation.machine.gpus}"]
    assert "global_batch: 128\n" in training_plan(path, [*cluster, "cluster.work_claim=runs"]).files["config.yaml"]
    with pytest.raises(ConfigError, match="global_batch = 128 is no multiple of the 24 ranks"):
        training_plan(path, ["cluster.nodes=3", *cluster[1:], "cluster.work_claim=runs"])


def test_the_guide_has_the_choices_as_they_are() -> None:
    guide = (REPOSITORY / "docs" / "guide.md").read_text(encoding="utf-8")
    assert "\n".join(CHOICES.rows()) in guide


SMALL = ["system=estimated", "backend=single", "global_batch=16", "micro_batch=auto", "nets.sr.kind=compact"]
SMALL += ["nets.sr.channels=16", "nets.sr.blocks=2"]


@pytest.fixture
def decisions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of parts that `fit` decides on while it measures."""
    found: list[int] = []
    decide: Callable[..., Any] = machine.decide

    def noted(*arguments: Any) -> Any:
        decided, line = decide(*arguments)
        found.append(decided["micro_batch"])
        return decided, line

    monkeypatch.setattr(machine, "decide", noted)
    return found


def test_fit_times_a_step_in_the_parts_that_fit_into_memory(decisions: list[int], monkeypatch) -> None:
    config = load(None, SMALL)
    assert machine.seconds_a_step(config, 48, measured()) > 0
    assert decisions == [16]  # all at once
    taken = iter((50 * 2**20, 300 * 2**20))  # of one sample, of two

    def growth(work: Callable[[], object]) -> int:
        work()
        return next(taken)

    monkeypatch.setattr(micro_batch, "peak_growth", growth)
    monkeypatch.setattr(micro_batch, "free_bytes", lambda world: 450 * 2**20)
    assert machine.seconds_a_step(config, 48, measured()) > 0
    assert decisions == [16, 2]


def test_fit_says_so_where_not_even_one_sample_fits(monkeypatch) -> None:
    monkeypatch.setattr(micro_batch, "free_bytes", lambda world: 0)
    with pytest.raises(ConfigError, match="micro_batch = auto: not even one sample fits"):
        machine.seconds_a_step(load(None, SMALL), 48, measured())
    config = load(None, [*SMALL, "micro_batch=4"])  # as given, nothing is tried
    assert machine.seconds_a_step(config, 48, measured()) > 0
