"""What the pods would run is run: the rendered Job's command and environment, each pod a host with its own network,
host name, DNS names and process 1; a small controller starts them again as the Job's policy says.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from helpers import tiny_overrides
from helpers.hosts import Host, hosts
from helpers.processes import BIN, below, kill, steps_done, words
from helpers.waiting import until

from cyclesr_dist.kubernetes.plan import training_plan
from cyclesr_dist.kubernetes.targets import manifests
from cyclesr_dist.training.run_folder import read_summary

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

_AS_A_POD = ["unshare", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child"]


@pytest.fixture
def names() -> Iterator[Any]:
    """Gives a network namespace its own /etc/hosts."""
    made: list[Path] = []

    def write(host: Host, lines: list[str]) -> None:
        folder = Path("/etc/netns") / host.namespace
        folder.mkdir(parents=True)
        made.append(folder)
        (folder / "hosts").write_text("127.0.0.1 localhost\n" + "".join(f"{line}\n" for line in lines))

    yield write
    for folder in made:
        shutil.rmtree(folder)


@dataclass
class Cluster:
    """Two machines and the rendered Job."""

    job: dict[str, Any]
    mounts: dict[str, Path]
    hosts: list[Host]
    running: dict[int, subprocess.Popen[str]] = field(default_factory=dict)
    disrupted: set[int] = field(default_factory=set)
    failures: Counter[int] = field(default_factory=Counter)
    log: list[str] = field(default_factory=list)

    @property
    def pod(self) -> dict[str, Any]:
        return self.job["spec"]["template"]["spec"]

    def start(self, index: int) -> None:
        (container,) = self.pod["containers"]
        environment = {"PATH": f"{BIN}:/usr/sbin:/usr/bin:/sbin:/bin", "OMP_NUM_THREADS": "1"}
        for variable in container["env"]:
            environment[variable["name"]] = str(index) if "valueFrom" in variable else self.here(variable["value"])
        name = f"{self.job['metadata']['name']}-{index}"
        # As in a pod: supervise is process 1, and the host name is the pod's.
        inside = ["sh", "-c", 'hostname "$0" && exec "$@"', name, *map(self.here, container["command"])]
        command = self.hosts[index].command(*_AS_A_POD, *inside)
        folder = self.mounts["/work"]
        with (folder / f"pod{index}.log").open("a") as log:
            self.running[index] = subprocess.Popen(
                command, env=environment, cwd=folder, stdout=log, stderr=log, text=True, start_new_session=True
            )

    def here(self, word: str) -> str:
        """A path in the pod is one of its mounts."""
        assert "$" not in word.replace("$$", "")
        for mount, folder in self.mounts.items():
            if word == mount or word.startswith(f"{mount}/"):
                return str(folder) + word.removeprefix(mount)
        return word

    def process_one(self, index: int) -> list[psutil.Process]:
        """The pod's, as the machine sees it. None when that has ended."""
        return [p for p in below(self.running[index].pid) if words(p)[1:3] == [str(BIN / "cyclesr"), "supervise"]]

    def end(self, index: int) -> None:
        """As the kubelet does: SIGTERM to process 1, if that has not ended by itself."""
        for process in self.process_one(index):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGTERM)

    def drain(self, index: int) -> None:
        """As the pod of a drained node: ended, with the condition DisruptionTarget."""
        self.disrupted.add(index)
        self.end(index)

    def lose(self, index: int) -> None:
        """The machine is gone, and with it everything that ran there."""
        self.disrupted.add(index)
        kill(below(self.running[index].pid))

    def settle(self) -> str:
        """Start pods again as the policy says, until the job is Complete or Failed, or nothing runs that was asked for.

        A pod is replaced when it has ended, as podReplacementPolicy says.
        """
        succeeded: set[int] = set()
        return until(lambda: self._ended(succeeded), 600)

    def _ended(self, succeeded: set[int]) -> str:
        """Look once at all pods. Empty while the job goes on."""
        rules = self.job["spec"]["podFailurePolicy"]["rules"]
        for index, process in list(self.running.items()):
            code = process.poll()
            if code is None:
                continue
            del self.running[index]
            if code == 0:
                succeeded.add(index)
                self.log.append(f"pod {index}: succeeded")
                continue
            action = policy(rules, code, index in self.disrupted)
            self.disrupted.discard(index)
            self.log.append(f"pod {index}: exit code {code}: {action}")
            self.failures[index] += action == "Count"
            # maxFailedIndexes: 0: the first index that is beyond its limit fails the job
            if action == "FailJob" or self.failures[index] > self.job["spec"]["backoffLimitPerIndex"]:
                for other in self.running:
                    self.end(other)
                for other in self.running.values():
                    other.wait(self.pod["terminationGracePeriodSeconds"])
                return "Failed"
            self.start(index)
        return "Complete" if len(succeeded) == self.job["spec"]["completions"] else ""


def policy(rules: list[dict[str, Any]], code: int, disrupted: bool) -> str:
    """The first rule that fits, as Kubernetes' documentation of podFailurePolicy has it."""
    for rule in rules:
        if "onExitCodes" in rule:
            inside = code in rule["onExitCodes"]["values"]
            fits = inside if rule["onExitCodes"]["operator"] == "In" else not inside
        else:
            fits = disrupted and {"type": "DisruptionTarget", "status": "True"} in rule["onPodConditions"]
        if fits:
            return str(rule["action"])
    return "Count"


@contextmanager
def job(tmp_path: Path, names: Any, data: Path, *overrides: str) -> Iterator[Cluster]:
    config = tmp_path / "pods.yaml"
    config.write_text("system: cyclesr\nbackend: ddp\nema_decay: 0.9\n")
    places = [f"data.{key}=/data/shards/{key}" for key in ("hr", "lr")]
    places += ["data.valid_hr=/data/clean", "data.valid_lr=/data/lr"]
    cluster = ["cluster.nodes=2", "cluster.work_claim=w", "cluster.data_claim=d", "cluster.restarts=2"]
    settings = [*tiny_overrides(), *places, *cluster, "train.log_every_steps=1", "data.log_keys=true", *overrides]
    objects = manifests(training_plan(config, settings), "job")
    (service,) = (m for m in objects if m["kind"] == "Service")
    mounts = {path: tmp_path / path.strip("/").replace("/", "-") for path in ("/work", "/etc/cyclesr", "/tmp")}
    for folder in mounts.values():
        folder.mkdir()
    mounts["/data"] = data
    with hosts(2) as machines:
        subdomain = service["metadata"]["name"]
        lines = [f"{host.address} pods-{i}.{subdomain} pods-{i}" for i, host in enumerate(machines)]
        for host in machines:
            names(host, lines)
        running = Cluster(objects[-1], mounts, machines)
        for name, text in objects[0]["data"].items():
            # The mounts of the text, as of the command.
            content = yaml.safe_load(text)
            content["data"] = {k: running.here(v) if isinstance(v, str) else v for k, v in content["data"].items()}
            (mounts["/etc/cyclesr"] / name).write_text(yaml.safe_dump(content))
        try:
            for index in range(2):
                running.start(index)
            yield running
        finally:
            for process in running.running.values():
                process.kill()
                process.wait()
            for index in range(2):
                path = mounts["/work"] / f"pod{index}.log"
                print(path.read_text() if path.exists() else "")


STEPS = 30
SHORT = [f"train.steps={STEPS}", "train.checkpoint_every_steps=1000", "train.validate_every_steps=1000"]


def steps_of(run: Path, rank: int) -> list[int]:
    return [json.loads(line)["step"] for line in (run / f"keys.rank{rank}.jsonl").read_text().splitlines()]


def test_a_drained_node_costs_nothing_and_the_run_ends_complete(names: Any, tiny_data: Any, tmp_path: Path) -> None:
    with job(tmp_path, names, tiny_data.root, *SHORT) as cluster:
        run = cluster.mounts["/work"] / "runs/pods"
        until(lambda: steps_done(run) >= 8)
        cluster.drain(1)
        assert cluster.settle() == "Complete"
        assert sorted(cluster.log[:2]) == ["pod 0: exit code 75: Ignore", "pod 1: exit code 75: Ignore"]
        assert sorted(cluster.log[2:]) == ["pod 0: succeeded", "pod 1: succeeded"]
        assert not any(cluster.failures.values())
        summary = read_summary(run)
        assert summary["completed"] is True
        assert summary["num_ranks"] == 2
        for rank in range(2):  # every step once, before and after
            assert steps_of(run, rank) == list(range(1, STEPS + 1))


def test_a_lost_machine_brings_all_pods_back_to_the_checkpoint(names: Any, tiny_data: Any, tmp_path: Path) -> None:
    often = ["train.checkpoint_every_steps=5", "train.lost_rank_seconds=10"]
    with job(tmp_path, names, tiny_data.root, *SHORT, *often) as cluster:
        run = cluster.mounts["/work"] / "runs/pods"
        until(lambda: steps_done(run) >= 12)
        cluster.lose(1)
        # A cluster replaces the pod of a lost node after minutes. By then the others have noticed and left.
        until(lambda: cluster.running[0].poll() is not None)
        assert cluster.settle() == "Complete"
        first, second = sorted(cluster.log[:2])
        assert first == "pod 0: exit code 1: Count"
        assert re.fullmatch(r"pod 1: exit code (137|-9|1): Ignore", second)  # unshare's own way of saying it
        assert cluster.failures[0] == 1
        assert not cluster.failures[1]
        assert cluster.job["spec"]["backoffLimitPerIndex"] == 2
        assert steps_of(run, 0) == list(range(1, STEPS + 1))


def test_bad_input_fails_the_job_at_once(names: Any, tiny_data: Any, tmp_path: Path) -> None:
    with job(tmp_path, names, tiny_data.root, *SHORT, "data.lr=/data/nowhere") as cluster:
        assert cluster.settle() == "Failed"
        assert re.fullmatch(r"pod [01]: exit code 2: FailJob", cluster.log[0])
        assert not any(cluster.failures.values())
        log = (cluster.mounts["/work"] / "pod0.log").read_text()
        assert "nowhere" in log.splitlines()[-1]
        assert not (cluster.mounts["/work"] / "runs").exists()


def test_metrics_answer_where_the_probes_ask(names: Any, tiny_data: Any, tmp_path: Path) -> None:
    with job(tmp_path, names, tiny_data.root, *SHORT, "train.steps=1000000") as cluster:
        run = cluster.mounts["/work"] / "runs/pods"
        until(lambda: steps_done(run) >= 1)
        (container,) = cluster.pod["containers"]
        probe = container["livenessProbe"]["httpGet"]
        for index, host in enumerate(cluster.hosts):  # from another machine, as the kubelet does
            url = f"http://{host.address}:{probe['port']}{probe['path']}"
            asked = cluster.hosts[1 - index].command("curl", "--silent", "--fail", url)
            answer = subprocess.run(asked, capture_output=True, text=True, check=False, env=dict(os.environ))
            assert answer.returncode == 0, url
            assert "cyclesr_steps_total" in answer.stdout
        cluster.drain(0)
        codes = {process.wait(60) for process in cluster.running.values()}
        cluster.running.clear()
        assert codes == {75}
