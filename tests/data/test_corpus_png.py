"""PNG of every kind, written by hand: each exact, or refused with the true reason."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from helpers.photo_checks import check_exact, check_refused, written
from helpers.photo_files import chunk, exif, png, ramp, spread, upright

CHANNELS = {"grey": 1, "rgb": 3, "grey_alpha": 2, "rgba": 4}
KINDS = [(kind, bits) for kind in CHANNELS for bits in ((1, 2, 4, 8, 16) if kind == "grey" else (8, 16))]


@pytest.mark.parametrize(("kind", "bits"), KINDS)
@pytest.mark.parametrize("interlaced", [False, True])
def test_every_kind_and_depth(tmp_path: Path, kind: str, bits: int, interlaced: bool) -> None:
    samples = ramp(9, 13, CHANNELS[kind], 2**bits - 1)
    check_exact(written(tmp_path, png(samples, bits, kind, interlaced=interlaced)), spread(samples, bits))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 3), (5, 4)])
def test_interlaced_of_any_size(tmp_path: Path, size: tuple[int, int]) -> None:
    samples = ramp(*size, 3, 255)
    check_exact(written(tmp_path, png(samples, 8, "rgb", interlaced=True)), spread(samples, 8))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("with_alpha", [False, True])
@pytest.mark.parametrize("interlaced", [False, True])
def test_palettes(tmp_path: Path, bits: int, with_alpha: bool, interlaced: bool) -> None:
    indices = ramp(7, 10, 1, 2**bits - 1)
    colours = ramp(2**bits, 1, 4, 255)[:, 0]
    chunks = [(b"PLTE", colours[:, :3].astype(np.uint8).tobytes())]
    some = 2**bits - 1  # the last one is not named: it is opaque
    colours[some:, 3] = 255
    chunks += [(b"tRNS", colours[:some, 3].astype(np.uint8).tobytes())] if with_alpha else []
    expected = colours[indices[:, :, 0]].astype(np.uint8)
    file = png(indices, bits, "palette", chunks, interlaced=interlaced)
    check_exact(written(tmp_path, file), expected if with_alpha else expected[:, :, :3])


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_one_grey_that_is_transparent(tmp_path: Path, bits: int) -> None:
    samples = ramp(6, 9, 1, 2**bits - 1)
    key = int(samples[2, 3, 0])
    full = 255 if bits <= 8 else 65535
    alpha = np.where(samples == key, 0, full)
    expected = np.concatenate([spread(samples, bits), alpha], axis=2).astype(spread(samples, bits).dtype)
    check_exact(written(tmp_path, png(samples, bits, "grey", [(b"tRNS", struct.pack(">H", key))])), expected)


@pytest.mark.parametrize("bits", [8, 16])
def test_one_colour_that_is_transparent(tmp_path: Path, bits: int) -> None:
    samples = ramp(6, 9, 3, 2**bits - 1)
    samples[4, 1] = samples[2, 3]
    key = [int(v) for v in samples[2, 3]]
    full = 2**bits - 1
    alpha = np.where((samples == key).all(axis=2, keepdims=True), 0, full)
    expected = np.concatenate([samples, alpha], axis=2).astype(spread(samples, bits).dtype)
    check_exact(written(tmp_path, png(samples, bits, "rgb", [(b"tRNS", struct.pack(">HHH", *key))])), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_turned_upright_once(tmp_path: Path, orientation: int, behind: bool, order: str) -> None:
    samples = ramp(5, 8, 3, 255)
    chunks = [(b"eXIf", exif(orientation, order=order))]
    file = png(samples, 8, "rgb", after=chunks) if behind else png(samples, 8, "rgb", chunks)
    check_exact(written(tmp_path, file), spread(upright(samples, orientation), 8))


def test_of_an_animation_the_picture_that_stands_for_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples, other = ramp(4, 5, 3, 255), png(ramp(4, 5, 3, 255, seed=1), 8, "rgb")
    control = struct.pack(">IIIIHHBB", 5, 4, 0, 0, 1, 10, 0, 0)
    size = int.from_bytes(other[33:37], "big")
    frame = struct.pack(">I", 2) + other[41 : 41 + size]
    file = png(
        samples,
        8,
        "rgb",
        [(b"acTL", struct.pack(">II", 2, 0)), (b"fcTL", struct.pack(">I", 0) + control)],
        [(b"fcTL", struct.pack(">I", 1) + control), (b"fdAT", frame)],
    )
    check_exact(written(tmp_path, file), spread(samples, 8))
    assert "is an animation; only the picture that stands for it is read" in capsys.readouterr().err


@pytest.mark.parametrize("apart", [False, True])
def test_an_animation_of_one_frame(tmp_path: Path, apart: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Viewers show the frame; where the picture is not that frame, that is said."""
    samples, other = ramp(4, 5, 3, 255), png(ramp(4, 5, 3, 255, seed=1), 8, "rgb")
    control = (b"fcTL", struct.pack(">IIIIIHHBB", 0, 5, 4, 0, 0, 1, 10, 0, 0))
    frame = (b"fdAT", struct.pack(">I", 1) + other[41 : 41 + int.from_bytes(other[33:37], "big")])
    animated = (b"acTL", struct.pack(">II", 1, 0))
    file = png(samples, 8, "rgb", [animated] if apart else [animated, control], [control, frame] if apart else [])
    check_exact(written(tmp_path, file), spread(samples, 8))
    assert ("is an animation" in capsys.readouterr().err) == apart


@pytest.mark.parametrize(
    "name", [b"gAMA", b"cHRM", b"iCCP", b"sRGB", b"eXIf", b"pHYs", b"tEXt", b"zTXt", b"tIME", b"sPLT"]
)
def test_damage_beside_the_pixels_does_no_harm(tmp_path: Path, name: bytes) -> None:
    samples = ramp(4, 5, 3, 255)
    file = png(samples, 8, "rgb", [(name, b"\xff" * 7)])
    check_exact(written(tmp_path, file), spread(samples, 8))
    broken = file.replace(chunk(name, b"\xff" * 7), chunk(name, b"\xff" * 7)[:-4] + b"\0\0\0\0")
    check_exact(written(tmp_path, broken, "crc.png"), spread(samples, 8))


FILE = png(ramp(40, 40, 3, 255), 8, "rgb")
CGBI = FILE[:8] + chunk(b"CgBI", b"\0\0\0\0") + FILE[8:]


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (CGBI, "Apple's own form"),
        (FILE[:200], "cut short"),
        (FILE[: len(FILE) // 2], "cut short"),
        (FILE[:-20], "cut short"),
        (FILE[:8], "without a header"),
        (png(ramp(4, 5, 3, 255), 8, "rgb").replace(b"\x08\x02\0\0\0", b"\x05\x02\0\0\0"), "header"),
        (FILE.replace(struct.pack(">II", 40, 40), struct.pack(">II", 60000, 60000)), "too many"),
        (FILE.replace(struct.pack(">II", 40, 40), struct.pack(">II", 0, 40)), "0 x 40 px"),
        (FILE[:60] + bytes([FILE[60] ^ 255]) + FILE[61:], "libpng"),
    ],
    ids=["CgBI", "head", "half", "end", "signature", "5 bits", "bomb", "no width", "damaged"],
)
def test_refused_with_the_true_reason(tmp_path: Path, file: bytes, reason: str) -> None:
    check_refused(written(tmp_path, file), reason)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("interlaced", [False, True])
def test_a_palette_that_is_short(tmp_path: Path, bits: int, interlaced: bool) -> None:
    number = 2**bits - 1
    colours = ramp(number, 1, 3, 255)[:, 0].astype(np.uint8)
    chunks = [(b"PLTE", colours.tobytes())]
    indices = ramp(5, 9, 1, number - 1) if number > 1 else np.zeros((5, 9, 1), int)
    check_exact(
        written(tmp_path, png(indices, bits, "palette", chunks, interlaced=interlaced)), colours[indices[:, :, 0]]
    )
    indices[2, 3] = number
    check_refused(written(tmp_path, png(indices, bits, "palette", chunks)), f"colour {number} of a palette of {number}")


def test_more_alphas_than_colours(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    chunks = [(b"PLTE", bytes([9, 8, 7, 6, 5, 4])), (b"tRNS", bytes([1, 2, 3, 4]))]
    expected = np.array([[[9, 8, 7, 1], [6, 5, 4, 2]]], np.uint8)
    check_exact(written(tmp_path, png(np.array([[[0], [1]]]), 8, "palette", chunks)), expected)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("colours", "channels", "key"),
    [("rgb", 3, b"\0\1"), ("grey", 1, b""), ("grey", 1, bytes(6)), ("rgba", 4, bytes(6))],
)
def test_a_transparent_colour_that_does_not_fit(
    tmp_path: Path, colours: str, channels: int, key: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    samples = ramp(4, 5, channels, 255)
    path = written(tmp_path, png(samples, 8, colours, [(b"tRNS", key)]))
    check_exact(path, samples.astype(np.uint8))
    said = capfd.readouterr().err
    assert f"{path}: its tRNS is damaged" in said
    assert "libpng" not in said


@pytest.mark.parametrize("name", [b"IHDR", b"PLTE"])
def test_a_damaged_palette_or_head(tmp_path: Path, name: bytes) -> None:
    """Their checksums tell; pixels of other colours would be nobody's."""
    file = bytearray(png(ramp(5, 6, 1, 3), 2, "palette", [(b"PLTE", bytes(range(12)))]))
    place = file.index(name)
    file[place + 4 + (3 if name == b"IHDR" else 5)] ^= 1
    check_refused(written(tmp_path, file), f"its {name.decode()} is damaged|cannot be read")


@pytest.mark.parametrize(("bits", "colours"), [(1, "grey"), (4, "grey"), (8, "grey"), (8, "rgb")])
def test_a_transparent_colour_of_more_bits(
    tmp_path: Path, bits: int, colours: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """PNG: what stands above the bits of a sample counts for nothing."""
    samples = ramp(6, 7, CHANNELS[colours], 2**bits - 1)
    key = b"".join(struct.pack(">H", value | 0x100 << 1) for value in samples[2, 3].tolist())
    hidden = (samples == samples[2, 3]).all(axis=2)
    alpha = np.where(hidden, 0, 255).astype(np.uint8)
    expected = np.dstack([spread(samples, bits), alpha])
    check_exact(written(tmp_path, png(samples, bits, colours, [(b"tRNS", key)])), expected)
    assert capfd.readouterr().err == ""
