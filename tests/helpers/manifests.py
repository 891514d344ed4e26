"""Manifests as the renderer makes them, and what is wrong with them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from cyclesr_dist.config.reader import read
from cyclesr_dist.config.schema import Config
from cyclesr_dist.kubernetes.plan import Plan, search_plan, training_plan
from cyclesr_dist.kubernetes.rules import problems
from cyclesr_dist.kubernetes.targets import manifests
from helpers.manifest_schemas import NEWEST, VERSIONS, crd_problems, has_crd, schema_problems

CONFIGS = Path(__file__).parents[2] / "configs"


FULL = [
    *("cluster.nodes=4", "cluster.gpus_per_node=2", "cluster.cpus=16", "cluster.memory_gib=64.5"),
    *("cluster.namespace=team", "cluster.image=registry.example:5000/team/cyclesr@sha256:" + "0f" * 32),
    *("cluster.work_claim=runs", "cluster.data_claim=div2k", "cluster.s3_secret=s3", "cluster.service_account=trainer"),
    *("cluster.queue=research", "cluster.priority=high", "cluster.pod_monitor=true", "cluster.restarts=7"),
    "cluster.env={NCCL_IB_HCA: mlx5, GREETING: 'a $(HOME) b'}",
    "cluster.node_selector={gpu: h100}",
    "cluster.tolerations=[{key: nvidia.com/gpu, effect: NoSchedule}, {key: team, operator: Equal, value: sr}]",
]


def plan(target: str, *overrides: str) -> Plan:
    if target == "rayjob":
        demo = [f"base={CONFIGS / 'demo.yaml'}", "cluster.work_claim=runs"]
        return search_plan(CONFIGS / "tune_demo.yaml", [*demo, *overrides])
    return training_plan(CONFIGS / "demo.yaml", overrides)


def rendered(target: Any, *overrides: str) -> list[dict[str, Any]]:
    return manifests(plan(target, *overrides), target)


def all_problems(objects: list[dict[str, Any]], versions: list[str] = VERSIONS) -> list[str]:
    return problems(objects) + by_schema(objects, versions)


def by_schema(objects: list[dict[str, Any]], versions: list[str] = VERSIONS) -> list[str]:
    """What the schemas alone say of manifests."""
    found = []
    for manifest in objects:
        found += schema_problems(manifest, versions)
        if has_crd(str(manifest.get("kind"))):
            found += crd_problems(manifest)
    return found


def noticed(objects: list[dict[str, Any]], index: int) -> list[str]:
    """The same of one manifest, as soon as something is found."""
    manifest = objects[index]
    custom = crd_problems(manifest) if has_crd(str(manifest.get("kind"))) else []
    return custom or problems(objects) or schema_problems(manifest, [NEWEST])


def parsed(text: str) -> Config:
    """As a pod reads its mounted file."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        return read(Config, file.name, [])


def container_of(pod: dict[str, Any]) -> dict[str, Any]:
    return pod["spec"]["containers"][0]
