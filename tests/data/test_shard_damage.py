"""Shard sets that are damaged or meant to harm: every one is refused in one line that names it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.shard_sets import CUT, build, first_place, outcome, overwrite_bytes, rewrite_manifest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cyclesr_dist.data.check import check_set
from cyclesr_dist.data.shards import ShardSet, parse_index, read_manifest
from cyclesr_dist.data.source import LocalSource
from cyclesr_dist.errors import InputError


def test_what_open_refuses(tmp_path: Path, photos: Any) -> None:
    out = build(tmp_path)
    with pytest.raises(InputError, match=r"of kind 'hr'; one of kind 'lr'"):
        ShardSet.open(str(out), "lr")
    with pytest.raises(InputError, match="no such folder"):
        ShardSet.open(str(tmp_path / "nowhere"), "hr")
    (tmp_path / "sets").mkdir()
    out.rename(tmp_path / "sets/hr")
    with pytest.raises(InputError, match=r"did you mean .*sets/hr\?"):
        ShardSet.open(str(tmp_path / "sets"), "hr")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("version", 1, "version 1 is not supported"),
        ("format", "zip", "not the manifest of a shard set"),
        ("kind", "video", "allowed: hr, lr, pairs"),
        ("encoding", "jpg", "allowed: tiff, webp, png, jpeg, npy"),
        ("region", "middle", "allowed: all, left"),
        ("sources", [{"hr": "a.png"}], "sources must be a list of mappings with hr, hr_sha256"),
        ("count", 3, "count is 3"),
        ("scale", 0, "scale must be a positive integer"),
        ("patch", "big", "patch must be a positive integer"),
        ("shards", [], "at least one"),
        ("shards", [{"tar": "../../etc/passwd"}], r"tar: shard-000000\.tar"),
    ],
)
def test_bad_manifest_fields_are_named(tmp_path: Path, photos: Any, field: str, value: Any, message: str) -> None:
    out = build(tmp_path)
    rewrite_manifest(out, lambda raw: raw.update({field: value}))
    with pytest.raises(InputError, match=rf"manifest\.json.*{message}"):
        ShardSet.open(str(out), "hr")


@pytest.mark.parametrize("text", ["", "{", "[1]", '"x"', "\xff", "[" * 100_000])
def test_a_malformed_manifest_is_named(tmp_path: Path, photos: Any, text: str) -> None:
    out = build(tmp_path)
    (out / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"manifest\.json"):
        ShardSet.open(str(out), "hr")


@pytest.mark.parametrize("name", ["shard-000001.tar", "shard-000001.json"])
def test_a_missing_shard_is_named(tmp_path: Path, photos: Any, name: str) -> None:
    out = build(tmp_path, kind="lr")
    (out / name).unlink()
    with pytest.raises(InputError, match=rf"{name}: missing"):
        ShardSet.open(str(out), "lr")
    assert [name in problem for problem in check_set(str(out), progress=False).problems] == [True]


def test_a_truncated_tar_is_named(tmp_path: Path, photos: Any) -> None:
    out = build(tmp_path, kind="lr")
    found = ShardSet.open(str(out), "lr")
    tar = out / "shard-000001.tar"
    size = tar.stat().st_size
    os.truncate(tar, 600)
    with pytest.raises(InputError, match=rf"shard-000001\.tar: has 600 bytes, its index says {size}"):
        ShardSet.open(str(out), "lr")
    with pytest.raises(InputError, match=rf"shard-000001\.tar: sample {found.key(8)}\.lr is cut short"):
        found.read(8)


def test_a_corrupt_sample_is_named_and_the_others_still_read(tmp_path: Path, photos: Any) -> None:
    out = build(tmp_path)
    key, offset, size = first_place(out)
    overwrite_bytes(out / "shard-000000.tar", offset, b"\0" * size)
    found = ShardSet.open(str(out), "hr")
    with pytest.raises(InputError, match=rf"shard-000000\.tar: sample {key}\.hr is damaged"):
        found.read(0)
    assert found.read(1)["hr"].shape == (16, 16, 3)
    problems = check_set(str(out), progress=False).problems
    assert len(problems) == 2
    assert "checksum" in problems[0]
    assert key in problems[1]


@given(data=st.data())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_check_finds_any_flipped_bit(tmp_path: Path, photos: Any, data: st.DataObject) -> None:
    out = tmp_path / "set"
    if not out.exists():
        build(tmp_path)
    files = sorted(path for path in out.iterdir() if path.suffix == ".tar" or path.name.startswith("shard"))
    path = data.draw(st.sampled_from(files))
    original = path.read_bytes()
    at, bit = data.draw(st.integers(0, len(original) - 1)), data.draw(st.integers(0, 7))
    try:
        overwrite_bytes(path, at, bytes([original[at] ^ 1 << bit]))
        problems = check_set(str(out), progress=False).problems
        assert problems
        assert path.name in problems[0]
    finally:
        path.write_bytes(original)


def test_a_sample_of_the_wrong_size_is_named(tmp_path: Path, photos: Any) -> None:
    out = build(tmp_path)
    rewrite_manifest(out, lambda raw: raw.update(patch=9))
    found = ShardSet.open(str(out), "hr")
    with pytest.raises(InputError, match=rf"sample {found.key(0)}\.hr is 16 x 16 RGB; the manifest says 18 x 18 RGB"):
        found.read(0)


def test_other_image_formats_inside_a_tar_are_not_decoded(tmp_path: Path, photos: Any) -> None:
    """Pillow knows dozens of formats; what claims to be webp must be webp."""
    out = build(tmp_path, shards=replace(CUT, encoding="png"))
    rewrite = json.loads((out / "shard-000000.json").read_text())
    for sample in rewrite["samples"]:
        sample["members"] = {"hr.webp": sample["members"]["hr.png"]}
    text = json.dumps(rewrite).encode()
    (out / "shard-000000.json").write_bytes(text)

    def to_webp(raw: dict[str, Any]) -> None:
        raw["encoding"] = "webp"
        raw["shards"] = raw["shards"][:1]
        raw["shards"][0]["index_sha256"] = hashlib.sha256(text).hexdigest()
        raw["count"] = raw["shards"][0]["count"]

    rewrite_manifest(out, to_webp)
    with pytest.raises(InputError, match="is damaged"):
        ShardSet.open(str(out), "hr").read(0)


@pytest.mark.parametrize(
    "place",
    [
        *([0, 10**9, 0], [10**9, 1, 0], [10**30, 1, 0], [-1, 5, 0], [0, 0, 0], [0, 1], [0, 1, -1], [0, 1, 1 << 32]),
        *([0], [0, 1, 2, 3], [0.0, 1.0, 0], [True, True, True], "012", None),
    ],
)
def test_a_place_outside_the_tar_is_named(sound: Path, place: Any) -> None:
    manifest = read_manifest(LocalSource(sound))
    raw = json.loads((sound / "shard-000000.json").read_text())
    raw["samples"][1]["members"]["hr.tiff"] = place
    with pytest.raises(InputError, match=r"samples\[1\]\.members\.hr\.tiff must be \[offset, size, crc32\] within"):
        parse_index("index", json.dumps(raw).encode(), manifest, manifest.shards[0])


@pytest.mark.parametrize("evil", ["../../escaped.hr.tiff", "/etc/escaped", "link", "hard link"])
def test_names_and_links_in_a_tar_go_nowhere(tmp_path: Path, photos: Any, evil: str) -> None:
    """A set whose index and manifest agree with its tar, in which one member is a trap for those who unpack it."""
    out = build(tmp_path)
    tar, index = out / "shard-000000.tar", out / "shard-000000.json"
    with tarfile.open(tar, "a") as archive:
        member = tarfile.TarInfo(evil)
        if "link" in evil:
            member.type = tarfile.SYMTYPE if evil == "link" else tarfile.LNKTYPE
            member.linkname = "../../../etc/passwd"
        archive.addfile(member)
    entry = {"tar_bytes": tar.stat().st_size, "sha256": hashlib.sha256(tar.read_bytes()).hexdigest()}
    index.write_text(json.dumps(json.loads(index.read_text()) | entry))
    entry["index_sha256"] = hashlib.sha256(index.read_bytes()).hexdigest()
    rewrite_manifest(out, lambda raw: raw["shards"][0].update(entry))
    found = ShardSet.open(str(out), "hr")
    for i in range(len(found)):
        found.read(i)
    (problem,) = check_set(str(out), progress=False).problems
    assert repr(evil) in problem
    assert sorted(os.listdir(tmp_path)) == ["photos", "set"]


# --- arbitrary JSON

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def damaged(draw: st.DrawFn, original: Any) -> Any:
    """`original` with one value somewhere in it replaced by anything, or removed."""
    if isinstance(original, dict) and original and draw(st.integers(0, 5)):
        key = draw(st.sampled_from(sorted(original)))
        if draw(st.integers(0, 5)) == 0:
            return {k: v for k, v in original.items() if k != key}
        return original | {key: draw(damaged(original[key]))}
    if isinstance(original, list) and original and draw(st.integers(0, 5)):
        i = draw(st.integers(0, len(original) - 1))
        return [*original[:i], draw(damaged(original[i])), *original[i + 1 :]]
    return draw(json_values)


@given(data=st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_manifest_opens_or_gives_an_input_error(
    sound: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    raw = json.loads((sound / "manifest.json").read_text())
    folder = tmp_path_factory.getbasetemp() / "fuzzed"
    if not folder.exists():
        shutil.copytree(sound, folder)
    (folder / "manifest.json").write_text(json.dumps(data.draw(damaged(raw) | json_values)))
    found = outcome(lambda: ShardSet.open(str(folder), "hr"))
    if isinstance(found, ShardSet):
        assert len(found) == raw["count"]
        found = outcome(lambda: found.read(0))
    if isinstance(found, InputError):
        assert str(found).startswith(str(folder))
        assert "\n" not in str(found)


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_index_parses_or_gives_an_input_error(sound: Path, data: st.DataObject) -> None:
    manifest = read_manifest(LocalSource(sound))
    entry = manifest.shards[0]
    raw = json.loads((sound / "shard-000000.json").read_text())
    text = data.draw((damaged(raw) | json_values).map(lambda value: json.dumps(value).encode()) | st.binary())
    parsed = outcome(lambda: parse_index("index", text, manifest, entry))
    if isinstance(parsed, InputError):
        assert str(parsed).startswith("index: ")
        assert "\n" not in str(parsed)
    else:
        keys, members = parsed
        assert len(keys) == entry["count"]
        for places in members.values():
            assert all(
                o >= 0 and n > 0 and o + n <= entry["tar_bytes"] for o, n in zip(places[::3], places[1::3], strict=True)
            )
