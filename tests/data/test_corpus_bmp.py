"""BMP with a palette: indices of every depth, plain and as run lengths, and colour spaces of its own."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from helpers.photo_checks import check_exact, check_refused, written
from helpers.photo_files import Array, bmp, packed, ramp


def in_words(rows: Array, bits: int) -> bytes:
    """Indices of a file whose lowest row is its first."""
    size = (rows.shape[1] * bits + 31) // 32 * 4
    return b"".join(packed(row[None], bits).ljust(size, b"\0") for row in rows[::-1])


def entries(colours: Array) -> bytes:
    return b"".join(bytes([b, g, r, 0]) for r, g, b in colours.tolist())


def greys(*levels: int) -> Array:
    return np.array([[level] * 3 for level in levels], np.uint8)


PALETTES = {
    "black and white": greys(0, 255),
    "white and black": greys(255, 0),
    "dark greys": greys(*range(16)),
    "a part of the greys": greys(*range(0, 250, 17)),
    "one grey": greys(7),
    "all greys": greys(*range(256)),
    "greys and a colour": np.array([[0, 0, 0], [255, 255, 255], [255, 0, 0]], np.uint8),
}


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("name", PALETTES)
def test_a_palette_of_any_size(tmp_path: Path, bits: int, name: str) -> None:
    palette = PALETTES[name][: 2**bits]
    indices = ramp(5, 9, 1, len(palette) - 1)[:, :, 0]
    expected = palette[indices]
    if (palette == palette[:, :1]).all():
        expected = expected[:, :, :1]
    file = bmp(9, 5, bits, in_words(indices, bits), palette=entries(palette))
    check_exact(written(tmp_path, file), expected)


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_os2(tmp_path: Path, bits: int) -> None:
    palette = ramp(2**bits, 1, 3, 255)[:, 0].astype(np.uint8) // 2 + [[1, 2, 3]]
    palette = palette.astype(np.uint8)
    indices = ramp(5, 9, 1, 2**bits - 1)[:, :, 0]
    colours = palette[:, ::-1].tobytes()
    start = 26 + len(colours)
    head = b"BM" + struct.pack("<IHHIIHHHH", 0, 0, 0, start, 12, 9, 5, 1, bits)
    check_exact(written(tmp_path, head + colours + in_words(indices, bits)), palette[indices])


def test_an_index_beyond_the_palette(tmp_path: Path) -> None:
    file = bmp(4, 1, 8, bytes([0, 1, 2, 0]), palette=entries(greys(0, 255)))
    check_refused(written(tmp_path, file), "colour 2 of a palette of 2")


COLOURS = ramp(256, 1, 3, 255)[:, 0].astype(np.uint8)
RUNS = {
    "skipped and left out": (
        8,
        bytes([3, 7, 0, 2, 2, 1, 2, 9, 0, 0, 0, 3, 1, 2, 3, 0, 0, 0, 0, 1]),
        [[0] * 8, [1, 2, 3, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 9, 9, 0], [7, 7, 7, 0, 0, 0, 0, 0]],
    ),
    "ends at once": (8, bytes([0, 1]), [[0] * 8] * 4),
    "without an end": (8, bytes([8, 1, 0, 0, 8, 2, 0, 0, 8, 3, 0, 0, 8, 4]), [[4] * 8, [3] * 8, [2] * 8, [1] * 8]),
    "of four bits": (
        4,
        bytes([5, 0x12, 0, 0, 0, 5, 0x34, 0x56, 0x70, 0, 0, 0, 0, 1]),
        [[0] * 8, [0] * 8, [3, 4, 5, 6, 7, 0, 0, 0], [1, 2, 1, 2, 1, 0, 0, 0]],
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_run_lengths(tmp_path: Path, name: str) -> None:
    bits, data, indices = RUNS[name]
    file = bmp(8, 4, bits, data, palette=entries(COLOURS[: 2**bits]), compression=1 if bits == 8 else 2)
    check_exact(written(tmp_path, file), COLOURS[np.array(indices)])


@pytest.mark.parametrize("data", [bytes([8, 1, 0, 0, 8, 2]), bytes([8, 1, 0, 9, 1, 2, 3]), bytes([8, 1, 0, 2, 1])])
def test_run_lengths_cut_short(tmp_path: Path, data: bytes) -> None:
    file = bmp(8, 4, 8, data, palette=entries(COLOURS), compression=1)
    check_refused(written(tmp_path, file), "cut short")


@pytest.mark.parametrize(("space", "said"), [(bytes(4), True), (b"KNIL", True), (b"BGRs", False), (b" niW", False)])
def test_a_colour_space_of_its_own(
    tmp_path: Path, space: bytes, said: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = ramp(4, 4, 3, 255).astype(np.uint8)
    size = 124
    head = struct.pack("<IiiHHIIiiII", size, 4, 4, 1, 24, 0, 48, 0, 0, 0, 0) + bytes(16) + space
    head += struct.pack("<9i", *[1 << 28] * 9) + struct.pack("<3I", *[1 << 16] * 3) + bytes(16)
    file = b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + size) + head + pixels[::-1, :, ::-1].tobytes()
    check_exact(written(tmp_path, file), pixels)
    assert ("colour space of its own" in capsys.readouterr().err) == said
