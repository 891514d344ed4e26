"""Ranks that srun and mpirun start: processes with their variables, and the real launchers where they are installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.processes import BIN, TRAIN, arguments, launcher, outcome, started, tensors
from helpers.runs import by_hand, two_ranks

from cyclesr_dist.distributed.launchers import read_launch


def srun(rank: int) -> dict[str, str]:
    """`srun -n 2` on one node."""
    name = socket.gethostname()
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_JOBID": str(os.getpid()), "SLURM_JOB_NODELIST": name}
    step = {"SLURM_STEP_ID": "0", "SLURM_STEPID": "0", "SLURM_STEP_NODELIST": name, "SLURM_NODELIST": name}
    sizes = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2", "SLURM_NPROCS": "2", "SLURM_STEP_NUM_NODES": "1"}
    tasks = {"SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_TASKS_PER_NODE": "2", "SLURM_NNODES": "1", "SLURM_NODEID": "0"}
    return job | step | sizes | tasks | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)}


def mpirun(rank: int) -> dict[str, str]:
    """Open MPI's, with 2 processes on this host."""
    numbers = {"OMPI_COMM_WORLD_RANK": str(rank), "OMPI_COMM_WORLD_LOCAL_RANK": str(rank), "PMIX_RANK": str(rank)}
    sizes = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_SIZE": "2", "OMPI_UNIVERSE_SIZE": "2"}
    return numbers | sizes | {"PMIX_NAMESPACE": f"prterun-{socket.gethostname()}-{os.getpid()}@1"}


def hydra(rank: int) -> dict[str, str]:
    """mpiexec of MPICH, with 2 processes on this host."""
    numbers = {"PMI_RANK": str(rank), "MPI_LOCALRANKID": str(rank), "PMI_JOBID": f"kvs_{os.getpid()}_0"}
    return numbers | {"PMI_SIZE": "2", "MPI_LOCALNRANKS": "2", "PMI_FD": "6"}


@pytest.fixture(scope="module")
def by_torchrun(config_file, tiny_data, tmp_path_factory) -> dict[str, torch.Tensor]:
    """With torchrun's variables; test_train.py has torchrun itself."""
    run = tmp_path_factory.mktemp("torchrun") / "run"
    codes, stderr = two_ranks(config_file, run, *settings(tiny_data))
    assert codes == [0, 0], stderr
    return tensors(run)


def settings(tiny_data: Any, backend: str = "ddp") -> list[str]:
    return [*tiny_data.overrides, f"backend={backend}", "train.max_steps=4"]


def trained(like: Any, words: list[str]) -> list[tuple[int | None, str]]:
    """Two processes with its variables."""
    return by_hand([words, words], [like(0), like(1)], numbered=False)


@pytest.mark.parametrize(
    ("like", "backend"),
    [
        (srun, "ddp"),
        pytest.param(mpirun, "ddp", marks=pytest.mark.slow),
        pytest.param(hydra, "ddp", marks=pytest.mark.slow),
        pytest.param(srun, "deepspeed", marks=pytest.mark.slow),
    ],
)
def test_two_ranks_train_as_under_torchrun_and_deepspeed(
    like, backend, by_torchrun, config_file, tiny_data, tmp_path
) -> None:
    words = arguments(config_file, tmp_path / "run", *settings(tiny_data, backend))
    for code, stderr in trained(like, words):
        assert code == 0, stderr
    expected = by_torchrun
    if backend == "deepspeed":
        own = [*launcher("deepspeed"), TRAIN, *arguments(config_file, tmp_path / "own", *settings(tiny_data, backend))]
        with started(own) as p:
            code, stderr = outcome(p, 200)
        assert code == 0, stderr
        expected = tensors(tmp_path / "own")
    result = tensors(tmp_path / "run")
    assert result.keys() == expected.keys()
    assert all(torch.equal(tensor, result[name]) for name, tensor in expected.items())


@pytest.mark.slow
def test_half_of_the_variables_is_refused_by_every_rank(config_file, tiny_data, tmp_path) -> None:
    command = [str(BIN / "python"), TRAIN, *arguments(config_file, tmp_path / "run", *settings(tiny_data))]
    with started(command, **{name: value for name, value in srun(1).items() if name != "SLURM_LOCALID"}) as p:
        code, stderr = outcome(p)
    assert code == 2
    assert stderr == ["cyclesr: error: environment variable SLURM_LOCALID is missing: it numbers a host's ranks from 0"]
    assert not (tmp_path / "run").exists()


def test_in_a_batch_script_one_process_trains_and_says_so(config_file, tiny_data, tmp_path) -> None:
    words = arguments(config_file, tmp_path / "run", *settings(tiny_data), "--dry-run")
    batch = {name: value for name, value in srun(0).items() if not name.startswith("SLURM_STEP")}
    ((code, stderr),) = by_hand([words], [batch])
    assert code == 0
    assert stderr.count("SLURM_NTASKS = 2, but srun did not start this process: it trains alone") == 1


@pytest.mark.parametrize(
    "command", [["srun", "-n", "2"], ["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "2"], ["mpiexec.hydra"]]
)
def test_the_real_ones(command, by_torchrun, config_file, tiny_data, tmp_path) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]} here")
    if command[0] == "srun" and subprocess.run(["sinfo"], check=False, capture_output=True).returncode:
        pytest.skip("no Slurm cluster here")
    more = ["-n", "2"] if command[0] == "mpiexec.hydra" else []
    words = [str(BIN / "python"), TRAIN, *arguments(config_file, tmp_path / "run", *settings(tiny_data))]
    with started([*command, *more, *words]) as p:
        code, stderr = outcome(p, 200)
    assert code == 0, stderr
    assert all(torch.equal(tensor, tensors(tmp_path / "run")[name]) for name, tensor in by_torchrun.items())


def test_an_mpi_daemon_above_stands_for_a_job_number(tmp_path: Path) -> None:
    """Of processes that one `hydra_pmi_proxy` started: they meet at one port without any word of the job."""
    (tmp_path / "hydra_pmi_proxy").write_text(
        f'#!{shutil.which("bash")}\n"$@"; "$@"; exit 0\n'  # two children
    )
    (tmp_path / "hydra_pmi_proxy").chmod(0o755)
    code = "import os; from cyclesr_dist.distributed.launchers import read_launch; print(read_launch(os.environ).port)"
    variables = {name: value for name, value in hydra(1).items() if name != "PMI_JOBID"}
    with started([str(tmp_path / "hydra_pmi_proxy"), str(BIN / "python"), "-c", code], **variables) as p:
        stdout, stderr = p.communicate(timeout=240)
    ports = stdout.split()
    assert len(ports) == 2, stderr
    assert ports[0] == ports[1]
    assert read_launch(hydra(1)).port != ports[0]
