"""Images that Pillow has opened: read as their file is, or as Pillow holds them, or refused where that is wrong."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.colours import ADOBE_RGB, SRGB, in_srgb, profile
from helpers.photo_checks import written
from helpers.photo_files import bmp, exif, in_jpeg, png, ramp, segment, tiff
from PIL import Image

from cyclesr_dist.data.images import read_picture
from cyclesr_dist.data.python_images import read_given
from cyclesr_dist.errors import InputError

PIXELS = ramp(6, 9, 3, 255).astype(np.uint8)
XMP = b"http://ns.adobe.com/xap/1.0/\0" + (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)
GAMMA_1 = (b"gAMA", struct.pack(">I", 100_000))


def saved(kind: str, pixels: np.ndarray = PIXELS, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def raw_profile() -> bytes:
    block = b"Exif\0\0" + exif(6)
    text = b"\nexif\n%8d\n%s\n" % (len(block), block.hex().encode())
    return b"Raw profile type exif\0\0" + zlib.compress(text)


FILES: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: in_jpeg(saved("JPEG"), segment(0xE1, b"Exif\0\0" + exif(6))),
    "JPEG turned by XMP": lambda: in_jpeg(saved("JPEG"), segment(0xE1, XMP)),
    "PNG turned by a text": lambda: png(PIXELS, 8, "rgb", [(b"zTXt", raw_profile())]),
    "PNG of light": lambda: png(PIXELS, 8, "rgb", [GAMMA_1]),
    "PNG with a profile": lambda: saved("PNG", icc_profile=profile(ADOBE_RGB, 1.8)),
    "PNG in P3": lambda: png(PIXELS, 8, "rgb", [(b"cICP", bytes([12, 13, 0, 1]))]),
    "grey PNG of 16 bits": lambda: png(ramp(4, 5, 1, 65535), 16, "grey"),
    "BMP of two colours": lambda: bmp(4, 1, 8, bytes([0, 1, 1, 0]), palette=bytes([0, 0, 0, 0, 255, 255, 255, 0])),
    "12-bit grey TIFF": lambda: tiff(ramp(4, 6, 1, 4095), 12, 1),
    "grey TIFF on its side": lambda: tiff(ramp(4, 6, 1, 255), 8, 1, tags={274: (3, 6)}),
    "TIFF with a predictor and no compression": lambda: tiff(PIXELS, 8, 2, tags={317: (3, 2)}),
    "WebP": lambda: saved("WEBP", lossless=True, exif=exif(5)),
    "AVIF of light": lambda: with_transfer(saved("AVIF", quality=100, subsampling="4:4:4"), 8),
    "JPEG 2000": lambda: saved("JPEG2000"),
    "GIF": lambda: saved("GIF"),
    "PGM with a comment": lambda: b"P5\n4 1#c\n 255\n" + bytes([10, 20, 30, 40]),
}


def with_transfer(file: bytes, transfer: int) -> bytes:
    place = file.index(b"colrnclx")
    return file[: place + 10] + struct.pack(">H", transfer) + file[place + 12 :]


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("srgb", [False, True])
@pytest.mark.parametrize("by_path", [False, True])
def test_opened_and_not_decoded_is_as_the_path(tmp_path: Path, kind: str, srgb: bool, by_path: bool) -> None:
    path = written(tmp_path, FILES[kind]())
    expected = read_picture(path, srgb)
    with Image.open(path if by_path else io.BytesIO(path.read_bytes())) as image:
        size = image.size
        found = read_given(image, srgb)
        assert image.size == size
        image.load()  # it can still be decoded
    np.testing.assert_array_equal(found.rgb, expected.rgb)
    assert (found.alpha is None) == (expected.alpha is None)
    assert (found.bits, found.grey, found.icc) == (expected.bits, expected.grey, expected.icc)


DECODED = ["JPEG", "JPEG turned by XMP", "PNG turned by a text", "PNG of light", "PNG with a profile", "WebP", "GIF"]


@pytest.mark.parametrize("kind", DECODED)
def test_decoded_is_as_the_path_where_pillow_is_right(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path, FILES[kind]())
    with Image.open(path) as image:
        image.load()
        found = read_given(image, srgb=True)
    np.testing.assert_array_equal(found.rgb, read_picture(path, srgb=True).rgb)


def test_a_copy_keeps_what_png_says_of_its_colours(tmp_path: Path) -> None:
    path = written(tmp_path, FILES["PNG of light"]())
    with Image.open(path) as image:
        found = read_given(image.crop((0, 0, 4, 3)), srgb=True)
    assert np.abs(found.rgb - in_srgb(PIXELS[:3, :4] / 255, SRGB, 1.0)).max() < 0.65 / 255


def test_what_was_changed_before_it_is_decoded_counts(tmp_path: Path) -> None:
    path = written(tmp_path, saved("JPEG", np.full((64, 64, 3), 90, np.uint8), icc_profile=profile(ADOBE_RGB, 1.8)))
    with Image.open(path) as image:
        image.draft("RGB", (16, 16))
        assert read_given(image).rgb.shape == (image.height, image.width, 3)
        assert image.width < 64
    with Image.open(path) as image:
        del image.info["icc_profile"]
        assert read_given(image).icc is None


WRONG: dict[str, Callable[[], bytes]] = {
    "TIFF of more than 8 bits": lambda: tiff(ramp(4, 6, 1, 4095), 12, 1),
    "TIFF of more than 8 bits, in colour": lambda: tiff(ramp(4, 6, 3, 65535), 16, 2),
    "TIFF that lies on its side": lambda: tiff(ramp(4, 6, 1, 255), 8, 1, tags={274: (3, 6)}),
    "BMP in black and white": FILES["BMP of two colours"],
    "JPEG 2000": FILES["JPEG 2000"],
    "PNG with a transparent colour": lambda: png(
        ramp(2, 2, 3, 65535), 16, "rgb", [(b"tRNS", struct.pack(">3H", 1, 2, 3))]
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_pillow_decodes_wrong_is_refused(tmp_path: Path, kind: str) -> None:
    with Image.open(io.BytesIO(WRONG[kind]())) as image:
        image.load()
        with pytest.raises(InputError, match=f"is a {kind.split(',')[0]}.*give the path"):
            read_given(image)


def test_grey_of_16_bits_is_right_in_pillow(tmp_path: Path) -> None:
    samples = ramp(4, 6, 1, 65535)
    with Image.open(io.BytesIO(tiff(samples, 16, 1))) as image:
        image.load()
        np.testing.assert_array_equal(np.rint(read_given(image).rgb[:, :, :1] * 65535), samples)
