"""What is mounted in the pods, and where: the run's own volumes and those of `cluster.volumes`."""

from __future__ import annotations

from typing import Any

from cyclesr_dist.config.cluster import Cluster, Volume
from cyclesr_dist.kubernetes.plan import CONFIG, DATA, WORK, Plan

TMP = "/tmp"
FURTHER = "volume-"
"""And its number in `cluster.volumes`: the name of such a volume."""


def mounts(cluster: Cluster) -> list[dict[str, Any]]:
    """Of every container."""
    found: list[dict[str, Any]] = [
        {"name": "config", "mountPath": CONFIG, "readOnly": True},
        {"name": "work", "mountPath": WORK},
        {"name": "scratch", "mountPath": TMP},
        {"name": "shm", "mountPath": "/dev/shm"},
    ]
    if cluster.data_claim:
        found.append({"name": "data", "mountPath": DATA, "readOnly": True})
    for i, volume in enumerate(cluster.volumes):
        read_only = volume.read_only or volume.config_map or volume.secret
        found.append(
            {"name": f"{FURTHER}{i}", "mountPath": volume.path} | ({"readOnly": True} if read_only else {}),
        )
    return found


def volumes(plan: Plan) -> list[dict[str, Any]]:
    """Of every pod."""
    cluster = plan.cluster
    work = {"persistentVolumeClaim": {"claimName": cluster.work_claim}} if cluster.work_claim else {"emptyDir": {}}
    found = [
        {"name": "config", "configMap": {"name": plan.name}},
        {"name": "work", **work},
        {"name": "scratch", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": mebibytes(cluster.shm_gib)}},
    ]
    if cluster.data_claim:
        found.append({"name": "data", "persistentVolumeClaim": _claim(cluster.data_claim, read_only=True)})
    return [*found, *({"name": f"{FURTHER}{i}", **_source(volume)} for i, volume in enumerate(cluster.volumes))]


def _source(volume: Volume) -> dict[str, Any]:
    if volume.claim:
        return {"persistentVolumeClaim": _claim(volume.claim, volume.read_only)}
    if volume.host_path:
        return {"hostPath": {"path": volume.host_path, "type": "Directory"}}
    if volume.config_map:
        return {"configMap": {"name": volume.config_map}}
    if volume.secret:
        return {"secret": {"secretName": volume.secret}}
    return {"emptyDir": {"sizeLimit": mebibytes(volume.empty_dir_gib or 0)}}


def _claim(name: str, read_only: bool) -> dict[str, Any]:
    return {"claimName": name} | ({"readOnly": True} if read_only else {})


def mebibytes(gib: float) -> str:
    """As a quantity."""
    return f"{round(gib * 1024)}Mi"
