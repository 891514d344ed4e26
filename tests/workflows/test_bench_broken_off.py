"""`cyclesr bench` that is broken off, or cannot do all of its work."""

from __future__ import annotations

import signal
import tempfile
from pathlib import Path

import numpy as np
import psutil
import pytest
from helpers.processes import BIN, all_marked, marked, started, words
from helpers.waiting import until

from cyclesr_dist.cli.main import main as cyclesr
from cyclesr_dist.errors import CycleSRError
from cyclesr_dist.workflows.bench import whole
from cyclesr_dist.workflows.bench.loaders import decode_limit, square

MINUTES_LONG = {
    "one array": ["upscale", "--model", "bicubic", "--sides", "2048", "--rounds", "1000"],
    "contenders": ["train", "--case", "cyclesr small", "--rounds", "1000"],
}


def at_work(mark: str, bench: psutil.Process) -> list[psutil.Process]:
    """Processes below the command that use the processor: they measure."""
    found = []
    for process in marked(mark):
        try:
            measures = "spawn_main" in " ".join(words(process)) and sum(process.cpu_times()[:2]) > 1
        except psutil.NoSuchProcess:
            continue
        if process.pid != bench.pid and measures:
            found.append(process)
    return found


@pytest.mark.parametrize("measurement", MINUTES_LONG)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.slow
def test_what_it_has_started_does_not_outlive_it(tmp_path: Path, number: signal.Signals, measurement: str) -> None:
    """Nor do its files."""
    command = [str(BIN / "cyclesr"), "bench", *MINUTES_LONG[measurement], "--quiet"]
    with all_marked() as mark, started(command, MARK=mark, TMPDIR=str(tmp_path)) as process:
        until(lambda: at_work(mark, psutil.Process(process.pid)))
        process.send_signal(number)
        assert process.wait(60) == (-number if number == signal.SIGKILL else 128 + number)
        until(lambda: not marked(mark), 60)
        assert not [path for path in tmp_path.iterdir() if path.name.startswith("cyclesr")]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 50), (7, 3), (60, 41)])
def test_a_photograph_of_any_size_becomes_a_square(height: int, width: int) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    found = square(photo, 40)
    assert found.shape == (40, 40, 3)
    assert np.array_equal(found[:height, :width], photo[:40, :40])


@pytest.mark.slow
def test_decoding_alone_that_fails_is_not_waited_for() -> None:
    with pytest.raises(CycleSRError, match="decoding alone: a process has ended with 1"):
        decode_limit([(b"no patch", b"no patch")], "tiff", 8, processes=1, seconds=1)


@pytest.mark.parametrize(
    "words",
    [
        ["data"],
        ["all"],
        ["train"],
        ["scaling"],
        ["upscale", "--model", "bicubic"],
        ["checkpoint"],
        ["score"],
        ["estimate"],
        ["telemetry"],
    ],
)
def test_figures_that_cannot_be_written_are_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "no work is begun"))
    path = tmp_path / "missing" / "figures.json"
    assert cyclesr(["bench", *words, "--json", str(path), "--quiet"]) == 2
    assert capsys.readouterr().err == f"cyclesr: error: --json {path}: no such folder {path.parent}\n"


def test_a_part_that_meets_a_full_disk_does_not_stop_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> dict[str, object]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(whole.data, "bench_data", full)
    monkeypatch.setattr(whole.checkpoint, "bench_checkpoint", lambda *_: {"megabytes": 1})
    told: dict[str, object] = {}
    found = whole.bench_all(("data", "checkpoint"), [], tmp_path, True, False, told.__setitem__)
    assert found == told == {
        "data": {"error": "OSError: [Errno 28] No space left on device"},
        "checkpoint": {"megabytes": 1},
    }  # fmt: skip


@pytest.mark.parametrize(
    "words", [["data", "--seconds"], ["telemetry", "--scrape-seconds"], ["scaling", "--step-seconds"]]
)
def test_what_would_never_end_is_refused(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert cyclesr(["bench", *words, "inf", "--quiet"]) == 2
    assert f"{words[1]} = inf is out of range; allowed: above 0 and below inf" in capsys.readouterr().err
