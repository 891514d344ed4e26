"""Shared by all tests: one thread a process, so that several ranks fit two cores; Ctrl-C reaches what they start; a
tiny data set."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # of what they start: threads that wait must not spin
os.environ.setdefault("CYCLESR_NUM_THREADS", "1")  # of a training, which else takes all cores
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # some hundred processes start, and each would compile the package anew

import pytest
import torch
from helpers.backbones import write_backbones
from helpers.data import TinyData, make_tiny_data
from helpers.processes import all_marked
from helpers.quick_fit import few_steps

sys.dont_write_bytecode = False  # nor does each run of the tests rewrite their assertions anew
torch.set_num_threads(1)
# Ranks and loader processes that a test starts in Python begin with what takes seconds to import.
PRELOADED = ["deepspeed", "deepspeed.runtime.zero.muon.muon_optimizer"]  # the latter, of every ZeRO: with inductor
PRELOADED += ["torch._dynamo", "cyclesr_dist.training.launched", "cyclesr_dist.runtime.frozen"]
multiprocessing.set_forkserver_preload(PRELOADED)
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:  # as in a shell's background job, and every child inherits that
        signal.signal(number, handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Without the garbage collector: looking through all modules again and again took a fifth of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.fixture(scope="session")
def config_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text("system: cyclesr\nbackend: single\nema_decay: 0.9\n")
    return path


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> TinyData:
    return make_tiny_data(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def drawn_backbones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for CYCLESR_WEIGHTS."""
    return write_backbones(tmp_path_factory.mktemp("backbones"))


@pytest.fixture
def few_fit_steps() -> Iterator[None]:
    with few_steps():
        yield


@pytest.fixture
def mark() -> Iterator[str]:
    """Of processes that the test starts: none of them outlives it."""
    with all_marked() as mark:
        yield mark
