"""Launches that cannot be meant, and what torchrun is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from cyclesr_dist.cli.main import main as cyclesr
from cyclesr_dist.config.schema import load
from cyclesr_dist.distributed import compiler
from cyclesr_dist.distributed import placement as machine
from cyclesr_dist.distributed.build import check_backend
from cyclesr_dist.distributed.local_ranks import run_ranks
from cyclesr_dist.distributed.placement import check_launch
from cyclesr_dist.distributed.world import World
from cyclesr_dist.errors import ConfigError, InputError
from cyclesr_dist.runtime import control_groups
from cyclesr_dist.runtime.command import guarded
from cyclesr_dist.runtime.hostfile import check_hostfile, check_launchers_hostfile
from cyclesr_dist.runtime.torchrun import tell_torchrun

TRAIN = ["launch/train.py", "--config", "a.yaml"]


@pytest.mark.parametrize(
    "switches",
    [
        ["--hostfile", "hosts"],
        ["--hostfile=hosts"],
        ["-H", "hosts"],
        ["-Hhosts"],
        ["-H=hosts"],
        ["--hostf", "hosts"],
        ["--num_gpus", "8", "--no_ssh", "-q", "--hostfile", "hosts", "--node_rank", "0"],
        ["--module", "-H", "hosts"],
        ["--hostfile", "there", "-H", "hosts"],
    ],
)
@pytest.mark.parametrize(
    "program",
    [["deepspeed"], [sys.executable, "/opt/bin/deepspeed"], ["python", "-m", "deepspeed.launcher.runner"]],
)
def test_a_hostfile_that_is_not_there_is_refused_by_name(program, switches, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("a slots=1\n")
    with pytest.raises(InputError, match="--hostfile hosts: no such file") as caught:
        check_hostfile([*program, *switches, *TRAIN], str(tmp_path))
    assert str(tmp_path / "hosts") in str(caught.value)
    assert caught.value.exit_code == 2
    (tmp_path / "hosts").write_text("a slots=1\n")
    check_hostfile([*program, *switches, *TRAIN], str(tmp_path))


@pytest.mark.parametrize(
    "command",
    [
        [],
        [""],
        ["deepspeed"],
        ["deepspeed", "--hostfile"],
        ["deepspeed", "--hostfile="],
        ["deepspeed", "--", "-"],
        ["deepspeed", *TRAIN],
        ["deepspeed", "--num_gpus", "2", "train.py", "--hostfile", "hosts"],
        ["deepspeed", "--master_addr", "-H", "hosts", "train.py"],
        ["torchrun", "--hostfile", "hosts", "train.py"],
        ["mpirun", "-hostfile", "hosts", "python", "train.py"],
        ["deepspeed", "--hostfile", "/dev/null/\x00odd"],
    ],
)
def test_other_command_lines_are_let_through_or_refused_in_words(command, tmp_path: Path) -> None:
    try:
        check_hostfile(command, str(tmp_path))
    except InputError:
        assert "\x00" in command[-1]


def test_a_rank_finds_the_hostfile_of_the_launcher_above_it(tmp_path: Path) -> None:
    launcher = tmp_path / "deepspeed"
    code = "from cyclesr_dist.runtime.hostfile import check_launchers_hostfile as c; c()"
    launcher.write_text(
        f"import subprocess, sys\nsys.exit(subprocess.call([sys.executable, '-c', {code!r}], cwd='/'))\n"
    )
    command = [sys.executable, str(launcher), "--hostfile", "hosts", "train.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode
    assert str(tmp_path / "hosts") in done.stderr.splitlines()[-1]
    several = os.environ | {"CROSS_SIZE": "2"}  # it was read, and is gone since
    assert subprocess.run(command, cwd=tmp_path, env=several, check=False).returncode == 0
    (tmp_path / "hosts").write_text("a slots=1\n")
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 0


@pytest.mark.parametrize("error", [psutil.AccessDenied(1), psutil.NoSuchProcess(1), FileNotFoundError("/proc"), None])
def test_processes_that_cannot_be_looked_at_are_passed_over(error, monkeypatch) -> None:
    class Odd:
        def parents(self) -> list[Odd]:
            if isinstance(error, OSError):
                raise error
            return [self]

        def cmdline(self) -> list[str]:
            if error is not None:
                raise error
            return ["deepspeed", "--hostfile", ""]

        def cwd(self) -> str:
            return ""

    monkeypatch.setattr(psutil, "Process", Odd)
    check_launchers_hostfile()


def test_supervise_refuses_before_anything_starts(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deepspeed").write_text("#!/bin/sh\ntouch started\n")
    (tmp_path / "deepspeed").chmod(0o755)
    assert cyclesr(["supervise", "--", "./deepspeed", "--hostfile", "hosts", *TRAIN]) == 2
    assert "--hostfile hosts: no such file" in capsys.readouterr().err
    assert not (tmp_path / "started").exists()


def test_more_ranks_than_gpus_are_refused(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match=r"8 ranks on a machine with 2 GPUs; .*--num_gpus 2, .*--nproc-per-node 2"):
        machine.refuse(World(rank=2, num_ranks=8, local_rank=2, local_num_ranks=8))
    machine.refuse(World(rank=9, num_ranks=16, local_rank=1, local_num_ranks=2))
    # Started by hand on two machines, without a word of how many there are on each.
    machine.refuse(World(rank=3, num_ranks=4, local_rank=0, local_num_ranks=4))


def crowded(world: World, cores: list[int]) -> list[str]:
    os.sched_setaffinity(0, cores if len(cores) < world.num_ranks else [cores[world.rank]])
    said: list[str] = []
    check_launch(world, said.append)
    return said


def test_more_ranks_than_cores_are_said_once() -> None:
    core = min(os.sched_getaffinity(0))
    first, second = run_ranks(crowded, 2, [core])
    assert first == [
        "2 ranks share 1 CPU core; start at most 1 (deepspeed --num_accelerators 1, torchrun --nproc-per-node 1)"
    ]
    assert second == []


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_ranks_that_are_bound_to_a_core_each_share_none() -> None:
    assert run_ranks(crowded, 2, sorted(os.sched_getaffinity(0))[:2]) == [[], []]


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "max 100000\n"}, 0),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "nonsense"}, 0),
        ({"cpu.max": "100000 0"}, 0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu.max": "max 100000\n", "job/cpu.max": "300000 100000\n", "job/step/cpu.max": "max 100000\n"}, 3),
        ({"cpu.max": "200000 100000\n", "job/step/cpu.max": "800000 100000\n"}, 2),
        ({"cpu/job/cpu.cfs_quota_us": "100000\n", "cpu/job/cpu.cfs_period_us": "100000\n"}, 1),
        ({"other/cpu.max": "100000 100000\n"}, 0),
        ({}, 0),
    ],
)
def test_the_quota_of_a_container_or_of_a_job_and_its_step(files, cores, tmp_path, monkeypatch) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "own").write_text("4:cpu,cpuacct:/job/step\n0::/job/step\n")
    monkeypatch.setattr(control_groups, "GROUPS", tmp_path)
    monkeypatch.setattr(control_groups, "OWN", tmp_path / "own")
    assert machine.quota_cores() == cores


@pytest.fixture
def fresh_compiler():
    compiler.check_compiler.cache_clear()
    yield
    compiler.check_compiler.cache_clear()


@pytest.mark.parametrize(
    ("device", "variable", "said"),
    [
        ("cpu", None, r"needs a C\+\+ compiler, and there is no g\+\+; .*CXX.* speed\.compile=false"),
        ("cpu", "no-such-compiler", "needs a C.. compiler, and CXX = 'no-such-compiler' is no program"),
        ("cpu", "", "CXX = '' is no program"),
        ("cuda", None, "needs a C compiler, and there is no gcc or clang; .*CC.* speed.compile=false"),
        ("cuda", "no-such-compiler", "needs a C compiler, and CC = 'no-such-compiler' is no program"),
    ],
)
def test_compiling_without_a_compiler_is_refused(device, variable, said, fresh_compiler, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
        if variable is not None:
            monkeypatch.setenv(name, variable)
    with pytest.raises(ConfigError, match=r"speed\.compile = true") as caught:
        compiler.check_compiler(device)
    assert caught.match(said)
    if device == "cpu":
        with pytest.raises(ConfigError, match=said):
            check_backend(load(None, ["speed.compile=true", "backend=single"]), World())
        check_backend(load(None, ["speed.compile=false", "backend=single"]), World())


def test_a_compiler_that_does_not_compile_is_refused_with_its_own_words(fresh_compiler, tmp_path, monkeypatch) -> None:
    broken = tmp_path / "g++"
    broken.write_text("#!/bin/sh\necho 'x.cpp:1:1: fatal error: Python.h: No such file' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(ConfigError, match=r"torch\.compile fails here .*; .*speed\.compile=false"):
        compiler.check_compiler("cpu")


def test_torchrun_shows_what_it_was_told_as_the_root_cause(tmp_path, monkeypatch) -> None:
    path = tmp_path / "1" / "error.json"
    path.parent.mkdir()
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(path))
    tell_torchrun("/nowhere: no such folder")
    tell_torchrun("what followed")
    ended = ProcessFailure(0, 1, -15, str(tmp_path / "0" / "error.json"))  # at once, by torchrun itself
    block = str(ChildFailedError("train.py", {0: ended, 1: ProcessFailure(1, 2, 2, str(path))}))
    assert block.strip().splitlines()[-2].strip() == "traceback : cyclesr: error: /nowhere: no such folder"
    assert "what followed" not in block
    assert [file.name for file in path.parent.iterdir()] == ["error.json"]


def test_nobody_is_told_without_torchrun_or_when_it_is_gone(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_ERROR_FILE", raising=False)
    monkeypatch.chdir(tmp_path)
    tell_torchrun("why")
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "gone" / "error.json"))
    tell_torchrun("why")
    assert not list(tmp_path.iterdir())


def fail_on_the_last(world: World, folder: str) -> int:
    os.environ["TORCHELASTIC_ERROR_FILE"] = f"{folder}/{world.rank}.json"

    def run() -> None:
        if world.rank == world.num_ranks - 1:
            raise InputError("no such shard")

    return guarded(lambda: world.together(run), debug=False)


def test_only_the_rank_where_it_began_tells(tmp_path) -> None:
    assert run_ranks(fail_on_the_last, 2, str(tmp_path)) == [2, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["1.json"]
    assert "no such shard" in (tmp_path / "1.json").read_text()
