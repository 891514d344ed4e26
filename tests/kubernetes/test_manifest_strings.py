"""Strings of the configuration in manifests: none gets out of its place, and bad settings are refused."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.manifests import container_of, parsed, plan, rendered
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from cyclesr_dist.errors import ConfigError
from cyclesr_dist.kubernetes.rules import pods, problems
from cyclesr_dist.kubernetes.targets import manifests
from cyclesr_dist.kubernetes.text import to_yaml

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
    *("name", "namespace", "image", "gpu_resource", "work_claim", "data_claim", "s3_secret", "metrics_secret"),
    "service_account",
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
        ("data.hr=https://me:hunter2@host/hr", "data.hr = 'https://***@host/hr' has a password in it"),
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
