"""What launchers' environment variables are taken for."""

from __future__ import annotations

import pytest

from cyclesr_dist.distributed.launchers import ALONE, Launch, alone_by_mistake, hosts, read_launch
from cyclesr_dist.distributed.placement import refuse_shared
from cyclesr_dist.errors import ConfigError

TORCHRUN = {
    "RANK": "3",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "host0",
    "MASTER_PORT": "29500",
}
JOB = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NODELIST": "node[01-03,7]", "SLURM_NTASKS": "7", "SLURM_NNODES": "4"}
STEP = JOB | {
    "SLURM_STEP_ID": "0",
    "SLURM_STEPID": "0",
    "SLURM_STEP_NODELIST": "node[01-03,7]",
    "SLURM_STEP_NUM_NODES": "4",
    "SLURM_STEP_NUM_TASKS": "7",
    "SLURM_STEP_TASKS_PER_NODE": "2(x3),1",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "PMIX_RANK": "1",
    "PMIX_NAMESPACE": "prterun-host0-4711@1",
}
HYDRA = {"PMI_RANK": "1", "PMI_SIZE": "2", "PMI_FD": "6", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"}
HYDRA |= {"PMI_JOBID": "kvs_4711_0"}


def without(env: dict[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in env.items() if name not in names}


def launch(env: dict[str, str]) -> Launch:
    found = read_launch(env)
    assert found is not None
    return found


def test_without_a_launcher_a_process_is_alone() -> None:
    assert read_launch({}) is None
    assert read_launch({"MASTER_ADDR": "host0", "MASTER_PORT": "29500", "LOCAL_RANK": "0"}) is None


def test_torchrun_and_deepspeed() -> None:
    assert launch(TORCHRUN) == Launch(3, 8, 1, 2, "host0", "29500")
    deepspeed = without(TORCHRUN, "LOCAL_WORLD_SIZE") | {"LOCAL_SIZE": "2"}
    assert launch(deepspeed) == Launch(3, 8, 1, 2, "host0", "29500")
    assert launch(without(TORCHRUN, "LOCAL_WORLD_SIZE")) == Launch(3, 8, 1, 8, "host0", "29500")
    assert launch({"RANK": "0", "WORLD_SIZE": "1"}) == Launch(0, 1, 0, 1)


@pytest.mark.parametrize("other", [STEP, OPEN_MPI, HYDRA])
def test_torchruns_variables_win(other) -> None:
    assert launch(other | TORCHRUN) == launch(TORCHRUN)
    assert read_launch(other | ALONE) is None


def test_a_step_of_slurm() -> None:
    found = launch(STEP)
    assert (found.rank, found.size, found.local_rank, found.local_size, found.address) == (3, 7, 1, 2, "node01")
    assert 1024 < int(found.port) < 32768
    last = launch(STEP | {"SLURM_PROCID": "6", "SLURM_LOCALID": "0", "SLURM_NODEID": "3"})
    assert (last.rank, last.local_rank, last.local_size) == (6, 0, 1)
    assert (last.address, last.port) == (found.address, found.port)
    assert launch(STEP | {"SLURM_JOB_ID": "4712"}).port != found.port
    assert launch(STEP | {"SLURM_STEP_ID": "1", "SLURM_STEPID": "1"}).port != found.port
    given = launch(STEP | {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "4000"})
    assert (given.address, given.port) == ("10.0.0.1", "4000")
    assert found.variables() == {
        "RANK": "3",
        "WORLD_SIZE": "7",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "node01",
        "MASTER_PORT": found.port,
    }


def test_a_step_on_one_node_of_a_larger_job() -> None:
    small = {"SLURM_STEP_NODELIST": "node7", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "2"}
    found = launch(STEP | small | {"SLURM_PROCID": "1", "SLURM_NODEID": "0", "SLURM_STEP_NUM_NODES": "1"})
    assert (found.rank, found.size, found.local_size, found.address) == (1, 2, 2, "127.0.0.1")


@pytest.mark.parametrize(
    "shell",
    [
        {},
        {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"},
        {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_STEP_ID": "4294967291", "SLURM_STEPID": "4294967291"},
        {"SLURM_PROCID": "0", "SLURM_STEP_ID": "4294967290", "SLURM_STEP_NUM_TASKS": "1", "PMIX_RANK": "0"},
        {"SLURM_PROCID": "0", "SLURM_STEPID": "4294967294", "PMI_RANK": "0", "PMI_SIZE": "1"},
    ],
)
def test_a_batch_script_and_an_interactive_shell_are_no_tasks(shell) -> None:
    assert read_launch(JOB | shell) is None
    assert alone_by_mistake(JOB | shell).startswith("SLURM_NTASKS = 7, but srun did not start this process")
    assert not alone_by_mistake(JOB | shell | {"SLURM_NTASKS": "1"})
    assert not alone_by_mistake(JOB | shell | ALONE)
    assert not alone_by_mistake(without(JOB, "SLURM_NTASKS") | shell)


def test_tasks_of_srun_are_not_alone() -> None:
    assert not alone_by_mistake(STEP)
    assert launch(STEP | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}).size == 1


def test_open_mpi() -> None:
    found = launch(OPEN_MPI)
    assert (found.rank, found.size, found.local_rank, found.local_size, found.address) == (1, 2, 1, 2, "127.0.0.1")
    assert launch(OPEN_MPI | {"PMIX_NAMESPACE": "prterun-host0-4712@1"}).port != found.port
    assert launch(without(OPEN_MPI, "PMIX_NAMESPACE") | {"OMPI_MCA_ess_base_jobid": "99"}).port != found.port
    on_two = OPEN_MPI | {"OMPI_COMM_WORLD_SIZE": "4"}
    with pytest.raises(ConfigError, match="MASTER_ADDR is missing: of 4 ranks 2 are on this host"):
        read_launch(on_two)
    assert launch(on_two | {"MASTER_ADDR": "host0"}) == Launch(1, 4, 1, 2, "host0", found.port)


def test_mpirun_in_a_slurm_job_is_mpiruns() -> None:
    daemon = STEP | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    assert launch(daemon | OPEN_MPI) == launch(OPEN_MPI)
    assert launch(daemon | HYDRA) == launch(HYDRA)


def test_slurm_with_an_mpi_of_its_own_is_slurms() -> None:
    assert launch(STEP | {"PMI_RANK": "3", "PMI_SIZE": "7", "PMI_JOBID": "1"}) == launch(STEP)
    assert launch(STEP | {"PMIX_RANK": "3", "PMIX_NAMESPACE": "slurm.pmix.4711.0"}) == launch(STEP)


def test_hydra_and_pmi() -> None:
    found = launch(HYDRA)
    assert (found.rank, found.size, found.local_rank, found.local_size, found.address) == (1, 2, 1, 2, "127.0.0.1")
    cray = {"PMI_RANK": "1", "PMI_SIZE": "2", "PMI_LOCAL_RANK": "1", "PMI_LOCAL_SIZE": "2", "PMI_JOBID": "a"}
    assert launch(cray).local_rank == 1
    pmix = without(cray, "PMI_RANK") | {"PMIX_RANK": "1", "PMIX_NAMESPACE": "a"}
    assert (launch(pmix).rank, launch(pmix).size) == (1, 2)
    assert launch({"PMI_RANK": "0", "PMI_SIZE": "1"}) == Launch(0, 1, 0, 1)


@pytest.mark.parametrize(
    ("env", "said"),
    [
        (without(TORCHRUN, "WORLD_SIZE"), "WORLD_SIZE is missing"),
        (without(TORCHRUN, "RANK"), "RANK is missing"),
        (TORCHRUN | {"RANK": ""}, "RANK is missing"),
        (without(TORCHRUN, "LOCAL_RANK"), "LOCAL_RANK is missing"),
        (without(TORCHRUN, "MASTER_ADDR"), "MASTER_ADDR is missing"),
        (without(TORCHRUN, "MASTER_PORT"), "MASTER_PORT is missing"),
        (TORCHRUN | {"WORLD_SIZE": "many"}, "WORLD_SIZE = 'many' is not an integer"),
        (TORCHRUN | {"RANK": "8"}, "RANK = 8: must be 0 to 7, as WORLD_SIZE = 8"),
        (TORCHRUN | {"RANK": "-1"}, "RANK = -1: must be"),
        (TORCHRUN | {"WORLD_SIZE": "0"}, "WORLD_SIZE = 0: must be at least 1"),
        (TORCHRUN | {"LOCAL_RANK": "2"}, "LOCAL_RANK = 2: must be 0 to 1, as LOCAL_WORLD_SIZE = 2"),
        (TORCHRUN | {"LOCAL_WORLD_SIZE": "9"}, "LOCAL_WORLD_SIZE = 9: must be 1 to 8"),
        (TORCHRUN | {"MASTER_PORT": "http"}, "MASTER_PORT = 'http' is not an integer"),
        (TORCHRUN | {"MASTER_PORT": "70000"}, "MASTER_PORT = 70000: must be 1 to 65535"),
        (without(STEP, "SLURM_PROCID"), "SLURM_PROCID is missing"),
        (without(STEP, "SLURM_LOCALID"), "SLURM_LOCALID is missing"),
        (without(STEP, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"), "SLURM_STEP_NUM_TASKS is missing"),
        (STEP | {"SLURM_PROCID": "7"}, "SLURM_PROCID = 7: must be 0 to 6, as SLURM_STEP_NUM_TASKS = 7"),
        (STEP | {"SLURM_LOCALID": "2"}, "SLURM_LOCALID = 2: this host has 2 tasks"),
        (STEP | {"SLURM_STEP_TASKS_PER_NODE": "two"}, "SLURM_STEP_TASKS_PER_NODE = 'two' is no list"),
        (STEP | {"SLURM_STEP_NODELIST": "node[1-"}, r"node list 'node\[1-' cannot be read; set MASTER_ADDR"),
        (
            without(STEP, "SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"),
            "SLURM_STEP_NODELIST is missing; set MASTER_ADDR",
        ),
        (without(OPEN_MPI, "OMPI_COMM_WORLD_SIZE"), "OMPI_COMM_WORLD_SIZE is missing"),
        (without(OPEN_MPI, "OMPI_COMM_WORLD_RANK"), "OMPI_COMM_WORLD_RANK is missing"),
        (without(OPEN_MPI, "OMPI_COMM_WORLD_LOCAL_RANK"), "OMPI_COMM_WORLD_LOCAL_RANK is missing"),
        (without(OPEN_MPI, "OMPI_COMM_WORLD_LOCAL_SIZE"), "MASTER_ADDR is missing"),
        (without(OPEN_MPI, "PMIX_NAMESPACE"), "MASTER_PORT is missing"),
        (OPEN_MPI | {"OMPI_COMM_WORLD_RANK": "2"}, "OMPI_COMM_WORLD_RANK = 2: must be 0 to 1"),
        ({"PMIX_RANK": "0", "PMIX_NAMESPACE": "a"}, "PMI_SIZE is missing"),
        (without(HYDRA, "PMI_SIZE"), "PMI_SIZE is missing"),
        (without(HYDRA, "MPI_LOCALRANKID"), "MPI_LOCALRANKID or PMI_LOCAL_RANK or PALS_LOCAL_RANKID is missing"),
    ],
)
def test_half_a_launch_is_refused_by_name(env, said) -> None:
    with pytest.raises(ConfigError, match=said):
        read_launch(env)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("node7", ["node7"]),
        ("node[01-03,7],login", ["node01", "node02", "node03", "node7", "login"]),
        ("a-1,b.example.org", ["a-1", "b.example.org"]),
        ("rack[1-2]n[08-10]x", [f"rack{r}n{n}x" for r in (1, 2) for n in ("08", "09", "10")]),
        ("n[099-101]", ["n099", "n100", "n101"]),
    ],
)
def test_node_lists(text, names) -> None:
    assert hosts(text) == names


@pytest.mark.parametrize("text", ["", "node[", "node[]", "node[a-b]", "node[3-1]", "node[1,]", "a,,b", "a b", "n[1]]"])
def test_what_is_no_node_list_is_refused(text) -> None:
    with pytest.raises(ConfigError, match="cannot be read; set MASTER_ADDR and MASTER_PORT"):
        hosts(text)


def test_ranks_that_see_one_gpu_each_must_not_see_the_same() -> None:
    refuse_shared([("a", ""), ("a", "")])
    refuse_shared([("a", "GPU-1"), ("a", "GPU-2"), ("b", "GPU-1")])
    with pytest.raises(ConfigError, match=r"2 ranks share the one GPU that they see \(a, GPU-1\)"):
        refuse_shared([("a", "GPU-1"), ("b", "GPU-1"), ("a", "GPU-1")])
