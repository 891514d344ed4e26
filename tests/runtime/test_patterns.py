"""Patterns in the place of folders: what fits, which file is of which scene, what is refused."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from cyclesr_dist.errors import InputError
from cyclesr_dist.runtime.patterns import Pattern, exists, pattern_of, root_of


def pattern(text: str) -> Pattern:
    found = pattern_of(Path(text))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("text", "path", "scene"),
    [
        ("R(V3)/*/Train/4/*_HR.png", "R(V3)/Canon/Train/4/Canon_001_HR.png", "Canon/Canon_001"),
        ("R/*/Train/4/*[2468]_LR4.png", "R/Canon/Train/4/Canon_002_LR4.png", "Canon/Canon_002"),
        ("R/Canon_*_LR4.png", "R/Canon_001_LR4.png", "Canon_001"),
        ("R/*0_HR.png", "R/Canon_010_HR.png", "Canon_010"),
        ("R/*_x4*.png", "R/Canon_10_x4.png", "Canon_10"),
        ("R/*_x4*.png", "R/Canon_10_x4_3.png", "Canon_10*_3"),
        ("R/*_HR.*", "R/a.b_HR.png", "a.b"),
        ("R/*", "R/a.png", "a"),
        ("R/*/hr.png", "R/scene7/hr.png", "scene7"),
        ("R/a?_c.png", "R/ab_c.png", "ab"),
        ("R/[!a]*.png", "R/^b.png", "^b"),
        ("R/[]x]*.png", "R/]1.png", "]1"),
        ("/R/*.png", "/R/a.png", "a"),
        ("*.png", "a.png", "a"),
    ],
)
def test_a_file_is_of_the_scene_that_the_wildcards_stand_for(text: str, path: str, scene: str) -> None:
    found = pattern(text)
    assert found.matches(len(found.parts) - 1, Path(path).name)
    assert found.scene(Path(path)) == scene


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("*_HR.png", "a_LR4.png"),
        ("*_HR.png", ".a_HR.png"),
        ("?.png", "ab.png"),
        ("[!0-8].png", "7.png"),
        ("[a-c].png", "d.png"),
        ("*.png", "a.png\n"),
        ("(a)*.png", "a1.png"),
        ("a.*", "ab"),
    ],
)
def test_others_do_not_fit(text: str, name: str) -> None:
    assert not pattern(text).matches(0, name)


def test_names_are_compared_in_composed_form() -> None:
    composed, decomposed = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    assert pattern(f"{composed}*.png").matches(0, f"{decomposed}1.png")
    assert pattern(f"{decomposed}*.png").scene(Path(f"{composed}1.png")) == f"{composed}1"


def test_a_folder_of_the_very_name_is_no_pattern(tmp_path: Path) -> None:
    (tmp_path / "photos[1]" / "x").mkdir(parents=True)
    assert pattern_of(tmp_path / "photos[1]") is None
    assert pattern_of(tmp_path / "photos") is None
    assert root_of(tmp_path / "photos[1]" / "*.png") == tmp_path / "photos[1]"
    assert root_of(tmp_path / "photos[1]") == tmp_path / "photos[1]"
    assert root_of(tmp_path / "photos[2]" / "a.png") == tmp_path


def test_a_file_of_the_very_name_is_no_pattern(tmp_path: Path) -> None:
    (tmp_path / "weights[1].pth").touch()
    assert pattern_of(tmp_path / "weights[1].pth") is None
    assert exists(tmp_path / "weights[1].pth")
    assert not exists(tmp_path / "weights[2].pth")


def test_whether_anything_fits(tmp_path: Path) -> None:
    (tmp_path / "a" / "4").mkdir(parents=True)
    (tmp_path / "a" / "4" / "1_HR.png").touch()
    assert exists(tmp_path / "*" / "4" / "*_HR.png")
    assert not exists(tmp_path / "*" / "4" / "*_LR.png")
    assert not exists(tmp_path / "*" / "2" / "*_HR.png")
    assert exists(tmp_path / "a")


@pytest.mark.parametrize(("text", "said"), [("a/**/*.png", r"\*\* cannot be used"), ("a/[z-a]*.png", "is no pattern")])
def test_what_cannot_be_used_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        pattern_of(Path(text))
