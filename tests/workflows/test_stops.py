"""Requests to stop, and SIGKILL, to the commands that train in processes of their own."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from helpers import tiny_overrides, write_photos
from helpers.processes import BIN, all_marked, marked, outcome, started, steps_done
from helpers.waiting import until

from cyclesr_dist.config.reader import to_dict
from cyclesr_dist.config.schema import load

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ENDLESS = ["train.epochs=1000000", "train.validate_every_steps=1000000"]


@pytest.fixture
def mark() -> Iterator[str]:
    with all_marked() as mark:
        yield mark


@pytest.fixture
def table(tmp_path: Path) -> list[str]:
    """The command, with a first run that does not end."""
    write_photos(tmp_path / "photos", 6, 64, 96, seed=0)
    write_photos(tmp_path / "test", 2, 64, 64, seed=1)
    regions = ["shards.hr_region=left", "shards.lr_region=right", "shards.stride=24"]
    more = ["backend=single", "global_batch=2", "train.log_every_steps=1", "train.pretrain_epochs=0"]
    content = {
        "photos": str(tmp_path / "photos"),
        "test_hr": str(tmp_path / "test"),
        "valid_every": 3,
        "seeds": [0],
        "systems": ["bicubic", "sr_syn"],
        "tracks": {"mild": {"degrade": {"blur_px": 3.0, "noise": 0.05, "shift_px": 0}}},
        "run": to_dict(load(None, [*tiny_overrides(), *more, *regions, *ENDLESS])),
    }
    path = tmp_path / "table.yaml"
    path.write_text(yaml.safe_dump(content))
    return [str(BIN / "cyclesr"), "table", "--config", str(path), "--run-dir", str(tmp_path / "out"), "--quiet"]


def run_of(tmp_path: Path) -> Path:
    return tmp_path / "out/runs/all/sr_syn/seed0"


def begun(process: subprocess.Popen[str], run: Path) -> None:
    until(lambda: steps_done(run) >= 3 or process.poll() is not None, 300)
    assert process.poll() is None, process.communicate()


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP", "SIGUSR1"])
def test_a_table_saves_the_run_at_hand_and_begins_no_other(name: str, table, mark, tmp_path: Path) -> None:
    with started(table, MARK=mark) as process:
        begun(process, run_of(tmp_path))
        process.send_signal(signal.Signals[name])
        code, stderr = outcome(process)
        until(lambda: not marked(mark))
    assert code == 75, stderr
    assert f"{name}: what is done is kept" in stderr[-1]
    assert len(list((run_of(tmp_path) / "checkpoints").iterdir())) == 1


def test_the_run_of_a_table_that_is_killed_saves(table, mark, tmp_path: Path) -> None:
    with started(table, MARK=mark) as process:
        begun(process, run_of(tmp_path))
        process.kill()
        until(lambda: not marked(mark))
    assert "cyclesr table (process" in (run_of(tmp_path) / "train.log").read_text()
    assert len(list((run_of(tmp_path) / "checkpoints").iterdir())) == 1


@pytest.mark.parametrize("name", ["SIGHUP", "SIGKILL"])
def test_the_run_of_a_demo_saves(name: str, mark, tmp_path: Path) -> None:
    command = [str(BIN / "cyclesr"), "demo", "--quiet", "--run-dir", str(tmp_path / "demo")]
    run = tmp_path / "demo/baselines/sr_syn"
    settings = ["train.max_steps=100000", *ENDLESS, "train.log_every_steps=1", "train.checkpoint_every_steps=1000000"]
    with started([*command, *settings], MARK=mark) as process:
        begun(process, run)
        process.send_signal(signal.Signals[name])
        process.communicate(timeout=300)
        until(lambda: not marked(mark))
    assert process.returncode == (75 if name == "SIGHUP" else -signal.SIGKILL)
    assert len(list((run / "checkpoints").iterdir())) == 1
