"""Searches that are told to stop, or killed with all that they have started."""

from __future__ import annotations

import csv
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml
from helpers.processes import kill, marked, outcome, started
from helpers.runs import REPOSITORY
from helpers.waiting import until

pytest.importorskip("ray.tune", reason="Ray is not installed")
pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]


@pytest.fixture
def command(config_file, tiny_data, tmp_path, monkeypatch) -> Iterator[list[str]]:
    """A search that takes minutes."""
    content = {
        "base": str(config_file),
        "overrides": tiny_data.overrides,
        "space": {"weights.mse": {"grid": [1.0, 10.0]}},
        "steps": 4000,
        "report_every_steps": 4,
        "scheduler": "none",
        "max_concurrent": 1,
    }
    path = tmp_path / "search.yaml"
    path.write_text(yaml.safe_dump(content))
    with tempfile.TemporaryDirectory(prefix="s-", dir="/tmp", ignore_cleanup_errors=True) as scratch:
        monkeypatch.setenv("TMPDIR", scratch)  # short: Ray's sockets lie there
        yield [
            *(sys.executable, str(REPOSITORY / "launch/tune.py"), "--config", str(path)),
            *("--run-dir", str(tmp_path / "run"), "--quiet"),
        ]


def reported(run: Path) -> bool:
    path = run / "results.jsonl"
    return path.exists() and '"step"' in path.read_text()


@pytest.mark.parametrize(
    ("name", "send"),
    [("SIGUSR1", os.kill), ("SIGQUIT", os.kill), ("SIGINT", os.killpg), ("SIGHUP", os.killpg), ("SIGTERM", os.killpg)],
    ids=lambda part: part if isinstance(part, str) else part.__name__,
)
def test_a_search_stops_in_order(name: str, send, command, mark, tmp_path: Path) -> None:
    """Also when the whole group of its terminal gets the signal: Ray's processes outlive the search's last words."""
    with started(command, MARK=mark) as process:
        until(lambda: reported(tmp_path / "run") or process.poll() is not None, 600)
        send(process.pid, signal.Signals[name])
        _, stderr = process.communicate(timeout=300)
        until(lambda: not marked(mark), 180)
    assert process.returncode == 75, stderr
    assert "unfinished; --resume continues" in stderr.splitlines()[-1]
    assert [row["state"] for row in csv.DictReader((tmp_path / "run/trials.csv").open())] == ["unfinished"]


def kill_named(mark: str, name: str) -> bool:
    """Whether there was one."""
    found = []
    for process in marked(mark):
        with suppress(psutil.NoSuchProcess):
            found += [process] if process.name() == name else []
    kill(found)
    return bool(found)


@pytest.mark.parametrize("name", ["gcs_server", "raylet"])
def test_ray_that_dies_as_it_starts_is_one_line(name: str, command, mark) -> None:
    with started(command, MARK=mark) as process:
        until(lambda: kill_named(mark, name) or process.poll() is not None)
        code, stderr = outcome(process)
        until(lambda: not marked(mark), 180)
    assert code == 1, stderr
    (line,) = stderr
    assert line.startswith("cyclesr: error: Ray ")
    assert "on this machine: " in line


def test_ray_that_does_not_start_in_time_is_one_line(command, mark) -> None:
    with started(command, MARK=mark) as process:
        until(lambda: [p.suspend() for p in marked(mark) if p.name() == "gcs_server"] or process.poll() is not None)
        code, stderr = outcome(process)
        until(lambda: not marked(mark), 180)
    assert code == 1, stderr
    (line,) = stderr
    assert line.startswith("cyclesr: error: Ray ")


def test_a_search_that_is_killed_leaves_no_process(command, mark, tmp_path: Path) -> None:
    with started(command, MARK=mark) as process:
        until(lambda: reported(tmp_path / "run") or process.poll() is not None, 600)
        names = {p.name() for p in marked(mark)}
        assert {"raylet", "gcs_server"} <= names
        process.kill()
        until(lambda: not marked(mark), 180)
