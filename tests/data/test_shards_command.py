"""`cyclesr shards`: its arguments, and what it says of people's own photographs."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.shard_sets import CUT, SCALE, build_pairs, first_place, overwrite_bytes, run_command, save, texture
from PIL import Image

from cyclesr_dist.cli.main import main
from cyclesr_dist.data.shards import ShardSet, read_manifest
from cyclesr_dist.data.source import LocalSource


def test_build_and_check(tmp_path: Path, pairs: Any, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("scale: 2\nshards: {patch: 8, stride: 8}\n")
    out = tmp_path / "sets"
    argv = ["build", "--hr", tmp_path / "hr", "--lr", tmp_path / "lr", "--config", config, "--quiet", "--workers", "1"]
    argv.append("--allow-overlap")
    assert run_command(*argv, "--out", out.as_uri(), "--pairs-hr", tmp_path / "hr") == 0
    assert sorted(os.listdir(out)) == ["hr", "lr", "pairs"]
    assert all(len(ShardSet.open(str(out / kind), kind)) > 0 for kind in ("hr", "lr", "pairs"))
    capsys.readouterr()
    assert run_command(*argv, "--out", out) == 0
    assert capsys.readouterr().out.count("nothing to do") == 2

    assert run_command("check", out, "--quiet") == 0
    assert run_command("check", out / "lr", "--quiet") == 0
    assert capsys.readouterr().out.count("sound") == 4
    _, offset, _ = first_place(out / "lr")
    overwrite_bytes(out / "lr/shard-000000.tar", offset, b"\0" * 20)
    (out / "hr/shard-000000.json").write_text("{}")
    assert run_command("check", out, "--quiet") == 2
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 3
    assert "pairs: sound" in captured.out
    (out / "pairs/manifest.json").write_text("{}")
    assert run_command("check", out / "pairs", "--quiet") == 2


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["build", "--hr", "photos", "--lr", "photos", "--out", "nofs://bucket/x"], "nofs"),
        (["build", "--hr", "photos", "--lr", "photos", "--out", "pipe:rm x"], "refused"),
        (["build", "--hr", "photos", "--lr", "photos", "--out", "x"], "the same photographs: a.png and a.png"),
        (["build", "--hr", "nowhere", "--lr", "photos", "--out", "x"], "nowhere"),
        (["build", "--hr", "photos", "--lr", "photos", "--out", "x", "--workers", "0"], "--workers 0"),
        (["check", "photos"], "not a shard set"),
    ],
)
def test_bad_usage_exits_2_with_one_line(
    tmp_path: Path,
    photos: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "photos"))
    if "x" not in argv and argv[0] == "build":
        argv = [*argv, "--allow-overlap"]
    assert run_command(*argv) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert os.listdir(tmp_path) == ["photos"]


OWN = ["0310.jpg", "0120.png", "0500.JPG", "IMG_0001.jpg", "12345.png", "310.png", "DSC 0002.jpeg", "0020x4.png"]
"""Names that people's photographs have; four of them are also DIV2K's, three of its first 400 scenes."""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """tmp_path/hr with eight photographs of 40 x 40 px and one of 15 x 15, tmp_path/lr with five and one of 7 x 7."""
    for folder, names, small in (("hr", OWN, 15), ("lr", ["0410.png", "0020.jpg", "a.png", "b.png", "c.png"], 7)):
        (tmp_path / folder).mkdir()
        for i, name in enumerate(names):
            save(tmp_path / folder / name, texture(40, 40, seed=10 * len(names) + i))
        save(tmp_path / folder / "tiny.png", texture(small, small, seed=0))
    return tmp_path


def build_own(folder: Path, *overrides: str, out: str = "sets") -> int:
    """The whole command, with overrides before, between and behind the options."""
    given = [*overrides, *[""] * 3]
    argv = [
        "scale=2",
        "shards.patch=8",
        "shards.stride=16",
        given[0],
        "--hr",
        str(folder / "hr"),
        given[1],
        "--lr",
        str(folder / "lr"),
        "--quiet",
        given[2],
    ]
    argv += ["--out", str(folder / out), *overrides[3:]]
    return main(["shards", "build", *filter(None, argv)])


def test_scene_ranges_say_what_they_leave_out(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build_own(own, "shards.hr_scenes=0001-0400", "shards.lr_scenes=0401-0800") == 0
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        "hr: 3 of 9 photographs are in shards.hr_scenes = 0001-0400; the others are left out; all: shards.hr_scenes=",
        "lr: 1 of 6 photographs is in shards.lr_scenes = 0401-0800; the others are left out; all: shards.lr_scenes=",
    ]
    assert "hr: 3 of 9 photographs, 12 patches of 16x16 px" in captured.out
    used = {source["hr"] for source in json.loads((own / "sets/hr/manifest.json").read_text())["sources"]}
    assert used == {"0310.jpg", "0120.png", "0020x4.png"}


@pytest.mark.parametrize("key", ["hr", "lr"])
def test_a_range_without_any_photograph_names_the_way_out(
    own: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    assert build_own(own, f"shards.{key}_scenes=0700-0800") == 2
    (line,) = capsys.readouterr().err.splitlines()
    for part in (str(own / key), f"shards.{key}_scenes = 0700-0800", "shards.hr_scenes= and shards.lr_scenes= on"):
        assert part in line
    assert not (own / "sets").exists()


def test_overrides_stand_anywhere_and_the_last_one_counts(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = "shards.hr_scenes=0001-0400", "shards.lr_scenes=0401-0800"
    assert build_own(own, first, second, "shards.hr_scenes=", "shards.lr_scenes=", "shards.encoding=png") == 0
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        "tiny.png: 15x15 px is smaller than one patch of 16x16 px (shards.patch x scale); left out",
        "tiny.png: 7x7 px is smaller than one patch of 8x8 px (shards.patch); left out",
    ]
    assert captured.out.splitlines() == [
        f"{own}/sets/hr: 8 of 9 photographs, 32 patches of 16x16 px",
        f"{own}/sets/lr: 5 of 6 photographs, 45 patches of 8x8 px",
    ]
    assert read_manifest(LocalSource(own / "sets/hr")).encoding == "png"
    assert build_own(own, "shards.encoding=png") == 0
    assert capsys.readouterr().out.splitlines()[1] == (
        f"{own}/sets/lr: holds this result already, nothing to do (5 of 6 photographs, 45 patches of 8x8 px)"
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [("shards.path=8", "nearest: 'shards.patch'"), ("more", "key.sub=value"), ("shards.patch=0", "shards.patch = 0")],
)
def test_bad_overrides_are_named(own: Path, capsys: pytest.CaptureFixture[str], override: str, message: str) -> None:
    assert build_own(own, "seed=1", "seed=2", override) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (own / "sets").exists()


def test_options_are_no_overrides(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        build_own(own, "seed=1", "--patch=8")
    assert exit_.value.code == 2
    assert "--patch=8" in capsys.readouterr().err


def test_where_one_set_cannot_be_cut_there_is_one_error_and_no_set(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (own / "lr").iterdir():
        save(path, texture(7, 12, seed=len(path.name)))
    assert build_own(own) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"cyclesr: error: {own}/lr: no photograph is as large as one patch of 8x8 px (shards.patch)")
    assert line.endswith("shards.patch=7 would fit all")
    assert not (own / "sets").exists()


def test_flat_patches_are_counted(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(own / "lr/sky.png", np.full((8, 24, 3), 99, np.uint8))
    assert build_own(own, "shards.min_std=0.02") == 0
    line = "6 of 7 photographs, 45 patches of 8x8 px, 2 left out for shards.min_std = 0.02"
    assert capsys.readouterr().out.splitlines()[1] == f"{own}/sets/lr: {line}"


def test_names_that_are_the_same_by_chance_have_a_way_out(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(own / "lr/IMG_0001.png", texture(40, 40, seed=99))
    assert build_own(own) == 2
    assert "rename those that only share a name" in capsys.readouterr().err
    (own / "lr/IMG_0001.png").rename(own / "lr/other.png")
    assert build_own(own) == 0


def test_pairs_are_of_the_region_of_lr(tmp_path: Path, pairs: dict[str, tuple[int, int]]) -> None:
    whole = build_pairs(tmp_path)
    parts = {
        region: build_pairs(tmp_path, region, shards=replace(CUT, lr_region=region, stride=1))
        for region in ("left", "right")
    }
    for stem, (_, dx) in pairs.items():
        width = Image.open(tmp_path / f"lr/{stem}.png").width
        for region, found in parts.items():
            assert found.manifest["region"] == region
            columns = {int(key.rsplit("_", 2)[2]) for key in map(found.key, range(len(found))) if key.startswith(stem)}
            assert (
                max(columns) + 8 <= width // 2 + abs(dx) if region == "left" else min(columns) >= width // 2 - abs(dx)
            )
    sample = parts["right"].read(0)
    stem, y, x = parts["right"].key(0).rsplit("_", 2)
    dy, dx = pairs[stem]
    hr = np.array(Image.open(tmp_path / f"hr/{stem[:2]}.png"))
    top, left = SCALE * int(y) - dy, SCALE * int(x) - dx
    np.testing.assert_array_equal(sample["hr"], hr[top : top + 16, left : left + 16])
    assert len(whole) > 0
