"""What a run shows, on a terminal and in a log, and where the warnings of libraries go."""

from __future__ import annotations

import io
import json
import logging
import sys
import warnings
from pathlib import Path

import pytest
from rich.console import Console

from cyclesr_dist.runtime import bars
from cyclesr_dist.telemetry.library_warnings import LibraryWarnings
from cyclesr_dist.telemetry.progress import JsonLines, LiveView, Plain, Progress, open_progress
from cyclesr_dist.telemetry.record import StepRecord, ValidationRecord

TERMS = {"adv_s2r": 0.25, "cyc_forward": 0.0123, "mse": 0.00456, "d_r": 0.21}
STATUS = StepRecord(40, 100, 2, "joint", 3723.0, 12.34, losses=TERMS, seconds={"data_wait": 0.07, "step": 0.93})


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [60, 140])
def test_the_live_view_has_everything_and_fits_the_terminal(width: int) -> None:
    out = Terminal()
    view = LiveView("cyclesr", Console(file=out, width=width, force_terminal=True, color_system=None))
    view.logged(STATUS)
    view.validated(ValidationRecord(30, {"psnr": 23.5, "ssim": 0.6}))
    view.validated(ValidationRecord(40, {"psnr": 23.25, "ssim": 0.61}))
    view.warn("the sky is [red]")
    view.close()
    text = out.getvalue()
    last = text[text.rindex("joint, epoch 2") :]
    for part in ("step 40 of 100", "40.0%", "1:02:03 left", "12.3 patches/s", "7% of the time waiting for data"):
        assert part in " ".join(last.split()), part
    assert "psnr 23.2500" in last
    assert "best PSNR 23.500 dB" in " ".join(last.split())
    assert all(name in last for name in TERMS)
    assert "warning: the sky is [red]" in text  # no markup
    assert max(len(line) for line in last.splitlines()) <= width + 20  # and control sequences


def test_plain_lines_are_few_but_the_last_step_has_one(capsys) -> None:
    plain = Plain()
    for step in range(1, 101):
        plain.logged(StepRecord(step, 100, 0, "joint", 9.0, 5.0, losses=TERMS, seconds={"data_wait": 1.0, "step": 1.0}))
    plain.validated(ValidationRecord(100, {"psnr": 20.0}))
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "step 1/100 epoch 0 joint",
        "step 100/100 epoch 0 joint",
        "step 100",
    ]
    assert lines[0].endswith("5.0 patches/s, 50% waiting for data, 0:09 left")
    assert "\r" not in lines[0]


def test_json_lines_are_one_object_each(capsys) -> None:
    log = JsonLines()
    log.logged(STATUS)
    log.validated(ValidationRecord(40, {"psnr": 23.0}))
    log.say("a\nb")
    log.warn(["careful"])
    records = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [r["event"] for r in records] == ["progress", "validation", "message", "warning"]
    assert records[0]["terms"] == TERMS
    assert records[0]["left_seconds"] == 3723.0
    assert records[1]["psnr"] == 23.0
    assert records[2]["message"] == "a\nb"
    assert all(r["at"] > 1.6e9 for r in records)


def test_json_lines_are_json_also_when_numbers_are_not(capsys) -> None:
    log = JsonLines()
    log.logged(StepRecord(1, 2, 0, "joint", 1.0, 1.0, losses={"mse": float("nan"), "l1": 0.5}))
    log.validated(ValidationRecord(1, {"psnr": float("inf")}))

    def refuse(text: str) -> None:
        raise AssertionError(text)

    shown, scored = (json.loads(line, parse_constant=refuse) for line in capsys.readouterr().err.splitlines())
    assert shown["terms"] == {"mse": None, "l1": 0.5}
    assert scored["psnr"] is None


class Gone(Terminal):
    """A terminal that was closed."""

    def write(self, text: str) -> int:
        raise BrokenPipeError

    def flush(self) -> None:
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize("log", ["live", "plain", "json"])
def test_a_terminal_that_is_closed_ends_nothing(log, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stderr", Gone())
    view = open_progress(log, "x", enabled=True)
    view.logged(STATUS)
    view.validated(ValidationRecord(40, {"psnr": 1.0}))
    view.warn("fire")
    if isinstance(view, LiveView):
        view.live.refresh()
    view.close()


def test_the_view_follows_the_setting_and_the_terminal(monkeypatch, capsys) -> None:
    assert type(open_progress("auto", "x", enabled=True)) is Plain
    assert type(open_progress("json", "x", enabled=True)) is JsonLines
    assert type(open_progress("json", "x", enabled=False)) is Progress
    monkeypatch.setattr(sys, "stderr", Terminal())
    live = open_progress("auto", "x", enabled=True)
    live.close()
    assert type(live) is LiveView
    assert type(open_progress("plain", "x", enabled=True)) is Plain


def test_a_quiet_run_shows_warnings_alone(capsys) -> None:
    quiet = open_progress("auto", "x", enabled=False)
    quiet.logged(STATUS)
    quiet.validated(ValidationRecord(1, {"psnr": 1.0}))
    quiet.say("hello")
    quiet.warn("fire")
    assert capsys.readouterr().err == "cyclesr: warning: fire\n"


# Commands


def test_bars_say_nothing_in_a_log_until_it_takes_long(monkeypatch, capsys) -> None:
    assert list(bars.each([1, 2, 3], "cut hr", "image")) == [1, 2, 3]
    assert capsys.readouterr().err == ""
    now = [0.0]
    monkeypatch.setattr(bars.time, "monotonic", lambda: now[0])
    with bars.Bar(10, "pack hr", "patch") as bar:
        for _ in range(10):
            now[0] += 7.0
            bar.update()
    assert capsys.readouterr().err.splitlines() == [
        "pack hr: 3 of 10 patches, about 0:49 left",
        "pack hr: 6 of 10 patches, about 0:28 left",
        "pack hr: 9 of 10 patches, about 0:07 left",
    ]
    with bars.Bar(10, "pack hr", "patch", show=False) as bar:
        now[0] += 100
        bar.update()
    assert capsys.readouterr().err == ""


def test_bars_draw_on_a_terminal(monkeypatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(bars.each(iter([1, 2]), "cut", "image", total=2)) == [1, 2]
    assert "cut: 100%" in terminal.getvalue()


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (61, "1:01"), (3661.4, "1:01:01"), (-3, "0:00")])
def test_clock(seconds: float, text: str) -> None:
    assert bars.clock(seconds) == text


# Libraries


def test_library_warnings_go_to_the_log_and_errors_and_our_own_do_not(tmp_path, capfd, monkeypatch) -> None:
    monkeypatch.setattr(warnings, "showwarning", lambda message, *_, **__: print(message, file=sys.stderr))
    own = str(Path(bars.__file__))
    deepspeed, torch_child = logging.getLogger("DeepSpeed"), logging.getLogger("torch.distributed.child")
    loud = logging.StreamHandler(sys.stderr)
    with LibraryWarnings() as libraries:
        deepspeed.addHandler(loud)  # as its import does
        warnings.warn_explicit("early and nothing to be done", UserWarning, "/lib/torch/nn.py", 7)
        libraries.to(tmp_path / "log.txt")
        warnings.warn_explicit("do this", UserWarning, own, 3)
        deepspeed.warning("ZeRO is not what you think")
        deepspeed.error("engine on fire")
        torch_child.warning("profiler is deprecated")
        torch_child.error("store is gone")
    deepspeed.removeHandler(loud)
    log, shown = (tmp_path / "log.txt").read_text(), capfd.readouterr().err
    for line in ("early and nothing to be done", "ZeRO is not what you think", "profiler is deprecated"):
        assert line in log
        assert line not in shown
    for line in ("do this", "engine on fire", "store is gone"):
        assert line in shown
    assert "/lib/torch/nn.py:7: UserWarning" in log


def test_warnings_of_other_ranks_are_dropped_and_not_kept(capfd, monkeypatch) -> None:
    monkeypatch.setattr(warnings, "showwarning", lambda message, *_, **__: print(message, file=sys.stderr))
    with LibraryWarnings() as libraries:
        warnings.warn_explicit("early", UserWarning, "/lib/torch/nn.py", 7)
        libraries.to(None)
        for line in range(3):
            warnings.warn_explicit("again", UserWarning, "/lib/torch/nn.py", line)
        assert libraries.kept.buffer == []
    assert capfd.readouterr().err == ""


def test_no_warning_no_log(tmp_path) -> None:
    with LibraryWarnings() as libraries:
        libraries.to(tmp_path / "log.txt")
    assert not list(tmp_path.iterdir())
