"""JPEG of every kind that is in use: read as it was encoded, or refused with the true reason."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from helpers.photo_checks import check_exact, check_refused, written
from helpers.photo_files import exif, in_jpeg, ramp, segment, upright
from numpy.typing import NDArray
from PIL import Image

from cyclesr_dist.data.images import read_rgb8
from cyclesr_dist.data.photo.kinds import Raster
from cyclesr_dist.data.photo.reading import read

Y, X = np.mgrid[0:48, 0:64]
SMOOTH = np.stack([X * 3, Y * 4, 255 - X * 2 - Y], axis=2).astype(np.uint8)
GREY = SMOOTH[:, :, 0]


def encoded(pixels: NDArray[Any], mode: str | None = None, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels, mode).save(file, "JPEG", **({"quality": 98, "subsampling": 0} | options))
    return file.getvalue()


FILE = encoded(SMOOTH)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"progressive": True},
        {"subsampling": 2},
        {"subsampling": 1},
        {"restart_marker_blocks": 3},
        {"optimize": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("channels", [1, 3])
def test_eight_bits(tmp_path: Path, options: dict[str, Any], channels: int) -> None:
    pixels = SMOOTH if channels == 3 else GREY
    check_exact(written(tmp_path, encoded(pixels, **options)), pixels.reshape(48, 64, channels), within=6)


def test_stored_as_rgb(tmp_path: Path) -> None:
    check_exact(written(tmp_path, encoded(SMOOTH, keep_rgb=True)), SMOOTH, within=3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_turned_upright_once(tmp_path: Path, orientation: int, order: str) -> None:
    file = in_jpeg(FILE, segment(0xE1, b"Exif\0\0" + exif(orientation, order=order)))
    check_exact(written(tmp_path, file), upright(SMOOTH, orientation), within=3)


@pytest.mark.parametrize("subsampling", ["444", "420"])
def test_twelve_bits(tmp_path: Path, subsampling: str) -> None:
    wide = SMOOTH.astype(np.uint16) * 16
    file = imagecodecs.jpeg8_encode(wide, level=99, bitspersample=12, subsampling=subsampling)
    expected = np.floor(wide / 4095 * 65535 + 0.5).astype(np.uint16)
    check_exact(written(tmp_path, bytes(file)), expected, within=16 * 60)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossless(tmp_path: Path, bits: int, channels: int) -> None:
    rng = np.random.default_rng(bits)
    kind: Any = np.uint8 if bits == 8 else np.uint16
    pixels = rng.integers(0, 2**bits, (20, 30, channels)).astype(kind)
    file = imagecodecs.jpeg8_encode(
        pixels[:, :, 0] if channels == 1 else pixels,
        lossless=True,
        bitspersample=bits,
        colorspace="rgb" if channels == 3 else None,
    )
    full = 255 if bits == 8 else 65535
    expected = np.floor(pixels / (2**bits - 1) * full + 0.5).astype(kind)
    check_exact(written(tmp_path, bytes(file)), expected)


def inks_of(path: Path) -> Raster:
    raster = read(path)[1]
    assert raster.model == "cmyk"
    return raster


def test_adobe_cmyk_is_stored_inverted(tmp_path: Path) -> None:
    inks = np.dstack([SMOOTH, GREY // 2])
    path = written(tmp_path, encoded(255 - inks, "CMYK"))  # Pillow inverts what it writes
    stored = imagecodecs.jpeg8_decode(path.read_bytes(), outcolorspace="cmyk").astype(int)
    assert np.abs(inks_of(path).samples.astype(int) - (255 - stored)).max() <= 1
    left = 1 - inks_of(path).samples / 255
    np.testing.assert_allclose(read_rgb8(path), left[:, :, :3] * left[:, :, 3:] * 255, atol=0.5001)


def test_adobe_ycck_is_stored_inverted(tmp_path: Path) -> None:
    inks = np.dstack([SMOOTH, GREY // 2])
    file = imagecodecs.jpeg8_encode(255 - inks, level=100, colorspace="cmyk", outcolorspace="ycck", subsampling="444")
    assert b"Adobe" in bytes(file)[:40]
    assert np.abs(inks_of(written(tmp_path, bytes(file))).samples.astype(int) - inks).max() <= 4


def test_cmyk_that_does_not_say_how_it_is_stored(tmp_path: Path) -> None:
    file = encoded(np.dstack([SMOOTH, GREY]), "CMYK")
    start = file.index(b"\xff\xee")
    plain = file[:start] + file[start + 2 + int.from_bytes(file[start + 2 : start + 4]) :]
    check_refused(written(tmp_path, plain), "whether its inks are inverted")


def test_of_several_pictures_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = io.BytesIO()
    first, second = Image.fromarray(SMOOTH), Image.fromarray(255 - SMOOTH)
    first.save(file, "MPO", save_all=True, append_images=[second], quality=98, subsampling=0)
    check_exact(written(tmp_path, file.getvalue()), SMOOTH, within=3)
    assert "holds 2 pictures; only the first is read" in capsys.readouterr().err


def rational(number: int) -> bytes:
    return struct.pack("<I", number)


ODD_EXIF = {
    "0 below": exif(6, [(282, 5, 1, rational(8)), (283, 5, 1, rational(8))]),
    "text for numbers": exif(6, [(282, 2, 4, b"abc\0"), (33434, 2, 4, b"1/5\0")]),
    "a huge count": exif(6, [(271, 2, 0xFFFFFFFF, b"\xff\xff\xff\x7f"), (282, 5, 0x7FFFFFFF, b"\0\0\0\0")]),
    "a circle": exif(6, [(34665, 4, 1, rational(8)), (34853, 4, 1, rational(8))]),
    "outside": exif(6, [(34665, 4, 1, rational(1 << 31)), (282, 5, 1, rational(1 << 31))]),
    "an unknown type": exif(6, [(282, 99, 1, b"\0\0\0\0"), (283, 0, 1, b"\0\0\0\0")]),
    "cut short": exif(6, [(40000, 4, 1, b"\0\0\0\0")])[:-10],
    "a circle of directories": exif(6)[:-4] + rational(8),
}


@pytest.mark.parametrize("kind", ODD_EXIF)
def test_odd_metadata_do_no_harm(tmp_path: Path, kind: str) -> None:
    file = in_jpeg(FILE, segment(0xE1, b"Exif\0\0" + ODD_EXIF[kind]))
    check_exact(written(tmp_path, file), upright(SMOOTH, 6), within=3)


@pytest.mark.parametrize(
    "block", [b"", b"II", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08", b"junk" * 50, b"II*\0\x08\0\0\0\xff\xff"]
)
def test_metadata_that_say_nothing(tmp_path: Path, block: bytes) -> None:
    file = in_jpeg(FILE, segment(0xE1, b"Exif\0\0" + block))
    check_exact(written(tmp_path, file), SMOOTH, within=3)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_is_none(tmp_path: Path, value: int) -> None:
    check_exact(written(tmp_path, in_jpeg(FILE, segment(0xE1, b"Exif\0\0" + exif(value)))), SMOOTH, within=3)


@pytest.mark.parametrize("kind", [3, 4, 1])
def test_an_orientation_of_another_type(tmp_path: Path, kind: int) -> None:
    block = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 274, kind, 1, 6) + bytes(4)
    check_exact(written(tmp_path, in_jpeg(FILE, segment(0xE1, b"Exif\0\0" + block))), upright(SMOOTH, 6), within=3)


def frame(marker: int, bits: int = 8, components: int = 3, height: int = 48) -> bytes:
    """FILE with another head."""
    start = FILE.index(b"\xff\xc0")
    head = FILE[start:]
    return (
        FILE[:start]
        + bytes([0xFF, marker])
        + head[2:4]
        + struct.pack(">BH", bits, height)
        + head[7:9]
        + bytes([components])
        + head[10:]
    )


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (frame(0xF7), "rare kind"),
        (frame(0xC5), "rare kind"),
        (frame(0xCB), "rare kind"),
        (frame(0xC0, height=0), "DNL"),
        (frame(0xC0, components=2), "2 components"),
        (frame(0xC0, bits=12), "12 bits"),
        (
            frame(0xC0, height=65500).replace(struct.pack(">H", 64), struct.pack(">H", 65500), 1),
            "cannot be read|too many",
        ),
        (FILE[:-40], "cut short"),
        (FILE[: len(FILE) // 2], "cut short"),
        (FILE[:300], "cut short"),
        (FILE[:3] + b"\xd9", "cannot be read"),
    ],
)
def test_refused_with_the_true_reason(tmp_path: Path, file: bytes, reason: str) -> None:
    check_refused(written(tmp_path, file), reason)


NOISE = ramp(61, 83, 3, 255).astype(np.uint8)
SCAN = b"\xff\xda"


def cut(file: bytes, part: float) -> bytes:
    """Up to a part of its compressed data."""
    scan = file.index(SCAN) + 14
    return file[: scan + int((len(file) - scan) * part)].rstrip(b"\xff")


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("behind", ["an end", "an end, and the whole file", "another file", "nothing"])
@pytest.mark.parametrize("kind", ["colour", "halved colours", "grey", "CMYK", "restarts"])
def test_data_that_end_early(tmp_path: Path, part: float, behind: str, kind: str) -> None:
    pixels = NOISE[:, :, 0] if kind == "grey" else np.dstack([NOISE, NOISE[:, :, :1]]) if kind == "CMYK" else NOISE
    options = {"halved colours": {"subsampling": 2}, "restarts": {"restart_marker_rows": 1}}.get(kind, {})
    file = encoded(pixels, "CMYK" if kind == "CMYK" else None, **options)
    check = read_rgb8(written(tmp_path, file, "whole.jpg"))
    assert check.shape == (61, 83, 3)
    tail = {"an end": b"\xff\xd9", "an end, and the whole file": b"\xff\xd9" + file, "another file": FILE}
    check_refused(
        written(tmp_path, cut(file, part) + tail.get(behind, b"")), "cut short|another picture|restart markers"
    )


def test_a_picture_that_ends_in_grey_is_whole(tmp_path: Path) -> None:
    pixels = np.full((40, 40, 3), 128, np.uint8)
    pixels[:16] = SMOOTH[:16, :40]
    check_exact(written(tmp_path, encoded(pixels)), pixels, within=6)


@pytest.mark.parametrize("options", [{}, {"subsampling": 2}, {"restart_marker_blocks": 3}], ids=str)
def test_without_its_end(tmp_path: Path, options: dict[str, Any]) -> None:
    check_exact(written(tmp_path, encoded(SMOOTH, **options)[:-2]), SMOOTH, within=6)


def test_a_restart_marker_lost(tmp_path: Path) -> None:
    file = encoded(NOISE, restart_marker_rows=1)
    places = [i for i in range(file.index(SCAN), len(file) - 1) if file[i] == 255 and 0xD0 <= file[i + 1] <= 0xD7]
    check_refused(written(tmp_path, file[: places[2]] + file[places[3] :]), "restart markers")


def test_zeros_between_segments(tmp_path: Path) -> None:
    file = FILE[:2] + segment(0xFE, b"x") + bytes(5) + FILE[2:]
    check_exact(written(tmp_path, file), SMOOTH, within=6)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_a_restart_marker_behind_all_blocks(tmp_path: Path, rows: int) -> None:
    file = encoded(SMOOTH, restart_marker_rows=rows)
    number = sum(file.count(bytes([0xFF, marker])) for marker in range(0xD0, 0xD8))
    file = file[:-2] + bytes([0xFF, 0xD0 + number % 8]) + file[-2:]
    check_exact(written(tmp_path, file), SMOOTH, within=3)


@pytest.mark.parametrize("first", [b"junk", b"", b"II*\0\xff\xff\xff\0"])
def test_a_broken_block_of_metadata_before_the_true_one(tmp_path: Path, first: bytes) -> None:
    blocks = [segment(0xE1, b"Exif\0\0" + block) for block in (first, exif(6), exif(3))]
    check_exact(written(tmp_path, in_jpeg(FILE, *blocks)), upright(SMOOTH, 6), within=3)
