"""Colours: what is scored and trained with is sRGB; what is written says what its values mean."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.colours import (
    ADOBE_RGB,
    BT_2020,
    DISPLAY_P3,
    SRGB,
    cmyk_profile,
    grey_profile,
    in_srgb,
    profile,
    srgb_of_light,
)
from helpers.photo_checks import check_refused, write_picture, written
from helpers.photo_files import chunk, png, ramp, tiff
from PIL import Image, ImageCms

from cyclesr_dist.data.images import read_picture, read_rgb8, to_pillow, to_samples
from cyclesr_dist.scoring.psnr import psnr

Y, X = np.mgrid[0:32, 0:40]
COLOURS = np.stack([X * 6, Y * 7, 250 - X * 3 - Y * 3], axis=2).astype(np.uint8)
PIXELS = COLOURS.astype(np.float64) / 255


def iccp(icc: bytes) -> tuple[bytes, bytes]:
    return b"iCCP", b"name\0\0" + zlib.compress(icc)


def gama(gamma: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(100_000 / gamma))


def chrm(points: tuple[float, ...]) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *(round(v * 100_000) for v in points))


def cicp(*numbers: int) -> tuple[bytes, bytes]:
    return b"cICP", bytes(numbers)


CONVERTED: dict[str, tuple[list[tuple[bytes, bytes]], tuple[float, ...], float | None]] = {
    "AdobeRGB profile": ([iccp(profile(ADOBE_RGB, 2.19921875))], ADOBE_RGB, 2.19921875),
    "P3 profile": ([iccp(profile(DISPLAY_P3, 2.2))], DISPLAY_P3, 2.2),
    "gAMA": ([gama(1.8)], SRGB, 1.8),
    "gAMA of light": ([gama(1.0)], SRGB, 1.0),
    "gAMA and cHRM": ([gama(2.2), chrm(ADOBE_RGB)], ADOBE_RGB, 2.2),
    "cHRM alone": ([chrm(ADOBE_RGB)], ADOBE_RGB, None),
    "cICP of P3": ([cicp(12, 13, 0, 1)], DISPLAY_P3, None),
    "cICP of BT.2020 with sRGB's curve": ([cicp(9, 13, 0, 1)], BT_2020, None),
    "cICP before iCCP": ([cicp(12, 13, 0, 1), iccp(profile(ADOBE_RGB, 1.8))], DISPLAY_P3, None),
    "iCCP before gAMA": ([gama(1.0), iccp(profile(ADOBE_RGB, 2.2))], ADOBE_RGB, 2.2),
    "sRGB before gAMA": ([(b"sRGB", b"\0"), gama(1.0), chrm(ADOBE_RGB)], SRGB, None),
    "iCCP before sRGB": ([iccp(profile(ADOBE_RGB, 2.2)), (b"sRGB", b"\0")], ADOBE_RGB, 2.2),
}


@pytest.mark.parametrize("kind", CONVERTED)
@pytest.mark.parametrize("bits", [8, 16])
def test_what_is_scored_and_trained_with_is_srgb(tmp_path: Path, kind: str, bits: int) -> None:
    chunks, points, gamma = CONVERTED[kind]
    samples = COLOURS.astype(np.uint16) * 257 if bits == 16 else COLOURS
    path = written(tmp_path, png(samples, bits, "rgb", chunks))
    expected = in_srgb(PIXELS, points, gamma)
    assert np.abs(read_rgb8(path) - expected * 255).max() < 1.0
    fine = read_picture(path, srgb=True)
    assert fine.icc is None
    assert np.abs(fine.rgb - expected).max() < (0.65 / 255 if bits == 8 else 0.15 / 255)


@pytest.mark.parametrize("kind", CONVERTED)
def test_what_is_written_means_the_same(tmp_path: Path, kind: str) -> None:
    chunks, points, gamma = CONVERTED[kind]
    path = written(tmp_path, png(COLOURS, 8, "rgb", chunks))
    picture = read_picture(path)
    np.testing.assert_array_equal(to_samples(picture), COLOURS)
    write_picture(tmp_path / "out.png", picture)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out.png")), COLOURS)
    assert np.abs(read_rgb8(tmp_path / "out.png") - in_srgb(PIXELS, points, gamma) * 255).max() < 1.0
    write_picture(tmp_path / "again.png", read_picture(path))
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "out.png").read_bytes()
    assert to_pillow(picture).info.get("icc_profile") == picture.icc


@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [(b"sRGB", b"\0")],
        [gama(2.2)],
        [gama(2.2), chrm(SRGB)],
        [chrm(SRGB)],
        [cicp(1, 13, 0, 1)],
        [cicp(1, 1, 0, 1)],
        [iccp(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())],
    ],
    ids=["nothing", "sRGB", "gAMA", "gAMA and cHRM", "cHRM", "cICP", "cICP of video", "iCCP"],
)
def test_srgb_in_other_words_stays_as_it_is(tmp_path: Path, chunks: list[tuple[bytes, bytes]]) -> None:
    path = written(tmp_path, png(COLOURS, 8, "rgb", chunks))
    np.testing.assert_array_equal(read_rgb8(path), COLOURS)
    np.testing.assert_array_equal(to_samples(read_picture(path, srgb=True)), COLOURS)


def test_a_folder_in_adobe_rgb_costs_nothing_in_a_score(tmp_path: Path) -> None:
    """The same photograph, once in sRGB and once in AdobeRGB."""
    srgb = written(tmp_path, png(COLOURS // 2 + 60, 8, "rgb"), "srgb.png")
    icc = profile(ADOBE_RGB, 2.19921875)
    there = ImageCms.profileToProfile(
        Image.open(srgb), ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(icc)), renderingIntent=1
    )
    assert there is not None
    there.save(tmp_path / "adobe.png", icc_profile=icc)
    with Image.open(tmp_path / "adobe.png") as image:
        unconverted = np.asarray(image)
    assert psnr(unconverted, read_rgb8(srgb)) < 40
    assert psnr(read_rgb8(tmp_path / "adobe.png"), read_rgb8(srgb)) > 50


@pytest.mark.parametrize("gamma", [1.0, 1.8])
@pytest.mark.parametrize("bits", [8, 16])
def test_grey_profiles(tmp_path: Path, gamma: float, bits: int) -> None:
    grey = (np.arange(256).reshape(8, 32, 1) * (257 if bits == 16 else 1)).astype(np.uint16)
    icc = grey_profile(gamma)
    path = written(tmp_path, png(grey, bits, "grey", [iccp(icc)]))
    expected = srgb_of_light((grey / (2**bits - 1)) ** gamma)
    assert np.abs(read_rgb8(path) - expected * 255).max() < 1.0
    kept = read_picture(path)
    assert (kept.grey, kept.icc) == (True, icc)
    np.testing.assert_array_equal(to_samples(kept), grey)
    fine = read_picture(path, srgb=True)
    assert (fine.grey, fine.icc) == (True, None)
    assert np.abs(fine.rgb - expected).max() < (0.6 / 255 if bits == 8 else 0.15 / 255)


def test_grey_with_a_profile_for_colours_becomes_srgb(tmp_path: Path) -> None:
    grey = np.arange(256).reshape(8, 32, 1)
    path = written(tmp_path, png(grey, 8, "grey", [iccp(profile(ADOBE_RGB, 1.8))]))
    picture = read_picture(path)
    assert (picture.grey, picture.icc) == (True, None)
    assert np.abs(picture.rgb - srgb_of_light((grey / 255) ** 1.8)).max() < 0.6 / 255


def inks_profile() -> bytes:
    """Inks of colours that no plain formula would give them."""
    rng = np.random.default_rng(3)
    lab = np.stack([rng.uniform(5, 70, (2,) * 4), rng.uniform(-40, 40, (2,) * 4), rng.uniform(-40, 40, (2,) * 4)], -1)
    lab[0, 0, 0, 0], lab[1, 1, 1, 1] = (100, 0, 0), (0, 0, 0)
    return cmyk_profile(lab)


def littlecms(inks: np.ndarray[Any, Any], icc: bytes) -> np.ndarray[Any, Any]:
    """Pillow's own LittleCMS, in 8 bits, from the same words."""
    image = ImageCms.profileToProfile(
        Image.fromarray(inks, "CMYK"),
        ImageCms.ImageCmsProfile(io.BytesIO(icc)),
        ImageCms.createProfile("sRGB"),
        renderingIntent=1,
        outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION | ImageCms.Flags.NOOPTIMIZE,
    )
    assert image is not None
    return np.asarray(image)


@pytest.mark.parametrize("kind", ["TIFF", "TIFF of 16 bits", "JPEG"])
def test_cmyk_becomes_srgb_through_its_profile(tmp_path: Path, kind: str) -> None:
    icc = inks_profile()
    inks = np.dstack([COLOURS, COLOURS[:, :, 0] // 2])
    if kind == "JPEG":
        file = io.BytesIO()
        Image.fromarray(inks, "CMYK").save(file, "JPEG", quality=100, subsampling=0, icc_profile=icc)
        path = written(tmp_path, file.getvalue())
        with Image.open(path) as image:
            inks = np.asarray(image)
    else:
        wide = inks.astype(np.uint16) * 257
        tags: dict[int, tuple[int, Any]] = {34675: (7, icc)}
        path = written(tmp_path, tiff(inks, 8, 5, tags=tags) if kind == "TIFF" else tiff(wide, 16, 5, tags=tags))
    expected = littlecms(inks, icc)
    assert np.abs(read_rgb8(path).astype(int) - expected).max() <= 2
    picture = read_picture(path)
    assert picture.icc is None
    assert picture.bits == (16 if "16" in kind else 8)
    assert np.abs(picture.rgb * 255 - expected).max() <= 2
    plain = (255 - inks[:, :, :3].astype(int)) * (255 - inks[:, :, 3:].astype(int)) / 255
    assert np.abs(expected - plain).max() > 30


DAMAGED = {
    "junk": b"junk" * 100,
    "short": profile(ADOBE_RGB, 2.2)[:150],
    "without tags": profile(ADOBE_RGB, 2.2)[:128] + bytes(4),
    "of another kind": grey_profile(2.2),
    "of inks": inks_profile(),
    "a link": profile(ADOBE_RGB, 2.2)[:12] + b"link" + profile(ADOBE_RGB, 2.2)[16:],
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_profile_is_named_and_srgb_assumed(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, png(COLOURS, 8, "rgb", [iccp(DAMAGED[kind])]), f"{kind}.png")
    np.testing.assert_array_equal(read_rgb8(path), COLOURS)
    picture = read_picture(path)
    assert picture.icc is None
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"cyclesr: warning: {path}: its colour profile cannot be used")
    assert lines[0].endswith("it is read as sRGB")


def with_hdr_tag(icc: bytes, transfer: int) -> bytes:
    """A `cicp` tag in the place of the description."""
    place = icc.index(b"desc", 128)
    start = int.from_bytes(icc[place + 4 : place + 8])
    value = b"cicp" + bytes(4) + bytes([9, transfer, 0, 1])
    return icc[:place] + b"cicp" + icc[place + 4 : start] + value + icc[start + len(value) :]


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused(tmp_path: Path, transfer: int, name: str) -> None:
    reason = rf"is an HDR photograph \({name}\); save it in sRGB, as SDR, first"
    check_refused(written(tmp_path, png(COLOURS, 8, "rgb", [cicp(9, transfer, 0, 1)])), reason)
    check_refused(
        written(tmp_path, png(COLOURS, 8, "rgb", [iccp(with_hdr_tag(profile(BT_2020, 2.2), transfer))])), reason
    )


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ((1, 13, 1, 1), "YCbCr, or a narrow range"),
        ((1, 13, 0, 0), "narrow range"),
        ((1, 99, 0, 1), "not known"),
        ((77, 13, 0, 1), "not known"),
    ],
)
def test_other_words_of_video_are_refused(tmp_path: Path, numbers: tuple[int, ...], reason: str) -> None:
    check_refused(written(tmp_path, png(COLOURS, 8, "rgb", [cicp(*numbers)])), reason)


@pytest.mark.parametrize("chunks", [[gama(1e9)], [(b"cHRM", bytes(32))], [gama(1.8), (b"cHRM", b"\xff" * 32)]])
def test_colours_that_cannot_be_are_named(
    tmp_path: Path, chunks: list[tuple[bytes, bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, png(COLOURS, 8, "rgb", chunks))
    np.testing.assert_array_equal(read_rgb8(path), COLOURS)
    assert "it is read as sRGB" in capsys.readouterr().err


def test_a_damaged_stream_of_a_profile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, png(COLOURS, 8, "rgb", [(b"iCCP", b"name\0\0junk")]))
    np.testing.assert_array_equal(read_rgb8(path), COLOURS)
    assert "its colour profile is damaged; it is read as sRGB" in capsys.readouterr().err
    assert chunk(b"iCCP", b"name\0\0junk") in path.read_bytes()


@pytest.mark.parametrize(
    ("name", "hdr"),
    [
        ("Rec2100PQ", True),
        ("ST 2084", True),
        ("SMPTE ST-2084", True),
        ("Rec. ITU-R BT.2100 HLG", True),
        ("Rec.2020 PQ_EOTF", True),
        ("sRGB (PQR Co)", False),
        ("East 2084", False),
    ],
)
def test_profiles_are_known_as_hdr_by_their_names(tmp_path: Path, name: str, hdr: bool) -> None:
    icc = bytearray(profile(DISPLAY_P3, 2.2))
    text = name.encode("utf-16be")
    described = b"mluc" + bytes(4) + struct.pack(">II4sII", 1, 12, b"enUS", len(text), 28) + text
    entry = icc.index(b"desc", 128)
    struct.pack_into(">II", icc, entry + 4, len(icc), len(described))
    icc += described
    struct.pack_into(">I", icc, 0, len(icc))
    path = written(tmp_path, png(COLOURS, 8, "rgb", [iccp(bytes(icc))]))
    if hdr:
        check_refused(path, "HDR")
    else:
        read_rgb8(path)


def test_avif_in_wide_colours(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(COLOURS).save(file, "AVIF", quality=100, subsampling="4:4:4")
    data = bytearray(file.getvalue())
    place = data.index(b"nclx")
    data[place + 4 : place + 8] = struct.pack(">HH", 12, 13)
    path = written(tmp_path, bytes(data))
    with Image.open(path) as image:
        stored = np.asarray(image) / 255
    assert np.abs(read_rgb8(path) - in_srgb(stored, DISPLAY_P3, None) * 255).max() < 1.0
    assert read_picture(path).icc is not None


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("said", ["transfer", "profile"])
def test_avif_in_grey(tmp_path: Path, alpha: bool, said: str) -> None:
    """Pillow has grey with alpha as RGBA; its profile is for grey all the same."""
    grey = np.full((8, 8), 55, np.uint8)
    pixels = np.dstack([grey, np.full_like(grey, 200)]) if alpha else grey
    file = io.BytesIO()
    Image.fromarray(pixels).save(
        file,
        "AVIF",
        quality=100,
        subsampling="4:0:0",
        **({"icc_profile": grey_profile(1.0)} if said == "profile" else {}),
    )
    data = bytearray(file.getvalue())
    if said == "transfer":
        place = data.index(b"colrnclx")
        data[place + 10 : place + 12] = struct.pack(">H", 8)
    path = written(tmp_path, bytes(data))
    picture = read_picture(path)
    assert picture.grey
    assert (picture.alpha is not None) == alpha
    assert picture.icc is not None
    assert np.abs(read_rgb8(path).astype(float) - srgb_of_light(np.array(55 / 255)) * 255).max() <= 2


def test_samples_of_pillow_are_converted_alike(tmp_path: Path) -> None:
    from cyclesr_dist.data.python_images import read_given

    icc = profile(ADOBE_RGB, 2.2)
    path = written(tmp_path, png(ramp(6, 7, 3, 255), 8, "rgb", [iccp(icc)]), "a.png")
    with Image.open(path) as image:
        np.testing.assert_array_equal(read_given(image, srgb=True).rgb, read_picture(path, srgb=True).rgb)
        assert read_given(image).icc == icc
