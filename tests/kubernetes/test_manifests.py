"""Rendered manifests: right by every schema and rule, and every way of breaking one is noticed."""

from __future__ import annotations

import copy
import random
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.manifest_schemas import CRDS, NEWEST, VERSIONS, crd_problems, has_crd, schema_problems
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from cyclesr_dist.config.reader import read
from cyclesr_dist.config.schema import Config, load
from cyclesr_dist.errors import ConfigError
from cyclesr_dist.kubernetes.plan import Plan, search_plan, training_plan
from cyclesr_dist.kubernetes.rules import jobs, pods, problems
from cyclesr_dist.kubernetes.security import containers, findings
from cyclesr_dist.kubernetes.targets import TARGETS, manifests
from cyclesr_dist.kubernetes.text import to_yaml

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
    found = problems(objects)
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


def test_the_mounted_configuration_is_the_one_given() -> None:
    texts = rendered("job", "cluster.nodes=2", "weights.mse=21.5", "train.checkpoints=s3://bucket/run")[0]["data"]
    wanted = load(CONFIGS / "demo.yaml", ["weights.mse=21.5", "train.checkpoints=s3://bucket/run"])
    got = parsed(texts["config.yaml"])
    assert got.weights == wanted.weights
    assert got.train == wanted.train
    assert got.data.hr == "/work/runs/demo/data/shards/hr"
    assert (got.telemetry.host, got.telemetry.port) == ("0.0.0.0", 9400)


def parsed(text: str) -> Config:
    """As a pod reads its mounted file."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        return read(Config, file.name, [])


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


def container_of(pod: dict[str, Any]) -> dict[str, Any]:
    return pod["spec"]["containers"][0]


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


# Strings of the configuration.

NASTY = [
    "a\nkind: Secret",
    "x: {y: z}",
    "- a",
    "&a *a",
    "!!python/object/apply:os.system [id]",
    "'; rm -rf / #",
    "$(POD_IP) $$(X) ${HOME} `id`",
    "---\napiVersion: v1",
    "\u2028\u0085",
    "null",
    "~",
    "yes",
    "0x1F",
    "%YAML 9",
    "a" * 300,
    "é日本",
    '"',
    "\\",
    "{{ .Values.x }}",
    *("y", "N", "1e3", ".5e3", "0o17", "1_000", "12:30", ".inf", "010"),
]
STRINGS = [
    *("name", "namespace", "image", "gpu_resource", "work_claim", "data_claim", "s3_secret", "service_account"),
    *("queue", "priority", "near", "env", "env_name", "prepare", "node_selector", "node_selector_name"),
    *("toleration_key", "toleration_value", "data.hr", "data.lr", "train.checkpoints", "data.remote.cache_dir"),
    *("nets.sr.module", "telemetry.host"),
]


def with_string(key: str, text: str) -> list[str]:
    import json

    quoted = json.dumps(text)
    override = {
        "env": f"cluster.env={{WORD: {quoted}}}",
        "env_name": f"cluster.env={{{quoted}: x}}",
        "prepare": f"cluster.prepare=[echo, {quoted}]",
        "node_selector": f"cluster.node_selector={{disk: {quoted}}}",
        "node_selector_name": f"cluster.node_selector={{{quoted}: x}}",
        "toleration_key": f"cluster.tolerations=[{{key: {quoted}}}]",
        "toleration_value": f"cluster.tolerations=[{{key: a, operator: Equal, value: {quoted}}}]",
    }.get(key, f"{key if '.' in key else 'cluster.' + key}={quoted}")
    return [override, *(["nets.sr.kind=module"] if key == "nets.sr.module" else [])]


def expanded(text: str) -> str:
    """As the kubelet does with commands and variables: $$ is $, and $(NAME) would be a reference."""
    result, i = "", 0
    while i < len(text):
        if text.startswith("$$", i):
            result, i = result + "$", i + 2
        else:
            assert not text.startswith("$(", i), "a reference"
            result, i = result + text[i], i + 1
    return result


def skeleton(node: Any) -> Any:
    """Keys and types."""
    if isinstance(node, dict):
        return {key: skeleton(value) for key, value in node.items()}
    return [skeleton(item) for item in node] if isinstance(node, list) else type(node).__name__


@cache
def harmless(key: str) -> Any:
    return skeleton(rendered("job", *with_string(key, "a")))


def try_string(key: str, text: str) -> bool:
    """Whether it is taken; then it stands where it belongs and nowhere else."""
    try:
        objects = rendered("job", *with_string(key, text))
    except ConfigError:
        return False
    back = list(yaml.load_all(to_yaml(objects), Loader=yaml.CSafeLoader))
    assert back == objects
    assert problems(back) == []
    if "_name" not in key:
        assert skeleton(back) == harmless(key)
    container = container_of(back[-1]["spec"]["template"])
    if key == "env":
        (variable,) = (v for v in container["env"] if v["name"] == "WORD")
        assert expanded(variable["value"]) == text
    if key == "prepare":
        command = back[-1]["spec"]["template"]["spec"]["initContainers"][0]["command"]
        assert [expanded(word) for word in command[2:]] == ["echo", text]
    if "." in key and key not in ("telemetry.host",):
        mounted = parsed(back[0]["data"]["config.yaml"])
        value: Any = mounted
        for part in key.split("."):
            value = getattr(value, part)
        assert value in (text, f"/work/{text}") or value == str(Path("/work") / text)
    assert text not in container["command"] or text in ("--",)
    return True


@pytest.mark.parametrize("key", STRINGS)
def test_no_string_of_the_configuration_gets_out_of_its_place(key: str) -> None:
    taken = [text for text in NASTY if try_string(key, text)]
    free = key in ("env", "prepare") or ("." in key and key not in ("telemetry.host", "nets.sr.module"))
    assert bool(taken) or not free, "every string was refused: this test looks at nothing"


@settings(max_examples=100, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(key=st.sampled_from(STRINGS), text=st.text(min_size=1, max_size=60))
def test_fuzzed_strings_of_the_configuration(key: str, text: str) -> None:
    try_string(key, text)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("cluster.name=My_Run", "cluster.name = 'My_Run'"),
        ("cluster.name=" + "a" * 41, "at most 40"),
        ("cluster.image=Not An Image", "cluster.image = 'Not An Image'"),
        ("cluster.nodes=0", "cluster.nodes = 0"),
        ("cluster.nodes=3", "global_batch = 8 is no multiple of the 3 ranks"),
        ("cluster.cpus=0", "cluster.cpus = 0"),
        ("cluster.shm_gib=5", "cluster.shm_gib = 5"),
        ("cluster.env={AWS_SECRET_ACCESS_KEY: x}", "cluster.env.AWS_SECRET_ACCESS_KEY looks like a secret"),
        ("cluster.env={PET_NNODES: '3'}", "cluster.env.PET_NNODES is set by the launcher"),
        ("cluster.env={A: 1}", "cluster.env.A = 1 is not a string"),
        ("cluster.tolerations=[{operator: Equal}]", "cluster.tolerations[0].key is empty"),
        ("cluster.ranks_per_node=4", None),
        ("backend=single", "backend = single with cluster.nodes = 2"),
        ("precision=fp16", "precision = fp16 with cluster.gpus_per_node = 0"),
        ("data.hr=https://me:hunter2@host/hr", "data.hr = 'https://...@host/hr' has a password in it"),
        ("cluster.nods=2", "nearest: 'cluster.nodes'"),
    ],
)
def test_bad_settings_are_refused_by_name(override: str, says: str | None) -> None:
    if says is None:
        assert rendered("job", override)
        return
    with pytest.raises(ConfigError) as caught:
        rendered("job", override)
    assert says in str(caught.value)


def test_a_search_needs_rayjob_and_a_training_another_target() -> None:
    with pytest.raises(ConfigError, match="--target job runs a training"):
        manifests(plan("rayjob"), "job")
    with pytest.raises(ConfigError, match="--target rayjob runs a search"):
        manifests(plan("job"), "rayjob")
    with pytest.raises(ConfigError, match=r"cluster\.work_claim is empty"):
        plan("rayjob", "cluster.work_claim=", "storage=s3://bucket/searches")
    with pytest.raises(ConfigError, match=r"cluster\.prepare = \['ls'\]"):
        plan("rayjob", "cluster.prepare=[ls]")


@pytest.mark.parametrize(
    "words",
    [
        "[wget, 'https://me:hunter2@host/x']",
        "[wget, 'https://hunter2@host/x']",
        "[fetch, --token=hunter2]",
        "[fetch, --token, hunter2]",
        "[curl, -H, 'Authorization: Bearer hunter2']",
    ],
)
def test_no_secret_in_arguments(words: str) -> None:
    with pytest.raises(ConfigError, match=r"cluster\.prepare\[\d\]") as caught:
        plan("job", f"cluster.prepare={words}")
    assert "hunter2" not in str(caught.value)


def test_gpus_are_for_those_that_train() -> None:
    gpus = ["cluster.gpus_per_node=8", "cluster.memory_gib=64", "cluster.nodes=1"]
    head, worker, submitter = pods(rendered("rayjob", *gpus)[-1])
    asked = [container_of(pod)["resources"]["limits"].get("nvidia.com/gpu") for pod in (head, worker, submitter)]
    assert asked == [None, "8", None]
    job = rendered("job", *gpus)[-1]["spec"]["template"]["spec"]
    assert "nvidia.com/gpu" not in job["initContainers"][0]["resources"]["limits"]
    assert job["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "8"


def test_little_memory_for_many_ranks_is_noted() -> None:
    assert any("memory_gib" in note for note in plan("job", "cluster.nodes=1", "cluster.gpus_per_node=8").notes)
    assert not any(
        "memory_gib" in note
        for note in plan("job", "cluster.nodes=1", "cluster.gpus_per_node=8", "cluster.memory_gib=64").notes
    )


@pytest.mark.parametrize("name", ["medium", "operator", "protocol", "limits", "effect"])
def test_labels_of_any_name(name: str) -> None:
    job = rendered("job", f"cluster.node_selector={{{name}: ssd}}")
    assert problems(job) == []
