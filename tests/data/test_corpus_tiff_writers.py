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

BLACK_IS_ZERO, RGB, INDEXED, CMYK, YCBCR = 1, 2, 3, 5, 6
PREDICTOR = 317
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
