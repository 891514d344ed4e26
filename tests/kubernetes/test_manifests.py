"""Rendered manifests: right by every schema and rule, and every way of breaking one is noticed."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from helpers.manifest_schemas import CRDS, NEWEST, VERSIONS
from helpers.manifests import CONFIGS, FULL, all_problems, container_of, noticed, parsed, rendered

from cyclesr_dist.config.schema import load
from cyclesr_dist.kubernetes.plan import training_plan
from cyclesr_dist.kubernetes.rules import jobs, pods, problems
from cyclesr_dist.kubernetes.security import containers, findings
from cyclesr_dist.kubernetes.targets import TARGETS, manifests
from cyclesr_dist.kubernetes.text import to_yaml


@pytest.mark.parametrize("overrides", [[], FULL], ids=["plain", "full"])
@pytest.mark.parametrize("target", TARGETS)
def test_every_manifest_passes_every_schema(target: str, overrides: list[str]) -> None:
    if target != "job" and not CRDS.is_dir():
        pytest.skip(f"no CRD schemas in {CRDS}")
    objects = rendered(target, *overrides)
    assert len(VERSIONS) >= 9
    assert all_problems(objects) == []
    assert list(yaml.safe_load_all(to_yaml(objects))) == objects


@pytest.mark.parametrize("config", sorted(path.name for path in CONFIGS.glob("ntire*.yaml")))
def test_every_shipped_configuration_renders(config: str) -> None:
    objects = manifests(training_plan(CONFIGS / config, ["cluster.nodes=2", "cluster.gpus_per_node=8"]), "job")
    assert all_problems(objects, [NEWEST]) == []


def test_what_is_asked_for_is_there() -> None:
    job = rendered("job", *FULL)[-1]
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "research"
    assert job["spec"]["completions"] == 4
    assert (job["spec"]["backoffLimitPerIndex"], job["spec"]["maxFailedIndexes"]) == (7, 0)
    assert container["resources"]["limits"] == {"cpu": "16000m", "memory": "66048Mi", "nvidia.com/gpu": "2"}
    assert [port["containerPort"] for port in container["ports"]] == [29500, 9400, 9401]
    assert container["envFrom"] == [{"secretRef": {"name": "s3"}}]
    assert pod["priorityClassName"] == "high"
    assert pod["serviceAccountName"] == "trainer"
    assert pod["tolerations"][1] == {"key": "team", "operator": "Equal", "value": "sr"}
    assert {"name": "GREETING", "value": "a $$(HOME) b"} in container["env"]
    assert {v["name"]: v for v in pod["volumes"]}["data"]["persistentVolumeClaim"]["readOnly"] is True


def test_metrics_behind_a_token_and_over_tls_are_probed_and_scraped_so() -> None:
    settings = ["cluster.metrics_secret=metrics", "telemetry.tls_certificate=tls/own.pem", "cluster.pod_monitor=true"]
    objects = rendered("job", *settings)
    (container,) = objects[-1]["spec"]["template"]["spec"]["containers"]
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthy", "port": 9400, "scheme": "HTTPS"}
    key = {"name": "metrics", "key": "CYCLESR_METRICS_TOKEN"}
    assert {"name": key["key"], "valueFrom": {"secretKeyRef": key}} in container["env"]
    (monitor,) = [manifest for manifest in objects if manifest["kind"] == "PodMonitor"]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["authorization"] == {"credentials": key}
    assert (endpoint["scheme"], endpoint["tlsConfig"]) == ("https", {"insecureSkipVerify": True})
    assert parsed(objects[0]["data"]["config.yaml"]).telemetry.tls_certificate == "/work/tls/own.pem"


def test_the_mounted_configuration_is_the_one_given() -> None:
    texts = rendered("job", "cluster.nodes=2", "weights.mse=21.5", "train.checkpoints=s3://bucket/run")[0]["data"]
    wanted = load(CONFIGS / "demo.yaml", ["weights.mse=21.5", "train.checkpoints=s3://bucket/run"])
    got = parsed(texts["config.yaml"])
    assert got.weights == wanted.weights
    assert got.train == wanted.train
    assert got.data.hr == "/work/runs/demo/data/shards/hr"
    assert (got.telemetry.host, got.telemetry.port) == ("0.0.0.0", 9400)


# Breaking them.

_FREE = ("labels", "matchLabels", "data", "annotations", "requests", "limits", "rayStartParams", "nodeSelector")


def positions(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from positions(value, (*path, key))


def at(node: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        node = node[key]
    return node


def structural(manifest: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every value once of a wrong type, and every field's name once with a typing error."""
    for path in positions(manifest):
        value = at(manifest, path)
        for wrong in ([{"x": []}], {"x": []}, "zz", 7):
            if type(wrong) is not type(value) and (isinstance(value, dict | list) or isinstance(wrong, dict | list)):
                broken = copy.deepcopy(manifest)
                at(broken, path[:-1])[path[-1]] = wrong
                yield f"{path} = {wrong}", broken
        if isinstance(path[-1], str) and not (len(path) > 1 and path[-2] in _FREE):
            broken = copy.deepcopy(manifest)
            parent = at(broken, path[:-1])
            parent[f"{path[-1]}x"] = parent.pop(path[-1])
            yield f"{path} misspelt", broken


@pytest.mark.parametrize("target", TARGETS)
def test_a_wrong_type_or_name_anywhere_is_refused(target: str) -> None:
    """30 of each manifest, drawn from all of them; the seed changes nothing but the choice."""
    if target != "job" and not CRDS.is_dir():
        pytest.skip(f"no CRD schemas in {CRDS}")
    objects = rendered(target, *FULL)
    for index, manifest in enumerate(objects):
        if manifest["kind"] == "PodMonitor":  # no schema of it is at hand
            continue
        ways = list(structural(manifest))
        assert len(ways) >= 30
        for name, broken in random.Random(0).sample(ways, 30):
            found = noticed([*objects[:index], broken, *objects[index + 1 :]], index)
            assert found, f"{manifest['kind']}: {name} was not noticed"


def _set(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(pod: dict[str, Any]) -> None:
        *parents, last = [int(key) if key.isdecimal() else key for key in path.split("/")]
        node: Any = pod
        for key in parents:
            node = node.setdefault(key, {}) if isinstance(node, dict) else node[key]
        if value is None:
            del node[last]
        elif isinstance(value, list) and isinstance(node.get(last) if isinstance(node, dict) else None, list):
            node[last] = node[last] + value
        else:
            node[last] = value

    return change


C = "spec/containers/0"
POD_MUTATIONS = {
    "host network": _set("spec/hostNetwork", True),
    "host pid": _set("spec/hostPID", True),
    "host ipc": _set("spec/hostIPC", True),
    "host path": _set("spec/volumes/1", {"name": "work", "hostPath": {"path": "/"}}),
    "root user": _set("spec/securityContext/runAsUser", 0),
    "root allowed": _set("spec/securityContext/runAsNonRoot", False),
    "non-root not asked for": _set("spec/securityContext/runAsNonRoot", None),
    "no seccomp": _set("spec/securityContext/seccompProfile", None),
    "unconfined seccomp": _set("spec/securityContext/seccompProfile/type", "Unconfined"),
    "unconfined apparmor": _set("spec/securityContext/appArmorProfile", {"type": "Unconfined"}),
    "selinux": _set("spec/securityContext/seLinuxOptions", {"type": "spc_t"}),
    "sysctl": _set("spec/securityContext/sysctls", [{"name": "kernel.msgmax", "value": "1"}]),
    "token mounted": _set("spec/automountServiceAccountToken", True),
    "token by default": _set("spec/automountServiceAccountToken", None),
    "shared processes": _set("spec/shareProcessNamespace", True),
    "privileged": _set(f"{C}/securityContext/privileged", True),
    "escalation": _set(f"{C}/securityContext/allowPrivilegeEscalation", True),
    "escalation by default": _set(f"{C}/securityContext/allowPrivilegeEscalation", None),
    "capabilities kept": _set(f"{C}/securityContext/capabilities/drop", None),
    "capability added": _set(f"{C}/securityContext/capabilities/add", ["SYS_ADMIN"]),
    "root of one container": _set(f"{C}/securityContext/runAsUser", 0),
    "writable root": _set(f"{C}/securityContext/readOnlyRootFilesystem", False),
    "unmasked proc": _set(f"{C}/securityContext/procMount", "Unmasked"),
    "host port": _set(f"{C}/ports", [{"name": "extra", "containerPort": 1, "hostPort": 1}]),
    "no name": _set(f"{C}/name", None),
    "a name of capitals": _set(f"{C}/name", "Trainer"),
    "no image": _set(f"{C}/image", ""),
    "pull policy": _set(f"{C}/imagePullPolicy", "Sometimes"),
    "no memory limit": _set(f"{C}/resources/limits/memory", None),
    "request above limit": _set(f"{C}/resources/requests/cpu", "999"),
    "a quantity of words": _set(f"{C}/resources/limits/memory", "lots"),
    "no quantity": _set("spec/volumes/3/emptyDir/sizeLimit", "1 GB"),
    "medium": _set("spec/volumes/3/emptyDir/medium", "Disk"),
    "a variable twice": _set(f"{C}/env", [{"name": "HOME", "value": "/root"}]),
    "a volume that is not there": _set(f"{C}/volumeMounts", [{"name": "other", "mountPath": "/other"}]),
    "a path twice": _set(f"{C}/volumeMounts", [{"name": "work", "mountPath": "/tmp"}]),
    "a volume of no use": _set("spec/volumes", [{"name": "more", "emptyDir": {}}]),
    "another configuration": _set("spec/volumes/0/configMap/name", "other"),
    "no time to save": _set("spec/terminationGracePeriodSeconds", 0),
    "another run's label": lambda pod: pod["metadata"]["labels"].update({"cyclesr-dist/run": "other"}),
    "no scratch": _set("spec/volumes/2", None),
}
TRAINING_MUTATIONS = {
    "less time than the supervisor": _set("spec/terminationGracePeriodSeconds", 30),
    "restarted in place": _set("spec/restartPolicy", "OnFailure"),
    "probe elsewhere": _set(f"{C}/livenessProbe/httpGet/port", 80),
    "no startup probe": _set(f"{C}/startupProbe", None),
    "no supervisor": _set(f"{C}/command/1", "train"),
    "no resume": _set(f"{C}/command/12", "--quiet"),
    "impatient": _set(f"{C}/startupProbe/failureThreshold", 0),
}
JOB_MUTATIONS = {
    "not indexed": _set("completionMode", "NonIndexed"),
    "fewer pods at a time": _set("parallelism", 1),
    "no pods": _set("completions", 0),
    "bad input again and again": _set("podFailurePolicy/rules/0/action", "Count"),
    "preemptions count": _set("podFailurePolicy/rules/1/action", "Count"),
    "disruptions count": _set("podFailurePolicy/rules/2/action", "Count"),
    "failures do not count": _set("podFailurePolicy/rules/1/onExitCodes/values", [1, 75]),
    "all codes": _set("podFailurePolicy/rules/0/onExitCodes/operator", "NotIn"),
    "an action that there is not": _set("podFailurePolicy/rules/0/action", "Restart"),
    "no policy": _set("podFailurePolicy", None),
    "replaced too early": _set("podReplacementPolicy", "TerminatingOrFailed"),
    "negative": _set("backoffLimit", -1),
    "two limits": lambda job: job.update(backoffLimit=0, backoffLimitPerIndex=1),
    "no limit": lambda job: [job.pop(key, None) for key in ("backoffLimit", "backoffLimitPerIndex")],
    "pods given up one by one": lambda job: job.update(maxFailedIndexes=1, backoffLimitPerIndex=1),
}


@pytest.mark.parametrize("target", TARGETS)
def test_a_manifest_that_is_valid_and_wrong_is_refused(target: str) -> None:
    original = rendered(target, "cluster.nodes=4", "cluster.work_claim=runs")
    assert problems(original) == []
    tried = 0
    for index, manifest in enumerate(original):
        for pick, mutations in (
            (pods, POD_MUTATIONS | ({} if target == "rayjob" else TRAINING_MUTATIONS)),
            (jobs, JOB_MUTATIONS),
        ):
            for which in range(len(pick(manifest))):
                for name, change in mutations.items():
                    objects = copy.deepcopy(original)
                    if name == "no scratch":
                        del pick(objects[index])[which]["spec"]["volumes"][2]
                    else:
                        change(pick(objects[index])[which])
                    assert noticed(objects, index), f"{manifest['kind']}: {name} was not noticed"
                    tried += 1
    assert tried >= 30


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("Service", lambda m: m["spec"].update(clusterIP="10.0.0.1")),
        ("Service", lambda m: m["spec"].pop("publishNotReadyAddresses")),
        ("Service", lambda m: m["spec"].update(selector={"app": "other"})),
        ("Service", lambda m: m["metadata"].update(name="other")),
        ("NetworkPolicy", lambda m: m["spec"].update(podSelector={})),
        ("NetworkPolicy", lambda m: m["spec"].update(policyTypes=["Ingress"])),
        ("NetworkPolicy", lambda m: m["spec"]["ingress"].pop(0)),
        ("NetworkPolicy", lambda m: m["spec"]["ingress"][1].pop("ports")),
        ("NetworkPolicy", lambda m: m["spec"]["ingress"][1].pop("from")),
        ("NetworkPolicy", lambda m: m["spec"]["egress"].pop(0)),
        ("NetworkPolicy", lambda m: m["spec"]["egress"].pop(1)),
        ("NetworkPolicy", lambda m: m["spec"]["egress"].pop(2)),
        ("NetworkPolicy", lambda m: m["spec"]["egress"][1].update(to=[{"namespaceSelector": {}}])),
        ("ConfigMap", lambda m: m["metadata"].update(name="other")),
        ("ConfigMap", lambda m: m["metadata"]["labels"].update({"cyclesr-dist/run": "UPPER CASE"})),
        ("Job", lambda m: m["metadata"].update(name="a_b")),
        ("Job", lambda m: container_of(m["spec"]["template"])["env"][0].update(value="9")),
        ("Job", lambda m: container_of(m["spec"]["template"])["env"][3].update(value="train-0.elsewhere")),
        ("Job", lambda m: m["spec"]["template"]["spec"].update(subdomain="elsewhere")),
    ],
)
def test_objects_that_do_not_fit_each_other_are_refused(kind: str, change: Any) -> None:
    objects = rendered("job", "cluster.nodes=4")
    change(next(manifest for manifest in objects if manifest["kind"] == kind))
    assert problems(objects)


def test_security_findings_name_the_container() -> None:
    (pod,) = pods(rendered("job")[-1])
    assert findings(pod) == []
    assert len(containers(pod["spec"])) == 2  # with the one that prepares
    pod["spec"]["initContainers"][0]["securityContext"]["privileged"] = True
    assert findings(pod) == ["container prepare: privileged: true"]
