"""The objects beside the job: configuration, DNS, network policy, metrics."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from cyclesr_dist.config.credentials import METRICS_TOKEN
from cyclesr_dist.kubernetes.plan import MEETING_PORT, METRICS_PORT, Plan
from cyclesr_dist.kubernetes.pod import labels, selector

HASH = "cyclesr-dist/rendered-sha256"
TARGET = "cyclesr-dist/target"
QUEUE = "kueue.x-k8s.io/queue-name"
_RAY_DASHBOARD = 8265


def metadata(plan: Plan, *, queued: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = {"name": plan.name}
    if plan.cluster.namespace:
        found["namespace"] = plan.cluster.namespace
    found["labels"] = labels(plan) | ({QUEUE: plan.cluster.queue} if queued and plan.cluster.queue else {})
    if plan.cluster.annotations:
        found["annotations"] = dict(plan.cluster.annotations)
    return found


def config_map(plan: Plan) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(plan), "data": dict(plan.files)}


def headless_service(plan: Plan) -> dict[str, Any]:
    """Gives pod i the name `<job>-<i>.<job>`; also before it is ready, as it never is before it has met the others."""
    spec = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": selector(plan, "trainer"),
        "ports": [{"name": "meeting", "port": MEETING_PORT}],
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata(plan), "spec": spec}


def network_policy(plan: Plan) -> dict[str, Any]:
    """In: the run's own pods, and anyone who reads metrics. Out: these pods, DNS, and TCP for data and checkpoints."""
    own = [{"podSelector": {"matchLabels": selector(plan)}}]
    if plan.kind == "search":
        read = [{"protocol": "TCP", "port": _RAY_DASHBOARD}]  # KubeRay's operator asks there how the search goes
    else:
        read = [{"protocol": "TCP", "port": METRICS_PORT + rank} for rank in range(plan.cluster.ranks)]
    anywhere: list[dict[str, Any]] = [{"cidr": "0.0.0.0/0"}, {"cidr": "::/0"}]
    if not plan.cluster.service_account:  # the machine's identity is not the run's
        for block, address in zip(anywhere, ("169.254.169.254/32", "fd00:ec2::254/128"), strict=True):
            block["except"] = [address]
    # Wherever DNS is: pods of any namespace, or a cache on the machine itself; 5353 is where OpenShift's pods listen.
    dns = [{"protocol": protocol, "port": port} for protocol in ("UDP", "TCP") for port in (53, 5353)]
    spec = {
        "podSelector": {"matchLabels": selector(plan)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": own}, {"from": [{"namespaceSelector": {}}], "ports": read}],
        "egress": [
            {"to": own},
            {"ports": dns},
            {
                "to": [{"ipBlock": block} for block in anywhere],
                "ports": [{"protocol": "TCP", "port": 1, "endPort": 65535}],
            },
        ],
    }
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(plan),
        "spec": spec,
    }


def pod_monitor(plan: Plan) -> dict[str, Any]:
    """For the Prometheus operator: every rank of every pod. A certificate names no pod's address, which is scraped."""
    how: dict[str, Any] = {"path": "/metrics", "interval": "15s"}
    if plan.tls:
        how |= {"scheme": "https", "tlsConfig": {"insecureSkipVerify": True}}
    if plan.cluster.metrics_secret:
        how["authorization"] = {"credentials": {"name": plan.cluster.metrics_secret, "key": METRICS_TOKEN}}
    spec = {
        "selector": {"matchLabels": selector(plan, "trainer")},
        "podMetricsEndpoints": [{"port": f"metrics-{rank}", **how} for rank in range(plan.cluster.ranks)],
    }
    return {"apiVersion": "monitoring.coreos.com/v1", "kind": "PodMonitor", "metadata": metadata(plan), "spec": spec}


def stamped(objects: Sequence[dict[str, Any]], target: str) -> list[dict[str, Any]]:
    """Each with its target and its own hash, the job (the last) with the hash of all: a later submission then knows
    what is the same."""
    *others, job = objects
    return [*(_annotated(manifest, manifest, target) for manifest in others), _annotated(job, objects, target)]


def _annotated(manifest: dict[str, Any], content: Any, target: str) -> dict[str, Any]:
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    annotations = (manifest["metadata"].get("annotations") or {}) | {HASH: digest, TARGET: target}
    return manifest | {"metadata": manifest["metadata"] | {"annotations": annotations}}
