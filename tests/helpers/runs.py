"""Whole trainings, in this process or through a launcher, and what they leave."""

from __future__ import annotations

import faulthandler
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from multiprocessing import get_context
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from helpers.ports import free_port
from helpers.quick_fit import WANTED, few_steps

REPOSITORY = Path(__file__).parents[2]
LAUNCHERS = {
    "torchrun": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
    "deepspeed": [str(Path(sys.executable).with_name("deepspeed")), "--num_accelerators", "2"],
}

_ENDS_WITHIN = 400
"""Seconds."""


def run(config: Path, run_dir: Path, *arguments: str) -> int:
    from cyclesr_dist.training.main import main as train

    return train(["--config", str(config), "--run-dir", str(run_dir), "--quiet", *arguments])


def launch(launcher: str, config: Path, run_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    port = ["--master_port", str(free_port())] if launcher == "deepspeed" else []
    command = [*LAUNCHERS[launcher], *port, str(REPOSITORY / "launch/train.py"), "--config", str(config)]
    command += ["--run-dir", str(run_dir), "--quiet", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, check=False)


def run_alone(config: Path, run_dir: Path, *arguments: str) -> None:
    """In a process of its own, which DeepSpeed needs: it keeps the first process group it sees for ever."""
    code, stderr = outcome_alone(config, run_dir, *arguments)
    assert code == 0, stderr


def outcome_alone(config: Path, run_dir: Path, *arguments: str) -> tuple[int | None, str]:
    """Exit code and stderr of a training in a process of its own."""
    ((code, stderr),) = by_hand([["--config", str(config), "--run-dir", str(run_dir), "--quiet", *arguments]])
    return code, stderr


def two_ranks(config: Path, run_dir: Path, *arguments: str, **variables: str) -> tuple[list[int | None], str]:
    """Exit codes of a training's two ranks and all that they write to stderr.

    Where the launcher is not what is tested: `launch` imports torch in three more processes.
    """
    words = ["--config", str(config), "--run-dir", str(run_dir), "--quiet", *arguments]
    ended = by_hand([words, words], [{"LOCAL_WORLD_SIZE": "2"} | variables] * 2)
    return [code for code, _ in ended], "".join(stderr for _, stderr in ended)


def by_hand(
    ranks: list[list[str]], variables: list[dict[str, str]] | None = None, numbered: bool = True
) -> list[tuple[int | None, str]]:
    """Exit code and stderr of each rank of a training, which have arguments and variables of their own.

    With `numbered`, several have torchrun's variables besides. Forks of a process that has torch.
    """
    usual = {"WORLD_SIZE": str(len(ranks)), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    each = []
    for rank, words in enumerate(ranks):
        own = usual | {"RANK": str(rank), "LOCAL_RANK": str(rank)} if numbered and len(ranks) > 1 else {}
        each.append((words, own | (variables[rank] if variables else {})))
    return _forks(_train, each)


def program(code: str, *words: str) -> tuple[int | None, str]:
    """Exit code and stderr of `python -c code words`, in a fork of a process that has torch."""
    (ended,) = _forks(_program, [([code, *words], {})])
    return ended


def _forks(
    target: Callable[[list[str]], object], each: Sequence[tuple[list[str], dict[str, str]]]
) -> list[tuple[int | None, str]]:
    with ExitStack() as stack:
        files = [stack.enter_context(NamedTemporaryFile("r")) for _ in each]
        processes = []
        for (words, variables), file in zip(each, files, strict=True):
            own = (target, words, os.environ | variables, os.getcwd(), file.name)
            process = get_context("forkserver").Process(target=_fork, args=own)
            process.start()
            stack.callback(process.kill)
            processes.append(process)
        for process in processes:
            process.join(_ENDS_WITHIN)
        return [(process.exitcode, file.read()) for process, file in zip(processes, files, strict=True)]


def _fork(
    target: Callable[[list[str]], object], words: list[str], environment: dict[str, str], folder: str, stderr: str
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    with open(stderr, "wb") as file, open(os.devnull, "wb") as nothing:
        os.dup2(file.fileno(), 2)
        os.dup2(nothing.fileno(), 1)
    faulthandler.dump_traceback_later(_ENDS_WITHIN - 60, file=2)  # where a process is that does not end
    target(words)


def _train(words: list[str]) -> None:
    from cyclesr_dist.runtime.command import end_process
    from cyclesr_dist.training.main import main as train

    if "FAULT" in os.environ:
        from helpers.faulty_train import install_from

        install_from(os.environ)
    with few_steps() if WANTED in os.environ else nullcontext():
        end_process(lambda: train(words))


def _program(words: list[str]) -> None:
    sys.argv = ["-c", *words[1:]]
    exec(compile(words[0], "<string>", "exec"), {"__name__": "__main__"})


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def newest(run_dir: Path) -> Path:
    return max((run_dir / "checkpoints").iterdir())


def without_time(metrics: list[dict[str, Any]]) -> list[dict[str, Any]]:
    of_time = ("patches_per_second", "seconds.", "memory_mb.", "ranks.", "host.", "work.", "beside.")
    return [{k: v for k, v in line.items() if not k.startswith(of_time)} for line in metrics]
