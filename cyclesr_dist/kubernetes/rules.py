"""What must hold in rendered manifests beyond their schema: names, quantities, references, and how they fit each other.

Schemas know no DNS names, no quantities and no enumerations, and nothing of other fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from cyclesr_dist.errors import CycleSRError, InputError, Preempted
from cyclesr_dist.kubernetes.pod import PART, RUN
from cyclesr_dist.kubernetes.security import containers, findings
from cyclesr_dist.kubernetes.volumes import FURTHER

_DNS = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
_UNITS = {"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_UNITS |= {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}
_ENUMS = {
    "restartPolicy": ("Never", "OnFailure", "Always"),
    "imagePullPolicy": ("Always", "IfNotPresent", "Never"),
    "completionMode": ("Indexed", "NonIndexed"),
    "podReplacementPolicy": ("Failed", "TerminatingOrFailed"),
    "dnsPolicy": ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
    "whenUnsatisfiable": ("ScheduleAnyway", "DoNotSchedule"),
    "fsGroupChangePolicy": ("OnRootMismatch", "Always"),
    "protocol": ("TCP", "UDP", "SCTP"),
    "medium": ("", "Memory"),
    "submissionMode": ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
    "operator": ("In", "NotIn", "Exists", "DoesNotExist", "Equal", "Gt", "Lt"),
    "effect": ("NoSchedule", "PreferNoSchedule", "NoExecute"),
}
_ACTIONS = ("FailJob", "FailIndex", "Ignore", "Count")
_SECONDS_BEYOND_SUPERVISOR = 10


def check(objects: Sequence[dict[str, Any]], allow: Sequence[str] = ()) -> None:
    """Raise CycleSRError with the first problem: manifests that are rendered have none. `allow`: as of `problems`."""
    for problem in problems(objects, allow=allow):
        raise CycleSRError(f"the rendered manifests are not right (please report it): {problem}")


def problems(objects: Sequence[dict[str, Any]], *, allow: Sequence[str] = ()) -> list[str]:
    """Everything that is wrong. `allow`: findings of security.py that this deployment needs."""
    try:
        found = list(_problems(objects))
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # a list where a mapping belongs, and the like
        return [f"not formed as manifests are ({error!r})"]
    return [problem for problem in found if not any(problem.endswith(allowed) for allowed in allow)]


def loosened(objects: Sequence[dict[str, Any]]) -> list[str]:
    """What the user should know of pods that are above the restricted level; empty if none is."""
    found = sorted({finding for manifest in objects for pod in pods(manifest) for finding in findings(pod)})
    if not found:
        return []
    return [f"not allowed in a namespace that enforces the restricted Pod Security Standard: {'; '.join(found)}"]


def _problems(objects: Sequence[dict[str, Any]]) -> Iterator[str]:
    for manifest in objects:
        name = f"{manifest.get('kind')} {(manifest.get('metadata') or {}).get('name')}"
        yield from (f"{name}: {problem}" for problem in (*_metadata(manifest), *_walk(manifest)))
        for pod in pods(manifest):
            yield from (f"{name}: {problem}" for problem in (*_pod(pod, manifest, objects), *findings(pod)))
        for job in jobs(manifest):
            yield from (f"{name}: {problem}" for problem in _job(job))
    yield from _together(objects)


def pods(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """The pod templates of a manifest."""
    spec = manifest.get("spec") or {}
    if manifest.get("kind") == "RayJob":
        cluster = spec.get("rayClusterSpec") or {}
        groups = [cluster.get("headGroupSpec") or {}, *(cluster.get("workerGroupSpecs") or [])]
        found = [*(group.get("template") for group in groups), spec.get("submitterPodTemplate")]
        return [pod or {} for pod in found]
    return [job.get("template") or {} for job in jobs(manifest)]


def jobs(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """The specs of the batch Jobs in a manifest."""
    kind, spec = manifest.get("kind"), manifest.get("spec") or {}
    if kind == "Job":
        return [spec]
    if kind == "TrainingRuntime":
        spec = (spec.get("template") or {}).get("spec") or {}
    if kind in ("JobSet", "TrainingRuntime"):
        return [(job.get("template") or {}).get("spec") or {} for job in spec.get("replicatedJobs") or []]
    return []


def _metadata(manifest: dict[str, Any]) -> Iterator[str]:
    metadata = manifest.get("metadata") or {}
    if not _DNS.fullmatch(str(metadata.get("name", ""))):
        yield f"metadata.name {metadata.get('name')!r}"
    if not _DNS.fullmatch(str(metadata.get("namespace", "default"))):
        yield f"metadata.namespace {metadata['namespace']!r}"
    for key in ("apiVersion", "kind"):
        if not isinstance(manifest.get(key), str):
            yield f"{key} {manifest.get(key)!r}"
    for key in set(metadata) - {"name", "namespace", "labels", "annotations"}:
        yield f"metadata.{key}"
    if (metadata.get("labels") or {}).get(RUN) != metadata.get("name"):
        yield f"label {RUN} is not the name"


def _walk(node: Any, path: str = "") -> Iterator[str]:
    """Names, labels, quantities and enumerations wherever they stand."""
    if isinstance(node, list):
        for i, item in enumerate(node):
            yield from _walk(item, f"{path}[{i}]")
        return
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        where = f"{path}.{key}".lstrip(".")
        if key in ("labels", "matchLabels", "nodeSelector"):
            for name, text in (value or {}).items():
                if not isinstance(text, str) or not _LABEL.fullmatch(text):
                    yield f"{where}.{name} = {text!r} is no label value"
        elif key in ("requests", "limits", "sizeLimit"):
            amounts = value.items() if isinstance(value, dict) else [(key, value)]
            yield from (
                f"{where}: {name} = {amount!r} is no quantity" for name, amount in amounts if _amount(amount) is None
            )
        elif key in _ENUMS and isinstance(value, str) and value not in _ENUMS[key]:
            yield f"{where} = {value!r}; allowed: {', '.join(_ENUMS[key])}"
        if key not in ("data", "labels", "matchLabels", "nodeSelector", "annotations", "requests", "limits"):
            yield from _walk(value, where)


def _amount(text: Any) -> float | None:
    match = _QUANTITY.fullmatch(str(text))
    return float(match[1]) * _UNITS[match[2] or ""] if match else None


def _pod(pod: dict[str, Any], manifest: dict[str, Any], objects: Sequence[dict[str, Any]]) -> Iterator[str]:
    spec = pod.get("spec") or {}
    labels = (pod.get("metadata") or {}).get("labels") or {}
    if labels.get(RUN) != (manifest.get("metadata") or {}).get("name") or not labels.get(PART):
        yield f"pod labels {labels}: {RUN} and {PART} are how it is found"
    if not spec.get("containers"):
        yield "no container"
    volumes = [volume.get("name") for volume in spec.get("volumes") or []]
    if len(set(volumes)) != len(volumes) or not all(_DNS.fullmatch(str(name)) for name in volumes):
        yield f"volumes {volumes}"
    mounted = {m.get("name") for c in containers(spec) for m in c.get("volumeMounts") or []}
    for name in mounted ^ set(volumes):
        yield f"volume {name} is mounted and not there, or there and not mounted"
    config_maps = {m["metadata"]["name"] for m in objects if m.get("kind") == "ConfigMap" and m.get("metadata")}
    for volume in spec.get("volumes") or []:
        theirs = str(volume.get("name")).startswith(FURTHER)
        if "configMap" in volume and not theirs and volume["configMap"].get("name") not in config_maps:
            yield f"volume {volume.get('name')}: no ConfigMap {volume['configMap'].get('name')} is rendered"
    if not isinstance(spec.get("terminationGracePeriodSeconds"), int) or spec["terminationGracePeriodSeconds"] < 1:
        yield f"terminationGracePeriodSeconds {spec.get('terminationGracePeriodSeconds')}"
    for container in containers(spec):
        yield from (f"container {container.get('name')}: {problem}" for problem in _container(container))
    if labels.get(PART) == "trainer":
        for container in spec.get("containers") or []:
            yield from (f"container {container.get('name')}: {problem}" for problem in _supervised(container, spec))


def _container(container: dict[str, Any]) -> Iterator[str]:
    if not _DNS.fullmatch(str(container.get("name", ""))):
        yield "no name"
    if not container.get("image"):
        yield "no image"
    paths = [mount.get("mountPath") for mount in container.get("volumeMounts") or []]
    if len(set(paths)) != len(paths) or not all(str(path).startswith("/") for path in paths):
        yield f"mount paths {paths}"
    if not {"/tmp", "/dev/shm", "/work", "/etc/cyclesr"} <= set(paths):
        yield "one of /tmp, /dev/shm, /work, /etc/cyclesr is not mounted"
    names = [variable.get("name") for variable in container.get("env") or []]
    if len(set(names)) != len(names):
        yield f"environment variables twice: {sorted(n for n in names if names.count(n) > 1)}"
    yield from _resources(container.get("resources") or {})
    ports = [port.get("containerPort") for port in container.get("ports") or []]
    port_names = [port.get("name") for port in container.get("ports") or []]
    if len(set(ports)) != len(ports) or len(set(port_names)) != len(port_names):
        yield f"ports {ports} {port_names}"
    for port in [p for p in ports if not isinstance(p, int) or not 0 < p < 65536]:
        yield f"port {port}"
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        port = ((container.get(kind) or {}).get("httpGet") or {}).get("port")
        if port is not None and port not in ports:
            yield f"{kind} asks at port {port}, which is none of {ports}"
        for key in ("periodSeconds", "failureThreshold", "timeoutSeconds"):
            if (container.get(kind) or {}).get(key, 1) < 1:
                yield f"{kind}.{key} = {container[kind][key]}"


def _resources(resources: dict[str, Any]) -> Iterator[str]:
    requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
    if not {"cpu", "memory"} <= set(requests) or set(requests) != set(limits):
        yield f"resources {resources}: requests and limits of cpu and memory are missing"
    for name in set(requests) & set(limits):
        request, limit = _amount(requests[name]), _amount(limits[name])
        if request is not None and limit is not None and not 0 < request <= limit:
            yield f"resources: {name}: request {requests[name]}, limit {limits[name]}"


def _supervised(container: dict[str, Any], spec: dict[str, Any]) -> Iterator[str]:
    """Of a container that trains."""
    command = container.get("command") or []
    if command[:3] != ["cyclesr", "supervise", "--grace"] or command[4:6] != ["--", "torchrun"]:
        yield f"command {command[:6]}"
        return
    if not {"--resume", "--resume-with-changes"} & set(command):
        yield "without --resume a pod that is begun again refuses the run folder"
    grace, termination = command[3], spec.get("terminationGracePeriodSeconds")
    if not grace.isdecimal() or not isinstance(termination, int):
        yield f"--grace {grace}, terminationGracePeriodSeconds {termination}"
    elif termination < int(grace) + _SECONDS_BEYOND_SUPERVISOR:
        yield f"terminationGracePeriodSeconds {termination} is not {_SECONDS_BEYOND_SUPERVISOR} s above --grace {grace}"
    for kind in ("startupProbe", "livenessProbe"):
        if not (container.get(kind) or {}).get("httpGet"):
            yield f"no {kind}"
    if spec.get("restartPolicy") != "Never":
        yield f"restartPolicy {spec.get('restartPolicy')}: pod failure policies need Never"


def _job(job: dict[str, Any]) -> Iterator[str]:
    nodes = job.get("completions")
    if job.get("completionMode") != "Indexed" or not nodes or nodes != job.get("parallelism"):
        yield f"completionMode {job.get('completionMode')}, completions {nodes}, parallelism {job.get('parallelism')}"
    limits = [key for key in ("backoffLimit", "backoffLimitPerIndex") if key in job]
    if len(limits) != 1 or not isinstance(job[limits[0]], int) or job[limits[0]] < 0:
        yield f"one of backoffLimit and backoffLimitPerIndex: {[job[key] for key in limits]}"
    if "backoffLimitPerIndex" in job and job.get("maxFailedIndexes") != 0:
        yield f"maxFailedIndexes {job.get('maxFailedIndexes')}: a pod that is given up leaves the others waiting"
    if job.get("podReplacementPolicy") != "Failed":
        yield f"podReplacementPolicy {job.get('podReplacementPolicy')}: pod failure policies need Failed"
    rules = (job.get("podFailurePolicy") or {}).get("rules") or []
    for key in ("activeDeadlineSeconds", "ttlSecondsAfterFinished"):
        if not isinstance(job.get(key, 1), int) or job.get(key, 1) < 1:
            yield f"{key} {job[key]}"
    for rule in rules:
        if rule.get("action") not in _ACTIONS:
            yield f"podFailurePolicy: action {rule.get('action')!r}; allowed: {', '.join(_ACTIONS)}"
        if ("onExitCodes" in rule) == ("onPodConditions" in rule):
            yield "podFailurePolicy: a rule has one of onExitCodes and onPodConditions"
    for code, action in ((InputError.exit_code, "FailJob"), (Preempted.exit_code, "Ignore"), (1, "Count")):
        if (taken := _action(rules, code)) != action:
            yield f"podFailurePolicy: exit code {code} leads to {taken}, not {action}"
    if not any(
        rule.get("action") == "Ignore"
        and any(
            c.get("type") == "DisruptionTarget" and c.get("status", "True") == "True"
            for c in rule.get("onPodConditions") or []
        )
        for rule in rules
    ):
        yield "podFailurePolicy: disruptions count as failures"
    for container in ((job.get("template") or {}).get("spec") or {}).get("containers") or []:
        known = {v.get("name"): v.get("value") for v in container.get("env") or []}
        if "PET_NNODES" in known and known["PET_NNODES"] != str(nodes):
            yield f"PET_NNODES {known['PET_NNODES']} with {nodes} pods"


def _action(rules: Sequence[dict[str, Any]], code: int) -> str:
    """What the first rule that matches says of a container's exit code."""
    for rule in rules:
        on = rule.get("onExitCodes") or {}
        values = on.get("values") or []
        if (on.get("operator") == "In" and code in values) or (on.get("operator") == "NotIn" and code not in values):
            return str(rule.get("action"))
    return "Count"


def _together(objects: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Across objects: the meeting point resolves, the policy is for these pods."""
    templates = [pod for manifest in objects for pod in pods(manifest)]
    kinds = {manifest.get("kind"): manifest for manifest in objects}
    for kind, pick in (("Service", ("selector",)), ("NetworkPolicy", ("podSelector", "matchLabels"))):
        if kind not in kinds:
            continue
        chosen: Any = kinds[kind].get("spec") or {}
        for key in pick:
            chosen = chosen.get(key) or {}
        for pod in templates:
            labels = (pod.get("metadata") or {}).get("labels") or {}
            if not chosen or not chosen.items() <= labels.items():
                yield f"{kind}: {chosen} does not choose the pod with {labels}"
    if "NetworkPolicy" not in kinds:
        yield "no NetworkPolicy"
    else:
        yield from _network(kinds["NetworkPolicy"].get("spec") or {})
    for manifest in objects:
        name = (manifest.get("metadata") or {}).get("name")
        for job in jobs(manifest):
            yield from _meeting(manifest, name, job, kinds)


def _network(policy: dict[str, Any]) -> Iterator[str]:
    if set(policy.get("policyTypes") or []) != {"Ingress", "Egress"}:
        yield "NetworkPolicy: policyTypes are not Ingress and Egress"
    ingress, egress = policy.get("ingress") or [], policy.get("egress") or []
    own = {"podSelector": policy.get("podSelector")}
    if not any(own in (rule.get("from") or []) and not rule.get("ports") for rule in ingress):
        yield "NetworkPolicy: the run's pods do not hear each other"
    if not any(own in (rule.get("to") or []) and not rule.get("ports") for rule in egress):
        yield "NetworkPolicy: the run's pods do not reach each other"
    for port in ({"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}):
        if not any("to" not in rule and port in (rule.get("ports") or []) for rule in egress):
            yield f"NetworkPolicy: no DNS at {port}"
    for rule in ingress:
        if not rule.get("from"):
            yield "NetworkPolicy: open to everyone"
        if own not in (rule.get("from") or []) and not rule.get("ports"):
            yield "NetworkPolicy: every port is open to others"
    if not any(block.get("ipBlock") for rule in egress for block in rule.get("to") or []):
        yield "NetworkPolicy: no way to data and checkpoints"


def _meeting(manifest: dict[str, Any], name: Any, job: dict[str, Any], kinds: dict[Any, Any]) -> Iterator[str]:
    spec = (job.get("template") or {}).get("spec") or {}
    variables = [v for container in spec.get("containers") or [] for v in container.get("env") or []]
    address = next((v.get("value") for v in variables if v.get("name") == "PET_MASTER_ADDR"), None)
    if manifest.get("kind") == "Job":
        service = kinds.get("Service") or {}
        if (service.get("spec") or {}).get("clusterIP") != "None":
            yield "the Service is not headless: pods have no names"
        if (service.get("spec") or {}).get("publishNotReadyAddresses") is not True:
            yield "the Service hides pods that are not ready: they could never meet"
        if spec.get("subdomain") != (service.get("metadata") or {}).get("name"):
            yield f"subdomain {spec.get('subdomain')} is not the Service's name"
        if address != f"{name}-0.{spec.get('subdomain')}":
            yield f"PET_MASTER_ADDR {address} is not the first pod's name"
    elif manifest.get("kind") == "JobSet":
        network = (manifest.get("spec") or {}).get("network") or {}
        if not network.get("enableDNSHostnames") or address != f"{name}-node-0-0.{network.get('subdomain')}":
            yield f"PET_MASTER_ADDR {address} is not the first pod's name"
