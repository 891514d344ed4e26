"""logs/rank<r>.log has the lines that the standard streams get, and is bounded."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from rich.console import Console

from cyclesr_dist.telemetry import rank_log
from cyclesr_dist.telemetry.progress import LiveView
from cyclesr_dist.telemetry.rank_log import RankLog
from cyclesr_dist.telemetry.record import StepRecord


def told(path: Path) -> list[str]:
    """Without the time that each line begins with."""
    return [line[20:] for line in path.read_text().splitlines()]


def test_lines_go_to_both_until_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "logs/rank0.log"
    for heading in ("first", "second"):
        with RankLog() as log:
            print("before")
            log.begin(path, heading)
            print("one", "word")
            print("a bar 10%\ra bar 90%\rdone", file=sys.stderr)
            print("https://u:secret@host/x?X-Amz-Signature=abc", file=sys.stderr)
            sys.stderr.write("half ")
            sys.stderr.write("and half\n")
        print("after")
    lines = told(path)
    half = len(lines) // 2
    assert lines[:3] == ["--- first", "one word", "done"]
    assert lines[4] == "half and half"
    assert lines[half:] == ["--- second", *lines[1:half]]
    assert "abc" not in path.read_text()
    out, err = capsys.readouterr()
    assert out == "before\none word\nafter\n" * 2
    assert err.count("a bar 10%\ra bar 90%\rdone\n") == 2


def test_a_full_log_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_log, "MOST_BYTES", 300)
    with RankLog() as log:
        log.begin(tmp_path / "rank0.log", "heading")
        for number in range(100):
            log.note(f"line {number}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rank0.log", "rank0.log.1"]
    assert all(path.stat().st_size < 400 for path in tmp_path.iterdir())
    assert told(tmp_path / "rank0.log")[-1] == "line 99"


def test_of_the_live_view_the_messages_alone_are_logged(tmp_path: Path) -> None:
    with RankLog() as log, (tmp_path / "terminal").open("w") as terminal:
        log.begin(tmp_path / "rank0.log", "heading")
        view = LiveView("cyclesr", Console(file=terminal, force_terminal=True))
        view.logged(StepRecord(3, 10, 0, "joint", 5.0, 7.0, losses={"mse": 0.5}))
        view.say("hello")
        view.close()
    assert told(tmp_path / "rank0.log") == ["--- heading", "hello"]
    assert "hello" in (tmp_path / "terminal").read_text()
