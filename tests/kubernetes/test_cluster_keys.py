"""Keys of `cluster` that reach into the pods: each lands in its place with every target, and a wrong one is named."""

from __future__ import annotations

import json
import posixpath
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from helpers.kube_server import Cluster
from helpers.lab import submit
from helpers.manifest_schemas import NEWEST
from helpers.manifests import CONFIGS, by_schema, container_of, plan, rendered
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from kubernetes.client import ApiClient

from cyclesr_dist.errors import ConfigError
from cyclesr_dist.kubernetes.plan import training_plan
from cyclesr_dist.kubernetes.pod import exempt
from cyclesr_dist.kubernetes.rules import loosened, pods, problems
from cyclesr_dist.kubernetes.targets import TARGETS, manifests

GPUS = ["cluster.nodes=4", "cluster.gpus_per_node=2", "cluster.memory_gib=64"]
VOLUMES = [
    {"path": "/scratch", "host_path": "/mnt/nvme"},
    {"path": "/photos", "claim": "photos", "read_only": True},
    {"path": "/cache", "empty_dir_gib": 20},
    {"path": "/etc/proxy", "config_map": "proxy"},
    {"path": "/etc/tls", "secret": "tls"},
]
ALL: dict[str, Any] = {
    "pull_policy": "Always",
    "pull_secrets": ["registry"],
    "disk_gib": 50,
    "volumes": VOLUMES,
    "rdma": {"rdma/hca": 1},
    "host_network": True,
    "env_secrets": ["wandb"],
    "env_config_maps": ["proxy"],
    "labels": {"team": "sr"},
    "annotations": {"sidecar.istio.io/inject": "false"},
    "deadline_seconds": 3600,
    "pod_patch": {"schedulerName": "volcano"},
}


def overrides(keys: dict[str, Any]) -> list[str]:
    return [
        f"cluster.{key}={json.dumps(value) if not isinstance(value, str) else value}" for key, value in keys.items()
    ]


def found(target: str, words: list[str]) -> list[str]:
    """What is wrong: by the rules without the user's patch and but for what was asked for, by the schemas with it."""
    wanted = plan(target, *words)
    bare = replace(wanted, cluster=replace(wanted.cluster, pod_patch={}))
    wrong = problems(manifests(bare, target), allow=exempt(wanted))
    return wrong + by_schema(manifests(wanted, target), [NEWEST])


@pytest.mark.parametrize("target", TARGETS)
def test_every_key_is_in_every_pod(target: str) -> None:
    words = [*GPUS, *overrides(ALL)]
    assert found(target, words) == []
    for manifest in rendered(target, *words):
        assert manifest["metadata"]["labels"]["team"] == "sr"
        assert manifest["metadata"]["annotations"] == ALL["annotations"]
        for pod in pods(manifest):
            spec, works = pod["spec"], container_of(pod)
            by_mount = {mount["mountPath"]: mount for mount in works["volumeMounts"]}
            volumes = {volume["name"]: volume for volume in spec["volumes"]}
            sources = [volumes[by_mount[volume["path"]]["name"]] for volume in VOLUMES]
            assert [next(iter(set(source) - {"name"})) for source in sources] == [
                *("hostPath", "persistentVolumeClaim", "emptyDir", "configMap", "secret")
            ]
            assert [by_mount[volume["path"]].get("readOnly", False) for volume in VOLUMES] == [
                *(False, True, False, True, True)
            ]
            assert pod["metadata"]["annotations"] == ALL["annotations"]
            assert pod["metadata"]["labels"]["team"] == "sr"
            assert spec["imagePullSecrets"] == [{"name": "registry"}]
            assert spec["schedulerName"] == "volcano"
            assert works["imagePullPolicy"] == "Always"
            # The last of them wins, and what env has wins over all.
            assert works["envFrom"] == [{"configMapRef": {"name": "proxy"}}, {"secretRef": {"name": "wandb"}}]
            assert works["securityContext"]["runAsUser"] == 0  # all write to one folder
            submitter = pod["metadata"]["labels"]["cyclesr-dist/part"] == "submitter"
            assert spec.get("hostNetwork", False) is not submitter
            assert (spec.get("dnsPolicy") == "ClusterFirstWithHostNet") is not submitter
            if pod["metadata"]["labels"]["cyclesr-dist/part"] in ("trainer", "worker"):
                limits = works["resources"]["limits"]
                assert (limits["rdma/hca"], limits["ephemeral-storage"]) == ("1", "51200Mi")
                assert works["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["IPC_LOCK"]}
    (note,) = loosened(rendered(target, *words))
    assert "hostNetwork: true" in note
    assert "hostPath" in note
    assert loosened(rendered(target, *GPUS)) == []


def test_where_each_operator_has_deadline_and_ttl() -> None:
    words = [*GPUS, "cluster.deadline_seconds=3600"]
    ttl = "cluster.ttl_seconds=60"
    job = rendered("job", *words, ttl)[-1]["spec"]
    assert (job["activeDeadlineSeconds"], job["ttlSecondsAfterFinished"]) == (3600, 60)
    job_set = rendered("jobset", *words, ttl)[-1]["spec"]
    assert job_set["ttlSecondsAfterFinished"] == 60
    (inside,) = job_set["replicatedJobs"]
    assert inside["template"]["spec"]["activeDeadlineSeconds"] == 3600
    assert job_set["failurePolicy"]["rules"][0]["onJobFailureReasons"] == ["PodFailurePolicy", "DeadlineExceeded"]
    for target in ("trainjob", "rayjob"):
        assert rendered(target, *words)[-1]["spec"]["activeDeadlineSeconds"] == 3600
        with pytest.raises(ConfigError, match=rf"^cluster\.ttl_seconds = 60 with --target {target}: "):
            rendered(target, ttl)


_NAME = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,10}[a-z0-9])?", fullmatch=True)
_NAMES = st.lists(_NAME, max_size=3)
_MAPPING = st.dictionaries(st.sampled_from(["team", "example.org/cost-centre", "A_b.c"]), _NAME, max_size=3)
_PLACE = st.builds(lambda parts: "/" + "/".join(parts), st.lists(_NAME, min_size=1, max_size=3))
_SOURCE = st.one_of(
    st.builds(lambda name, flag: {"claim": name, "read_only": flag}, _NAME, st.booleans()),
    st.builds(lambda path, flag: {"host_path": path, "read_only": flag}, _PLACE, st.booleans()),
    st.builds(lambda gib: {"empty_dir_gib": gib}, st.floats(0.05, 1e6)),
    st.builds(lambda name: {"config_map": name}, _NAME),
    st.builds(lambda name: {"secret": name}, _NAME),
)
_VOLUMES = st.dictionaries(_PLACE.map(lambda path: posixpath.join("/more", path[1:])), _SOURCE, max_size=4).map(
    lambda found: [{"path": path} | source for path, source in found.items()]
)
_PATCHES = [
    {"schedulerName": "volcano", "runtimeClassName": "nvidia", "tolerations": None},
    {"topologySpreadConstraints": [{"topologyKey": "rack", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}]},
    {"affinity": {"podAffinity": None, "nodeAffinity": {}}},
    {"containers": [{"name": "main", "resources": {"limits": {"hugepages-2Mi": "1Gi"}}, "tty": True}]},
    {"volumes": [{"name": "work", "emptyDir": None, "persistentVolumeClaim": {"claimName": "mine"}}]},
    {"terminationGracePeriodSeconds": 900, "dnsConfig": {"searches": ["example.org"]}},
]
_KEYS: Any = st.fixed_dictionaries(
    {},
    optional={
        "pull_policy": st.sampled_from(["IfNotPresent", "Always", "Never"]),
        "pull_secrets": _NAMES,
        "disk_gib": st.floats(0.01, 1e6),
        "volumes": _VOLUMES,
        "rdma": st.dictionaries(st.sampled_from(["rdma/hca", "vpc.amazonaws.com/efa"]), st.integers(1, 64)),
        "host_network": st.booleans(),
        "env_secrets": _NAMES,
        "env_config_maps": _NAMES,
        "labels": _MAPPING,
        "annotations": st.dictionaries(st.sampled_from(["a/b", "c"]), st.text("ab: {}\n'\"", max_size=20)),
        "deadline_seconds": st.integers(0, 2**31 - 1),
        "pod_patch": st.sampled_from(_PATCHES),
    },
)


@settings(max_examples=10, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(target=st.sampled_from(sorted(TARGETS)), keys=_KEYS)
def test_any_valid_keys_together_pass_every_schema(target: str, keys: dict[str, Any]) -> None:
    assert found(target, [*GPUS, *overrides(keys)]) == []


def test_the_clients_own_models_keep_every_field() -> None:
    job = rendered("job", *GPUS, *overrides(ALL | {"ttl_seconds": 60}))[-1]
    client = ApiClient()
    typed = client.deserialize(SimpleNamespace(data=json.dumps(job)), "V1Job")
    assert client.sanitize_for_serialization(typed) == job


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("pull_policy", "Sometimes", "cluster.pull_policy = 'Sometimes' is not allowed; allowed: IfNotPresent"),
        ("pull_secrets", ["A_b"], "cluster.pull_secrets[0] = 'A_b'"),
        ("pull_secrets", [""], "cluster.pull_secrets[0] = ''"),
        ("env_secrets", ["wandb", "x y"], "cluster.env_secrets[1] = 'x y'"),
        ("env_config_maps", "proxy", "cluster.env_config_maps = 'proxy' is not a list"),
        ("disk_gib", -1, "cluster.disk_gib = -1"),
        ("deadline_seconds", 2**31, "cluster.deadline_seconds = 2147483648 is out of range"),
        ("ttl_seconds", -1, "cluster.ttl_seconds = -1"),
        ("host_network", "perhaps", "cluster.host_network = 'perhaps' is not"),
        ("labels", {"team": "a b"}, "cluster.labels.team = 'a b'"),
        ("labels", {"team": 5}, "cluster.labels.team = 5 is not a string"),
        ("labels", {"cyclesr-dist/run": "x"}, "cluster.labels.cyclesr-dist/run is set by the run"),
        ("labels", {"kueue.x-k8s.io/queue-name": "x"}, "cluster.labels.kueue.x-k8s.io/queue-name is set by the run"),
        ("annotations", {"cyclesr-dist/target": "x"}, "cluster.annotations.cyclesr-dist/target is set by the run"),
        ("annotations", {"a b": "x"}, "a key of cluster.annotations = 'a b'"),
        ("rdma", {"rdma/hca": 0}, "cluster.rdma.rdma/hca = 0; allowed: an integer from 1"),
        ("rdma", {"rdma/hca": "1"}, "cluster.rdma.rdma/hca = '1'; allowed: an integer from 1"),
        ("rdma", {"nvidia.com/gpu": 1}, "cluster.rdma.nvidia.com/gpu are the GPUs"),
        ("volumes", [{"path": "/a"}], "cluster.volumes[0] has none of claim, host_path, empty_dir_gib"),
        ("volumes", [{"path": "/a", "claim": "c", "secret": "s"}], "cluster.volumes[0] has claim and secret of"),
        ("volumes", [{"claim": "c"}], "cluster.volumes[0].path = ''; allowed: an absolute path"),
        ("volumes", [{"path": "/a/../b", "claim": "c"}], "cluster.volumes[0].path = '/a/../b'"),
        ("volumes", [{"path": "//a", "claim": "c"}], "cluster.volumes[0].path = '//a'"),
        ("volumes", [{"path": "/a:b", "claim": "c"}], "cluster.volumes[0].path = '/a:b'"),
        ("volumes", [{"path": "/work", "claim": "c"}], "cluster.volumes[0].path = '/work' hides"),
        (
            "volumes",
            [{"path": "/dev/infiniband", "host_path": "/x"}],
            "cluster.volumes[0].path = '/dev/infiniband' hides",
        ),
        ("volumes", [{"path": "/a", "host_path": "x"}], "cluster.volumes[0].host_path = 'x'"),
        ("volumes", [{"path": "/a", "claim": "C"}], "cluster.volumes[0].claim = 'C'"),
        ("volumes", [{"path": "/a", "empty_dir_gib": 1, "read_only": True}], "cluster.volumes[0].read_only = true"),
        ("volumes", [{"path": "/a", "claim": "c"}, {"path": "/a", "claim": "d"}], "cluster.volumes[1].path = '/a' is"),
        ("volumes", [{"path": "/a", "nfs": "c"}], "unknown key 'cluster.volumes[0].nfs'"),
        ("pod_patch", ["a"], "cluster.pod_patch = a list is not a mapping"),
    ],
)
def test_a_wrong_value_is_one_line_with_its_key(key: str, value: Any, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rendered("job", *GPUS, *overrides({key: value}))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rdma_is_for_gpus_and_data_for_one_volume() -> None:
    with pytest.raises(ConfigError, match=r"^cluster\.rdma with cluster\.gpus_per_node = 0"):
        rendered("job", *overrides({"rdma": {"rdma/hca": 1}}))
    at_data = overrides({"volumes": [{"path": "/data", "host_path": "/mnt/photos"}]})
    assert rendered("job", *at_data)
    with pytest.raises(ConfigError, match=r"cluster\.volumes\[0\]\.path = '/data' hides"):
        rendered("job", *at_data, "cluster.data_claim=div2k")
    words = ["data.hr=/mnt/photos/hr", "cluster.prepare=[]"]
    assert any(note.startswith("data.hr = /mnt/photos/hr: nothing") for note in plan("job", *words).notes)
    mounted = overrides({"volumes": [{"path": "/mnt/photos", "claim": "photos"}]})
    assert not any(note.startswith("data.hr") for note in plan("job", *words, *mounted).notes)


@pytest.mark.parametrize(
    ("target", "words", "ranks"),
    [
        ("job", ["cluster.nodes=1", "cluster.gpus_per_node=2"], 2),
        ("jobset", ["cluster.nodes=2", "cluster.gpus_per_node=1"], 2),
        ("trainjob", ["cluster.nodes=2", "cluster.gpus_per_node=2"], 4),
        ("rayjob", ["cluster.nodes=1", "cluster.gpus_per_node=2"], 2),
    ],
)
def test_mig_slices_are_not_joined(target: str, words: list[str], ranks: int) -> None:
    slices = "cluster.gpu_resource=nvidia.com/mig-1g.10gb"
    with pytest.raises(ConfigError) as caught:
        rendered(target, *words, slices)
    assert f"cluster.gpu_resource = nvidia.com/mig-1g.10gb for {ranks} ranks: NCCL" in str(caught.value)
    assert rendered(target, *words)


def test_one_mig_slice_for_one_rank_is_fine() -> None:
    words = ["cluster.gpu_resource=nvidia.com/mig-1g.10gb", "cluster.gpus_per_node=1", "cluster.nodes=1"]
    assert container_of(pods(rendered("job", *words)[-1])[0])["resources"]["limits"]["nvidia.com/mig-1g.10gb"] == "1"
    # Each trial of a search is one rank of its own.
    assert rendered("rayjob", *words[:2], "cluster.nodes=3", "workers.gpus=1")


def test_the_rdma_overlay_is_what_the_keys_make() -> None:
    words = [*GPUS, "cluster.rdma={rdma/hca: 1}"]
    context = container_of(pods(rendered("job", *words)[-1])[0])["securityContext"]
    overlay = Path(__file__).parents[2] / "k8s/overlays/gpu-rdma/rdma.yaml"

    patch = container_of(yaml.safe_load(overlay.read_text())["spec"]["template"])["securityContext"]
    patch["capabilities"] |= {"drop": ["ALL"]}
    assert context == patch | {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True}


def test_no_secret_value_is_rendered() -> None:
    with pytest.raises(ConfigError, match=r"cluster\.env\.WANDB_API_KEY looks like a secret.*cluster\.env_secrets"):
        rendered("job", "cluster.env={WANDB_API_KEY: hunter2}")


def test_all_keys_before_an_api_server(lab: Cluster) -> None:
    """Which checks each object against its schema as it is created, and gives it back as it was."""
    words = overrides(ALL | {"rdma": {}, "ttl_seconds": 60})
    code, _, err = submit(lab, "--detach", *words)
    assert code == 0, err
    assert "not allowed in a namespace that enforces the restricted Pod Security Standard: hostNetwork: true" in err
    before = lab.contents()
    code, out, _ = submit(lab, "--detach", *words)
    assert (code, "is there already" in out) == (0, True)
    assert lab.contents() == before


def test_without_the_new_keys_nothing_of_them_is_there() -> None:
    text = json.dumps(manifests(training_plan(CONFIGS / "demo.yaml", []), "job"))
    for word in ("hostNetwork", "imagePullSecrets", "envFrom", "ephemeral-storage", "DeadlineSeconds", "ttlSeconds"):
        assert word not in text
