"""`cyclesr degrade` of folders with bad photographs and sub-folders; an earlier, incomplete result is completed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.many_photos import photographs

from cyclesr_dist.cli.main import main


def degrade(hr: Path, out: Path, *more: object) -> int:
    return main(["degrade", "--hr", str(hr), "--out", str(out), "--track", "mild", *map(str, more), "--quiet"])


def record(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "degradations.json").read_text())
    return found


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return photographs(tmp_path / "hr", 5, bad=2, height=40, width=48)


def test_the_others_are_made_and_the_failures_are_recorded(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert degrade(photos, tmp_path / "out") == 1
    err = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[0] for line in err] == ["bad00.jpg", "bad01.jpg", "2 of 7 photographs failed"]
    found = record(tmp_path / "out")
    assert len(found["files"]) == 5
    assert found["failed"].keys() == {"bad00.jpg", "bad01.jpg"}

    clean = photographs(tmp_path / "clean", 5, height=40, width=48)
    assert degrade(clean, tmp_path / "of_clean") == 0
    found.pop("failed")
    assert record(tmp_path / "of_clean") == found


def test_a_further_call_makes_what_failed_alone(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert degrade(photos, out) == 1
    made = {path.name: path.stat().st_ino for path in out.glob("*.png")}
    assert degrade(photos, out) == 1
    shutil.copy(photos / "p0000.png", photos / "bad00.jpg")
    (photos / "bad01.jpg").unlink()
    assert degrade(photos, out) == 0
    after = {path.name: path.stat().st_ino for path in out.glob("*.png")}
    assert after.keys() - made.keys() == {"bad00x4m.png"}
    assert {name: after[name] for name in made} == made
    assert "failed" not in record(out)
    capsys.readouterr()
    assert degrade(photos, out) == 0
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize("change", ["another photograph", "a changed photograph", "a changed result", "another seed"])
def test_what_is_no_part_of_the_result_is_not_replaced(photos: Path, tmp_path: Path, change: str) -> None:
    out = tmp_path / "out"
    assert degrade(photos, out) == 1
    more: tuple[object, ...] = ()
    if change == "another photograph":
        shutil.copy(photos / "p0000.png", photos / "q.png")
    elif change == "a changed photograph":
        shutil.copy(photos / "p0000.png", photos / "p0001.png")
    elif change == "a changed result":
        (out / "p0000x4m.png").write_bytes(b"mine")
    else:
        more = ("--seed", 7)
    assert degrade(photos, out, *more) == 2
    assert degrade(photos, out, *more, "--overwrite") == 1


def test_all_bad_is_1_and_writes_nothing(tmp_path: Path) -> None:
    assert degrade(photographs(tmp_path / "hr", 0, bad=3), tmp_path / "out") == 1
    assert os.listdir(tmp_path) == ["hr"]


def test_sub_folders_keep_their_layout(photos: Path, tmp_path: Path) -> None:
    photographs(photos / "b" / "c", 2, height=40, width=48)
    (photos / "b" / "up").symlink_to("..")
    out = tmp_path / "out"
    for _ in range(2):
        assert degrade(photos, out, "--recursive") == 1
    files = record(out)["files"]
    assert files["b/c/p0001x4m.png"]["hr"] == "b/c/p0001.png"
    assert all((out / name).is_file() for name in files)
    assert len(files) == 7


def test_too_small_and_clashing_ones_fail_by_themselves(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photographs(tmp_path / "small", 1, height=2, width=2)
    shutil.copy(tmp_path / "small" / "p0000.png", photos / "tiny.png")
    shutil.copy(photos / "p0000.png", photos / "p0000.bmp")
    shutil.copy(photos / "p0000.png", photos / "p0001x4m.png")
    shutil.copy(photos / "p0000.png", photos / f"{'n' * 250}.png")
    assert degrade(photos, tmp_path / "out") == 1
    err = capsys.readouterr().err
    assert "tiny.png: 2 x 2 px is too small" in err
    assert err.count("p0000.bmp and p0000.png have the same stem") == 2
    assert "p0001.png: its LR file p0001x4m.png would be taken for" in err
    assert "File name too long" in err
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {
        f"{stem}x4m.png" for stem in ("p0001x4m", "p0002", "p0003", "p0004")
    }


@pytest.mark.parametrize("gone", [1, 3])
def test_a_further_call_makes_files_that_are_gone(tmp_path: Path, gone: int) -> None:
    out = tmp_path / "out"
    photos = photographs(tmp_path / "hr", 4, height=40, width=48)
    assert degrade(photos, out) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for path in sorted(out.glob("*.png"))[:gone]:
        path.unlink()
    assert degrade(photos, out) == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_file_that_was_changed_is_not_replaced_unasked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    photos = photographs(tmp_path / "hr", 2, height=40, width=48)
    assert degrade(photos, out) == 0
    changed = sorted(out.glob("*.png"))[0]
    changed.write_bytes(changed.read_bytes()[:100])
    assert degrade(photos, out) == 2
    assert len(changed.read_bytes()) == 100
    assert "--overwrite" in capsys.readouterr().err
