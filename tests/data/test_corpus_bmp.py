"""BMP: palettes of every depth, plain and as run lengths, colours at any bits of a pixel, colour spaces of its own."""

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


FIELDS, FIELDS_WITH_ALPHA = 3, 6
LAYOUTS = {
    "5-5-5": (16, (0x7C00, 0x3E0, 0x1F)),
    "5-6-5": (16, (0xF800, 0x7E0, 0x1F)),
    "blue first": (16, (0x1F, 0x7E0, 0xF800)),
    "alpha of one bit": (16, (0x7C00, 0x3E0, 0x1F, 0x8000)),
    "4-4-4-4": (16, (0xF00, 0xF0, 0xF, 0xF000)),
    "3-3-2": (16, (0xE0, 0x1C, 3)),
    "bytes": (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
    "other bytes": (32, (0xFF, 0xFF00, 0xFF0000)),
    "bytes beside others": (32, (0xFF00, 0xFF0000, 0xFF, 0xF0000000)),
    "10-10-10": (32, (0x3FF00000, 0xFFC00, 0x3FF)),
    "10-10-10-2": (32, (0x3FF, 0xFFC00, 0x3FF00000, 0xC0000000)),
    "16 bits and less": (32, (0xFFFF0000, 0xFF00, 0xFF)),
}


def in_fields(samples: Array, bits: int, masks: tuple[int, ...], down: bool = False) -> bytes:
    shifts = [(mask & -mask).bit_length() - 1 for mask in masks]
    words = sum(samples[:, :, i].astype(np.uint64) << np.uint64(shift) for i, shift in enumerate(shifts))
    rows = np.asarray(words).astype(f"<u{bits // 8}")[:: 1 if down else -1]
    return b"".join(row.tobytes().ljust((len(row.tobytes()) + 3) // 4 * 4, b"\0") for row in rows)


def with_head(size: int, width: int, height: int, bits: int, pixels: bytes, masks: tuple[int, ...], kind: int) -> bytes:
    """A head of `size` bytes, with the masks in it or behind it."""
    fields = struct.pack("<IiiHHIIiiII", size, width, height, 1, bits, kind, len(pixels), 0, 0, 0, 0)
    fields += struct.pack(f"<{len(masks)}I", *masks)
    head = fields.ljust(size, b"\0") if size < 108 else fields.ljust(56, b"\0") + b"BGRs" + bytes(size - 60)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + len(head)) + head + pixels


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("size", [40, 52, 56, 108, 124])
def test_colours_at_any_bits(tmp_path: Path, name: str, size: int) -> None:
    bits, masks = LAYOUTS[name]
    depths = [mask.bit_count() for mask in masks]
    samples = np.concatenate([ramp(5, 7, 1, 2**depth - 1, seed=i) for i, depth in enumerate(depths)], axis=2)
    full = 65535 if max(depths) > 8 else 255
    expected = np.floor(samples / [2**depth - 1 for depth in depths] * full + 0.5)
    kind = FIELDS if len(masks) == 3 or size >= 56 else FIELDS_WITH_ALPHA
    size = 40 if kind == FIELDS_WITH_ALPHA else size
    file = with_head(size, 7, 5, bits, in_fields(samples, bits, masks), masks, kind)
    check_exact(written(tmp_path, file), expected.astype(np.uint16 if full == 65535 else np.uint8))


def test_five_bits_to_the_nearest_level(tmp_path: Path) -> None:
    samples = np.arange(32)[None, :, None].repeat(3, axis=2)
    file = bmp(32, 1, 16, in_fields(samples, 16, LAYOUTS["5-5-5"][1]))
    check_exact(written(tmp_path, file), np.floor(samples / 31 * 255 + 0.5).astype(np.uint8))


@pytest.mark.parametrize(
    ("masks", "reason"),
    [
        ((0xFF0000, 0xFF00, 0), "masks"),
        ((0xFF0000, 0xFF00, 0xFF00), "masks"),
        ((0xF0F000, 0xF00, 0xFF), "masks"),
        ((0xFFFFF000, 0xF00, 0xFF), "20-bit colours"),
    ],
)
def test_masks_of_no_colours(tmp_path: Path, masks: tuple[int, ...], reason: str) -> None:
    check_refused(written(tmp_path, with_head(56, 7, 5, 32, bytes(140), masks, FIELDS)), reason)


@pytest.mark.parametrize("bits", [4, 8, 24])
def test_where_the_pixels_begin(tmp_path: Path, bits: int) -> None:
    """0: right behind the palette; within the head: nowhere."""
    colours = ramp(2**bits, 1, 3, 255)[:, 0].astype(np.uint8) if bits <= 8 else greys()
    samples = ramp(5, 7, 3 if bits == 24 else 1, 2 ** min(bits, 8) - 1)
    pixels = in_words(samples[:, :, ::-1].reshape(5, -1), min(bits, 8))  # blue, green, red
    file = bytearray(bmp(7, 5, bits, pixels, palette=entries(colours)))
    file[10:14] = bytes(4)
    check_exact(written(tmp_path, file), samples.astype(np.uint8) if bits == 24 else colours[samples[:, :, 0]])
    file[10:14] = struct.pack("<I", 30)
    check_refused(written(tmp_path, file), "begin in its head")


@pytest.mark.parametrize(("bits", "kind"), [(1, 3), (24, 4)])
def test_compressions_of_os2(tmp_path: Path, bits: int, kind: int) -> None:
    check_refused(written(tmp_path, with_head(64, 7, 5, bits, bytes(400), (), kind)), "BMP of OS/2")
