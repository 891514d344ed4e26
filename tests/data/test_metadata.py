"""What a photograph says of itself: what can be carried over is, and the rest is dropped with a word."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.colours import ADOBE_RGB, SRGB, in_srgb, profile
from helpers.photo_checks import written
from helpers.photo_files import camera_exif, exif, in_jpeg, png, ramp, segment, tiff
from PIL import ExifTags, Image

from cyclesr_dist.data.images import from_pillow, image_size, read_picture, read_rgb8
from cyclesr_dist.data.photo import notes
from cyclesr_dist.models.infer import upscale_file
from cyclesr_dist.models.model_name import resolve_model

BICUBIC = resolve_model("bicubic", 2)
TAGS = ExifTags.Base


@pytest.fixture(autouse=True)
def _nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "told", set())


def photograph(folder: Path, kind: str) -> Path:
    """As a camera writes it."""
    exif = Image.Exif()
    exif[TAGS.Make], exif[TAGS.Model], exif[TAGS.Orientation] = "Cam", "Model 7", 6
    exif[TAGS.DateTime] = "2026:01:01 00:00:00"
    exif[TAGS.XResolution] = exif[TAGS.YResolution] = 300.0
    exif[TAGS.ResolutionUnit] = 2
    exif.get_ifd(ExifTags.IFD.Exif)[TAGS.DateTimeOriginal] = "2025:12:31 23:59:59"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    path = folder / f"photo.{kind.lower()}"
    pixels = ramp(12, 20, 3, 255)
    if kind == "TIFF":  # Pillow writes no EXIF into it
        tags: dict[int, tuple[int, Any]] = {271: (2, b"Cam\0"), 272: (2, b"Model 7\0"), 274: (3, 6)}
        tags |= {306: (2, b"2025:12:31 23:59:59\0"), 282: (5, [300, 1]), 283: (5, [300, 1]), 700: (1, b"<x/>")}
        path.write_bytes(tiff(pixels, 8, 2, tags=tags))
    else:
        Image.fromarray(pixels.astype(np.uint8)).save(path, kind, exif=exif)
    return path


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "TIFF", "AVIF"])
def test_date_resolution_and_camera_are_carried_over(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = photograph(tmp_path, kind), tmp_path / "large.png"
    upscale_file(BICUBIC, source, target)
    with Image.open(target) as image:
        assert image.size == (24, 40)
        exif = image.getexif()
        assert exif[TAGS.Make] == "Cam"
        assert exif[TAGS.Model] == "Model 7"
        assert exif[TAGS.DateTime] == "2025:12:31 23:59:59"
        assert exif.get(TAGS.Orientation, 1) == 1
        assert not exif.get_ifd(ExifTags.IFD.GPSInfo)
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.02)
    assert capsys.readouterr().err.splitlines() == [
        "cyclesr: note: of metadata, date, resolution, camera and colour profile are carried over; the rest is left out"
    ]


def test_it_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = photograph(tmp_path, "JPEG")
    for i in range(3):
        upscale_file(BICUBIC, source, tmp_path / f"{i}.png")
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_nothing_is_said_of_what_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = written(tmp_path, png(ramp(8, 9, 3, 255), 8, "rgb", [(b"pHYs", struct.pack(">IIB", 5906, 5906, 1))]))
    upscale_file(BICUBIC, source, tmp_path / "large.png")
    assert not capsys.readouterr().err
    with Image.open(tmp_path / "large.png") as image:
        assert image.info["dpi"] == pytest.approx((150, 150), abs=0.02)
        assert not image.getexif()


@pytest.mark.parametrize(
    ("unit", "values", "expected"),
    [
        (2, [72, 1, 96, 1], (72, 96)),
        (3, [100, 1, 100, 1], (254, 254)),
        (1, [300, 1, 300, 1], None),
        (2, [300, 0, 300, 1], None),
        (2, [0, 1, 0, 1], None),
    ],
)
def test_resolutions(tmp_path: Path, unit: int, values: list[int], expected: tuple[int, int] | None) -> None:
    tags = {282: (5, values[:2]), 283: (5, values[2:]), 296: (3, unit)}
    found = read_picture(written(tmp_path, tiff(ramp(4, 5, 3, 255), 8, 2, tags=tags))).kept.dpi
    assert found == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("text", [b"caf\xc3\xa9\0", b"line\nbreak\0", b"\0", b"\x1b[31m\0"])
def test_texts_that_are_no_ascii_are_left_out(tmp_path: Path, text: bytes) -> None:
    source = written(tmp_path, tiff(ramp(4, 5, 3, 255), 8, 2, tags={271: (2, text)}))
    upscale_file(BICUBIC, source, tmp_path / "large.png")
    with Image.open(tmp_path / "large.png") as image:
        assert TAGS.Make not in image.getexif()


def tiff_of_camera(pixels: np.ndarray, space: int, index: bytes, order: str) -> bytes:
    """Its own directory has the place of EXIF's, which stands behind all else."""
    place = len(tiff(pixels, 8, 2, order=order, tags={34665: (4, 0)}))
    file = tiff(pixels, 8, 2, order=order, tags={34665: (4, place)})
    file += struct.pack(order + "HHHIHHHHII", 2, 40961, 3, 1, space, 0, 40965, 4, 1, place + 30) + bytes(4)
    return file + struct.pack(order + "HHHI4s", 1, 1, 2, 4, index) + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize(
    ("space", "index", "found"),
    [
        (65535, b"R03\0", "AdobeRGB"),
        (2, b"R98\0", "AdobeRGB"),
        (1, b"R98\0", "sRGB"),
        (65535, b"R98\0", "unknown"),
        (65535, b"\xff" * 4, "unknown"),
    ],
)
def test_colours_of_cameras(
    tmp_path: Path, order: str, kind: str, space: int, index: bytes, found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flat = np.full((16, 16, 3), (200, 90, 60), np.uint8)
    if kind == "TIFF":
        path = written(tmp_path, tiff_of_camera(flat, space, index, order))
    else:
        file = io.BytesIO()
        options = {"quality": 100} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
        block = b"Exif\0\0" + camera_exif(space, index, order)
        Image.fromarray(flat).save(file, kind, exif=block, **options)
        path = written(tmp_path, file.getvalue())
    expected = in_srgb(flat / 255, ADOBE_RGB, 2.19921875) * 255 if found == "AdobeRGB" else flat
    assert np.abs(read_rgb8(path).astype(float) - expected).max() <= 2
    assert ("not in sRGB" in capsys.readouterr().err) == (found == "unknown")


def test_a_profile_counts_more_than_what_a_camera_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = io.BytesIO()
    icc = profile(SRGB, 1.8)
    Image.new("RGB", (8, 8)).save(file, "JPEG", exif=b"Exif\0\0" + camera_exif(65535, b"R03\0"), icc_profile=icc)
    assert read_picture(written(tmp_path, file.getvalue())).icc == icc
    assert capsys.readouterr().err == ""


def test_exif_under_another_last_byte(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 4)).save(file, "JPEG")
    path = written(tmp_path, in_jpeg(file.getvalue(), segment(0xE1, b"Exif\0\xff" + exif(6))))
    assert image_size(path) == (4, 8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_resolutions_turn_with_the_picture(tmp_path: Path, orientation: int) -> None:
    """Of a fax: twice as many pixels an inch across as down."""
    tags: dict[int, tuple[int, Any]] = {282: (5, [204, 1]), 283: (5, [98, 1]), 274: (3, orientation)}
    path = written(tmp_path, tiff(ramp(4, 6, 3, 255), 8, 2, tags=tags))
    expected = (98, 204) if orientation > 4 else (204, 98)
    assert read_picture(path).kept.dpi == pytest.approx(expected)
    file = io.BytesIO()
    with Image.open(path) as image:
        image.save(file, "PNG", exif=exif(orientation), dpi=(204, 98))
    with Image.open(file) as image:
        image.load()
        assert from_pillow(image).kept.dpi == pytest.approx(expected, abs=0.1)
