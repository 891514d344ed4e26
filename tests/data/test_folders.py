"""Listing folders as the world has them, and matching names of two."""

from __future__ import annotations

import os
import socket
import unicodedata
from pathlib import Path

import pytest

from cyclesr_dist.data.folders import images_folder, list_images, look_into, match_pairs, pairs_if_any
from cyclesr_dist.data.formats import SUFFIXES, UNREAD_SUFFIXES
from cyclesr_dist.errors import InputError
from cyclesr_dist.runtime.tally import Tally


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def names(folder: Path, recursive: bool = False) -> list[str]:
    found = look_into(folder, recursive)
    return [found.name_of(path) for path in found.images]


def test_every_suffix_that_is_read_is_taken_and_every_other_is_named_or_no_image(tmp_path: Path) -> None:
    touch(tmp_path, *(f"r{suffix}" for suffix in SUFFIXES), *(f"u{suffix.upper()}" for suffix in UNREAD_SUFFIXES))
    touch(tmp_path, "notes.txt", "Thumbs.db", "a.xml", "none", "._r.png", ".hidden.jpg", ".cache/a.png")
    found = look_into(tmp_path)
    assert {path.suffix for path in found.images} == set(SUFFIXES)
    assert {".avif", ".jfif", ".jpe", ".gif"} <= SUFFIXES
    assert {path.suffix.lower(): reason for path, reason in found.skipped.items()} == UNREAD_SUFFIXES
    assert (found.failed, found.not_entered) == ({}, [])


def test_what_is_no_file_is_told_and_does_not_hang(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "link.jpg").symlink_to("a.png")
    (tmp_path / "folder.png").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.png"))
        found = look_into(tmp_path)
    assert [path.name for path in found.images] == ["a.png", "link.jpg"]
    assert [path.name for path in found.skipped] == ["pipe.png", "socket.png"]
    assert {path.name: reason for path, reason in found.failed.items()} == {
        "gone.jpg": "a link to nothing",
        "loop.jpg": "a link in a circle",
    }


def test_folders_of_other_scenes_have_no_pairs_and_may_hold_two_of_one_stem(tmp_path: Path) -> None:
    touch(tmp_path / "hr", "a.png", "a.jpg")
    touch(tmp_path / "lr", "b.png", "b.jpg")
    assert pairs_if_any(tmp_path / "hr", tmp_path / "lr") == []
    touch(tmp_path / "lr", "a.png")
    with pytest.raises(InputError, match="have the same stem"):
        pairs_if_any(tmp_path / "hr", tmp_path / "lr")


def test_sub_folders_are_entered_once_where_asked_for_and_mentioned_where_not(tmp_path: Path) -> None:
    root = touch(tmp_path / "in", "a.png", "x/b.png", "x/y/c.png", ".git/d.png", "text/readme.txt")
    (root / "a_link").symlink_to("x/y")  # before x by name
    (root / "x" / "up").symlink_to("..")
    other = touch(tmp_path / "other", "e.png")
    (root / "linked").symlink_to(other)
    assert names(root) == ["a.png"]
    assert [path.name for path in look_into(root).not_entered] == ["x"]
    assert names(root, recursive=True) == ["a.png", "linked/e.png", "x/b.png", "x/y/c.png"]
    tally = Tally()
    list_images(root, tally)
    assert list(tally.skipped) == [str(root / "x")]


def test_the_results_folder_is_no_input(tmp_path: Path) -> None:
    root = touch(tmp_path, "a.png", "big/a.png")
    found = look_into(root, recursive=True, without=root / "big")
    assert [path.name for path in found.images] == ["a.png"]
    assert not look_into(root, without=root / "big").not_entered


def test_an_empty_folder_says_what_it_holds_instead(tmp_path: Path) -> None:
    touch(tmp_path, "a.heic", "sub/b.png")
    with pytest.raises(InputError, match=r"holds no image \(a\.heic: is a HEIC .*; sub is a sub-folder"):
        list_images(tmp_path)


@pytest.mark.parametrize("junk", ["._0001x4.png", ".DS_Store.png"])
def test_apple_double_does_not_hide_the_folder_of_div2k(tmp_path: Path, junk: str) -> None:
    touch(tmp_path, junk, "X4/0001x4.png")
    assert images_folder(tmp_path, 4) == tmp_path / "X4"
    touch(tmp_path, "0001.avif")
    assert images_folder(tmp_path, 4) == tmp_path


def test_composed_and_decomposed_names_match(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    touch(tmp_path / "hr", f"{composed}.png", f"{decomposed}2.png")
    touch(tmp_path / "lr", f"{decomposed}x4.png", f"{composed}2.png")
    assert {pair.name for pair in match_pairs(tmp_path / "hr", tmp_path / "lr")} == {f"{composed}2", f"{composed}x4"}


def test_names_that_are_not_utf8_and_names_that_differ_in_case(tmp_path: Path) -> None:
    for folder in ("hr", "lr"):
        touch(tmp_path / folder, os.fsdecode(b"\xff\xfe.png"), "A.png", "a.png")
    pairs = match_pairs(tmp_path / "hr", tmp_path / "lr")
    assert [(pair.hr.name, pair.lr.name) for pair in pairs] == [(n, n) for n in ("A.png", "a.png", "\udcff\udcfe.png")]


def test_pairs_below_sub_folders(tmp_path: Path) -> None:
    touch(tmp_path / "hr", "a/0801.png", "b/0801.png", "0801.png")
    touch(tmp_path / "lr", "b/0801x4.png", "a/0801x4.png", "c/0801x4.png")
    tally = Tally()
    pairs = match_pairs(tmp_path / "hr", tmp_path / "lr", tally, recursive=True)
    assert [(pair.name, pair.hr.parent.name) for pair in pairs] == [("a/0801x4", "a"), ("b/0801x4", "b")]
    assert list(tally.failed) == [str(tmp_path / "lr/c/0801x4.png")]


def test_a_tally_hears_of_the_lonely_and_the_ambiguous(tmp_path: Path) -> None:
    touch(tmp_path / "hr", "a.png", "b.png", "b.jpg", "c.png")
    touch(tmp_path / "lr", "a.png", "b.png", "c.png", "c.jpg", "d.png")
    tally = Tally()
    assert [pair.name for pair in match_pairs(tmp_path / "hr", tmp_path / "lr", tally)] == ["a"]
    reasons = {Path(name).name: reason for name, reason in tally.failed.items()}
    assert reasons.keys() == {"b.png", "c.jpg", "c.png", "d.png"}
    assert "b.jpg and b.png have the same stem" in reasons["b.png"]
    assert "no HR file" in reasons["d.png"]


@pytest.fixture
def one_folder(tmp_path: Path) -> Path:
    """LR beside HR, told apart by the ends of their names, of two cameras with the same numbers."""
    for camera in ("Canon", "Nikon"):
        endings = ("HR.png", "LR4.png", "LR2.png")
        touch(
            tmp_path / camera / "4", *(f"{camera}_{i}_{end}" for i in (1, 10) for end in endings), "a.txt", ".b_HR.png"
        )
    return tmp_path


def test_files_of_a_pattern(one_folder: Path) -> None:
    assert names(one_folder / "*/4/*_HR.png") == [f"{c}/4/{c}_{i}_HR.png" for c in ("Canon", "Nikon") for i in (10, 1)]
    assert names(one_folder / "Canon/4/*0_HR.*") == ["Canon_10_HR.png"]
    with pytest.raises(InputError, match="leave --recursive out"):
        look_into(one_folder / "*/4/*_HR.png", recursive=True)


def test_pairs_of_patterns(one_folder: Path) -> None:
    pairs = match_pairs(one_folder / "*/4/*_HR.png", one_folder / "*/4/*_LR4.png")
    assert [(pair.hr.name, pair.lr.name) for pair in pairs] == [
        (f"{c}_{i}_HR.png", f"{c}_{i}_LR4.png") for c in ("Canon", "Nikon") for i in (10, 1)
    ]
    assert pairs[0].name == "Canon/4/Canon_10_LR4"
    with pytest.raises(InputError, match=r"no HR file in .* for Canon/4/Canon_1_LR4\.png"):
        match_pairs(one_folder / "*/4/*0_HR.png", one_folder / "*/4/*_LR4.png")
    with pytest.raises(
        InputError, match=r"no file matches one in .*Canon/4/\*_HR.png by name, e\.g\. Nikon_10_LR4\.png"
    ):
        match_pairs(one_folder / "Canon/4/*_HR.png", one_folder / "Nikon/4/*_LR4.png")
    touch(one_folder / "plain", "Canon_1.jpg", "Canon_10.jpg")
    pairs = match_pairs(one_folder / "plain", one_folder / "Canon/4/*_LR4.png")
    assert [pair.hr.name for pair in pairs] == ["Canon_10.jpg", "Canon_1.jpg"]
    touch(one_folder / "Canon/4", "Canon_1_LR4.jpg")
    with pytest.raises(InputError, match=r"Canon_1_LR4\.jpg and Canon_1_LR4\.png have the same stem"):
        match_pairs(one_folder / "*/4/*_HR.png", one_folder / "*/4/*_LR4.*")


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (
            "Canon/4/*_LR3.png",
            r"\*_LR3.png: no image fits .*Canon/4 holds Canon_10_HR.png, Canon_10_LR2.png, Canon_10_LR4",
        ),
        ("*/3/*.png", "no image fits .* has no folder 3"),
        ("Sony/*.png", "no such folder: .*Sony"),
        ("Canon/4/*.txt", "no image fits"),
    ],
)
def test_a_pattern_that_nothing_fits_says_what_is_there(one_folder: Path, pattern: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        list_images(one_folder / pattern)
