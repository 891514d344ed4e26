"""Trainings as processes, under launchers, and what is below them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import torch
from safetensors.torch import load_file

from helpers.ports import free_port
from helpers.runs import REPOSITORY

BIN = Path(sys.executable).parent
FAULTY = str(Path(__file__).with_name("faulty_train.py"))
"""TRAIN with a fault."""
TRAIN = str(REPOSITORY / "launch/train.py")
ENDLESS = ["train.epochs=1000000", "train.checkpoint_every_steps=1000000", "train.validate_every_steps=1000000"]
SUPERVISE = [str(BIN / "cyclesr"), "supervise", "--"]
ELSEWHERE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
"""Ahead of a command: process numbers are others there, as in another container."""
NO_ELSEWHERE = subprocess.run([*ELSEWHERE, "true"], check=False, capture_output=True).returncode != 0


def launcher(name: str) -> list[str]:
    port = str(free_port())
    return {
        "python": [sys.executable],
        "torchrun": [str(BIN / "torchrun"), "--standalone", "--nproc-per-node", "2"],
        "deepspeed": [str(BIN / "deepspeed"), "--num_accelerators", "2", "--master_port", port],
    }[name]


@contextmanager
def started(command: list[str], **environment: str) -> Iterator[subprocess.Popen[str]]:
    """In a session of its own, nothing of which outlives the block."""
    variables = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables, start_new_session=True
    )
    try:
        yield process
    finally:
        kill(below(process.pid))
        process.kill()
        if not process.stderr.closed:  # type: ignore[union-attr]
            print(*process.communicate(), sep="\n")  # pytest shows it when the test has failed


def marked(mark: str) -> list[psutil.Process]:
    """All living processes that were started with MARK=`mark` in their environment, wherever they are by now."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("MARK") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


@contextmanager
def all_marked() -> Iterator[str]:
    """A mark for `started`. Nothing that has it outlives the block."""
    mark = uuid.uuid4().hex
    try:
        yield mark
    finally:
        kill(marked(mark))


def kill(processes: Iterable[psutil.Process]) -> None:
    """All of them. Some end by themselves as soon as another one is gone."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def words(process: psutil.Process) -> list[str]:
    """Its command. Of one that has ended: none."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


@contextmanager
def slowed(process: psutil.Process, stopped: float = 0.06, running: float = 0.02) -> Iterator[None]:
    """As on a machine whose processor is another program's for three quarters of the time."""
    done = threading.Event()

    def take_turns() -> None:
        with suppress(psutil.NoSuchProcess):
            while not done.wait(running):
                process.suspend()
                done.wait(stopped)
                process.resume()

    thread = threading.Thread(target=take_turns, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def below(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def ranks(process: subprocess.Popen[str], script: str = TRAIN) -> dict[int, psutil.Process]:
    """The ranks below a launcher."""
    found = {}
    for child in below(process.pid):
        try:
            variables = child.environ()
            if script in child.cmdline() and "RANK" in variables and "LOCAL_RANK" in variables:
                found[int(variables["RANK"])] = child
        except psutil.Error:
            continue
    return found


def steps_done(run_dir: Path) -> int:
    path = run_dir / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def outcome(process: subprocess.Popen[str], seconds: float = 240.0) -> tuple[int, list[str]]:
    """Exit code and the lines of stderr."""
    _, stderr = process.communicate(timeout=seconds)
    return process.returncode, stderr.strip().splitlines()


def arguments(config: Path, run_dir: Path, *overrides: str) -> list[str]:
    return ["--config", str(config), "--run-dir", str(run_dir), "--quiet", *overrides]


def tensors(run_dir: Path) -> dict[str, torch.Tensor]:
    return load_file(max((run_dir / "checkpoints").iterdir()) / "tensors.safetensors")
