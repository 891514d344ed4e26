"""A refactoring leaves the losses of three short trainings as they were."""

from __future__ import annotations

from pathlib import Path

import golden
import pytest


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return golden.make_data(tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize("run", golden.RUNS)
def test_the_losses_are_those_of_the_file(run: str, data: list[str], tmp_path: Path) -> None:
    found = golden.differences(golden.golden()[run], golden.losses(run, data, tmp_path / "run"))
    assert not found, "\n".join(found[:10])


@pytest.mark.parametrize(
    "change",
    ["seed=8", "weights.cyc=10.1", "optim.lr_sr=1.1e-3", "pool.size=5", "data.augment.lr_flip=false"],
)
def test_what_is_changed_a_little_is_found(change: str, data: list[str], tmp_path: Path) -> None:
    today = golden.losses("cyclesr", data, tmp_path / "run", change, steps=10)
    assert golden.differences(golden.golden()["cyclesr"], today)


def test_a_dropped_term_is_found(data: list[str], tmp_path: Path) -> None:
    today = golden.losses("cyclesr", data, tmp_path / "run", "weights.l1=0", steps=1)
    assert "loss.l1 is in one of them alone" in golden.differences(golden.golden()["cyclesr"], today)
