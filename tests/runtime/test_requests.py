"""Signals that ask a run to stop; runs whose supervisor, launcher or terminal is gone. All save, nothing is left."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.processes import (
    ENDLESS,
    SUPERVISE,
    TRAIN,
    arguments,
    below,
    launcher,
    marked,
    outcome,
    started,
    steps_done,
    tensors,
    words,
)
from helpers.waiting import stays, until

OTHERS = pytest.mark.parametrize("signal_name", ["SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"])
LIGHT = str(Path(__file__).parents[1] / "helpers/light_rank.py")
LOADERS = "data.workers=1"
"""Their processes, and a fork server for each rank, take as long to begin as the ranks."""
BEGUN = 3
"""Steps after which a run is hit."""


@pytest.fixture
def settings(tiny_data) -> list[str]:
    return [*tiny_data.overrides, "backend=ddp", "data.workers=0", *ENDLESS]


def saved(run_dir: Path) -> int:
    """The step of the only checkpoint."""
    (checkpoint,) = (run_dir / "checkpoints").iterdir()
    return int(checkpoint.name[-8:])


def begun(run_dir: Path) -> None:
    until(lambda: steps_done(run_dir) >= BEGUN)


def num_ranks(name: str) -> int:
    return 1 if name == "python" else 2


def light_ranks_begun(folder: Path, name: str) -> None:
    until(lambda: len(list(folder.glob("begun-*"))) == num_ranks(name))


def ended(mark: str) -> None:
    until(lambda: not marked(mark), 180)


@pytest.mark.slow
def test_a_warning_ahead_of_time_saves_and_the_resumed_run_is_the_uninterrupted_one(
    config_file, settings, mark, tmp_path
) -> None:
    single = [*settings, "backend=single"]
    command = [*launcher("python"), TRAIN]
    with started([*command, *arguments(config_file, tmp_path / "run", *single)], MARK=mark) as p:
        begun(tmp_path / "run")
        p.send_signal(signal.SIGUSR1)
        p.send_signal(signal.SIGUSR1)
        code, stderr = outcome(p)
    assert code == 75, stderr
    assert "stopped: SIGUSR1: saved at step" in stderr[-1]
    ended(mark)
    end = f"train.max_steps={saved(tmp_path / 'run') + 3}"
    for name in ("run", "whole"):
        with started([*command, *arguments(config_file, tmp_path / name, *single, end, "--resume")]) as p:
            code, stderr = outcome(p, 150)
        assert code == 0, stderr
    resumed, whole = tensors(tmp_path / "run"), tensors(tmp_path / "whole")
    assert all(torch.equal(tensor, resumed[key]) for key, tensor in whole.items())


@pytest.mark.slow
@OTHERS
@pytest.mark.parametrize("name", ["python", "torchrun", "deepspeed"])
def test_every_request_to_a_supervisor_reaches_the_ranks(name, signal_name, mark, tmp_path) -> None:
    """What a training then does is the same for all: test_survival.py has one under each launcher."""
    with started([*SUPERVISE, *launcher(name), LIGHT, str(tmp_path)], MARK=mark) as p:
        light_ranks_begun(tmp_path, name)
        p.send_signal(signal.Signals[signal_name])
        code, stderr = outcome(p)
        ended(mark)
    assert code == 75, stderr
    assert f"cyclesr: {signal_name}: the ranks are asked to save and leave" in stderr
    assert len(list(tmp_path.glob("saved-*"))) == num_ranks(name)


@pytest.mark.slow
@OTHERS
@pytest.mark.parametrize("name", ["python", "torchrun", "deepspeed"])
def test_every_request_to_a_launcher_reaches_the_ranks(name, signal_name, mark, tmp_path) -> None:
    """Also those that end the launcher, of which the ranks then hear nothing."""
    with started([*launcher(name), LIGHT, str(tmp_path)], MARK=mark) as p:
        light_ranks_begun(tmp_path, name)
        p.send_signal(signal.Signals[signal_name])
        p.communicate(timeout=240)
        ended(mark)
    assert p.returncode == 75 or name != "python"
    assert len(list(tmp_path.glob("saved-*"))) == num_ranks(name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "signal_name"), [("python", "SIGQUIT"), ("torchrun", "SIGUSR2"), ("deepspeed", "SIGHUP")]
)
def test_a_request_to_a_launcher_saves_a_training(name, signal_name, config_file, settings, mark, tmp_path) -> None:
    command = [*launcher(name), TRAIN, *arguments(config_file, tmp_path / "run", *settings)]
    with started(command, MARK=mark) as p:
        begun(tmp_path / "run")
        p.send_signal(signal.Signals[signal_name])
        p.communicate(timeout=240)
        ended(mark)
    assert p.returncode == 75 or name != "python"
    assert saved(tmp_path / "run") >= BEGUN


@pytest.mark.parametrize(
    ("name", "signal_name"),
    [
        ("python", "SIGUSR1"),
        *(pytest.param("torchrun", n, marks=pytest.mark.slow) for n in ("SIGUSR1", "SIGTERM", "SIGHUP")),
        *(pytest.param("deepspeed", n, marks=pytest.mark.slow) for n in ("SIGTERM", "SIGUSR1")),
    ],
)
def test_a_signal_to_every_process_at_once_saves(name, signal_name, config_file, settings, mark, tmp_path) -> None:
    """As Slurm sends it: to the supervisor, its guard, the launcher, ranks, fork servers and loader processes."""
    command = [*SUPERVISE, *launcher(name), TRAIN, *arguments(config_file, tmp_path / "run", *settings, LOADERS)]
    with started(command, MARK=mark) as p:
        begun(tmp_path / "run")
        for process in marked(mark):
            process.send_signal(signal.Signals[signal_name])
        code, stderr = outcome(p)
        ended(mark)
    assert code == 75, stderr
    assert saved(tmp_path / "run") >= BEGUN


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torchrun", "deepspeed", "deepspeed, for this machine"])
def test_ranks_whose_launcher_is_killed_save_without_a_supervisor(name, config_file, settings, mark, tmp_path) -> None:
    more = [LOADERS] if name == "torchrun" else []
    command = [*launcher(name.split(",")[0]), TRAIN, *arguments(config_file, tmp_path / "run", *settings, *more)]
    with started(command, MARK=mark) as p:
        begun(tmp_path / "run")
        own = [c for c in below(p.pid) if any("launcher.launch" in word for word in words(c))]
        (own[0] if "," in name else p).kill()
        _, stderr = p.communicate(timeout=240)
        ended(mark)
    assert "stopped: the launcher (process" in stderr
    assert saved(tmp_path / "run") >= BEGUN


@pytest.mark.parametrize(
    "name",
    ["python", pytest.param("deepspeed", marks=pytest.mark.slow), pytest.param("torchrun", marks=pytest.mark.slow)],
)
def test_ranks_whose_supervisor_is_killed_save(name, config_file, settings, mark, tmp_path) -> None:
    more = ["--max-restarts=2"] if name == "torchrun" else []  # the ranks that it starts again leave, too
    settings += [LOADERS] if name == "torchrun" else []
    command = [*SUPERVISE, *launcher(name), *more, TRAIN, *arguments(config_file, tmp_path / "run", *settings)]
    with started(command, MARK=mark) as p:
        begun(tmp_path / "run")
        p.kill()
        _, stderr = p.communicate(timeout=240)  # to the end of all that can write there
        ended(mark)
    assert "stopped: cyclesr supervise (process" in stderr
    assert saved(tmp_path / "run") >= BEGUN


def test_loader_processes_end_with_a_rank_that_is_killed(config_file, settings, mark, tmp_path) -> None:
    more = ["backend=single", "data.workers=2"]
    command = [*launcher("python"), TRAIN, *arguments(config_file, tmp_path / "run", *settings, *more)]
    with started(command, MARK=mark) as p:
        begun(tmp_path / "run")
        assert len(marked(mark)) >= 4  # a fork server, too
        p.kill()
        until(lambda: not marked(mark), 60)


def test_a_supervised_command_that_is_no_training_ends_with_the_supervisor(mark) -> None:
    """Also what ignores SIGTERM, and what has left the session."""
    script = 'trap "" TERM; setsid sleep 600 & sleep 600'
    with started([*SUPERVISE, "sh", "-c", script], MARK=mark) as p:
        until(lambda: sum(process.name() == "sleep" for process in marked(mark)) == 2)
        p.kill()
        until(lambda: not marked(mark), 180)


class Terminal:
    """A terminal that can be closed, and a command in it."""

    def __init__(self, command: list[str], mark: str) -> None:
        self.master, slave = pty.openpty()
        own = (
            "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", own, *command], stdin=slave, stdout=slave, stderr=slave,
            env=os.environ | {"OMP_NUM_THREADS": "1", "MARK": mark}, start_new_session=True,
        )  # fmt: skip
        os.close(slave)

    def close(self) -> None:
        os.close(self.master)


@pytest.mark.parametrize("supervised", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_closed_terminal_saves(supervised, config_file, settings, mark, tmp_path) -> None:
    """What is written to it then fails, and does not matter."""
    loud = [word for word in arguments(config_file, tmp_path / "run", *settings) if word != "--quiet"]
    words = [*SUPERVISE, *launcher("torchrun"), TRAIN] if supervised else [*launcher("python"), TRAIN, "backend=single"]
    terminal = Terminal([*words, *loud], mark)
    os.set_blocking(terminal.master, False)
    until(lambda: drained(terminal.master) and steps_done(tmp_path / "run") >= BEGUN)
    terminal.close()
    assert terminal.process.wait(60) == 75
    ended(mark)
    assert saved(tmp_path / "run") >= BEGUN


def drained(descriptor: int) -> bool:
    """Read what there is: a terminal that nobody reads stops those that write."""
    try:
        while os.read(descriptor, 65536):
            pass
    except BlockingIOError:
        return True
    return True


@pytest.mark.parametrize("number", [signal.SIGHUP, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_request_that_was_to_be_ignored_is(number, config_file, settings, mark, tmp_path) -> None:
    """As `nohup` starts a process, and a shell its background jobs."""
    more = ["backend=single"]
    words = [*launcher("python"), TRAIN, *arguments(config_file, tmp_path / "run", *settings, *more)]
    ignoring = ["sh", "-c", f"trap '' {number.name[3:]}; exec \"$@\"", "sh"]
    with started([*ignoring, *words], MARK=mark) as p:
        begun(tmp_path / "run")
        p.send_signal(number)
        now = steps_done(tmp_path / "run")
        until(lambda: steps_done(tmp_path / "run") > now + 20)
        p.send_signal(signal.SIGTERM)
        code, stderr = outcome(p)
    assert code == 75, stderr
    assert "stopped: SIGTERM" in stderr[-1]


def test_an_insistent_signal_follows_a_warning_without_harm(mark) -> None:
    """SIGTERM some seconds after SIGUSR1 is how schedulers do it, not a second request that leaves at once."""
    words = [*SUPERVISE, "sh", "-c", 'trap "" TERM; sleep 600']
    with started(words, MARK=mark) as p:
        until(lambda: any(process.name() == "sleep" for process in marked(mark)))
        p.send_signal(signal.SIGUSR1)
        stays(lambda: p.poll() is None, 4)
        p.send_signal(signal.SIGTERM)
        stays(lambda: p.poll() is None, 2)
