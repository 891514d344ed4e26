"""PNG that is written from top to bottom: whole for any decoder, whatever the pieces that it is written in."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from cyclesr_dist.data.photo.kinds import Kept
from cyclesr_dist.data.photo.png_stream import PngStream

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def pixels(shape: tuple[int, int, int], bits: int, seed: int = 0) -> np.ndarray:
    kind = np.uint8 if bits == 8 else np.uint16
    return np.random.default_rng(seed).integers(0, 2**bits, shape, dtype=kind)


def chunks(file: bytes) -> list[tuple[bytes, bytes]]:
    found, place = [], 8
    while place < len(file):
        size, name = struct.unpack(">I4s", file[place : place + 8])
        value, checksum = file[place + 8 : place + 8 + size], file[place + 8 + size : place + 12 + size]
        assert zlib.crc32(name + value) == int.from_bytes(checksum)
        found.append((name, value))
        place += 12 + size
    return found


@settings(deadline=None, max_examples=60)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 2, 3, 4])),
    bits=st.sampled_from([8, 16]),
    piece=st.integers(1, 41),
    flat=st.booleans(),
)
def test_any_size_in_any_pieces(
    tmp_path_factory: pytest.TempPathFactory, shape: tuple[int, int, int], bits: int, piece: int, flat: bool
) -> None:
    path = tmp_path_factory.mktemp("png") / "a.png"
    samples = np.full(shape, 200, np.uint8 if bits == 8 else np.uint16) if flat else pixels(shape, bits)
    with PngStream(path, shape, bits) as file:
        for top in range(0, shape[0], piece):
            file.write(samples[top : top + piece])
    decoded = imagecodecs.png_decode(path.read_bytes())
    np.testing.assert_array_equal(decoded.reshape(shape), samples)
    parts = chunks(path.read_bytes())
    stream = b"".join(value for name, value in parts if name == b"IDAT")
    assert len(zlib.decompress(stream)) == shape[0] * (shape[1] * shape[2] * bits // 8 + 1)  # with its checksum
    assert parts[-1] == (b"IEND", b"")
    if bits == 8:
        with Image.open(path) as image:
            np.testing.assert_array_equal(np.asarray(image).reshape(shape), samples)


def test_many_blocks_and_a_strided_array(tmp_path: Path) -> None:
    samples = pixels((700, 3000, 4), 8)[::-1, :, :3]
    with PngStream(tmp_path / "a.png", (700, 3000, 3), 8) as file:
        file.write(samples[:333])
        file.write(samples[333:])
    np.testing.assert_array_equal(imagecodecs.png_decode((tmp_path / "a.png").read_bytes()), samples)
    assert sum(name == b"IDAT" for name, _ in chunks((tmp_path / "a.png").read_bytes())) > 6


def test_what_belongs_to_the_picture(tmp_path: Path) -> None:
    kept = Kept(dpi=(300, 150), date="2026:01:01 00:00:00", make="Cam", model="Model 7")
    with PngStream(tmp_path / "a.png", (3, 4, 3), 8, SRGB, kept) as file:
        file.write(pixels((3, 4, 3), 8))
    assert [name for name, _ in chunks((tmp_path / "a.png").read_bytes())][:4] == [b"IHDR", b"iCCP", b"pHYs", b"eXIf"]
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["icc_profile"] == SRGB
        assert image.info["dpi"] == pytest.approx((300, 150), abs=0.02)
        assert image.getexif()[271] == "Cam"


@pytest.mark.parametrize("rows", [2, 4])
def test_too_few_and_too_many_rows(tmp_path: Path, rows: int) -> None:
    with pytest.raises(ValueError, match="rows"), PngStream(tmp_path / "a.png", (3, 4, 1), 8) as file:
        file.write(pixels((rows, 4, 1), 8))


def test_a_photograph_is_no_larger_than_with_libpng(tmp_path: Path) -> None:
    photo = next((Path(__file__).parents[2] / "cyclesr_dist" / "workflows" / "demo_photos").glob("*.webp"))
    with Image.open(photo) as image:
        samples = np.asarray(image.convert("RGB").resize((1200, 900), Image.Resampling.BICUBIC))
    with PngStream(tmp_path / "a.png", samples.shape, 8) as file:
        file.write(samples)
    assert (tmp_path / "a.png").stat().st_size < 1.15 * len(imagecodecs.png_encode(samples, 6))
