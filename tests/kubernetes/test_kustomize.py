"""k8s/ and the renderer are the same thing: bases are rendered, overlays are patches that lead to what it renders."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cyclesr_dist.kubernetes import kustomize
from cyclesr_dist.kubernetes.plan import training_plan
from cyclesr_dist.kubernetes.pod import RUN
from cyclesr_dist.kubernetes.rules import pods, problems
from cyclesr_dist.kubernetes.security import findings
from cyclesr_dist.kubernetes.targets import manifests
from cyclesr_dist.kubernetes.text import to_yaml

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # tests name configs/ by relative paths


def built(overlay: str) -> list[dict[str, Any]]:
    kubectl = Path(sys.executable).with_name("kubectl")
    command = [str(kubectl), "kustomize", str(K8S / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def test_kubectl_reads_the_strings_that_were_meant() -> None:
    words = ["y", "N", "on", "1e3", ".5e3", "0o17", "0b1", "1_000", "12:30", ".inf", "+7", "010", "2026-11-23", "x: y"]
    env = ", ".join(f"V{i}: {json.dumps(word)}" for i, word in enumerate(words))
    plan = training_plan(Path("configs/demo.yaml"), [f"cluster.env={{{env}}}", "cluster.node_selector={gpu: 'y'}"])
    job = to_yaml(manifests(plan, "job")[-1:])
    kubectl = Path(sys.executable).with_name("kubectl")
    command = [str(kubectl), "label", "--local", "-f", "-", "a=b", "-o", "json"]
    read = json.loads(subprocess.run(command, input=job, capture_output=True, text=True, check=True).stdout)
    pod = read["spec"]["template"]["spec"]
    got = {v["name"]: v.get("value") for v in pod["containers"][0]["env"]}
    assert [got[f"V{i}"] for i in range(len(words))] == words
    assert pod["nodeSelector"] == {"gpu": "y"}


def comparable(objects: list[dict[str, Any]]) -> dict[str, Any]:
    """By kind, without namespaces, and with lists that have keys in one order; only what carries the run's label."""
    found = {}
    for manifest in objects:
        if RUN in (manifest["metadata"].get("labels") or {}):
            metadata = {k: v for k, v in manifest["metadata"].items() if k != "namespace"}
            found[manifest["kind"]] = ordered(manifest | {"metadata": metadata})
    return found


def ordered(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: ordered(value) for key, value in node.items() if value != []}
    if isinstance(node, list):
        items = [ordered(item) for item in node]
        named = all(isinstance(item, dict) and {"name", "containerPort"} & set(item) for item in items)
        return sorted(items, key=lambda item: str(item.get("name"))) if named else items
    return node


def test_what_is_rendered_is_up_to_date() -> None:
    wanted = dict(kustomize.files(Path("configs")))
    assert {name: (K8S / name).read_text() for name in wanted} == wanted, "run make manifests"


@pytest.mark.parametrize(
    ("overlay", "plan", "target"),
    [
        ("base", kustomize.base_plan, "job"),
        ("overlays/cpu-demo", kustomize.demo_plan, "job"),
        ("overlays/gpu", kustomize.gpu_plan, "job"),
        ("overlays/search", kustomize.search_overlay_plan, "rayjob"),
    ],
)
def test_each_overlay_is_what_the_renderer_makes(overlay: str, plan: Any, target: Any) -> None:
    objects = built(overlay)
    assert comparable(objects) == comparable(manifests(plan(Path("configs")), target))
    assert problems([m for m in objects if RUN in (m["metadata"].get("labels") or {})]) == []


def test_rdma_alone_is_exempt_and_says_so() -> None:
    objects = built("overlays/gpu-rdma")
    (job,) = (m for m in objects if m["kind"] == "Job")
    assert findings(pods(job)[0]) == [
        "container trainer: runAsUser 0",
        "container trainer: runAsNonRoot: false",
        "container trainer: capability IPC_LOCK is added",
        "container trainer: runAsNonRoot is not true",
    ]
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["rdma/hca"] == container["resources"]["requests"]["rdma/hca"] == "1"
    assert {v["name"]: v.get("value") for v in container["env"]}["NCCL_IB_HCA"] == "mlx5"
    (namespace,) = (m for m in objects if m["kind"] == "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"
    assert {m["metadata"].get("namespace") for m in objects if m["kind"] != "Namespace"} == {"cyclesr-rdma"}
    for overlay in ("cpu-demo", "gpu"):
        (namespace,) = (m for m in built(f"overlays/{overlay}") if m["kind"] == "Namespace")
        assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_monitoring_looks_at_the_pods_that_train() -> None:
    objects = {m["kind"]: m for m in built("monitoring")}
    (pod,) = pods(manifests(kustomize.gpu_plan(Path("configs")), "job")[-1])
    monitor = objects["PodMonitor"]["spec"]
    assert monitor["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    ports = {port["name"] for port in pod["spec"]["containers"][0]["ports"]} - {"meeting"}
    assert {endpoint["port"] for endpoint in monitor["podMetricsEndpoints"]} == ports
    names = [rule.get("alert") for group in objects["PrometheusRule"]["spec"]["groups"] for rule in group["rules"]]
    assert len([name for name in names if name]) >= 5
    assert json.loads(objects["ConfigMap"]["data"]["cyclesr.json"])["panels"]


def test_the_reader_is_restricted() -> None:
    pod = yaml.safe_load((K8S / "reader.yaml").read_text())
    assert findings(pod) == []
