"""A whole Slurm cluster on this machine: munged, slurmctld, and a slurmd for each of three nodes."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from helpers.ports import free_ports
from helpers.processes import all_marked, kill, marked
from helpers.runs import REPOSITORY
from helpers.waiting import until

NODES = ("n1", "n2", "n3")
_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "unshare")
_SYSTEM = "/usr/sbin:/usr/local/sbin:/sbin"
_CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
SlurmctldPort={ports[0]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
KillWait=30
SlurmdTimeout=300
{nodes}
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 State=UP
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF State=UP
"""


@dataclass
class Slurm:
    folder: Path
    mark: str
    """MARK in the environment of all that is started here, and of all jobs."""
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        path = f"{os.environ['PATH']}:{_SYSTEM}"
        own = {"SLURM_CONF": str(self.folder / "slurm.conf"), "MARK": self.mark, "PATH": path}
        return {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")} | own

    def call(self, *words: str, **options: object) -> str:
        """Standard output of one of Slurm's commands."""
        done = subprocess.run(  # type: ignore[call-overload]
            words, env=self.environment, capture_output=True, text=True, check=False, timeout=120, **options
        )
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    def start(self, name: str, *words: str) -> None:
        log = (self.folder / f"{name}.out").open("wb")
        self.daemons[name] = subprocess.Popen(
            words, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )

    def start_node(self, name: str) -> None:
        """In a view of the file system where the nodes' names are this host's."""
        inside = f"mount --bind {self.folder}/hosts /etc/hosts && exec slurmd -D -N {name}"
        self.start(name, "unshare", "--mount", "sh", "-c", inside)

    def state(self, node: str) -> str:
        return self.call("sinfo", "--noheader", f"--nodes={node}", "--partition=low", "--format=%T").strip()

    def job(self, number: str, name: str) -> str:
        """A field of `scontrol show job`."""
        found = re.search(rf"(?:^| ){name}=(\S*)", self.call("scontrol", "--oneliner", "show", "job", number))
        assert found
        return found[1]

    def begins_again(self, number: str) -> None:
        """Wait until the job is requeued, and let it begin soon: Slurm waits two minutes. Nodes refuse what was allowed
        before they ended the job, to the second."""
        until(lambda: self.job(number, "JobState") == "PENDING" and self.job(number, "Restarts") != "0", 120)
        self.call("scontrol", "update", f"JobId={number}", "StartTime=now+3")

    def lose(self, node: str) -> None:
        """Its daemon and all that runs there end without a word, and the controller is told."""
        kill([psutil.Process(self.daemons[node].pid)])
        self.daemons.pop(node).wait()
        tasks = [process for process in marked(self.mark) if _node_of(process) == node]
        kill([parent for task in tasks if (parent := _parent(task)) and "slurmstepd" in parent.name()])
        kill(tasks)
        self.call("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")

    def repair(self, node: str) -> None:
        if node not in self.daemons:
            self.start_node(node)
        self.call("scontrol", "update", f"NodeName={node}", "State=RESUME")
        until(lambda: self.state(node) == "idle", 60)

    def processes(self) -> list[psutil.Process]:
        """Of jobs alone."""
        return [process for process in marked(self.mark) if _node_of(process)]

    def submit(self, folder: Path, *words: str) -> subprocess.Popen[str]:
        """launch/submit.py in that folder."""
        command = [sys.executable, str(REPOSITORY / "launch/submit.py"), *words]
        variables = self.environment | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
        return subprocess.Popen(
            command, cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def submitted(self, folder: Path, *words: str) -> tuple[int, str, str]:
        """Its exit code, standard output and standard error."""
        with self.submit(folder, *words) as process:
            out, err = process.communicate(timeout=300)
        print(out, err)  # pytest shows it when the test has failed
        return process.returncode, out, err


def _node_of(process: psutil.Process) -> str:
    try:
        return process.environ().get("SLURMD_NODENAME", "")
    except (psutil.Error, OSError):
        return ""


def _parent(process: psutil.Process) -> psutil.Process | None:
    try:
        return process.parent()
    except psutil.NoSuchProcess:
        return None


def missing() -> str:
    """Why there can be no cluster here; empty if there can."""
    path = f"{os.environ['PATH']}:{_SYSTEM}"
    for name in _PROGRAMS:
        if shutil.which(name, path=path) is None:
            return f"Slurm is not installed here: no {name} (Debian: slurmctld slurmd slurm-client munge)"
    if subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        return "no mount namespaces here, in which Slurm's nodes have names"
    return ""


@contextmanager
def slurm() -> Iterator[Slurm]:
    """Skips the test where Slurm is not installed, or may not run."""
    if why := missing():
        pytest.skip(why)
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # sockets have short names
    try:
        with all_marked() as mark:
            cluster = Slurm(folder, mark)
            _begin(cluster)
            yield cluster
            cluster.call("scancel", f"--user={os.getuid()}")
            until(lambda: not cluster.call("squeue", "--noheader"), 60)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _begin(cluster: Slurm) -> None:
    folder = cluster.folder
    folder.chmod(0o755)
    for name in ("state", "munge", *NODES):
        (folder / name).mkdir(mode=0o755)
    (folder / "munge/key").write_bytes(os.urandom(1024))
    (folder / "munge/key").chmod(0o400)
    host, ports = socket.gethostname().split(".")[0], free_ports(1 + len(NODES))
    node = "NodeName={} NodeHostname={} NodeAddr=127.0.0.1 Port={} CPUs=2 RealMemory=8000"
    nodes = "\n".join(node.format(name, host, port) for name, port in zip(NODES, ports[1:], strict=True))
    user = psutil.Process().username()
    text = _CONFIGURATION.format(host=host, user=user, folder=folder, ports=ports, nodes=nodes)
    (folder / "slurm.conf").write_text(text)
    (folder / "hosts").write_text(f"127.0.0.1 localhost {' '.join(NODES)} {socket.gethostname()}\n")
    own = [f"--{name}={folder}/munge/{file}" for name, file in (("key-file", "key"), ("socket", "socket"))]
    own += [f"--{name}={folder}/munge/{name}" for name in ("pid-file", "log-file", "seed-file")]
    cluster.start("munged", "munged", "--foreground", "--force", *own)
    until(lambda: (folder / "munge/socket").exists(), 60)
    cluster.start("slurmctld", "slurmctld", "-D", "-c")
    for name in NODES:
        cluster.start_node(name)
    until(lambda: all(_is_idle(cluster, name) for name in NODES), 60)


def _is_idle(cluster: Slurm, name: str) -> bool:
    words = ["sinfo", "--noheader", f"--nodes={name}", "--partition=low", "--format=%T"]
    done = subprocess.run(words, env=cluster.environment, capture_output=True, text=True, check=False, timeout=60)
    return done.stdout.strip() == "idle"
