"""JPEG 2000 in the boxes of a JP2 or JPX file: what they say of the colours, and samples that stay as they are."""

from __future__ import annotations

import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from helpers.colours import ADOBE_RGB, SRGB, profile
from helpers.photo_checks import check_exact, check_refused, written
from helpers.photo_files import ramp

from cyclesr_dist.data.images import read_picture

PIXELS = ramp(12, 17, 3, 255).astype(np.uint8)
ENUMERATED_SRGB = b"\1\0\0\0\0\0\x10"
RESTRICTED, ANY = 2, 3


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content) + 8, kind) + content


def jp2(samples: np.ndarray, *colours: bytes, brand: bytes = b"jp2 ") -> bytes:
    """`colours` are the contents of its colour boxes."""
    height, width, channels = samples.shape
    code = bytes(imagecodecs.jpeg2k_encode(samples, level=0, reversible=True, codecformat="j2k"))
    head = box(b"ihdr", struct.pack(">IIHBBBB", height, width, channels, 7, 7, 0, 0))
    head += b"".join(box(b"colr", each) for each in colours)
    start = box(b"jP  ", b"\r\n\x87\n") + box(b"ftyp", brand + bytes(4) + brand)
    return start + box(b"jp2h", head) + box(b"jp2c", code)


def of_profile(icc: bytes, method: int = RESTRICTED) -> bytes:
    return bytes([method, 0, 0]) + icc


def for_others(space: bytes) -> bytes:
    icc = profile(ADOBE_RGB, 2.2)
    return icc[:16] + space + icc[20:]


@pytest.mark.parametrize("method", [RESTRICTED, ANY])
@pytest.mark.parametrize("more", [(), (ENUMERATED_SRGB,)])
def test_samples_stay_beside_their_profile(tmp_path: Path, method: int, more: tuple[bytes, ...]) -> None:
    icc = profile(ADOBE_RGB, 2.2)
    picture = check_exact(written(tmp_path, jp2(PIXELS, of_profile(icc, method), *more)), PIXELS)
    assert picture.icc == icc


def test_they_are_converted_once(tmp_path: Path) -> None:
    """The conversion itself is tested with other formats."""
    icc = profile(ADOBE_RGB, 2.2)
    path = written(tmp_path, jp2(PIXELS, of_profile(icc)))
    other = tmp_path / "same.tif"
    tifffile.imwrite(other, PIXELS, photometric="rgb", iccprofile=icc)
    np.testing.assert_array_equal(read_picture(path, srgb=True).rgb, read_picture(other, srgb=True).rgb)


@pytest.mark.parametrize(("space", "name"), [(b"CMYK", "cmyk"), (b"Lab ", "Lab"), (b"GRAY", "grey")])
@pytest.mark.parametrize("channels", [3, 4])
def test_a_profile_for_other_colours(tmp_path: Path, space: bytes, name: str, channels: int) -> None:
    file = jp2(ramp(9, 11, channels, 255).astype(np.uint8), of_profile(for_others(space), ANY), brand=b"jpx ")
    check_refused(written(tmp_path, file), f"profile is for {name}")


@pytest.mark.parametrize("colours", [(), (b"\4\0\0" + bytes(16),)])
def test_colours_in_no_known_way_are_named(
    tmp_path: Path, colours: tuple[bytes, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    check_exact(written(tmp_path, jp2(PIXELS, *colours)), PIXELS)
    assert "says its colours in no way that is read; it is read as sRGB" in capsys.readouterr().err


def test_nothing_is_said_of_srgb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_exact(written(tmp_path, jp2(PIXELS, ENUMERATED_SRGB)), PIXELS)
    check_exact(written(tmp_path, jp2(PIXELS, of_profile(profile(SRGB, 2.2)))), PIXELS)
    assert capsys.readouterr().err == ""
