"""`cyclesr formats`: every suffix that a folder's listing takes or knows, with what becomes of its files."""

from __future__ import annotations

import pytest

from cyclesr_dist.cli.main import main as cyclesr
from cyclesr_dist.data.formats import FORMATS, SUFFIXES, UNREAD_SUFFIXES


def test_all_that_is_read_and_all_that_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert cyclesr(["formats"]) == 0
    read, _, not_read = capsys.readouterr().out.partition("\nNot read:\n")
    assert {word for word in read.split() if word.startswith(".")} == SUFFIXES
    for kind in FORMATS:
        (line,) = [line for line in read.splitlines() if line.startswith(f"{kind.name}  ")]
        assert kind.depths in line
        assert kind.library in line
    for suffix, reason in UNREAD_SUFFIXES.items():
        (line,) = [line for line in not_read.splitlines() if suffix in line.partition(":")[0].split()]
        assert line.endswith(reason)


def test_no_suffix_is_both() -> None:
    assert not SUFFIXES & UNREAD_SUFFIXES.keys()
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in (*SUFFIXES, *UNREAD_SUFFIXES))
