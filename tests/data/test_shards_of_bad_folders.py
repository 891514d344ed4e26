"""`cyclesr shards build` of folders with photographs that cannot be read, and of sub-folders."""

from __future__ import annotations

import re
import shutil
import tarfile
from pathlib import Path

import pytest
from helpers.many_photos import photographs

from cyclesr_dist.cli.main import main
from cyclesr_dist.data.check import check_set
from cyclesr_dist.data.shards import ShardSet


def build(root: Path, out: Path, *more: object) -> int:
    folders = ["--hr", str(root / "hr"), "--lr", str(root / "lr"), "--out", str(out)]
    return main(["shards", "build", *folders, *map(str, more), "--quiet", "--allow-overlap", "shards.patch=8"])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    photographs(tmp_path / "hr", 4, bad=2, height=70, width=64)
    photographs(tmp_path / "lr", 4, height=18, width=16)
    data = (tmp_path / "lr" / "p0000.png").read_bytes()
    (tmp_path / "lr" / "cut.png").write_bytes(data[: len(data) // 2])  # its head can be read
    photographs(tmp_path / "thumbnails", 1, height=4, width=4)
    shutil.copy(tmp_path / "thumbnails" / "p0000.png", tmp_path / "lr" / "thumbnail.png")
    return tmp_path


def test_the_others_are_packed_and_the_failures_named_also_when_it_is_done(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for call in range(2):
        assert build(root, tmp_path / "sets") == 1
        said = capsys.readouterr()
        err = said.err.splitlines()
        failed = [Path(line.partition(": ")[0]).name for line in err if re.match(r"\S+(\d\d\.jpg|cut\.png): ", line)]
        assert failed == ["bad00.jpg", "bad01.jpg", "cut.png"]
        assert err[-1] == "3 of 11 photographs failed"
        assert any("thumbnail.png: 4x4 px is smaller than one patch" in line for line in err)
        assert f"{tmp_path}/sets/lr: " in said.out
        assert ("4 of 6 photographs" in said.out) or call
        assert ("nothing to do" in said.out) == bool(call)
    for kind in ("hr", "lr"):
        assert not check_set(str(tmp_path / "sets" / kind), progress=False).problems
    manifest = ShardSet.open(str(tmp_path / "sets" / "lr"), "lr").manifest
    assert manifest["failed"].keys() == {"cut.png"}


def test_pairs_go_on_too(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "lr" / "thumbnail.png").unlink()
    shutil.copy(root / "hr" / "p0000.png", root / "hr" / "cut.png")
    assert build(root, tmp_path / "sets", "--pairs-hr", root / "hr") == 1
    pairs = ShardSet.open(str(tmp_path / "sets" / "pairs"), "pairs").manifest
    assert pairs["failed"].keys() == {"cut.png"}
    assert len(pairs["shifts_px"]) == 4
    assert capsys.readouterr().err.count("cut.png") == 1


def test_all_bad_is_1_and_leaves_nothing(tmp_path: Path) -> None:
    photographs(tmp_path / "hr", 0, bad=2)
    photographs(tmp_path / "lr", 2, height=18, width=16)
    assert build(tmp_path, tmp_path / "sets") == 1
    assert not (tmp_path / "sets").exists()


def test_scenes_of_sub_folders_have_names_of_their_own_that_tars_take(root: Path, tmp_path: Path) -> None:
    for place in ("a", "a/ü b", "a_x/deep"):
        photographs(root / "hr" / place, 2, height=70, width=64)
    assert build(root, tmp_path / "flat") == 1
    assert build(root, tmp_path / "sets", "--recursive") == 1
    found = ShardSet.open(str(tmp_path / "sets" / "hr"), "hr")
    assert {source["hr"] for source in found.manifest["sources"]} >= {"a/p0001.png", "a/ü b/p0001.png", "p0001.png"}
    stems = [source["stem"] for source in found.manifest["sources"]]
    assert len(set(stems)) == len(stems) == 10
    assert found.manifest["count"] > ShardSet.open(str(tmp_path / "flat" / "hr"), "hr").manifest["count"]
    with tarfile.open(next((tmp_path / "sets" / "hr").glob("*.tar"))) as tar:
        assert all("/" not in name and name.isascii() for name in tar.getnames())
    assert not check_set(str(tmp_path / "sets" / "hr"), progress=False).problems
