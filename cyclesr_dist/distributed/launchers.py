"""What a launcher's environment variables say of the ranks: torchrun and deepspeed, srun, and what MPIs have.

RANK and WORLD_SIZE win where they are set. Set to nothing they mean alone. Next comes the launcher that is nearest to
this process. Inside a Slurm job, `mpirun` starts its daemons by srun, and its ranks inherit the variables of the
daemons' step. So the variables that only an mpirun sets come before Slurm's; those that srun sets for MPI come after.

A batch script and a shell of salloc have SLURM_NTASKS, and even SLURM_PROCID. They are no ranks: srun starts those, in
steps.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import psutil

from cyclesr_dist.errors import ConfigError

ALONE = {"RANK": "", "WORLD_SIZE": ""}
"""Variables of a child that trains alone, whatever started this process."""
_FIRST_SPECIAL_STEP = 0xFFFFFFF0
"""Slurm's numbers from here on are no steps of srun: the batch script, an interactive shell."""
_PORTS = range(10000, 30000)
"""Below those that kernels give to outgoing connections."""
_MPI_DAEMONS = ("mpirun", "mpiexec", "mpiexec.hydra", "hydra_pmi_proxy", "orterun", "orted", "prterun", "prted")
_ONE_HOST = "127.0.0.1"


@dataclass(frozen=True)
class Launch:
    """`size` processes, of which this is `rank`, met at `address`:`port` ("" where there is nobody to meet)."""

    rank: int
    size: int
    local_rank: int
    local_size: int
    address: str = ""
    port: str = ""

    def variables(self) -> dict[str, str]:
        """As torchrun would set them, for all that reads its variables."""
        numbers = {
            "RANK": self.rank,
            "WORLD_SIZE": self.size,
            "LOCAL_RANK": self.local_rank,
            "LOCAL_WORLD_SIZE": self.local_size,
        }
        meeting = {"MASTER_ADDR": self.address, "MASTER_PORT": self.port} if self.address else {}
        return {name: str(number) for name, number in numbers.items()} | meeting


def read_launch(env: Mapping[str, str]) -> Launch | None:
    """None without a launcher. Raises ConfigError, with the variable's name, for what is missing or contradictory."""
    if "RANK" in env or "WORLD_SIZE" in env:
        return _torch(env)
    if "OMPI_COMM_WORLD_RANK" in env or "OMPI_COMM_WORLD_SIZE" in env:
        names = ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE")
        return _mpi(env, *names, ("OMPI_COMM_WORLD_LOCAL_RANK",), ("OMPI_COMM_WORLD_LOCAL_SIZE",))
    if "PMI_RANK" in env and "MPI_LOCALRANKID" in env:  # Hydra: MPICH, Intel MPI, MVAPICH
        return _pmi(env)
    if _in_slurm_step(env):
        return _slurm(env)
    if "SLURM_JOB_ID" in env:  # a shell of it has variables for MPI as well
        return None
    if "PMI_RANK" in env or "PMI_SIZE" in env or "PMIX_RANK" in env:
        return _pmi(env)
    return None


def alone_by_mistake(env: Mapping[str, str]) -> str:
    """What to tell whoever starts a training of several tasks in a Slurm job without srun; empty otherwise."""
    tasks = env.get("SLURM_NTASKS", "")
    if read_launch(env) is not None or "RANK" in env or not tasks.isdecimal() or int(tasks) < 2:
        return ""
    return (
        f"SLURM_NTASKS = {tasks}, but srun did not start this process: it trains alone; put srun before the command to "
        "have a rank for each task"
    )


def hosts(text: str) -> list[str]:
    """The names in a Slurm node list: `node[01-03,7],login` has five. Raises ConfigError for what is no list."""
    if not re.fullmatch(r"(?:[^\[\],\s]|\[[0-9,-]+\])+(?:,(?:[^\[\],\s]|\[[0-9,-]+\])+)*", text):
        raise ConfigError(f"Slurm's node list {text!r} cannot be read; set MASTER_ADDR and MASTER_PORT")
    found = []
    for item in re.findall(r"(?:[^\[\],]|\[[^\]]*\])+", text):
        names = [""]
        for plain, inner in re.findall(r"([^\[\]]+)|\[([^\]]*)\]", item):
            ends = [plain] if plain else [number for part in inner.split(",") for number in _numbers(part, text)]
            names = [name + end for name in names for end in ends]
        found += names
    return found


def _numbers(part: str, text: str) -> list[str]:
    """`01-03` -> 01, 02, 03."""
    first, _, last = part.partition("-")
    if not first.isdecimal() or ("-" in part and not (last.isdecimal() and int(first) <= int(last))):
        raise ConfigError(f"Slurm's node list {text!r} cannot be read; set MASTER_ADDR and MASTER_PORT")
    return [str(number).zfill(len(first)) for number in range(int(first), int(last or first) + 1)]


def _torch(env: Mapping[str, str]) -> Launch | None:
    if not env.get("RANK") and not env.get("WORLD_SIZE"):
        return None
    rank, size = _ranks(env, "RANK", "WORLD_SIZE")
    local_sizes = ("LOCAL_WORLD_SIZE", "LOCAL_SIZE")  # the second is deepspeed's
    local_rank, local_size = _local(env, size, ("LOCAL_RANK",), local_sizes)
    if size == 1:
        return Launch(rank, size, local_rank, local_size)
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if not env.get(name):
            raise ConfigError(f"environment variable {name} is missing: WORLD_SIZE = {size}, whose ranks meet there")
    return Launch(rank, size, local_rank, local_size, env["MASTER_ADDR"], _given_port(env))


def _mpi(
    env: Mapping[str, str], rank_name: str, size_name: str, local_ranks: tuple[str, ...], local_sizes: tuple[str, ...]
) -> Launch:
    rank, size = _ranks(env, rank_name, size_name)
    local_rank, local_size = _local(env, size, local_ranks, local_sizes)
    if size == 1:
        return Launch(rank, size, local_rank, local_size)
    address = env.get("MASTER_ADDR", "")
    if not address and not any(env.get(name) for name in local_sizes):
        raise ConfigError(
            f"environment variable MASTER_ADDR is missing: it names rank 0's host, and nothing says that all {size} "
            "ranks are on this one"
        )
    if not address and local_size < size:
        raise ConfigError(
            f"environment variable MASTER_ADDR is missing: of {size} ranks {local_size} are on this host, and MPI does "
            "not say which host has rank 0; give its name, e.g. mpirun -x MASTER_ADDR=host0"
        )
    jobs = ("OMPI_MCA_ess_base_jobid", "PMIX_NAMESPACE", "PMI_JOBID")
    job = next((env[name] for name in jobs if env.get(name)), "")
    if not address:
        job = job or _daemon_above()
    port = _given_port(env) or (_port_of(job) if job else "")
    if not port:
        raise ConfigError(f"environment variable MASTER_PORT is missing: none of {', '.join(jobs)} is set to choose by")
    return Launch(rank, size, local_rank, local_size, address or _ONE_HOST, port)


def _pmi(env: Mapping[str, str]) -> Launch:
    rank_name = "PMIX_RANK" if "PMIX_RANK" in env and "PMI_RANK" not in env else "PMI_RANK"
    local_ranks = ("MPI_LOCALRANKID", "PMI_LOCAL_RANK", "PALS_LOCAL_RANKID")
    return _mpi(env, rank_name, "PMI_SIZE", local_ranks, ("MPI_LOCALNRANKS", "PMI_LOCAL_SIZE", "PALS_LOCAL_SIZE"))


def _in_slurm_step(env: Mapping[str, str]) -> bool:
    step = env.get("SLURM_STEP_ID") or env.get("SLURM_STEPID") or ""
    if not step:
        return False
    return not step.isdecimal() or int(step) < _FIRST_SPECIAL_STEP


def _slurm(env: Mapping[str, str]) -> Launch:
    size_name = next((name for name in ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "SLURM_NPROCS") if env.get(name)), "")
    rank, size = _ranks(env, "SLURM_PROCID", size_name or "SLURM_STEP_NUM_TASKS")
    local_rank = _local(env, size, ("SLURM_LOCALID",), ())[0]
    local_size = _tasks_here(env, size)
    if local_rank >= local_size:
        raise ConfigError(f"environment variable SLURM_LOCALID = {local_rank}: this host has {local_size} tasks")
    if size == 1:
        return Launch(rank, size, local_rank, local_size)
    address = env.get("MASTER_ADDR") or _first_host(env)
    job = f"{env.get('SLURM_JOB_ID', '')}.{env.get('SLURM_STEP_ID') or env.get('SLURM_STEPID', '')}"
    return Launch(rank, size, local_rank, local_size, address, _given_port(env) or _port_of(job))


def _tasks_here(env: Mapping[str, str], size: int) -> int:
    """Of `2(x3),1`, the tasks of each host in order, that of this one. All of them where Slurm says nothing."""
    text = env.get("SLURM_STEP_TASKS_PER_NODE") or env.get("SLURM_TASKS_PER_NODE") or ""
    counts: list[int] = []
    for part in filter(None, text.split(",")):
        if not (found := re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part.strip())):
            raise ConfigError(f"environment variable SLURM_STEP_TASKS_PER_NODE = {text!r} is no list of tasks")
        counts += [int(found[1])] * int(found[2] or 1)
    node = _number(env, "SLURM_NODEID") if env.get("SLURM_NODEID") else 0
    if sum(counts) != size or not 0 <= node < len(counts):  # of the job, not of this step
        return size
    return counts[node]


def _first_host(env: Mapping[str, str]) -> str:
    name = next((name for name in ("SLURM_STEP_NODELIST", "SLURM_NODELIST", "SLURM_JOB_NODELIST") if env.get(name)), "")
    if name:
        names = hosts(env[name])
        return _ONE_HOST if len(names) == 1 else names[0]  # one's own name is not known in every container
    if (env.get("SLURM_STEP_NUM_NODES") or env.get("SLURM_NNODES")) == "1":
        return _ONE_HOST
    raise ConfigError("environment variable SLURM_STEP_NODELIST is missing; set MASTER_ADDR to rank 0's host")


def _ranks(env: Mapping[str, str], rank_name: str, size_name: str) -> tuple[int, int]:
    for name, other in ((rank_name, size_name), (size_name, rank_name)):
        if not env.get(name):
            raise ConfigError(f"environment variable {name} is missing: {other} = {env.get(other, '')!r} needs it")
    rank, size = _number(env, rank_name), _number(env, size_name)
    if size < 1:
        raise ConfigError(f"environment variable {size_name} = {size}: must be at least 1")
    if not 0 <= rank < size:
        raise ConfigError(
            f"environment variable {rank_name} = {rank}: must be 0 to {size - 1}, as {size_name} = {size}"
        )
    return rank, size


def _local(
    env: Mapping[str, str], size: int, rank_names: tuple[str, ...], size_names: tuple[str, ...]
) -> tuple[int, int]:
    """This host's; each by the first of the names that is set. A launch of one needs neither."""
    rank_name = next((name for name in rank_names if env.get(name)), "")
    size_name = next((name for name in size_names if env.get(name)), "")
    if not rank_name and size > 1:
        raise ConfigError(
            f"environment variable {' or '.join(rank_names)} is missing: it numbers a host's ranks from 0"
        )
    local_rank = _number(env, rank_name) if rank_name else 0
    local_size = (_number(env, size_name) if size_name else 0) or size  # deepspeed may say 0: not known
    if not 0 < local_size <= size:
        raise ConfigError(f"environment variable {size_name} = {local_size}: must be 1 to {size}, the ranks in all")
    if not 0 <= local_rank < local_size:
        of = f", as {size_name} = {local_size}" if size_name else ""
        raise ConfigError(f"environment variable {rank_name} = {local_rank}: must be 0 to {local_size - 1}{of}")
    return local_rank, local_size


def _number(env: Mapping[str, str], name: str) -> int:
    try:
        return int(env[name])
    except ValueError as error:
        raise ConfigError(f"environment variable {name} = {env[name]!r} is not an integer") from error


def _given_port(env: Mapping[str, str]) -> str:
    if not env.get("MASTER_PORT"):
        return ""
    port = _number(env, "MASTER_PORT")
    if not 0 < port < 65536:
        raise ConfigError(f"environment variable MASTER_PORT = {port}: must be 1 to 65535")
    return str(port)


def _port_of(job: str) -> str:
    """The same for all ranks of a job, and likely another for another job of the same host."""
    return str(_PORTS[zlib.crc32(job.encode()) % len(_PORTS)])


def _daemon_above() -> str:
    """The process that started all ranks of this host; empty where none of that name is above this one."""
    with suppress(psutil.Error, OSError):
        for process in psutil.Process().parents():
            if process.name() in _MPI_DAEMONS:
                return f"{process.pid} {process.create_time()}"
    return ""
