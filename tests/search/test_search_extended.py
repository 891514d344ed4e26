"""Searches that get more samples, and searches of which trials fail, on real Ray clusters."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest
from helpers.searches import printed, reports, search, searching, trials
from helpers.waiting import until

pytest.importorskip("ray.tune", reason="Ray is not installed")
pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

DRAWN: dict[str, Any] = {"weights.mse": {"loguniform": [1.0, 100.0]}}


@pytest.mark.parametrize("searcher", ["random", "optuna"])
def test_a_search_gets_more_samples(searcher, write_search, scratch, tmp_path) -> None:
    """What is done stays and is not run again; the ranking holds all; the draws are those of the longer search."""
    config, run = write_search(space=DRAWN, searcher=searcher, scheduler="asha", seed=1), tmp_path / "run"
    assert search(config, run, "num_samples=1")[0] == 0
    before, first = reports(run), trials(run)
    code, said = search(config, run, "num_samples=3", "--resume")
    assert code == 0, said
    found = trials(run)
    assert len(found) == 3
    assert found[0] == first[0]
    assert reports(run)[: len(before)] == before
    assert len({trial["weights.mse"] for trial in found}) == 3
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["completed"], summary["failed"], sum(summary["trials"].values())) == (True, 0, 3)
    files = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    code, said = search(config, run, "num_samples=3", "--resume")
    assert code == 0, said
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == files
    code, said = search(config, run, "num_samples=2", "--resume")
    assert code == 2
    assert "allowed: 3 or more" in said
    if searcher == "random":
        assert search(config, tmp_path / "long", "num_samples=3", "scheduler=none")[0] == 0
        # Numbered as they began, which two at a time may do in any order.
        assert {t["weights.mse"] for t in trials(tmp_path / "long")} == {t["weights.mse"] for t in found}


def test_a_search_of_which_no_trial_succeeds(write_search, scratch, tmp_path) -> None:
    impatient = ["train.max_bad_steps=0", "train.max_rollbacks=0"]
    config = write_search(space={"optim.lr_sr": {"grid": [1.0e29, 1.0e30]}}, overrides=impatient, steps=16)
    code, said = search(config, tmp_path / "run")
    assert code == 1, said
    last = said.strip().splitlines()[-1]
    assert "no trial succeeded: 2 of 2 trials failed" in last
    assert "trials.csv" in last
    assert json.loads((tmp_path / "run/summary.json").read_text())["failed"] == 2
    assert {trial["state"] for trial in trials(tmp_path / "run")} == {"failed"}


def test_a_value_that_the_data_does_not_fit_is_refused_before_the_first_trial(write_search, scratch, tmp_path) -> None:
    config, run = write_search(space={"scale": {"grid": [4, 2]}}), tmp_path / "run"
    code, said = search(config, run)
    assert code == 2, said
    assert "space.scale: with scale=2" in said.strip().splitlines()[-1]
    assert not run.exists()


def test_trials_do_not_mix_old_and_new_samples(tiny_data, write_search, scratch, tmp_path) -> None:
    """The shards are built anew while the first trial trains; what fails is told with --quiet, too."""
    shards = tmp_path / "shards"
    shutil.copytree(tiny_data.root / "shards", shards)
    data = [f"data.{kind}={shards / kind}" for kind in ("hr", "lr")]
    config, run = write_search(overrides=data, max_concurrent=1, steps=200, report_every_steps=20), tmp_path / "run"
    with searching(config, run, "--quiet") as process:
        until(lambda: reports(run) or process.poll() is not None)
        with (shards / "lr/manifest.json").open("a") as manifest:
            manifest.write("\n")
        assert process.wait(600) == 0
    first, second = trials(run)
    assert (first["state"], second["state"]) == ("finished", "failed")
    assert "warning: trial 2 failed with weights.mse=100: data.lr was built anew since the search" in printed(run)
