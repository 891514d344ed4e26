"""Writes the parts of k8s/ that are rendered: `make manifests`. What is written by hand there are patches on top."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cyclesr_dist.kubernetes.plan import Plan, search_plan, training_plan
from cyclesr_dist.kubernetes.pod import PART
from cyclesr_dist.kubernetes.targets import manifests
from cyclesr_dist.kubernetes.text import to_yaml
from cyclesr_dist.runtime.files import write_text
from cyclesr_dist.telemetry import monitoring
from cyclesr_dist.telemetry.alerts import rule_groups

CLAIM = "cyclesr-work"
GPU = ("cluster.nodes=2", "cluster.gpus_per_node=8", "cluster.cpus=64", "cluster.memory_gib=512", "cluster.shm_gib=64")
"""What overlays/gpu makes of the base."""

_OPERATOR = "monitoring.coreos.com/v1"
_RANKS_OF_A_NODE = 8
_HEAD = "# Rendered by `make manifests`; changes belong in cyclesr_dist/kubernetes/ or in an overlay.\n"


def base_plan(configs: Path) -> Plan:
    return training_plan(configs / "demo.yaml", ["cluster.name=train"])


def demo_plan(configs: Path) -> Plan:
    return training_plan(configs / "demo.yaml", ["cluster.name=train", f"cluster.work_claim={CLAIM}"])


def gpu_plan(configs: Path) -> Plan:
    overrides = ["cluster.name=train", f"cluster.work_claim={CLAIM}", *GPU]
    return training_plan(configs / "ntire18_t2.yaml", overrides)


def search_overlay_plan(configs: Path) -> Plan:
    return search_plan(configs / "tune_demo.yaml", ["cluster.name=search", f"cluster.work_claim={CLAIM}"])


def files(configs: Path) -> Iterator[tuple[str, str]]:
    """Paths below k8s/ and what belongs there. Raises ConfigError."""
    for manifest in manifests(base_plan(configs), "job"):
        yield f"base/{_name(manifest)}", _text(manifest)
    yield "overlays/gpu/configmap.yaml", _text(manifests(gpu_plan(configs), "job")[0])
    for manifest in manifests(search_overlay_plan(configs), "rayjob"):
        yield f"overlays/search/{_name(manifest)}", _text(manifest)
    for manifest in _monitoring():
        yield f"monitoring/{_name(manifest)}", _text(manifest)


def _monitoring() -> list[dict[str, Any]]:
    """Of all runs in a namespace: what the Prometheus operator scrapes and warns of, and Grafana's dashboard."""
    labels = {"app.kubernetes.io/name": "cyclesr-dist"}
    metadata = {"name": "cyclesr", "labels": labels}
    monitor = {
        "selector": {"matchLabels": {PART: "trainer"}},
        "podMetricsEndpoints": [
            {"port": f"metrics-{rank}", "path": "/metrics", "interval": "15s"} for rank in range(_RANKS_OF_A_NODE)
        ],
    }
    files = monitoring.files()
    sidecar = labels | {"grafana_dashboard": "1"}  # by which Grafana's sidecar finds it
    return [
        {"apiVersion": _OPERATOR, "kind": "PodMonitor", "metadata": metadata, "spec": monitor},
        {"apiVersion": _OPERATOR, "kind": "PrometheusRule", "metadata": metadata, "spec": {"groups": rule_groups()}},
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "cyclesr-dashboard", "labels": sidecar},
            "data": {"cyclesr.json": files["dashboard.json"]},
        },
    ]


def _name(manifest: dict[str, Any]) -> str:
    return f"{manifest['kind'].lower()}.yaml"


def _text(manifest: dict[str, Any]) -> str:
    return _HEAD + to_yaml([manifest])


def main() -> None:
    """`python -m cyclesr_dist.kubernetes.kustomize`, in the top folder of a checkout."""
    for name, text in files(Path("configs")):
        path = Path("k8s") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
        print(path)


if __name__ == "__main__":
    main()
