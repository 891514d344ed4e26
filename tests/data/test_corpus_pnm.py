"""PBM, PGM and PPM with heads that programs write, and that few readers take alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.photo_checks import check_exact, check_refused, written
from helpers.photo_files import ramp

GREY = ramp(13, 17, 1, 255).astype(np.uint8)
BODY = GREY.tobytes()

HEADS = {
    "a comment behind the largest value": b"P5\n17 13\n255#c\n\n",
    "a comment that ends the head": b"P5\n17 13\n255#c\n",
    "comments everywhere": b"P5 #a\n#b\n17#x\n 13\n255 ",
    "a comment for white space": b"P5\n17#w\n13#h\n255\n",
    "a comment in a number": b"P5\n1#mid\n7 13\n255\n",
    "a comment in the largest value": b"P5\n17 13\n2#mid\n55\n",
    "vertical tab and form feed": b"P5\v17\f13\r255\n",
    "lines of DOS": b"P5\r\n17 13\r\n255\r\n",
    "one carriage return": b"P5\r17 13\r255\r",
    "a comment at once": b"P5#c\n17 13 255 ",
}


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("first", [10, 13, 35, 49, 200])
def test_heads(tmp_path: Path, name: str, first: int) -> None:
    """Whatever the first sample looks like."""
    pixels = GREY.copy()
    pixels[0, 0] = first
    check_exact(written(tmp_path, HEADS[name] + pixels.tobytes()), pixels)


@pytest.mark.parametrize("head", [b"P5 17 13 255\n", b"P5\r\n17 13\r\n255\r\n"])
@pytest.mark.parametrize("between", [b"", b"\n"])
def test_of_several_pictures_the_first(
    tmp_path: Path, head: bytes, between: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    check_exact(written(tmp_path, (head + BODY + between) * 2), GREY)
    assert "holds several pictures; only the first is read" in capsys.readouterr().err


def test_other_bytes_behind_the_samples_are_no_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_exact(written(tmp_path, b"P5 17 13 255\n" + BODY + b"\n\n"), GREY)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (b"P5\r\n17 13\r\n255\r\n" + BODY + b"more", "in two ways"),
        (b"P5\n17 13\n255#c\n\n" + BODY + b"more", "in two ways"),
        (b"P5\r\n17 13\r\n255\r\n" + BODY[:-9], "cut short"),
        (b"P5\n17 13\n255" + b"x" * 300, "no sizes"),
    ],
)
def test_refused_with_the_true_reason(tmp_path: Path, file: bytes, reason: str) -> None:
    check_refused(written(tmp_path, file), reason)


def test_comments_in_text(tmp_path: Path) -> None:
    expected = np.array([[[1, 2, 3]]], np.uint8)
    check_exact(written(tmp_path, b"P3\n#a\n1 1 255 #b\n1 2#c\n 3"), expected)
    check_exact(written(tmp_path, b"P3\r\n1 1\r\n255\r\n1 2 3\r\n"), expected)
