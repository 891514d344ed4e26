"""What begins before torch is imported: reading the configuration, and the server that loader processes come from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cyclesr_dist.config.schema import Config, load
from cyclesr_dist.errors import ConfigError
from cyclesr_dist.training.ahead import read_ahead

TESTS = Path(__file__).parents[1]
CODE = """
import sys
from multiprocessing import get_context
import psutil
from helpers.imports import tell_imports
from cyclesr_dist.config.schema import load
from cyclesr_dist.training.ahead import read_ahead

workers, trains = int(sys.argv[1]), sys.argv[2] == "trains"
read_ahead(lambda: load(None, [f"data.workers={workers}"]), trains=trains)
assert "torch" not in sys.modules
print(len(psutil.Process().children()))
if workers and trains:
    context = get_context("forkserver")
    ours, theirs = context.Pipe()
    context.Process(target=tell_imports, args=(theirs,)).start()
    modules, frozen = ours.recv()
    print(*{"torch", "cyclesr_dist.data.loader"} & set(modules))
    print(frozen)
"""


def told(*words: object) -> list[str]:
    command = [sys.executable, "-c", CODE, *map(str, words)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_loader_process_has_torch_when_it_begins_and_its_garbage_collector_leaves_it_alone() -> None:
    number, modules, frozen = told(1, "trains")
    assert int(number) >= 1
    assert set(modules.split()) == {"torch", "cyclesr_dist.data.loader"}
    assert int(frozen) > 100_000


@pytest.mark.parametrize("words", [(0, "trains"), (1, "tries")])
def test_without_loader_processes_none_is_started(words: tuple[int, str]) -> None:
    assert told(*words) == ["0"]


def test_what_the_first_step_does_not_need_is_not_imported_before() -> None:
    late = ("cyclesr_dist.reports.run_report", "deepspeed", "torch._dynamo", "sympy", "scipy", "onnx", "tensorboard")
    code = f"import sys, cyclesr_dist.training.launched; print(*(set({late}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_configuration_is_read_once_and_its_error_is_told_later() -> None:
    calls: list[int] = []

    def good() -> Config:
        calls.append(1)
        return load(None, [])

    given = read_ahead(good)
    assert given() is given()
    assert len(calls) == 1
    bad = read_ahead(lambda: load(None, ["data.workers=-1"]))
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"data\.workers"):
            bad()
