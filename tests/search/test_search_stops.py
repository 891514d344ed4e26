"""Searches that are told to stop, or killed with all that they have started."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from helpers.processes import all_marked, marked, started
from helpers.runs import REPOSITORY
from helpers.waiting import until

pytest.importorskip("ray.tune", reason="Ray is not installed")
pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]


@pytest.fixture
def mark() -> Iterator[str]:
    with all_marked() as mark:
        yield mark


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


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1", "SIGQUIT"])
def test_a_search_stops_in_order(name: str, command, mark, tmp_path: Path) -> None:
    with started(command, MARK=mark) as process:
        until(lambda: reported(tmp_path / "run") or process.poll() is not None, 600)
        process.send_signal(signal.Signals[name])
        _, stderr = process.communicate(timeout=300)
        until(lambda: not marked(mark), 180)
    assert process.returncode == 75, stderr
    assert (tmp_path / "run/trials.csv").exists()


def test_a_search_that_is_killed_leaves_no_process(command, mark, tmp_path: Path) -> None:
    with started(command, MARK=mark) as process:
        until(lambda: reported(tmp_path / "run") or process.poll() is not None, 600)
        names = {p.name() for p in marked(mark)}
        assert {"raylet", "gcs_server"} <= names
        process.kill()
        until(lambda: not marked(mark), 180)
