"""What a Slurm job is to run, made of a configuration: files, names, times, commands. Knows no script."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cyclesr_dist.config.cluster import Cluster, job_name
from cyclesr_dist.config.credentials import refuse_signatures
from cyclesr_dist.config.job_ranks import check_job_ranks
from cyclesr_dist.config.paths import with_paths
from cyclesr_dist.config.reader import check_range, dump, to_dict
from cyclesr_dist.config.schema import load
from cyclesr_dist.config.slurm import Slurm
from cyclesr_dist.errors import ConfigError
from cyclesr_dist.search.config import absolute, load_search

TRAINING, SEARCH = "slurm", "slurm-search"
TARGETS = (TRAINING, SEARCH)
"""Words of `--target` that this room takes."""

_IN_THE_ENVIRONMENT = "credentials in the environment of whoever submits, which the job inherits"
# Ranks may need so long to find out that one is lost, and to leave; afterwards srun ends them.
_SECONDS_BEYOND = 30
# Its name is in a line of the script, in a pattern of sbatch, and in the container's list of mounts.
_BAD_IN_FOLDERS = {"\n": "a new line", "\\": "a backslash"}
_BAD_IN_MOUNTS = {":": "a colon", ",": "a comma"}


@dataclass(frozen=True)
class Plan:
    """One job."""

    name: str
    cluster: Cluster
    slurm: Slurm
    folder: Path
    """Where it was submitted, absolute: relative paths begin there."""
    files: dict[str, str]
    """Configuration files by name; the job writes them into `own_folder`."""
    module: str
    """What each task runs."""
    arguments: tuple[str, ...]
    tasks_per_node: int
    patience_seconds: int
    """Between the end of the first task and that of the last one."""
    leaving_seconds: int
    """From a request to stop to the end."""
    uses_ray: bool = False

    @property
    def run_dir(self) -> Path:
        return self.folder / "runs" / self.name

    @property
    def own_folder(self) -> Path:
        """With configuration, logs and exit codes of this run's jobs."""
        return self.run_dir / "slurm"

    @property
    def nodes(self) -> tuple[int, int]:
        """At least and at most."""
        return self.slurm.min_nodes or self.cluster.nodes, self.cluster.nodes

    @property
    def python(self) -> str:
        return self.slurm.python or ("python" if self.slurm.container else sys.executable)


def plan_of(target: str, path: Path, overrides: Sequence[str], *, with_changes: bool = False) -> Plan:
    """Raises ConfigError for what no job could run."""
    if target == TRAINING:
        return _training(path, overrides, with_changes)
    if with_changes:
        raise ConfigError("--resume-with-changes is for a training; a search that changes begins anew")
    return _search(path, overrides)


def _training(path: Path, overrides: Sequence[str], with_changes: bool) -> Plan:
    config = load(path, overrides)
    cluster, slurm = config.cluster, config.slurm
    _check(cluster, slurm)
    for nodes in range(slurm.min_nodes or cluster.nodes, cluster.nodes + 1):
        check_job_ranks(config, nodes, f"{nodes} nodes (slurm.min_nodes, cluster.nodes)")
    if slurm.warning_seconds <= config.train.grace_seconds:
        raise ConfigError(
            f"slurm.warning_seconds = {slurm.warning_seconds}; allowed: above train.grace_seconds = "
            f"{config.train.grace_seconds:g}, in which ranks may save"
        )
    content = replace(absolute(config), cluster=Cluster(), slurm=Slurm())
    refuse_signatures(to_dict(config), _IN_THE_ENVIRONMENT)
    name = job_name(cluster, path)
    folder = _folder(slurm)
    own = folder / "runs" / name
    return Plan(
        name,
        cluster,
        slurm,
        folder,
        {"config.yaml": dump(content)},
        "cyclesr_dist.training",
        (
            *("--config", str(own / "slurm" / "config.yaml"), "--run-dir", str(own)),
            "--resume-with-changes" if with_changes else "--resume",
        ),
        tasks_per_node=cluster.ranks,
        patience_seconds=math.ceil(config.train.lost_rank_seconds + config.train.grace_seconds) + _SECONDS_BEYOND,
        leaving_seconds=math.ceil(config.train.grace_seconds) + _SECONDS_BEYOND,
    )


def _search(path: Path, overrides: Sequence[str]) -> Plan:
    search = load_search(path, overrides)
    cluster, slurm = search.cluster, search.slurm
    _check(cluster, slurm)
    workers = search.workers
    if workers.gpus > cluster.gpus_per_node or workers.cpus > cluster.cpus:
        raise ConfigError(
            f"workers.cpus = {workers.cpus}, workers.gpus = {workers.gpus:g} do not fit a node of cluster.cpus = "
            f"{cluster.cpus:g}, cluster.gpus_per_node = {cluster.gpus_per_node}"
        )
    base = load(search.base, search.overrides)
    refuse_signatures(to_dict(search) | {"base": to_dict(base)}, _IN_THE_ENVIRONMENT)
    name = job_name(cluster, path)
    folder = _folder(slurm)
    own = folder / "runs" / name
    storage = search.storage if not search.storage or "://" in search.storage else os.path.abspath(search.storage)
    content = replace(search, base=str(own / "slurm" / "base.yaml"), overrides=(), storage=storage)
    content = replace(content, cluster=Cluster(), slurm=Slurm())
    return Plan(
        name,
        cluster,
        slurm,
        folder,
        {
            "search.yaml": dump(content),
            "base.yaml": dump(replace(with_paths(base, os.path.abspath), cluster=Cluster(), slurm=Slurm())),
        },
        "cyclesr_dist.slurm.ray_node",
        ("--config", str(own / "slurm" / "search.yaml"), "--run-dir", str(own), "--resume"),
        tasks_per_node=1,
        patience_seconds=slurm.warning_seconds,
        leaving_seconds=slurm.warning_seconds,
        uses_ray=True,
    )


def _folder(slurm: Slurm) -> Path:
    """The working directory. Raises ConfigError where its name cannot be in a batch script."""
    folder = Path.cwd()
    for character, words in (_BAD_IN_FOLDERS | (_BAD_IN_MOUNTS if slurm.container else {})).items():
        if character in str(folder):
            raise ConfigError(f"submitting from the folder {str(folder)!r}: {words} in its name; allowed: any other")
    return folder


def _check(cluster: Cluster, slurm: Slurm) -> None:
    check_range("slurm.min_nodes", slurm.min_nodes, maximum=cluster.nodes)
