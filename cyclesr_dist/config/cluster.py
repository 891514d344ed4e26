"""The `cluster` section of a configuration: what `launch/submit.py` asks Kubernetes for, and partly Slurm.

Every string ends up in a manifest, so each is held to what Kubernetes takes in its place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclesr_dist.config.marks import Range, check_marks
from cyclesr_dist.config.reader import check_range
from cyclesr_dist.errors import ConfigError

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_LABEL_VALUE = r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?"
_LABEL_KEY = rf"({_SUBDOMAIN}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?"
_IMAGE = (
    r"([A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?(:[0-9]+)?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*"
)
_IMAGE += r"(:[A-Za-z0-9_][-A-Za-z0-9_.]{0,127})?(@sha256:[0-9a-f]{64})?"
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
_WORDS = {
    _LABEL: "a-z, 0-9 and -, no - at the ends",
    _SUBDOMAIN: "a-z, 0-9, - and ., no - or . at the ends",
    _LABEL_VALUE: "letters, digits, -, _ and ., a letter or digit at the ends",
    _LABEL_KEY: "letters, digits, -, _ and ., perhaps after a domain and /",
    _IMAGE: "[registry/]path[:tag][@sha256:digest]",
    _VARIABLE: "letters, digits and _, no digit first",
}
_SECRET = re.compile(r"SECRET|TOKEN|PASSW|CREDENTIAL|ACCESS_KEY|API_KEY|PRIVATE", re.IGNORECASE)

_Number = Annotated[int, Range(minimum=0, maximum=100_000)]
_Size = Annotated[float, Range(minimum=0.05, maximum=1_000_000)]

# Pods are named after it: `<name>-node-0-<index>-<5 characters>` at the longest, in 63 characters.
MAX_NAME = 40


@dataclass(frozen=True)
class Toleration:
    """A taint of nodes that pods bear."""

    key: str = ""
    """The taint's; empty, with `Exists`: any."""
    operator: Literal["Exists", "Equal"] = "Exists"
    """`Equal` compares `value`, too."""
    value: str = ""
    """The taint's, with `Equal`."""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""
    """Empty: all of them."""


@dataclass(frozen=True)
class Cluster:
    name: str = ""
    """Of the job; empty: the configuration's file name."""
    namespace: str = ""
    """Empty: the one of the kubeconfig's context."""
    image: str = ""
    """Built from k8s/Dockerfile; empty: cyclesr-dist:<version>-cpu, or -cuda where there are GPUs."""
    nodes: Annotated[int, Range(minimum=1, maximum=100_000)] = 1
    """Pods of a training run; of a search the Ray workers, beside the head."""
    gpus_per_node: _Number = 0
    """GPUs of each pod."""
    gpu_resource: str = "nvidia.com/gpu"
    """Name that the cluster's device plugin gives them."""
    ranks_per_node: _Number = 0
    """0: one a GPU, or one without GPUs."""
    cpus: _Size = 2.0
    """CPU cores of each pod."""
    memory_gib: _Size = 4.0
    """Memory of each pod, shm_gib included."""
    shm_gib: _Size = 1.0
    """Size of /dev/shm, where loader processes hand over batches; a container has 64 MB without asking."""
    work_claim: str = ""
    """PersistentVolumeClaim mounted at /work, where relative paths of the configuration begin and the run folder lies:
    ReadWriteMany for pods on several machines. Empty: each pod has a /work of its own that goes with it."""
    data_claim: str = ""
    """PersistentVolumeClaim mounted read-only at /data."""
    s3_secret: str = ""
    """Secret with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, where needed, AWS_ENDPOINT_URL."""
    metrics_secret: str = ""
    """Secret with CYCLESR_METRICS_TOKEN, without which nobody reads /metrics: the PodMonitor gives it, and whoever else
    scrapes. In the namespace of the run. Empty: everybody in the cluster may read."""
    service_account: str = ""
    """For storage that is opened by the pod's identity; its token is not mounted. Empty: the namespace's default."""
    env: dict[str, Any] = field(default_factory=dict)
    """Further environment variables, NCCL's for instance. Nothing secret."""
    prepare: tuple[str, ...] = ()
    """Command that each pod runs in /work before training, one at a time, to make or fetch data."""
    queue: str = ""
    """Kueue LocalQueue."""
    priority: str = ""
    """PriorityClass."""
    node_selector: dict[str, Any] = field(default_factory=dict)
    """Labels that nodes must have."""
    tolerations: tuple[Toleration, ...] = ()
    """Taints of nodes that the pods bear."""
    near: str = "topology.kubernetes.io/zone"
    """Node label whose value the pods should have in common, to be near each other on the network."""
    restarts: _Number = 3
    """How often the run is begun again after a failure. Preemptions and drained nodes do not count."""
    pod_monitor: bool = False
    """Also a PodMonitor, where the Prometheus operator is installed."""

    @property
    def ranks(self) -> int:
        """On each node."""
        return self.ranks_per_node or self.gpus_per_node or 1


def check_cluster(c: Cluster) -> None:
    """Raise ConfigError naming the key, the value and what is allowed."""
    check_marks(c, "cluster.")
    if c.name:
        check_name("cluster.name", c.name)
    for key, value, pattern, longest in (
        ("namespace", c.namespace, _LABEL, 63),
        ("image", c.image, _IMAGE, 500),
        ("gpu_resource", c.gpu_resource, _LABEL_KEY, 253),
        ("work_claim", c.work_claim, _SUBDOMAIN, 253),
        ("data_claim", c.data_claim, _SUBDOMAIN, 253),
        ("s3_secret", c.s3_secret, _SUBDOMAIN, 253),
        ("metrics_secret", c.metrics_secret, _SUBDOMAIN, 253),
        ("service_account", c.service_account, _SUBDOMAIN, 253),
        ("queue", c.queue, _LABEL, 63),
        ("priority", c.priority, _SUBDOMAIN, 253),
        ("near", c.near, _LABEL_KEY, 253),
    ):
        if value or key in ("gpu_resource", "near"):
            _check(f"cluster.{key}", value, pattern, longest)
    check_range("cluster.shm_gib", c.shm_gib, below=c.memory_gib)
    if c.gpus_per_node and c.ranks_per_node > c.gpus_per_node:
        raise ConfigError(
            f"cluster.ranks_per_node = {c.ranks_per_node} with cluster.gpus_per_node = {c.gpus_per_node}; "
            "allowed: one rank a GPU at most"
        )
    _check_strings("cluster.env", c.env, _VARIABLE, r"[^\x00]*", 100_000)
    for name in c.env:
        if name.startswith(("PET_", "CYCLESR_SUPERVISOR")):
            raise ConfigError(f"cluster.env.{name} is set by the launcher; allowed: any other variable")
        if _SECRET.search(name):
            raise ConfigError(f"cluster.env.{name} looks like a secret; put it into a Secret: cluster.s3_secret")
    _check_strings("cluster.node_selector", c.node_selector, _LABEL_KEY, _LABEL_VALUE, 63)
    for i, word in enumerate(c.prepare):
        if "\x00" in word:
            raise ConfigError(f"cluster.prepare[{i}] = {word!r}; NUL characters are not allowed")
    for i, toleration in enumerate(c.tolerations):
        where = f"cluster.tolerations[{i}]"
        if toleration.key:
            _check(f"{where}.key", toleration.key, _LABEL_KEY, 253)
        _check(f"{where}.value", toleration.value, _LABEL_VALUE, 63)
        if toleration.operator == "Equal" and not toleration.key:
            raise ConfigError(f"{where}.key is empty; only operator: Exists can do without")
        if toleration.operator == "Exists" and toleration.value:
            raise ConfigError(f"{where}.value = {toleration.value!r} with operator: Exists; use operator: Equal")


def job_name(cluster: Cluster, path: Path) -> str:
    """`cluster.name`, or one made of the configuration's file name. Raises ConfigError when that makes none."""
    if cluster.name:
        return cluster.name
    name = re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-")
    check_name(f"cluster.name (made of {path.name})", name)
    return name


def check_name(key: str, name: str) -> None:
    """Raise ConfigError unless Kubernetes takes `name` for a job, its pods and its DNS names."""
    # Services' names must begin with a letter.
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name) or len(name) > MAX_NAME:
        raise ConfigError(
            f"{key} = {name!r}; allowed: at most {MAX_NAME} of a-z, 0-9 and -, a letter first and no - last"
        )


def _check(key: str, value: str, pattern: str, longest: int) -> None:
    if not re.fullmatch(pattern, value) or len(value) > longest:
        allowed = f"at most {longest} characters: {_WORDS[pattern]}" if pattern in _WORDS else "text without NUL"
        raise ConfigError(f"{key} = {value!r} is nothing that Kubernetes takes there; allowed: {allowed}")


def _check_strings(key: str, values: Mapping[str, Any], names: str, pattern: str, longest: int) -> None:
    for name, value in values.items():
        _check(f"a key of {key}", name, names, 253)
        if not isinstance(value, str):
            raise ConfigError(f"{key}.{name} = {value!r} is not a string; put it in quotes")
        _check(f"{key}.{name}", value, pattern, longest)
