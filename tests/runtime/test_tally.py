"""Many files: one failure ends nothing, all are named at the end, and what makes going on useless does end it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyclesr_dist.errors import ConfigError, InputError, UnreachableError, UnwritableError
from cyclesr_dist.runtime.tally import FIRST_LINES, LIST_FILE, MOST_LINES, Tally, printable, trying


def fill(tally: Tally, count: int) -> Tally:
    for number in range(count):
        with tally.file(f"{number}.png", Path(f"/in/{number}.png")):
            raise InputError(f"/in/{number}.png: is not an image")
    return tally


def test_reasons_follow_the_name_and_the_code_is_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tally = fill(Tally(done=7), 3)
    assert tally.tell("image", tmp_path) == 1
    assert capsys.readouterr().err.splitlines() == [
        *(f"{number}.png: is not an image" for number in range(3)),
        "3 of 10 images failed",
    ]
    assert list(tmp_path.iterdir()) == []


def test_nothing_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally(done=1)
    tally.skip("a.heic", "not read")
    tally.skip("b.heic", "not read")
    assert tally.tell("image", tmp_path) == 0
    assert capsys.readouterr().err == "2 skipped: a.heic, b.heic: not read\n"


def test_a_long_list_is_written_to_a_file_until_it_is_short_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tally = fill(Tally(), MOST_LINES + 1)
    tally.fail("\udcff.png", "is not an image")
    assert tally.tell("image", tmp_path) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == FIRST_LINES + 1
    assert str(tmp_path / LIST_FILE) in lines[-1]
    listed = (tmp_path / LIST_FILE).read_bytes().splitlines()
    assert len(listed) == MOST_LINES + 2
    assert listed[-1] == b"\xff.png: is not an image"
    fill(Tally(), 1).tell("image", tmp_path)
    assert not (tmp_path / LIST_FILE).exists()


def test_a_list_that_cannot_be_written_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fill(Tally(), MOST_LINES + 1).tell("image", tmp_path / "missing") == 1
    assert len(capsys.readouterr().err.splitlines()) == MOST_LINES + 2


@pytest.mark.parametrize("error", [UnwritableError("full"), ConfigError("wrong"), KeyboardInterrupt()])
def test_what_ends_the_work_goes_on(error: BaseException) -> None:
    tally = Tally()
    with pytest.raises(type(error)), tally.file("a.png"):
        raise error
    assert not tally.failed


def test_a_disk_that_is_away_is_not_asked_for_every_file() -> None:
    tally = Tally()

    def work(number: int, answers: bool) -> None:
        with tally.file(f"{number}.png"):
            if not answers:
                raise UnreachableError("Input/output error")

    for number, answers in enumerate((False, False, True, False, False)):
        work(number, answers)
    with pytest.raises(UnreachableError):
        work(5, answers=False)
    assert len(tally.failed) == 5


def test_faults_of_ours_and_of_the_system_are_reasons_too() -> None:
    tally = Tally()
    for name, error in {
        "a": TypeError("odd"),
        "b": PermissionError(13, "Permission denied", "b"),
        "c": MemoryError(),
    }.items():
        with tally.file(name, Path(name)):
            raise error
    assert "TypeError: odd" in tally.failed["a"]
    assert tally.failed["b"] == "Permission denied"
    assert tally.failed["c"] == "not enough memory"


def test_without_a_tally_the_first_failure_is_the_callers() -> None:
    with pytest.raises(InputError), trying(None, "a.png"):
        raise InputError("bad")


def test_names_are_one_line_of_text() -> None:
    assert printable("a\n\x1b[31mé\udcff.png") == "a\\n\\x1b[31mé\udcff.png"
