"""What is to run in the pods, made of a configuration: files, names, times. Knows no manifest."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from cyclesr_dist import __version__
from cyclesr_dist.config.cluster import Cluster, job_name
from cyclesr_dist.config.credentials import refuse_signatures
from cyclesr_dist.config.job_ranks import check_job_ranks
from cyclesr_dist.config.paths import DATA_KEYS, is_local, places, with_paths
from cyclesr_dist.config.reader import dump, to_dict
from cyclesr_dist.config.schema import Config, Listening, load
from cyclesr_dist.config.slurm import Slurm
from cyclesr_dist.errors import ConfigError
from cyclesr_dist.search.config import Search, load_search

WORK = "/work"
DATA = "/data"
CONFIG = "/etc/cyclesr"
METRICS_PORT = 9400
MEETING_PORT = 29500

# Above train.grace_seconds: what the supervisor needs besides, and what the kubelet needs besides that.
_SUPERVISOR_SECONDS = 10
_KUBELET_SECONDS = 20


_MEMORY_GIB = 8
"""A rank on a GPU: PyTorch with CUDA's libraries, loader processes, a shard cache."""


@dataclass(frozen=True)
class Plan:
    """A run or a search, and where."""

    kind: Literal["training", "search"]
    name: str
    cluster: Cluster
    files: dict[str, str]
    """Configuration files by name, mounted at /etc/cyclesr."""
    grace_seconds: float = 0.0
    """Of the trainer, after SIGTERM."""
    tls: bool = False
    """Whether /metrics is https."""
    notes: tuple[str, ...] = ()
    """What the user should know before submitting."""
    with_changes: bool = False
    """Go on from a checkpoint of the run folder as another experiment."""

    @property
    def image(self) -> str:
        kind = "cuda" if self.cluster.gpus_per_node else "cpu"
        return self.cluster.image or f"cyclesr-dist:{__version__}-{kind}"

    @property
    def run_dir(self) -> str:
        return f"{WORK}/runs/{self.name}"

    @property
    def supervisor_seconds(self) -> int:
        return math.ceil(self.grace_seconds) + _SUPERVISOR_SECONDS

    @property
    def termination_seconds(self) -> int:
        return self.supervisor_seconds + _KUBELET_SECONDS


def training_plan(path: Path, overrides: Sequence[str]) -> Plan:
    """Raises ConfigError for what no pod could run."""
    config = load(path, overrides, beside=False)  # of this machine: pods have /work
    cluster = config.cluster
    check_job_ranks(config, cluster.nodes, f"cluster.nodes = {cluster.nodes}")
    _check_slices(cluster, cluster.nodes * cluster.ranks)
    _refuse_secrets(to_dict(config))
    name = job_name(cluster, path)
    in_pod = _in_pod(config)
    mounted = replace(in_pod, telemetry=replace(in_pod.telemetry, host="0.0.0.0", port=METRICS_PORT))
    mounted = replace(mounted, cluster=Cluster(), slurm=Slurm())
    notes = _notes(config, cluster)
    if cluster.memory_gib < _MEMORY_GIB * cluster.ranks and cluster.gpus_per_node:
        notes.append(
            f"cluster.memory_gib = {cluster.memory_gib:g} and cluster.cpus = {cluster.cpus:g} are for "
            f"{cluster.ranks} ranks on GPUs; below {_MEMORY_GIB} GiB a rank the kernel may end the pod"
        )
    if not cluster.work_claim and "://" not in config.train.checkpoints:
        notes.append(
            "cluster.work_claim is empty: the run folder goes with its pod; a claim, or train.checkpoints at a URL"
        )
    return Plan(
        "training",
        name,
        cluster,
        {"config.yaml": dump(mounted)},
        grace_seconds=config.train.grace_seconds,
        tls=bool(config.telemetry.tls_certificate),
        notes=tuple(notes),
    )


def search_plan(path: Path, overrides: Sequence[str]) -> Plan:
    """Raises ConfigError for what no pod could run."""
    search = load_search(path, overrides)
    base = load(search.base, search.overrides, beside=False)
    cluster = search.cluster
    if not cluster.work_claim:
        raise ConfigError(
            "cluster.work_claim is empty: the search's own folder, by which it is resumed and which has its results, "
            "must outlive its pods; allowed: a ReadWriteMany claim"
        )
    if cluster.prepare:
        raise ConfigError(f"cluster.prepare = {list(cluster.prepare)}: a search's pods prepare nothing; allowed: []")
    _check_gpus(search)
    _check_slices(cluster, max(search.workers.num, cluster.gpus_per_node))
    _refuse_secrets(to_dict(search) | {"base": to_dict(base)})
    storage = _absolute(search.storage) if is_local(search.storage) else search.storage
    mounted = replace(
        search,
        base=f"{CONFIG}/base.yaml",
        overrides=(),
        storage=storage,
        telemetry=Listening(),
        cluster=Cluster(),
        slurm=Slurm(),
    )
    files = {"search.yaml": dump(mounted), "base.yaml": dump(replace(_in_pod(base), cluster=Cluster(), slurm=Slurm()))}
    return Plan("search", job_name(cluster, path), cluster, files, notes=tuple(_notes(base, cluster)))


_OPTION = re.compile(r"(?i)--?[-a-z0-9]*(token|passw|secret|api-?key|credential)[-a-z0-9]*(=.+|$)|authorization:")


_IN_A_SECRET = "credentials in a Secret (cluster.s3_secret, cluster.env_secrets)"
_SLICE = re.compile(r"nvidia\.com/mig-")


def _refuse_secrets(content: dict[str, Any]) -> None:
    """Files are mounted from a ConfigMap, which many may read."""
    _refuse_options(content)
    refuse_signatures(content, _IN_A_SECRET)


def _refuse_options(content: object, key: str = "") -> None:
    if isinstance(content, dict):
        for name, value in content.items():
            _refuse_options(value, f"{key}.{name}".lstrip("."))
    elif isinstance(content, list | tuple):
        for i, item in enumerate(content):
            _refuse_options(item, f"{key}[{i}]")
            if isinstance(item, str) and key == "cluster.prepare" and _OPTION.search(item):
                raise ConfigError(
                    f"{key}[{i}] looks like a secret; allowed: {_IN_A_SECRET}, which the command finds in its "
                    "environment"
                )


def _check_slices(cluster: Cluster, ranks: int) -> None:
    """A pod's CUDA shows a process one slice, and NCCL takes two slices of one GPU for the same GPU given twice."""
    if cluster.gpus_per_node and ranks > 1 and _SLICE.match(cluster.gpu_resource):
        raise ConfigError(
            f"cluster.gpu_resource = {cluster.gpu_resource} for {ranks} ranks: NCCL cannot join MIG slices of one GPU; "
            "allowed: one slice for one rank, or whole GPUs (nvidia.com/gpu)"
        )


def _check_gpus(search: Search) -> None:
    workers, cluster = search.workers, search.cluster
    if workers.gpus > cluster.gpus_per_node or workers.cpus > cluster.cpus:
        raise ConfigError(
            f"workers.cpus = {workers.cpus}, workers.gpus = {workers.gpus:g} do not fit a pod of cluster.cpus = "
            f"{cluster.cpus:g}, cluster.gpus_per_node = {cluster.gpus_per_node}"
        )


def _in_pod(config: Config) -> Config:
    """With local paths as they are in a pod, relative ones below /work."""
    return with_paths(config, _absolute)


def _absolute(path: str) -> str:
    return str(PurePosixPath(WORK) / path)


def _notes(config: Config, cluster: Cluster) -> list[str]:
    """Local paths of which nothing is known to be there."""
    notes = []
    named = {name: path for key in DATA_KEYS for name, path in places(f"data.{key}", getattr(config.data, key)).items()}
    for name, path in named.items():
        if not is_local(path):
            continue
        place = _absolute(path)
        further = any(place == v.path or place.startswith(f"{v.path}/") for v in cluster.volumes)
        work = bool(cluster.work_claim or cluster.prepare) and place.startswith(f"{WORK}/")
        if not work and not further and not (cluster.data_claim and place.startswith(f"{DATA}/")):
            notes.append(f"{name} = {place}: nothing is mounted there; a URL, cluster.data_claim or cluster.work_claim")
    return notes
