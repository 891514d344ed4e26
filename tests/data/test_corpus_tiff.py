"""TIFF of every kind that is in use, written by hand: each exact, or refused with the true reason."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from helpers.photo_checks import check_exact, check_refused, written
from helpers.photo_files import ramp, spread, tiff, upright
from PIL import Image

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, INDEXED, MASK, CMYK, YCBCR, LAB, CFA = 0, 1, 2, 3, 4, 5, 6, 8, 32803
PREMULTIPLIED, STRAIGHT = 1, 2
ORIENTATION = 274


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("bits", [8, 16])
def test_turned_upright_once(tmp_path: Path, orientation: int, channels: int, bits: int) -> None:
    samples = ramp(5, 7, channels, 2**bits - 1)
    tags: dict[int, tuple[int, Any]] = {ORIENTATION: (3, orientation)}
    tags |= {338: (3, STRAIGHT)} if channels in (2, 4) else {}
    file = tiff(samples, bits, RGB if channels > 2 else BLACK_IS_ZERO, tags=tags)
    check_exact(written(tmp_path, file), spread(upright(samples, orientation), bits))


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8, 10, 12, 14, 16])
@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, BLACK_IS_ZERO])
@pytest.mark.parametrize("order", ["<", ">"])
def test_grey_of_every_depth(tmp_path: Path, bits: int, photometric: int, order: str) -> None:
    samples = ramp(6, 13, 1, 2**bits - 1)
    expected = samples if photometric == BLACK_IS_ZERO else 2**bits - 1 - samples
    check_exact(written(tmp_path, tiff(samples, bits, photometric, order=order)), spread(expected, bits))


LAYOUTS: dict[str, dict[str, Any]] = {
    "strips": {"rows": 2},
    "one row a strip": {"rows": 1},
    "planes": {"planar": True},
    "planes in strips": {"planar": True, "rows": 3},
    "tiles": {"tile": 16},
    "planes in tiles": {"tile": 16, "planar": True},
    "deflate": {"compression": 8},
    "adobe deflate": {"compression": 32946, "rows": 3},
    "packbits": {"compression": 32773},
    "differences": {"compression": 8, "predictor": True},
    "differences in tiles": {"compression": 8, "predictor": True, "tile": 16},
    "differences in planes": {"compression": 8, "predictor": True, "planar": True},
    "BigTIFF": {"big": True},
    "BigTIFF in tiles": {"big": True, "tile": 16, "compression": 8},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [8, 16])
def test_colour_of_every_layout(tmp_path: Path, layout: str, order: str, bits: int) -> None:
    samples = ramp(19, 21, 3, 2**bits - 1)
    check_exact(written(tmp_path, tiff(samples, bits, RGB, order=order, **LAYOUTS[layout])), spread(samples, bits))


@pytest.mark.parametrize("bits", [2, 4, 10, 12, 14])
@pytest.mark.parametrize("planar", [False, True])
def test_colour_of_other_depths(tmp_path: Path, bits: int, planar: bool) -> None:
    samples = ramp(5, 9, 3, 2**bits - 1)
    check_exact(written(tmp_path, tiff(samples, bits, RGB, planar=planar)), spread(samples, bits))


@pytest.mark.parametrize("compression", ["lzw", "zstd", "lzma", "zlib", "packbits"])
@pytest.mark.parametrize("predictor", [False, True])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_compressions_that_tifffile_writes(tmp_path: Path, compression: str, predictor: bool, kind: Any) -> None:
    samples = ramp(33, 29, 3, np.iinfo(kind).max).astype(kind)
    file = io.BytesIO()
    tifffile.imwrite(
        file, samples, photometric="rgb", compression=compression, predictor=predictor and compression != "packbits"
    )
    check_exact(written(tmp_path, file.getvalue()), samples)


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_lzw", "packbits"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_black_and_white_of_fax_machines(tmp_path: Path, compression: str, orientation: int) -> None:
    samples = ramp(9, 21, 1, 1)
    file = io.BytesIO()
    Image.fromarray(samples[:, :, 0] > 0).save(
        file, "TIFF", compression=compression, tiffinfo={ORIENTATION: orientation}
    )
    check_exact(written(tmp_path, file.getvalue()), spread(upright(samples, orientation), 1))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("stored", ["low", "high", "both", "16 bits"])
def test_palettes(tmp_path: Path, bits: int, stored: str) -> None:
    indices = ramp(6, 11, 1, 2**bits - 1)
    colours = ramp(2**bits, 1, 3, 255)[:, 0]
    colours[1] = 1, 2, 3
    wide = {"low": colours, "high": colours * 256, "both": colours * 257, "16 bits": colours * 256 + 77}[stored]
    file = tiff(indices, bits, INDEXED, tags={320: (3, [int(v) for v in wide.T.ravel()])})
    expected = wide.astype(np.uint16) if stored == "16 bits" else colours.astype(np.uint8)
    check_exact(written(tmp_path, file), expected[indices[:, :, 0]])


@pytest.mark.parametrize("bits", [8, 16])
def test_premultiplied_colours_are_divided(tmp_path: Path, bits: int) -> None:
    full = 2**bits - 1
    straight = ramp(6, 7, 4, full)
    straight[:, :, 3] = np.maximum(straight[:, :, 3], 1)
    stored = straight.copy()
    stored[:, :, :3] = np.floor(straight[:, :, :3] * straight[:, :, 3:] / full + 0.5)
    expected = stored.copy()
    expected[:, :, :3] = np.minimum(np.floor(stored[:, :, :3] * full / stored[:, :, 3:] + 0.5), full)
    check_exact(written(tmp_path, tiff(stored, bits, RGB, tags={338: (3, PREMULTIPLIED)})), spread(expected, bits))


@pytest.mark.parametrize("said", [True, False])
def test_a_channel_of_no_meaning_is_left_out_with_a_word(
    tmp_path: Path, said: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = ramp(4, 5, 4, 255)
    tags: dict[int, tuple[int, Any]] = {338: (3, 0)} if said else {}
    check_exact(written(tmp_path, tiff(samples, 8, RGB, tags=tags)), spread(samples[:, :, :3], 8))
    assert "1 more channel than colours" in capsys.readouterr().err


def test_bits_the_other_way_round(tmp_path: Path) -> None:
    samples = ramp(5, 16, 1, 1)
    check_exact(written(tmp_path, tiff(samples, 1, BLACK_IS_ZERO, reversed_bits=True)), spread(samples, 1))


@pytest.mark.parametrize("bits", [8, 16])
def test_cmyk_becomes_rgb(tmp_path: Path, bits: int, capsys: pytest.CaptureFixture[str]) -> None:
    full = 2**bits - 1
    ink = ramp(4, 6, 4, full)
    left = 1 - ink / full
    expected = np.floor(left[:, :, :3] * left[:, :, 3:] * full + 0.5).astype(np.uint8 if bits == 8 else np.uint16)
    check_exact(written(tmp_path, tiff(ink, bits, CMYK)), expected)
    assert "CMYK without a colour profile" in capsys.readouterr().err


def test_ycbcr(tmp_path: Path) -> None:
    ycc = ramp(4, 6, 3, 255).astype(np.uint8)
    expected = np.asarray(Image.frombytes("YCbCr", (6, 4), ycc.tobytes()).convert("RGB"))
    file = tiff(ycc, 8, YCBCR, tags={530: (3, [1, 1])})
    check_exact(written(tmp_path, file), expected, within=1)
    check_refused(written(tmp_path, tiff(ycc, 8, YCBCR, tags={530: (3, [2, 2])})), "YCbCr with halved colours")


@pytest.mark.parametrize("tile", [None, (32, 32)])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_in_tiff(tmp_path: Path, tile: tuple[int, int] | None, channels: int) -> None:
    y, x = np.mgrid[0:64, 0:64]
    smooth = np.stack([x * 3, y * 3, 255 - x * 2 - y], axis=2).astype(np.uint8)[:, :, :channels]
    kind: Any = "rgb" if channels == 3 else "minisblack"
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        smooth if channels == 3 else smooth[:, :, 0],
        photometric=kind,
        compression="jpeg",
        compressionargs={"level": 98},
        tile=tile,
    )
    check_exact(written(tmp_path, file.getvalue()), smooth, within=8)


def test_of_several_pages_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = ramp(4, 5, 3, 255)
    check_exact(written(tmp_path, tiff(samples, 8, RGB, pages=3)), spread(samples, 8))
    assert "holds 3 pages; only the first is read" in capsys.readouterr().err


def test_a_pyramid_has_one_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = ramp(32, 32, 3, 255).astype(np.uint8)
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(samples, subifds=1, photometric="rgb")
        writer.write(samples[::2, ::2], subfiletype=1, photometric="rgb")
    check_exact(written(tmp_path, file.getvalue()), samples)
    assert not capsys.readouterr().err


REFUSED: dict[str, tuple[bytes, str]] = {
    "floating point": (tiff(ramp(4, 5, 1, 9), 16, BLACK_IS_ZERO, tags={339: (3, 3)}), "floating point"),
    "with a sign": (tiff(ramp(4, 5, 1, 9), 16, BLACK_IS_ZERO, tags={339: (3, 2)}), "with a sign"),
    "32 bits": (tiff(ramp(4, 5, 2, 9), 16, BLACK_IS_ZERO, tags={258: (3, 32), 277: (3, 1)}), "32-bit samples"),
    "5, 6 and 5 bits": (tiff(ramp(4, 5, 3, 9), 8, RGB, tags={258: (3, [5, 6, 5])}), "different depths"),
    "Lab": (tiff(ramp(4, 5, 3, 9), 8, LAB), "CIELab"),
    "a mask": (tiff(ramp(4, 8, 1, 1), 1, MASK), "a mask"),
    "no photometric": (tiff(ramp(4, 5, 1, 9), 8, 999), "of an unknown kind"),
    "colour filters": (tiff(ramp(4, 5, 1, 9), 16, CFA), "raw camera file; develop it first"),
    "DNG": (tiff(ramp(4, 5, 3, 9), 8, RGB, tags={50706: (1, [1, 4, 0, 0]), 254: (4, 1)}), "raw camera file"),
    "other inks": (tiff(ramp(4, 5, 4, 9), 8, CMYK, tags={332: (3, 2)}), "inks other than CMYK"),
    "old JPEG": (tiff(ramp(4, 5, 3, 9), 8, RGB, tags={259: (3, 6)}), "abandoned way"),
    "unknown compression": (tiff(ramp(4, 5, 3, 9), 8, RGB, tags={259: (3, 34676)}), "compressed in a way"),
    "CMYK in a JPEG": (tiff(ramp(4, 5, 4, 9), 8, CMYK, tags={259: (3, 7)}), "JPEG of a rare kind"),
    "a volume": (tiff(ramp(4, 5, 1, 9), 8, BLACK_IS_ZERO, tags={32997: (4, 4)}), "a volume"),
    "too large": (tiff(ramp(4, 5, 1, 9), 8, BLACK_IS_ZERO, tags={256: (4, 60000), 257: (4, 60000)}), "too many"),
    "no width": (tiff(ramp(4, 5, 1, 9), 8, BLACK_IS_ZERO, tags={256: (4, 0)}), "0 x 4 px"),
    "sparse": (tiff(ramp(4, 5, 1, 9), 8, BLACK_IS_ZERO, tags={273: (4, 0), 279: (4, 0)}), "cut short"),
    "a short strip": (tiff(ramp(4, 5, 1, 9), 8, BLACK_IS_ZERO, tags={257: (4, 9), 278: (4, 9)}), "cannot be read"),
    "a short strip, deflated": (
        tiff(ramp(4, 5, 1, 9), 8, BLACK_IS_ZERO, compression=8, tags={257: (4, 9), 278: (4, 9)}),
        "cannot be read",
    ),
    "a short strip, packed": (
        tiff(ramp(4, 5, 1, 9), 8, BLACK_IS_ZERO, compression=32773, tags={257: (4, 9), 278: (4, 9)}),
        "cannot be read",
    ),
    "a short tile": (tiff(ramp(4, 5, 1, 9), 8, BLACK_IS_ZERO, tile=16, tags={325: (4, 250)}), "cannot be read"),
    "too few samples": (tiff(ramp(4, 5, 1, 9), 8, RGB), "needs 3"),
    "premultiplied negative": (
        tiff(ramp(4, 5, 2, 9), 8, WHITE_IS_ZERO, tags={338: (3, PREMULTIPLIED)}),
        "multiplied by their transparency",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_with_the_true_reason(tmp_path: Path, kind: str) -> None:
    file, reason = REFUSED[kind]
    check_refused(written(tmp_path, file), reason)


def raw_file(inner_photometric: int) -> bytes:
    """As NEF and ARW are: a small preview first, the sensor's samples in a directory below it."""
    sensor = tiff(ramp(8, 8, 1, 4095), 16, inner_photometric)
    first = int.from_bytes(sensor[4:8], "little")
    preview = tiff(ramp(4, 5, 3, 255), 8, RGB, tags={254: (4, 1), 271: (2, b"NIKON CORPORATION\0"), 330: (4, 0)})
    # The sensor's file is laid behind the preview; its offsets count from its own start, so only its kind can be read.
    place = len(preview) + first
    entry = preview.index(b"\x4a\x01\x04\x00\x01\x00\x00\x00")
    return preview[: entry + 8] + place.to_bytes(4, "little") + preview[entry + 12 :] + sensor


@pytest.mark.parametrize(
    ("inner", "reason"), [(CFA, "raw camera file"), (BLACK_IS_ZERO, "a preview as its first page")]
)
def test_a_preview_is_no_photograph(tmp_path: Path, inner: int, reason: str) -> None:
    check_refused(written(tmp_path, raw_file(inner)), reason)


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("compression", [1, 8, 32773])
def test_what_is_cut_short_is_refused(tmp_path: Path, kept: float, compression: int) -> None:
    file = tiff(ramp(40, 40, 3, 255), 8, RGB, compression=compression, rows=7)
    check_refused(written(tmp_path, file[: int(len(file) * kept)]), "cannot be read")
