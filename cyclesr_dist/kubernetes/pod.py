"""The pod: container, environment, volumes, probes, and everything that the restricted pod security level asks for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cyclesr_dist.config.cluster import Cluster
from cyclesr_dist.config.credentials import METRICS_TOKEN
from cyclesr_dist.kubernetes.patch import patched
from cyclesr_dist.kubernetes.plan import CONFIG, MEETING_PORT, METRICS_PORT, WORK, Plan
from cyclesr_dist.kubernetes.volumes import FURTHER, TMP, mebibytes, mounts, volumes
from cyclesr_dist.telemetry.server import HEALTH

RUN = "cyclesr-dist/run"
PART = "cyclesr-dist/part"
USER_ID = 10001
_PINS = "IPC_LOCK"
# Interfaces of the node that lead nowhere but to its own pods.
_NOT_BETWEEN_NODES = "^lo,docker,cni,veth,cali,flannel,cilium,lxc"
_LOCK = f"{WORK}/.cyclesr-prepare.lock"

# Pods come one by one where machines have to be found or back-offs (10 minutes at most) waited for.
MEETING_SECONDS = 1500
PATIENCE = "CYCLESR_MEETING_SECONDS"
# Rank r serves /metrics as soon as all ranks have met, and then from a thread of its own: a long compilation does not
# silence it.
_STARTUP = {"periodSeconds": 10, "failureThreshold": 180}
_LIVENESS = {"periodSeconds": 30, "timeoutSeconds": 10, "failureThreshold": 10}


def labels(plan: Plan, part: str = "") -> dict[str, str]:
    """On every object; with a part (trainer, head, worker, submitter), on pods."""
    own = {"app.kubernetes.io/name": "cyclesr-dist", "app.kubernetes.io/instance": plan.name} | selector(plan, part)
    return own | plan.cluster.labels


def selector(plan: Plan, part: str = "") -> dict[str, str]:
    """Of pods, by labels that no operator sets otherwise."""
    return {RUN: plan.name} | ({PART: part} if part else {})


def training_command(plan: Plan) -> list[str]:
    """torchrun reads PET_NNODES, PET_NODE_RANK and so on: the same words on every node."""
    resume = "--resume-with-changes" if plan.with_changes else "--resume"
    return [
        *("cyclesr", "supervise", "--grace", str(plan.supervisor_seconds), "--"),
        *("torchrun", "-m", "cyclesr_dist.training"),
        *("--config", f"{CONFIG}/config.yaml", "--run-dir", plan.run_dir, resume),
    ]


def training_pod(plan: Plan, container: str, meeting: list[dict[str, Any]]) -> dict[str, Any]:
    """Template of a pod that trains. `meeting`: the environment by which torchrun finds the other nodes."""
    main = _container(plan, container, training_command(plan), meeting)
    main["ports"] = [{"name": "meeting", "containerPort": MEETING_PORT}]
    for rank in range(plan.cluster.ranks):
        main["ports"].append({"name": f"metrics-{rank}", "containerPort": METRICS_PORT + rank})
    # With a token, which probes do not have, there is another path that answers without.
    asked: dict[str, Any] = {"path": HEALTH if plan.cluster.metrics_secret else "/metrics", "port": METRICS_PORT}
    probe = {"httpGet": asked | ({"scheme": "HTTPS"} if plan.tls else {})}
    if plan.cluster.metrics_secret:
        key = {"name": plan.cluster.metrics_secret, "key": METRICS_TOKEN}
        main["env"].append({"name": METRICS_TOKEN, "valueFrom": {"secretKeyRef": key}})
    main["startupProbe"] = probe | _STARTUP
    main["livenessProbe"] = probe | _LIVENESS
    spec = _pod_spec(plan, [main], part="trainer")
    spec["restartPolicy"] = "Never"
    if plan.cluster.prepare:
        # One at a time: pods of one machine may share the folder.
        words = ["flock", _LOCK, *plan.cluster.prepare]
        spec["initContainers"] = [_container(plan, "prepare", words, [], gpus=False)]
    return _template(plan, "trainer", spec)


def ray_pod(plan: Plan, part: str) -> dict[str, Any]:
    """Template of a pod of the Ray cluster; KubeRay adds the command."""
    container = _container(plan, f"ray-{part}", [], [], gpus=part == "worker")
    if part == "head":
        ports = {"gcs-server": 6379, "dashboard": 8265, "client": 10001}
        container["ports"] = [{"name": name, "containerPort": port} for name, port in ports.items()]
    return _template(plan, part, _pod_spec(plan, [container], part))


def submitter_pod(plan: Plan) -> dict[str, Any]:
    """Template of the pod from which KubeRay submits the search; it adds the command."""
    container = _container(plan, "ray-job-submitter", [], [], gpus=False)
    container["resources"] = _same({"cpu": "500m", "memory": "1Gi"})
    spec = _pod_spec(plan, [container], "submitter")
    spec["restartPolicy"] = "Never"
    return _template(plan, "submitter", spec)


def _template(plan: Plan, part: str, spec: dict[str, Any]) -> dict[str, Any]:
    notes = {"annotations": dict(plan.cluster.annotations)} if plan.cluster.annotations else {}
    return {"metadata": {"labels": labels(plan, part)} | notes, "spec": patched(plan.cluster, spec)}


def variable(name: str, value: str) -> dict[str, str]:
    """A literal: Kubernetes would expand $(...)."""
    return {"name": name, "value": _literal(value)}


def _container(
    plan: Plan, name: str, command: list[str], meeting: list[dict[str, Any]], gpus: bool = True
) -> dict[str, Any]:
    cluster = plan.cluster if gpus else replace(plan.cluster, gpus_per_node=0, rdma={})
    own = {name: variable(name, value) for name, value in (_environment(cluster) | cluster.env).items()}
    container: dict[str, Any] = {"name": name, "image": plan.image, "imagePullPolicy": cluster.pull_policy}
    if command:
        container["command"] = [_literal(word) for word in command]
        container["workingDir"] = WORK
    container["env"] = [*meeting, *own.values()]
    secrets = [*([cluster.s3_secret] if cluster.s3_secret else []), *cluster.env_secrets]
    sources = [{"configMapRef": {"name": name}} for name in cluster.env_config_maps]
    if sources := [*sources, *({"secretRef": {"name": name}} for name in secrets)]:  # the last wins
        container["envFrom"] = sources
    container["resources"] = _resources(cluster)
    container["securityContext"] = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    if plan.cluster.rdma:  # root everywhere: without capabilities it may not write where user 10001 made the folder
        container["securityContext"] |= {"runAsUser": 0, "runAsNonRoot": False}
    if cluster.rdma:  # another user than root never gets an added capability: Kubernetes has no ambient ones
        container["securityContext"]["capabilities"] = {"drop": ["ALL"], "add": [_PINS]}
    container["volumeMounts"] = mounts(cluster)
    return container


def _environment(cluster: Cluster) -> dict[str, str]:
    found = {
        "HOME": TMP,
        "TMPDIR": TMP,
        "USER": "cyclesr",
        # The limit is a quota: the process would see all cores of the machine, and start as many threads.
        "CYCLESR_NUM_THREADS": str(max(1, int(cluster.cpus) // cluster.ranks)),
    }
    if cluster.gpus_per_node:
        wrong = _NOT_BETWEEN_NODES if cluster.host_network else "^lo,docker"
        return found | {"NCCL_SOCKET_IFNAME": wrong, "NCCL_DEBUG": "WARN"}
    return found | {"DS_ACCELERATOR": "cpu"}


def _resources(cluster: Cluster) -> dict[str, Any]:
    amounts = {"cpu": f"{round(cluster.cpus * 1000)}m", "memory": mebibytes(cluster.memory_gib)}
    if cluster.gpus_per_node:
        amounts[cluster.gpu_resource] = str(cluster.gpus_per_node)
    if cluster.disk_gib:
        amounts["ephemeral-storage"] = mebibytes(cluster.disk_gib)
    amounts |= {name: str(number) for name, number in cluster.rdma.items()}
    return _same(amounts)


def _same(amounts: dict[str, str]) -> dict[str, Any]:
    """Limits equal to requests: such pods are the last to be evicted."""
    return {"requests": dict(amounts), "limits": dict(amounts)}


def exempt(plan: Plan) -> list[str]:
    """Findings of security.py, by how they end, that the configuration asks for."""
    cluster = plan.cluster
    found = ["hostNetwork: true"] if cluster.host_network else []
    for i, volume in enumerate(cluster.volumes):
        if volume.host_path:
            found.append(f"volume {FURTHER}{i}: hostPath is not allowed")
    if cluster.rdma:
        found += ["runAsUser 0", "runAsNonRoot: false", "runAsNonRoot is not true", f"capability {_PINS} is added"]
    return found


def _pod_spec(plan: Plan, containers: list[dict[str, Any]], part: str) -> dict[str, Any]:
    cluster = plan.cluster
    alike = {"matchLabels": selector(plan, part)}
    near = {"labelSelector": {"matchLabels": selector(plan)}, "topologyKey": cluster.near}
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": plan.termination_seconds,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "affinity": {
            "podAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": near}]
            }
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": alike,
            }
        ],
        "containers": containers,
        "volumes": volumes(plan),
    }
    if cluster.host_network and part != "submitter":
        spec |= {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}
    if cluster.pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in cluster.pull_secrets]
    if cluster.service_account:
        spec["serviceAccountName"] = cluster.service_account
    if cluster.priority:
        spec["priorityClassName"] = cluster.priority
    if cluster.node_selector:
        spec["nodeSelector"] = dict(cluster.node_selector)
    if cluster.tolerations:
        spec["tolerations"] = [
            {"operator": t.operator}
            | {name: value for name, value in (("key", t.key), ("value", t.value), ("effect", t.effect)) if value}
            for t in cluster.tolerations
        ]
    return spec


def _literal(text: str) -> str:
    return text.replace("$", "$$")
