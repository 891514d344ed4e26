"""The `cluster` section of a configuration: what `launch/submit.py` asks Kubernetes for, and partly Slurm.

Every string ends up in a manifest, so each is held to what Kubernetes takes in its place.
"""

from __future__ import annotations

import posixpath
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
_Seconds = Annotated[int, Range(minimum=0, maximum=2**31 - 1)]
_Size = Annotated[float, Range(minimum=0.05, maximum=1_000_000)]

VOLUME_KINDS = ("claim", "host_path", "empty_dir_gib", "config_map", "secret")
# Of pods that k8s/Dockerfile's image runs in: what is mounted, and folders that hold the system and the program.
_MOUNTS = ("/work", "/tmp", "/dev/shm", "/etc/cyclesr")
_HIDING = (
    *("/", "/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/opt", "/opt/venv", "/proc", "/run", "/sbin", "/sys"),
    *("/usr", "/usr/bin", "/usr/lib", "/usr/local", "/usr/sbin", "/var"),
)
_NOT_BELOW = ("/dev/", "/proc/", "/sys/", "/etc/cyclesr/", "/opt/venv/")

_NOT_YOURS = ("cyclesr-dist/",)
_NOT_YOUR_LABELS = (
    *("app.kubernetes.io/name", "app.kubernetes.io/instance", "kueue.x-k8s.io/queue-name"),
    *("batch.kubernetes.io/", "jobset.sigs.k8s.io/", "trainer.kubeflow.org/", "ray.io/"),
)

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
class Volume:
    """A further place in the pods. Of `claim`, `host_path`, `empty_dir_gib`, `config_map` and `secret` it has one."""

    path: str = ""
    """Where it is in a pod."""
    claim: str = ""
    """PersistentVolumeClaim."""
    host_path: str = ""
    """Folder of the node; not allowed where the baseline Pod Security Standard is enforced."""
    empty_dir_gib: _Size | None = None
    """Size of a folder that goes with the pod, on the node's disk."""
    config_map: str = ""
    """ConfigMap whose keys are files there, read-only."""
    secret: str = ""
    """Secret whose keys are files there, read-only."""
    read_only: bool = False
    """Of a claim or a folder of the node."""


@dataclass(frozen=True)
class Cluster:
    name: str = ""
    """Of the job; empty: the configuration's file name."""
    namespace: str = ""
    """Empty: the one of the kubeconfig's context."""
    image: str = ""
    """Built from k8s/Dockerfile; empty: cyclesr-dist:<version>-cpu, or -cuda where there are GPUs."""
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    """When nodes pull the image."""
    pull_secrets: tuple[str, ...] = ()
    """Secrets by which a private registry gives the image."""
    nodes: Annotated[int, Range(minimum=1, maximum=100_000)] = 1
    """Pods of a training run; of a search the Ray workers, beside the head."""
    gpus_per_node: _Number = 0
    """GPUs of each pod."""
    gpu_resource: str = "nvidia.com/gpu"
    """Name that the cluster's device plugin gives them."""
    rdma: dict[str, Any] = field(default_factory=dict)
    """Resources of the RDMA device plugin for each pod, by name, with their number. The pods then run as root with
    IPC_LOCK, without which they could not pin memory."""
    host_network: bool = False
    """Pods have the network of their node: as many on a node as do not take each other's ports, no NetworkPolicy."""
    ranks_per_node: _Number = 0
    """0: one a GPU, or one without GPUs."""
    cpus: _Size = 2.0
    """CPU cores of each pod."""
    memory_gib: _Size = 4.0
    """Memory of each pod, shm_gib included."""
    shm_gib: _Size = 1.0
    """Size of /dev/shm, where loader processes hand over batches; a container has 64 MB without asking."""
    disk_gib: Annotated[float, Range(minimum=0, maximum=1_000_000)] = 0.0
    """Ephemeral storage of each pod: /tmp, logs, and /work where it is no claim. 0: nothing is asked for."""
    work_claim: str = ""
    """PersistentVolumeClaim mounted at /work, where relative paths of the configuration begin and the run folder lies:
    ReadWriteMany for pods on several machines. Empty: each pod has a /work of its own that goes with it."""
    data_claim: str = ""
    """PersistentVolumeClaim mounted read-only at /data."""
    volumes: tuple[Volume, ...] = ()
    """Further volumes."""
    s3_secret: str = ""
    """Secret with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, where needed, AWS_ENDPOINT_URL."""
    metrics_secret: str = ""
    """Secret with CYCLESR_METRICS_TOKEN, without which nobody reads /metrics: the PodMonitor gives it, and whoever else
    scrapes. In the namespace of the run. Empty: everybody in the cluster may read."""
    service_account: str = ""
    """For storage that is opened by the pod's identity; its token is not mounted. Empty: the namespace's default."""
    env: dict[str, Any] = field(default_factory=dict)
    """Further environment variables, NCCL's for instance. Nothing secret."""
    env_secrets: tuple[str, ...] = ()
    """Secrets whose keys become environment variables: WANDB_API_KEY, for instance."""
    env_config_maps: tuple[str, ...] = ()
    """ConfigMaps whose keys become environment variables. Secrets and `env` come before them."""
    labels: dict[str, Any] = field(default_factory=dict)
    """Further labels of every object and pod."""
    annotations: dict[str, Any] = field(default_factory=dict)
    """Further annotations of every object and pod. Nothing secret."""
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
    deadline_seconds: _Seconds = 0
    """After so long the pods save and the job has failed; of a JobSet, since it was last begun again. 0: never."""
    ttl_seconds: _Seconds = 0
    """So long after its end the cluster deletes the job. 0: it stays until `--delete`."""
    pod_patch: dict[str, Any] = field(default_factory=dict)
    """Merged into the `spec` of every pod, as `kubectl patch` does; `main` is the name of the container that works.
    For all that has no key here: docs/kubernetes.md."""
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
        *((f"pull_secrets[{i}]", name, _SUBDOMAIN, 253) for i, name in enumerate(c.pull_secrets)),
        *((f"env_secrets[{i}]", name, _SUBDOMAIN, 253) for i, name in enumerate(c.env_secrets)),
        *((f"env_config_maps[{i}]", name, _SUBDOMAIN, 253) for i, name in enumerate(c.env_config_maps)),
        ("queue", c.queue, _LABEL, 63),
        ("priority", c.priority, _SUBDOMAIN, 253),
        ("near", c.near, _LABEL_KEY, 253),
    ):
        if value or key in ("gpu_resource", "near") or "[" in key:
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
        if looks_secret(name):
            raise ConfigError(f"cluster.env.{name} looks like a secret; put it into a Secret: cluster.env_secrets")
    _check_strings("cluster.labels", c.labels, _LABEL_KEY, _LABEL_VALUE, 63)
    _check_strings("cluster.annotations", c.annotations, _LABEL_KEY, r"[^\x00]*", 100_000)
    for key, names in (("labels", c.labels), ("annotations", c.annotations)):
        for name in names:
            if name.startswith(_NOT_YOURS) or (key == "labels" and name.startswith(_NOT_YOUR_LABELS)):
                raise ConfigError(f"cluster.{key}.{name} is set by the run or its operator; allowed: other names")
    _check_rdma(c)
    _check_volumes(c)
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


def looks_secret(name: str) -> bool:
    """Whether an environment variable is named as those are whose value nobody should see."""
    return bool(_SECRET.search(name))


def _check_rdma(c: Cluster) -> None:
    for name, number in c.rdma.items():
        _check("a key of cluster.rdma", name, _LABEL_KEY, 253)
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= 1000:
            raise ConfigError(f"cluster.rdma.{name} = {number!r}; allowed: an integer from 1 to 1000")
        if name == c.gpu_resource:
            raise ConfigError(f"cluster.rdma.{name} are the GPUs; allowed: resources of an RDMA device plugin")
    if c.rdma and not c.gpus_per_node:
        raise ConfigError("cluster.rdma with cluster.gpus_per_node = 0: ranks without GPUs talk over TCP; allowed: {}")


def _check_volumes(c: Cluster) -> None:
    seen: dict[str, str] = {}
    for i, volume in enumerate(c.volumes):
        where = f"cluster.volumes[{i}]"
        _check_mount(where, volume.path, c)
        if volume.path in seen:
            raise ConfigError(f"{where}.path = {volume.path!r} is that of {seen[volume.path]}; allowed: each once")
        seen[volume.path] = where
        given = [kind for kind in VOLUME_KINDS if getattr(volume, kind)]
        if len(given) != 1:
            raise ConfigError(f"{where} has {' and '.join(given) or 'none'} of {', '.join(VOLUME_KINDS)}; allowed: one")
        for kind in ("claim", "config_map", "secret"):
            if getattr(volume, kind):
                _check(f"{where}.{kind}", getattr(volume, kind), _SUBDOMAIN, 253)
        if volume.host_path and not _is_plain_path(volume.host_path):
            raise ConfigError(f"{where}.host_path = {volume.host_path!r}; allowed: an absolute path without ..")
        if volume.read_only and volume.empty_dir_gib:
            raise ConfigError(f"{where}.read_only = true of an empty folder; allowed: false")


def _check_mount(where: str, path: str, c: Cluster) -> None:
    if not _is_plain_path(path) or ":" in path:
        raise ConfigError(f"{where}.path = {path!r}; allowed: an absolute path without .. and :")
    taken = [*_MOUNTS, *(["/data"] if c.data_claim else [])]
    if path in taken or path in _HIDING or path.startswith(_NOT_BELOW):
        raise ConfigError(
            f"{where}.path = {path!r} hides what the pod has there; allowed: a path of its own, such as /scratch, "
            "also below /work, /data or /tmp"
        )


def _is_plain_path(path: str) -> bool:
    plain = path.startswith("/") and not path.startswith("//") and path == posixpath.normpath(path)
    return plain and "\x00" not in path and len(path) <= 1000


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
