"""`cyclesr config` and docs/configuration.md: what they say of the keys is what the dataclasses and the reader do."""

from __future__ import annotations

import json
import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from cyclesr_dist.cli.config import KINDS, dataclass_of, schema_text
from cyclesr_dist.cli.main import main
from cyclesr_dist.config.json_schema import leaves
from cyclesr_dist.config.reader import read, to_dict
from cyclesr_dist.config.schema import Config, load
from cyclesr_dist.errors import ConfigError
from cyclesr_dist.workflows.table.config import load_table

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
VALIDATORS = {kind: Draft202012Validator(json.loads(schema_text(kind))) for kind in KINDS}


def kind_of(path: Path) -> str:
    return {"table": "table", "tune": "tune"}.get(path.stem.partition("_")[0], "train")


def walked(cls: type, prefix: str = "") -> set[str]:
    """All keys, found in another way than the schema finds them."""
    names = set()
    for field in fields(cls):
        kind = get_type_hints(cls)[field.name]
        sections = [arg for arg in getattr(kind, "__args__", [kind]) if is_dataclass(arg)]
        if sections and getattr(kind, "__origin__", None) is not tuple:
            names |= walked(sections[0], f"{prefix}{field.name}.")
        else:
            names.add(prefix + field.name)
    return names


def properties(schema: dict[str, Any], prefix: str = "") -> dict[str, dict[str, Any]]:
    """The keys of a schema that are no sections."""
    found: dict[str, dict[str, Any]] = {}
    for name, one in schema["properties"].items():
        assert schema["additionalProperties"] is False
        found |= properties(one, f"{prefix}{name}.") if "properties" in one else {prefix + name: one}
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_has_every_key_with_its_text_and_nothing_else(kind: str) -> None:
    schema = VALIDATORS[kind].schema
    Draft202012Validator.check_schema(schema)
    found = properties(schema)
    assert found.keys() == walked(dataclass_of(kind)) == {leaf.key for leaf in leaves(dataclass_of(kind))}
    assert not [key for key, one in found.items() if len(one.get("description", "")) < 5]


@pytest.mark.parametrize("kind", KINDS)
def test_all_defaults_are_what_the_schema_says_and_allows(kind: str) -> None:
    defaults = json.loads(json.dumps(to_dict(dataclass_of(kind)())))
    if kind == "tune":
        del defaults["steps"]  # has to be given
    assert VALIDATORS[kind].is_valid(defaults)
    for key, one in properties(VALIDATORS[kind].schema).items():
        *sections, name = key.split(".")
        section = defaults
        for part in sections:
            section = section[part] or {}  # null: a section that may be left out
            if not section:
                break
        if name in section:
            assert one["default"] == section[name], key


@pytest.mark.parametrize("kind", KINDS)
def test_the_schemas_in_docs_are_what_the_command_writes(kind: str, tmp_path: Path, capsys) -> None:
    shipped = (ROOT / "docs" / "schema" / f"{kind}.json").read_text(encoding="utf-8")
    assert shipped == schema_text(kind), "run: make manifests"
    out = tmp_path / "here" / "schema.json"
    out.parent.mkdir()
    assert main(["config", "schema", "--kind", kind, "--out", str(out)]) == 0
    assert out.read_text(encoding="utf-8") == shipped
    assert main(["config", "schema", "--kind", kind]) == 0
    assert capsys.readouterr().out == shipped


def test_a_schema_that_cannot_be_written_is_one_line(tmp_path: Path, capsys) -> None:
    (tmp_path / "file").write_text("")
    assert main(["config", "schema", "--out", str(tmp_path / "file" / "schema.json")]) == 2
    assert f"--out {tmp_path / 'file' / 'schema.json'}" in capsys.readouterr().err


def test_keys_are_listed_with_default_text_and_what_is_allowed(capsys) -> None:
    assert main(["config", "keys"]) == 0
    out = capsys.readouterr().out
    assert "optim.lr_sr = 0.0001\n    Learning rate of g_l2h and d_h.\n    Allowed: a finite number, above 0.\n" in out
    assert len(re.findall(r"^\S+ = ", out, re.MULTILINE)) == len(list(leaves(Config)))
    for kind, key, allowed in (
        ("train", "zero_stage", "an integer, at least 0 and at most 3"),
        ("train", "weights.cyc_backward", "a finite number, at least 0, or null"),
        ("train", "perceptual.source", "a path to read, or torchvision, or random"),
        ("train", "track", "unknown, mild, wild, camera, or package.module:Name of yours"),
        ("train", "telemetry.trackers", "a list, each tensorboard, wandb, mlflow, or package.module:Name of yours"),
        ("train", "speed.plain", "true or false"),
        ("tune", "space", "a mapping"),
        ("table", "seeds", "a list, each an integer, at least 0; one value or more, each once"),
    ):
        assert main(["config", "keys", "--kind", kind]) == 0
        (found,) = re.findall(rf"^{re.escape(key)} = .*\n((?: .*\n)+)", capsys.readouterr().out, re.MULTILINE)
        assert " ".join(found.split()).endswith(f" Allowed: {allowed}.")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_configuration_is_valid_and_names_its_schema(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert [error.message for error in VALIDATORS[kind_of(path)].iter_errors(yaml.safe_load(text))] == []
    named = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", text.splitlines()[0])
    assert named
    assert (path.parent / named[1]).resolve() == ROOT / "docs" / "schema" / f"{kind_of(path)}.json"


MISTAKES: dict[str, list[str]] = {
    "train": [
        *("sed: 1", "weights: {msee: 1}", "nets: {sr: {knd: vdsr}}", "data: {augment: {x: true}}", "speed: {fast: 1}"),
        *("seed: x", "seed: 1.5", "seed: true", "seed: null", "seed: [1]", "weights: 3", "weights: {mse: many}"),
        *("weights: {mse: true}", "data: {log_keys: 3}", "data: {hr: [[a]]}", "data: {hr: {a: b}}", "- seed"),
        *(
            "system: cyclegun",
            "system: 'my module:spec'",
            "backend: gloo",
            "track: null",
            "shards: {hr_region: middle}",
        ),
        *("scale: 5", "scale: '4x'", "zero_stage: 4", "zero_stage: -1", "seed: -1", "global_batch: 0"),
        *("ema_decay: 1", "ema_decay: -0.1", "optim: {lr_sr: 0}", "optim: {beta1: 1}", "optim: {clip_norm: 0.0}"),
        *("weights: {mse: -1}", "weights: {cyc_backward: -1}", "weights: {spectrum: -0.5}", "pool: {size: -1}"),
        *("nets: {sr: {res_scale: 0}}", "nets: {sr: {res_scale: 1.1}}", "nets: {d_lr: {layers: -1}}"),
        *("nets: {translator: {channels: 0}}", "nets: {sr: {arguments: [1]}}", "perceptual: {layer: -1}"),
        *("train: {epochs: 0}", "train: {grace_seconds: 0}", "train: {lost_rank_seconds: 9}", "train: {steps: -1}"),
        *("train: {keep_checkpoints: 0}", "train: {max_bad_steps: -1}", "data: {prefetch: 0}", "data: {workers: -1}"),
        *("data: {remote: {cache_gb: -1}}", "validate: {pictures: 13}", "shards: {patch: 0}", "shards: {min_std: 2}"),
        *("degrade: {noise: 1.1}", "degrade: {blur_px: 256}", "degrade: {jpeg_quality: 0}", "degrade: {shift_px: -1}"),
        *("telemetry: {port: 65536}", "telemetry: {port_search: -1}", "telemetry: {trackers: [neptune]}"),
        *("telemetry: {trackers: tensorboard}", "cluster: {nodes: 0}", "cluster: {cpus: 0}", "cluster: {restarts: -1}"),
        *("cluster: {prepare: ls}", "cluster: {tolerations: [{kee: a}]}", "cluster: {tolerations: [{operator: In}]}"),
        *("speed: {fused_adam: false}", "validate: {crop_px: 64}"),
    ],
    "tune": [
        *("bas: x", "space: [1]", "metric: auto", "second_metric: x", "searcher: grid", "num_samples: 0", "steps: 0"),
        *("workers: {num: 0}", "workers: {gpus: -1}", "asha: {reduction_factor: 1}", "pbt: {quantile: 0.6}"),
        *("pbt: {quantile: 0}", "overrides: a=1", "telemetry: {trackers: [wandb]}", "max_failures: -1", "pictures: -1"),
    ],
    "table": [
        *("photo: x", "systems: []", "systems: [sr_syn, sr_syn]", "systems: [x]", "seeds: []", "seeds: [-1]"),
        *("seeds: 1", "sweep_mse: [-1.0]", "valid_every: 1", "wild_variants: 5", "tracks: {mildd: {}}"),
        *("tracks: {mild: {mse: -1}}", "tracks: {mild: {degrade: {noise: 2}}}", "tracks: {mild: {sr: {blocks: 0}}}"),
        *("run: {seed: -1}", "run: {weights: {x: 1}}", "gpus_per_run: -1", "cpus_per_run: 0"),
    ],
}


def loaded(kind: str, path: Path) -> None:
    if kind == "train":
        load(path)
    elif kind == "table":
        load_table(path, ["photos=a", "test_hr=b", "tracks.mild.degrade.shift_px=0"])
    else:
        from cyclesr_dist.search.config import load_search

        more = [] if "steps" in path.read_text() else ["steps=8"]
        space = [] if "space" in path.read_text() else ["space={weights.mse: {choice: [1, 2]}}"]
        load_search(path, [f"base={ROOT / 'configs' / 'demo.yaml'}", *more, *space])


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind in KINDS for text in MISTAKES[kind]])
def test_the_schema_refuses_what_the_reader_refuses(kind: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(f"{text}\n")
    with pytest.raises(ConfigError):
        loaded(kind, path)
    assert not VALIDATORS[kind].is_valid(yaml.safe_load(text))


NUMBERS = {
    key: one for key, one in properties(VALIDATORS["train"].schema).items() if one.get("type") in ("integer", "number")
}


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(NUMBERS)), st.integers(-2, 300) | st.floats(-2, 2, allow_subnormal=False))
def test_numbers_are_allowed_by_both_or_by_none(key: str, number: float) -> None:
    """Where no second key has a say."""
    nested: Any = number
    for part in reversed(key.split(".")):
        nested = {part: nested}
    others = ["weights.l1=1"] if key == "weights.mse" else ["train.epochs=1000"] if key.endswith("_epochs") else []
    others += ["cluster.memory_gib=1e6"] if key == "cluster.shm_gib" else ["cluster.shm_gib=0.05"]
    others += ["cluster.gpus_per_node=1000"] if key == "cluster.ranks_per_node" else []
    others += ["train.pretrain_epochs=0", "train.constant_epochs=0"] if key == "train.epochs" else []
    assume(isinstance(number, int) or not number.is_integer())  # 1.0 is an integer to JSON Schema, not to the reader
    try:
        load(None, [*others, f"{key}={number!r}"])
        allowed = True
    except ConfigError:
        allowed = False
    assert VALIDATORS["train"].is_valid(nested) == allowed


def documented(heading: str) -> dict[str, str]:
    """Keys and defaults of a part of docs/configuration.md."""
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    part = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]*)` \| (.+) \|$", part, re.MULTILINE)
    assert len({key for key, _, _ in rows}) == len(rows)
    assert all(len(why) > 5 for _, _, why in rows)
    return {key: default for key, default, _ in rows}


@pytest.mark.parametrize(("kind", "heading"), [("train", "Training"), ("tune", "Search"), ("table", "Table")])
def test_the_document_lists_the_keys_that_there_are_with_their_defaults(kind: str, heading: str) -> None:
    elsewhere = {"train": (), "tune": ("cluster.", "slurm."), "table": ("run.",)}[kind]
    expected = {
        re.sub(r"^tracks\.\w+\.", "tracks.<track>.", leaf.key): json.dumps(leaf.default)
        for leaf in leaves(dataclass_of(kind))
        if not leaf.key.startswith(elsewhere)
    }
    assert documented(heading) == expected


def removed_keys() -> list[tuple[type, str, Any]]:
    """Of all sections: class of the configuration, key with dots, the value that stands."""
    found = []

    def look(cls: type, root: type, prefix: str) -> None:
        hints = get_type_hints(cls)
        found.extend(
            (root, prefix + name, one.standing)
            for name, one in getattr(cls, "REMOVED", {}).items()
            if name not in hints
        )
        for field in fields(cls):
            if is_dataclass(hints[field.name]):
                look(hints[field.name], root, f"{prefix}{field.name}.")

    for kind in ("train", "tune"):
        look(dataclass_of(kind), dataclass_of(kind), "")
    return found


def nested(key: str, value: Any) -> Any:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


@pytest.mark.parametrize(("cls", "key", "standing"), removed_keys(), ids=str)
def test_removed_keys_may_stay_with_the_value_that_stands_and_say_so_otherwise(cls, key, standing, tmp_path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("# x\n" + yaml.safe_dump(nested(key, standing)))
    assert read(cls, path) == cls()
    assert read(cls, None, [f"{key}={json.dumps(standing)}"]) == cls()
    other = {bool: False, str: "else", list: [7]}.get(type(standing), 7)
    path.write_text("# x\n" + yaml.safe_dump(nested(key, other)))
    with pytest.raises(ConfigError, match=rf"x\.yaml:\d+: key '{re.escape(key)}' was removed: .+; delete the line"):
        read(cls, path)
    with pytest.raises(ConfigError, match=rf"override .*key '{re.escape(key)}' was removed: .+; leave it out"):
        read(cls, None, [f"{key}={json.dumps(other)}"])
