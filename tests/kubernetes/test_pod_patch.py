"""`cluster.pod_patch`: merged as kubectl merges, refused by name where it would break the run or is no pod."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.manifest_schemas import NEWEST
from helpers.manifests import by_schema, container_of, rendered
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from cyclesr_dist.config.cluster import Cluster
from cyclesr_dist.errors import ConfigError
from cyclesr_dist.kubernetes.patch import patched as merge
from cyclesr_dist.kubernetes.rules import pods
from cyclesr_dist.kubernetes.states import exit_code
from cyclesr_dist.kubernetes.targets import TARGETS

GPUS = ["cluster.nodes=4", "cluster.gpus_per_node=2", "cluster.memory_gib=64"]
PATCH: dict[str, Any] = {
    "schedulerName": "volcano",
    "runtimeClassName": "nvidia",
    "enableServiceLinks": None,
    "terminationGracePeriodSeconds": 900,
    "affinity": {
        "podAffinity": None,
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu", "operator": "In", "values": ["h100"]}]}]
            }
        },
    },
    "topologySpreadConstraints": [
        {"topologyKey": "kubernetes.io/hostname", "maxSkew": 2, "whenUnsatisfiable": "ScheduleAnyway"},
        {"topologyKey": "rack", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"},
    ],
    "tolerations": [{"key": "spot", "operator": "Exists"}],
    "securityContext": {"supplementalGroups": [2000], "fsGroupChangePolicy": "Always"},
    "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["store"]}],
    "volumes": [
        {"name": "work", "emptyDir": None, "nfs": {"server": "store", "path": "/runs"}},
        {"name": "hugepages", "emptyDir": {"medium": "HugePages"}},
    ],
    "initContainers": [{"name": "proxy", "image": "proxy:1", "restartPolicy": "Always"}],
    "containers": [
        {
            "name": "main",
            "env": [
                {"name": "NCCL_DEBUG", "value": "INFO"},
                {"name": "API_TOKEN", "valueFrom": {"secretKeyRef": {"name": "api", "key": "token"}}},
            ],
            "resources": {"limits": {"hugepages-2Mi": "1Gi"}, "requests": {"hugepages-2Mi": "1Gi"}},
            "volumeMounts": [{"mountPath": "/dev/hugepages", "name": "hugepages"}],
            "startupProbe": {"failureThreshold": 360},
            "lifecycle": {"preStop": {"exec": {"command": ["sync"]}}},
        }
    ],
}


def patched(target: str, patch: Any, *words: str) -> list[dict[str, Any]]:
    return rendered(target, *GPUS, *words, f"cluster.pod_patch={json.dumps(patch)}")


def ordered(node: Any) -> Any:
    """Lists of mappings that have keys in one order."""
    if isinstance(node, dict):
        return {key: ordered(value) for key, value in node.items()}
    if isinstance(node, list) and all(isinstance(item, dict) for item in node):
        return sorted((ordered(item) for item in node), key=lambda item: json.dumps(item, sort_keys=True))
    return node


def test_it_is_merged_as_kubectl_merges_it(tmp_path: Path) -> None:
    theirs = copy.deepcopy(PATCH)
    theirs["containers"][0]["name"] = "trainer"
    job = rendered("job", *GPUS)[-1]
    content = {
        "job.yaml": job,
        "patch.yaml": {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": job["metadata"]["name"]},
            "spec": {"template": {"spec": theirs}},
        },
        "kustomization.yaml": {"resources": ["job.yaml"], "patches": [{"path": "patch.yaml"}]},
    }
    for name, document in content.items():
        (tmp_path / name).write_text(json.dumps(document))
    kubectl = Path(sys.executable).with_name("kubectl")
    done = subprocess.run([str(kubectl), "kustomize", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ordered(patched("job", PATCH)[-1]) == ordered(yaml.safe_load(done.stdout))


@pytest.mark.parametrize("target", TARGETS)
def test_every_pod_has_it_with_every_target(target: str) -> None:
    objects = patched(target, PATCH)
    assert by_schema(objects, [NEWEST]) == []
    for pod in pods(objects[-1] if target != "trainjob" else objects[-2]):
        assert pod["spec"]["schedulerName"] == "volcano"
        assert "enableServiceLinks" not in pod["spec"]
        works = container_of(pod)
        assert len(pod["spec"]["containers"]) == 1
        assert {v["name"]: v.get("value") for v in works["env"]}["NCCL_DEBUG"] == "INFO"
        assert works["resources"]["limits"]["hugepages-2Mi"] == "1Gi"


def test_every_documented_patch_is_taken() -> None:
    page = (Path(__file__).parents[2] / "docs/kubernetes.md").read_text()
    section = page.partition("## What has no key")[2].partition("\n## ")[0]
    examples = [text for text in re.findall(r"^\| [^|]+ \| `([^`]+)`", section, re.MULTILINE) if "..." not in text]
    found = [yaml.safe_load(text) for text in examples if text.startswith("{")]
    assert len(found) >= 8
    for patch in found:
        assert by_schema(patched("job", patch)[-1:], [NEWEST]) == [], patch


_MAIN = "cluster.pod_patch.containers[main]"


@pytest.mark.parametrize(
    ("patch", "says"),
    [
        ({"schedulrName": "x"}, "cluster.pod_patch.schedulrName is no field there; nearest: schedulerName"),
        ({"schedulerName": 5}, "cluster.pod_patch.schedulerName = 5; allowed: text"),
        ({"terminationGracePeriodSeconds": True}, "terminationGracePeriodSeconds = True; allowed: an integer"),
        ({"shareProcessNamespace": 1}, "cluster.pod_patch.shareProcessNamespace = 1; allowed: true or false"),
        ({"affinity": "near"}, "cluster.pod_patch.affinity = 'near'; allowed: a mapping"),
        ({"volumes": {"name": "a"}}, "cluster.pod_patch.volumes = {'name': 'a'}; allowed: a list"),
        ({"nodeSelector": {"gpu": 1}}, "cluster.pod_patch.nodeSelector.gpu = 1; allowed: text"),
        ({"containers": [{"image": "a"}]}, "cluster.pod_patch.containers[0] has no name"),
        ({"containers": [{"name": "main", "$patch": "delete"}]}, "containers[0].$patch: directives are not known"),
        ({"containers": [{"name": "extra", "image": "a"}]}, "containers[extra] would keep the pod from ending"),
        ({"containers": None}, "cluster.pod_patch.containers"),
        ({"initContainers": None}, "cluster.pod_patch.initContainers[prepare] may not be changed"),
        ({"restartPolicy": "OnFailure"}, "cluster.pod_patch.restartPolicy may not be changed"),
        ({"hostNetwork": True}, "allowed: cluster.host_network"),
        ({"activeDeadlineSeconds": 5}, "allowed: cluster.deadline_seconds"),
        ({"subdomain": "x"}, "cluster.pod_patch.subdomain may not be changed"),
        ({"hostname": "x"}, "cluster.pod_patch.hostname may not be changed"),
        ({"terminationGracePeriodSeconds": 30}, "terminationGracePeriodSeconds may not be changed"),
        ({"volumes": [{"name": "config", "configMap": {"name": "x"}}]}, "cluster.pod_patch.volumes[config]"),
        ({"volumes": [{"name": "shm", "emptyDir": {"sizeLimit": "1Mi"}}]}, "allowed: cluster.shm_gib"),
        ({"volumes": None}, "cluster.pod_patch.volumes[config]"),
        ({"initContainers": [{"name": "prepare", "command": ["x"]}]}, "initContainers[prepare].command"),
        ({"main": {"command": ["sleep"]}}, f"{_MAIN}.command"),
        ({"main": {"args": ["x"]}}, f"{_MAIN}.args"),
        ({"main": {"workingDir": "/"}}, f"{_MAIN}.workingDir"),
        ({"main": {"image": "x"}}, "allowed: cluster.image"),
        ({"main": {"restartPolicy": "Always"}}, f"{_MAIN}.restartPolicy"),
        ({"main": {"envFrom": [{"secretRef": {"name": "x"}}]}}, "allowed: cluster.env_secrets"),
        ({"main": {"env": [{"name": "PET_NNODES", "value": "9"}]}}, f"{_MAIN}.env[PET_NNODES]"),
        ({"main": {"env": [{"name": "PET_EXTRA", "value": "9"}]}}, f"{_MAIN}.env[PET_EXTRA]"),
        ({"main": {"env": [{"name": "CYCLESR_NUM_THREADS", "value": "9"}]}}, f"{_MAIN}.env[CYCLESR_NUM_THREADS]"),
        ({"main": {"env": None}}, f"{_MAIN}.env["),
        ({"main": {"env": [{"name": "MY_API_KEY", "value": "hunter2"}]}}, "MY_API_KEY looks like a secret"),
        ({"main": {"volumeMounts": [{"mountPath": "/work", "name": "scratch"}]}}, f"{_MAIN}.volumeMounts[/work]"),
        ({"main": {"volumeMounts": None}}, f"{_MAIN}.volumeMounts[/etc/cyclesr]"),
        ({"main": {"ports": [{"containerPort": 29500, "name": "x"}]}}, f"{_MAIN}.ports[29500]"),
        ({"main": {"resources": {"limits": {"nvidia.com/gpu": 1}}}}, "allowed: cluster.gpus_per_node"),
    ],
    ids=str,
)
def test_what_would_break_the_run_is_one_line_with_its_place(patch: dict[str, Any], says: str) -> None:
    if "main" in patch:
        patch = {"containers": [{"name": "main"} | patch["main"]]}
    with pytest.raises(ConfigError) as caught:
        patched("job", patch, "cluster.prepare=[ls]")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_sidecars_end_is_not_the_runs() -> None:
    side = {"name": "logs", "restartPolicy": "Always"}
    ended = {"state": {"terminated": {"exitCode": 143}}}
    for code in (0, 2, 75):
        pod = {
            "spec": {"initContainers": [side], "containers": [{"name": "trainer"}]},
            "status": {
                "phase": "Succeeded" if code == 0 else "Failed",
                "initContainerStatuses": [{"name": "logs"} | ended],
                "containerStatuses": [{"name": "trainer", "state": {"terminated": {"exitCode": code}}}],
            },
        }
        assert exit_code(pod) == code


@cache
def bare() -> dict[str, Any]:
    spec: dict[str, Any] = pods(rendered("job", *GPUS)[-1])[0]["spec"]
    return spec


_FIELDS = [*PATCH, "restartPolicy", "hostNetwork", "name", "env", "ports", "volumeMounts", "resources", "limits"]
_FIELDS += ["mountPath", "containerPort", "value", "emptyDir", "image", "nosuchfield", "$patch"]
_VALUES = st.one_of(st.none(), st.booleans(), st.integers(-1, 70000), st.sampled_from(["main", "work", "/tmp", "1Gi"]))
_ANY: Any = st.recursive(
    _VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_FIELDS), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, phases=[Phase.generate])
@given(patch=st.dictionaries(st.sampled_from(_FIELDS), _ANY, max_size=4))
def test_any_patch_is_taken_or_refused_in_one_line(patch: dict[str, Any]) -> None:
    spec, said = copy.deepcopy(bare()), ""
    try:
        result = merge(Cluster(pod_patch=patch), spec)
    except ConfigError as error:
        said = str(error)
        result = spec
    assert not said or said.startswith("cluster.pod_patch")
    assert "\n" not in said
    assert spec == bare()
    assert [c["command"] for c in result["containers"]] == [c["command"] for c in spec["containers"]]
