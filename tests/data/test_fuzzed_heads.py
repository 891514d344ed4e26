"""Files of every format with damage in them: each is read or refused in one line; no traceback, no hang, no bomb.

Decoders are other people's C: the work is done in a process of its own, whose memory is bounded, so that a crash of one
is a failure of a test.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from helpers.colours import ADOBE_RGB, profile
from helpers.photo_files import bmp, exif, packed, png, ramp, tiff
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from cyclesr_dist.data.photo.meaning import in_srgb
from cyclesr_dist.data.photo.reading import read_bytes, refusing
from cyclesr_dist.errors import InputError

MOST_MEMORY_MIB = 3000
"""Of a process that decodes up to MAX_PIXELS pixels, each of four bytes, some of them twice."""
SLOWEST_SECONDS = 60
Y, X = np.mgrid[0:24, 0:32]
SMOOTH = np.stack([X * 7, Y * 9, 255 - X * 3 - Y], axis=2).astype(np.uint8)
WITH_ALPHA = np.dstack([SMOOTH, SMOOTH[:, :, :1]])


def saved(kind: str, pixels: NDArray[Any] = SMOOTH, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def animated(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(SMOOTH).save(file, kind, save_all=True, append_images=[Image.fromarray(255 - SMOOTH)])
    return file.getvalue()


def indexed(bits: int) -> bytes:
    rows = packed(ramp(4, 8, 1, 2**bits - 1)[:, :, 0], bits)
    return bmp(
        8, 4, bits, b"".join(rows[i : i + len(rows) // 4].ljust(8, b"\0") for i in range(4)), palette=bytes(4 << bits)
    )


@cache
def files(kind: str) -> list[bytes]:
    """Whole ones."""
    icc, wide = profile(ADOBE_RGB, 2.2), SMOOTH.astype(np.uint16) * 16
    match kind:
        case "PNG":
            return [
                png(SMOOTH, 8, "rgb", [(b"gAMA", b"\0\1\x86\xa0"), (b"eXIf", exif(6))]),
                png(ramp(9, 9, 1, 15), 4, "palette", [(b"PLTE", bytes(48)), (b"tRNS", bytes(5))]),
                png(ramp(9, 9, 4, 65535), 16, "rgba", interlaced=True),
                saved("PNG", icc_profile=icc),
            ]
        case "TIFF":
            return [
                tiff(SMOOTH, 8, 2, compression=8, predictor=True, tags={34675: (7, icc)}),
                tiff(ramp(20, 20, 3, 65535), 16, 2, tile=16, order=">"),
                tiff(ramp(9, 9, 1, 15), 4, 3, tags={320: (3, list(range(48)))}),
                tiff(ramp(9, 9, 4, 255), 8, 5, big=True),
                tiff(ramp(9, 9, 1, 4095), 12, 0, pages=2),
                *(saved("TIFF", compression=name) for name in ("jpeg", "tiff_lzw", "packbits", "zstd", "lzma")),
                saved("TIFF", SMOOTH[:, :, 0] > 99, compression="group4"),
            ]
        case "JPEG":
            return [
                saved("JPEG", icc_profile=icc, exif=exif(5)),
                saved("JPEG", progressive=True),
                bytes(imagecodecs.jpeg8_encode(wide, level=95, bitspersample=12)),
                bytes(imagecodecs.jpeg8_encode(SMOOTH, lossless=True, bitspersample=8)),
                animated("MPO"),
            ]
        case "WebP":
            return [
                saved("WEBP", lossless=True, exif=exif(4)),
                saved("WEBP"),
                saved("WEBP", WITH_ALPHA, icc_profile=icc),
                animated("WEBP"),
            ]
        case "AVIF":
            return [
                saved("AVIF", exif=exif(6)),
                saved("AVIF", WITH_ALPHA, icc_profile=icc),
                bytes(imagecodecs.avif_encode(wide // 4, level=90, bitspersample=10)),
                animated("AVIF"),
            ]
        case "JPEG 2000":
            return [
                saved("JPEG2000"),
                saved("JPEG2000", WITH_ALPHA),
                bytes(imagecodecs.jpeg2k_encode(wide, bitspersample=12, level=0)),
                bytes(imagecodecs.jpeg2k_encode(SMOOTH, level=30, codecformat="j2k")),
            ]
        case "GIF":
            return [saved("GIF"), animated("GIF")]
        case "BMP":
            runs = bytes([3, 7, 5, 9, 0, 0, 0, 4, 1, 2, 3, 4, 4, 8, 0, 0, 0, 1])
            return [saved("BMP"), indexed(4), indexed(8), bmp(8, 2, 8, runs, palette=bytes(1024), compression=1)]
        case _:
            return [b"P6\n4 4\n255\n" + bytes(48), b"P2 3 3 9 1 2 3 4 5 6 7 8 9", b"P4\n9 2\n" + bytes(4)]


FORMATS = ("PNG", "TIFF", "JPEG", "WebP", "AVIF", "JPEG 2000", "GIF", "BMP", "PNM")
NUMBERS = (bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\xea\x60", b"\x60\xea\0\0", b"\1\0\0\0", b"\0\0\0\1")


@st.composite
def damaged(draw: st.DrawFn, kind: str) -> bytes:
    """A file with bytes changed, put in, taken out or cut off: mostly in its head."""
    file = bytearray(draw(st.sampled_from(files(kind))))
    for _ in range(draw(st.integers(1, 5))):
        near = draw(st.booleans())
        place = draw(st.integers(0, max(0, min(len(file), 160) - 1 if near else len(file) - 1)))
        match draw(st.sampled_from(["byte", "number", "out", "in", "end"])):
            case "byte":
                file[place : place + 1] = bytes([draw(st.integers(0, 255))])
            case "number":
                file[place : place + 4] = draw(st.sampled_from(NUMBERS))
            case "out":
                del file[place : place + draw(st.integers(1, 8))]
            case "in":
                file[place:place] = draw(st.binary(min_size=1, max_size=8))
            case _:
                del file[place + 1 :]
    return bytes(file)


def work(kind: str, number: int) -> None:
    """In a process of its own: whatever is not read is refused in one line."""
    for file in files(kind):  # whole, they are read
        read_bytes(file, "whole")

    @seed(1)
    @settings(max_examples=number, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(damaged(kind))
    def each(file: bytes) -> None:
        Path(sys.argv[3]).write_bytes(file)
        refused = ""
        try:
            head, raster = read_bytes(file, "a file")
            assert head.upright == raster.samples.shape[1::-1]
            refusing("a file", lambda: in_srgb(raster, head.icc, lambda line: None))
        except InputError as error:
            refused = str(error)
        assert not refused or re.fullmatch("a file: .+", refused)

    each()


def run(kind: str, number: int, folder: Path) -> None:
    last = folder / "last"
    script = (
        "import resource, runpy, sys\n"
        f"resource.setrlimit(resource.RLIMIT_AS, (2 * {MOST_MEMORY_MIB} << 20,) * 2)\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
        f"runpy.run_path({__file__!r})['work'](sys.argv[1], int(sys.argv[2]))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", script, kind, str(number), str(last)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=SLOWEST_SECONDS + number * 0.15,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr[-3000:]}\nlast file: {last.read_bytes()!r}"
    assert int(done.stdout.split()[-1]) < MOST_MEMORY_MIB


@pytest.mark.parametrize("kind", FORMATS)
def test_two_hundred_of_each_format(kind: str, tmp_path: Path) -> None:
    run(kind, 200, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", FORMATS)
def test_thousands_of_each_format(kind: str, tmp_path: Path) -> None:
    run(kind, int(os.environ.get("CYCLESR_FUZZ_FILES", "10000")), tmp_path)  # .ci/run takes fewer


SQUARE = 60_000
BOMBS = {
    "PNG": lambda: png(ramp(2, 2, 3, 255), 8, "rgb").replace(bytes([0, 0, 0, 2] * 2), SQUARE.to_bytes(4) * 2),
    "TIFF": lambda: tiff(ramp(2, 2, 3, 255), 8, 2, tags={256: (4, SQUARE), 257: (4, SQUARE)}),
    "BMP": lambda: bmp(SQUARE, SQUARE, 24, bytes(16)),
    "GIF": lambda: b"GIF89a" + SQUARE.to_bytes(2, "little") * 2 + saved("GIF")[10:],
    "PNM": lambda: b"P6\n60000 60000\n255\n" + bytes(12),
    "AVIF": lambda: saved("AVIF").replace(bytes([0, 0, 0, 32, 0, 0, 0, 24]), SQUARE.to_bytes(4) * 2),
    "JPEG": lambda: saved("JPEG").replace(bytes([0, 24, 0, 32]), SQUARE.to_bytes(2) * 2, 1),
    "JPEG 2000": lambda: saved("JPEG2000").replace(bytes([0, 0, 0, 32, 0, 0, 0, 24]), SQUARE.to_bytes(4) * 2),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_claim_of_60000_by_60000_px_takes_no_memory(kind: str) -> None:
    import tracemalloc

    tracemalloc.start()
    with pytest.raises(InputError, match=r"60000 x 60000 px are too many|cut short"):
        read_bytes(BOMBS[kind](), "bomb")
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()
