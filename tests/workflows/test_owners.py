"""Two commands that train in processes of their own, in one run folder: one is refused, or follows a killed one."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest
from helpers.endless import endless
from helpers.processes import ELSEWHERE, NO_ELSEWHERE, marked, outcome, started, steps_done
from helpers.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
BEGUN = 3


def owner(folder: Path) -> int:
    """The process that has the claim; 0: none."""
    for path in folder.glob(".job/*.json"):
        try:
            claim = json.loads(path.read_text())
        except (OSError, ValueError):  # on its way
            continue
        if claim["holds"]:
            return int(claim["pid"])
    return 0


def goes_on(process: subprocess.Popen[str], run: Path, steps: int = BEGUN) -> None:
    until(lambda: steps_done(run) >= steps or process.poll() is not None)
    assert process.poll() is None, process.communicate()


@pytest.mark.parametrize("name", ["table", "fit", "demo"])
def test_a_second_one_is_refused_and_follows_a_killed_one(name: str, mark, tmp_path: Path) -> None:
    words, folder, run = endless(name, tmp_path)
    with started(words, MARK=mark) as first:
        until(lambda: owner(folder) == first.pid or first.poll() is not None)
        with started(words) as second:
            code, stderr = outcome(second)
        assert code == 2
        assert stderr[-1].startswith(f"cyclesr: error: run folder {folder} is in use by process {first.pid} on ")
        assert len(stderr) == 1
        goes_on(first, run)
        first.kill()
        with started(words, MARK=mark) as third:
            until(lambda: owner(folder) == third.pid or third.poll() is not None)
            assert not third.poll(), third.communicate()
            goes_on(third, run, steps_done(run) + BEGUN)
            third.send_signal(signal.SIGTERM)
            code, stderr = outcome(third)
        until(lambda: not marked(mark))
    assert code == 75, stderr


@pytest.mark.skipif(NO_ELSEWHERE, reason="no process namespaces here")
def test_one_in_another_container_is_waited_for(mark, tmp_path: Path) -> None:
    words, folder, _ = endless("table", tmp_path)
    with started([*ELSEWHERE, *words], MARK=mark, CYCLESR_LEASE_SECONDS="4") as first:
        until(lambda: owner(folder) or first.poll() is not None)
        with started(words, CYCLESR_LEASE_SECONDS="4") as second:
            code, stderr = outcome(second)
        assert code == 1  # it may be over when this is tried again
        assert stderr[0].startswith(f"cyclesr: waiting for run folder {folder}: process ")
        assert stderr[-1].startswith(f"cyclesr: error: run folder {folder} is in use by process ")
        first.kill()
        with started(words, MARK=mark, CYCLESR_LEASE_SECONDS="4") as third:
            until(lambda: owner(folder) == third.pid or third.poll() is not None)
            assert not third.poll(), third.communicate()
