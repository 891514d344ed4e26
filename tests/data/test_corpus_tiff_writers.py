"""TIFF as its many writers have it: tags without use, or missing, that readers in use put up with."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.photo_checks import check_exact, check_refused, written
from helpers.photo_files import ramp, spread, tiff
from PIL import Image

from cyclesr_dist.data.images import read_picture

BLACK_IS_ZERO, RGB, INDEXED, CMYK, YCBCR = 1, 2, 3, 5, 6
PREDICTOR = 317
RATIONAL_WHITE = [3127, 10000, 3290, 10000]
PIXELS = ramp(13, 17, 3, 255).astype(np.uint8)


def with_tags(file: bytes, tags: dict[int, tuple[int, int] | None]) -> bytes:
    """A little-endian file with entries of one number, (type, value), set, and those of None left out."""
    (place,) = struct.unpack_from("<I", file, 4)
    (number,) = struct.unpack_from("<H", file, place)
    entries = {}
    for start in range(place + 2, place + 2 + 12 * number, 12):
        entries[struct.unpack_from("<H", file, start)[0]] = file[start : start + 12]
    for tag, value in tags.items():
        entries.pop(tag, None)
        if value is not None:
            entries[tag] = struct.pack("<HHII", tag, value[0], 1, value[1])
    body = file + b"\0" * (len(file) % 2)
    table = b"".join(entry for _, entry in sorted(entries.items()))
    return body[:4] + struct.pack("<I", len(body)) + body[8:] + struct.pack("<H", len(entries)) + table + bytes(4)


@pytest.mark.parametrize("predictor", [2, 3])
@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("compression", [1, 32773])
def test_a_predictor_beside_a_compression_that_has_none(
    tmp_path: Path, predictor: int, bits: int, compression: int
) -> None:
    samples = ramp(6, 8, 3, 2**bits - 1)
    file = tiff(samples, bits, RGB, compression=compression, tags={PREDICTOR: (3, predictor)})
    check_exact(written(tmp_path, file), spread(samples, bits))


@pytest.mark.parametrize("compression", ["jpeg", "group4", "group3"])
def test_a_predictor_beside_jpeg_and_fax(tmp_path: Path, compression: str) -> None:
    file = io.BytesIO()
    plain = np.kron(ramp(4, 4, 3, 255), np.ones((8, 8, 1))).astype(np.uint8)
    Image.fromarray(plain if compression == "jpeg" else plain[:, :, 0] > 99).save(file, "TIFF", compression=compression)
    with Image.open(file) as image:
        expected = np.asarray(image).astype(np.uint8) * (1 if compression == "jpeg" else 255)
    expected = expected.reshape(*expected.shape[:2], -1)
    check_exact(written(tmp_path, with_tags(file.getvalue(), {PREDICTOR: (3, 2)})), expected, within=3)


def test_a_predictor_of_floating_point_is_refused_where_it_counts(tmp_path: Path) -> None:
    check_refused(written(tmp_path, tiff(PIXELS, 8, RGB, compression=8, tags={PREDICTOR: (3, 3)})), "differences")


STRIPS: dict[str, Any] = {
    "one": {},
    "several": {"rows": 4},
    "tiles": {"tile": 16},
    "planes": {"planar": True, "rows": 5},
}


@pytest.mark.parametrize("layout", STRIPS)
@pytest.mark.parametrize("compression", [1, 8, 32773])
def test_without_byte_counts(tmp_path: Path, layout: str, compression: int) -> None:
    file = tiff(PIXELS, 8, RGB, compression=compression, **STRIPS[layout])
    check_exact(written(tmp_path, with_tags(file, {279: None, 325: None})), PIXELS)


@pytest.mark.parametrize("compression", [1, 8, 32773])
def test_a_byte_count_of_0(tmp_path: Path, compression: int) -> None:
    file = tiff(PIXELS, 8, RGB, compression=compression)
    check_exact(written(tmp_path, with_tags(file, {279: (4, 0)})), PIXELS)


def test_a_byte_count_past_the_end(tmp_path: Path) -> None:
    check_exact(written(tmp_path, with_tags(tiff(PIXELS, 8, RGB), {279: (4, 100_000)})), PIXELS)
    cut = with_tags(tiff(PIXELS, 8, RGB), {279: (4, 100_000), 257: (4, 99), 278: (4, 99)})
    check_refused(written(tmp_path, cut, "cut.tif"), "cut short")


def test_without_byte_counts_and_cut_short(tmp_path: Path) -> None:
    file = with_tags(tiff(PIXELS, 8, RGB), {279: None, 257: (4, 99), 278: (4, 99)})
    check_refused(written(tmp_path, file), "too short")


@pytest.mark.parametrize("kind", [1, 2])
def test_a_palette_with_transparency(tmp_path: Path, kind: int) -> None:
    colours, indices, alpha = ramp(16, 1, 3, 255)[:, 0], ramp(5, 6, 1, 15), ramp(5, 6, 1, 255, seed=1)
    table = np.zeros((256, 3), int)
    table[:16] = colours * 257
    file = tiff(np.dstack([indices, alpha]), 8, INDEXED, tags={320: (3, table.T.ravel().tolist()), 338: (3, kind)})
    path = written(tmp_path, file)
    if kind == 1:
        check_refused(path, "multiplied by their transparency")
    else:
        check_exact(path, np.dstack([colours[indices[:, :, 0]], alpha]).astype(np.uint8))


@pytest.mark.parametrize("extra", [[0, 2], [2, 0], [0, 0, 2], [0, 1]])
def test_alpha_among_other_channels(tmp_path: Path, extra: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    samples = ramp(5, 6, 3 + len(extra), 255)
    place = 3 + next(i for i, kind in enumerate(extra) if kind)
    samples[:, :, place] = 255 if 1 in extra else samples[:, :, place]
    expected = samples[:, :, [0, 1, 2, place]].astype(np.uint8)
    check_exact(written(tmp_path, tiff(samples, 8, RGB, tags={338: (3, extra)})), expected)
    left = len(extra) - 1
    assert f"has {left} more channel{'s' * (left > 1)} than colours" in capsys.readouterr().err


@pytest.mark.parametrize("luma", [(2126, 7152, 722), (2627, 6780, 593), (2990, 5870, 1140), (2989, 5866, 1145)])
def test_ycbcr_of_other_coefficients(tmp_path: Path, luma: tuple[int, int, int]) -> None:
    red, green, blue = (part / 10_000 for part in luma)
    y, cb, cr = (ramp(4, 6, 3, 255)[:, :, i].astype(float) for i in range(3))
    r, b = y + 2 * (1 - red) * (cr - 128), y + 2 * (1 - blue) * (cb - 128)
    expected = np.clip(np.dstack([r, (y - red * r - blue * b) / green, b]), 0, 255)
    said = [number for part in luma for number in (part, 10_000)]
    file = tiff(ramp(4, 6, 3, 255), 8, YCBCR, tags={530: (3, [1, 1]), 529: (5, said)})
    check_exact(written(tmp_path, file), np.floor(expected + 0.5).astype(np.uint8), within=1)


def test_ycbcr_of_coefficients_that_cannot_be(tmp_path: Path) -> None:
    for said in ([1, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1], [1, 2, 1, 2, 0, 1]):
        file = tiff(ramp(4, 6, 3, 255), 8, YCBCR, tags={530: (3, [1, 1]), 529: (5, said)})
        check_refused(written(tmp_path, file), "YCbCrCoefficients")


def test_a_jpeg_of_other_coefficients(tmp_path: Path) -> None:
    file = tiff(ramp(4, 6, 3, 255), 8, YCBCR, tags={259: (3, 7), 529: (5, [2126, 10000, 7152, 10000, 722, 10000])})
    check_refused(written(tmp_path, file), "a JPEG of other colours")


@pytest.mark.parametrize(("old", "refused"), [(2, True), (1, False), (3, False)])
def test_a_small_first_page_of_old_files(tmp_path: Path, old: int, refused: bool) -> None:
    file = tiff(PIXELS, 8, RGB, tags={255: (3, old)}, pages=2)
    first = struct.unpack_from("<I", file, 4)[0]
    number = struct.unpack_from("<H", file, first)[0]
    second = struct.unpack_from("<I", file, first + 2 + 12 * number)[0]
    whole = bytearray(file)
    place = whole.index(struct.pack("<HHI", 255, 3, 1), second)
    whole[place + 8] = 1  # the second page is a full one
    path = written(tmp_path, bytes(whole))
    if refused:
        check_refused(path, "a preview as its first page")
    else:
        check_exact(path, PIXELS)


@pytest.mark.parametrize(("dots", "said"), [([0, 255], False), ([255, 0], True), ([16, 235], True)])
def test_ink_of_another_range(tmp_path: Path, dots: list[int], said: bool, capsys: pytest.CaptureFixture[str]) -> None:
    read_picture(written(tmp_path, tiff(ramp(4, 5, 4, 255), 8, CMYK, tags={336: (1, dots)})))
    assert ("DotRange" in capsys.readouterr().err) == said


OWN_COLOURS: dict[str, tuple[dict[int, tuple[int, Any]], bool]] = {
    "primaries of sRGB": (
        {318: (5, RATIONAL_WHITE), 319: (5, [64, 100, 33, 100, 30, 100, 60, 100, 15, 100, 6, 100])},
        False,
    ),
    "primaries of AdobeRGB": (
        {318: (5, RATIONAL_WHITE), 319: (5, [64, 100, 33, 100, 21, 100, 71, 100, 15, 100, 6, 100])},
        True,
    ),
    "a transfer function": ({301: (3, list(range(0, 65536, 256)))}, True),
    "the whole range": ({532: (5, [0, 1, 255, 1] * 3)}, False),
    "a narrow range": ({532: (5, [16, 1, 235, 1] * 3)}, True),
}


@pytest.mark.parametrize("name", OWN_COLOURS)
def test_colours_in_tags_of_tiff(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    tags, said = OWN_COLOURS[name]
    check_exact(written(tmp_path, tiff(PIXELS, 8, RGB, tags=tags)), PIXELS)
    assert ("which are not used; read as sRGB" in capsys.readouterr().err) == said


@pytest.mark.parametrize("bits", [10, 16])
@pytest.mark.parametrize("stored", ["low", "16 bits"])
@pytest.mark.parametrize("see_through", [False, True])
def test_palettes_of_many_colours(tmp_path: Path, bits: int, stored: str, see_through: bool) -> None:
    colours = ramp(2**bits, 1, 3, 255 if stored == "low" else 65535)[:, 0].astype(np.uint16)
    samples = ramp(6, 11, 1 + see_through, 2**bits - 1)
    tags: dict[int, tuple[int, Any]] = {320: (3, colours.T.ravel().tolist())}
    tags |= {338: (3, 2)} if see_through else {}
    expected = colours[samples[:, :, 0]]
    if see_through:
        wide = expected * 257 if stored == "low" else expected
        expected = np.concatenate([wide, spread(samples[:, :, 1:], bits)], axis=2)
    elif stored == "low":
        expected = expected.astype(np.uint8)
    check_exact(written(tmp_path, tiff(samples, bits, INDEXED, tags=tags)), expected)
