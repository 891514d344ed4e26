"""Photographs on disk <-> arrays: reading any file of `formats`, writing PNG."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cyclesr_dist.data.photo.kinds import Head, Kept, Raster, Samples, to_8_bits
from cyclesr_dist.data.photo.meaning import Colours, as_stored, in_srgb
from cyclesr_dist.data.photo.notes import remark, say_once
from cyclesr_dist.data.photo.pillow import head_and_raster
from cyclesr_dist.data.photo.png_stream import PngStream
from cyclesr_dist.data.photo.reading import look, read, refusing
from cyclesr_dist.errors import InputError
from cyclesr_dist.runtime.files import is_file, is_folder, replacing

if TYPE_CHECKING:
    from torch import Tensor

Planes = TypeVar("Planes", NDArray[np.float32], "Tensor")
_LUMA = (0.299, 0.587, 0.114)
_LEFT_OUT = "of metadata, date, resolution, camera and colour profile are carried over; the rest is left out"


@dataclass(frozen=True)
class Picture:
    """An image with what is needed to write its enlargement back in kind."""

    rgb: NDArray[np.float32]
    """(H, W, 3) in [0, 1]."""
    alpha: NDArray[np.float32] | None
    """(H, W) in [0, 1], 1 = opaque; None: the file has no transparency."""
    bits: int
    """8 or 16 per channel."""
    grey: bool
    """The file has one colour channel; the three of `rgb` are equal."""
    icc: bytes | None = None
    """Colour profile, which says what the values mean; None: sRGB."""
    kept: Kept = field(default_factory=Kept)
    """What the enlargement is to carry besides."""


def image_size(path: Path) -> tuple[int, int]:
    """Width and height in px, upright (EXIF) as `read_rgb8` has them, from the head of the file: nothing is decoded.

    Raises InputError when the file is missing or is not an image that is read.
    """
    return look_at(path).upright


def look_at(path: Path) -> Head:
    """What the head of the file says. Raises InputError as `image_size` does."""
    _check_is_file(path)
    return look(path)


def read_rgb8(path: Path) -> NDArray[np.uint8]:
    """Read any supported image as (H, W, 3) uint8 in sRGB, upright (EXIF), grey repeated, transparency dropped.

    Colours are converted by the file's profile, or by what else it says of them; those of fully transparent pixels are
    made from their neighbours. More than 8 bits are rounded to the nearest of 256 levels. Raises InputError when the
    file is missing, is cut short, or is not known to be read right, with the reason.
    """
    _check_is_file(path)
    samples = _colours(read(path), str(path), srgb=True).samples
    channels = samples.shape[2]
    colour = to_8_bits(samples[:, :, : 1 if channels <= 2 else 3])
    return np.repeat(colour, 3, axis=2) if channels <= 2 else np.ascontiguousarray(colour)


@dataclass(frozen=True)
class Stored:
    """A photograph as the samples of its file, upright, for what works on a part of them at a time."""

    samples: Samples
    """(H, W, 1|2|3|4): grey, grey with alpha, RGB, RGB with alpha."""
    icc: bytes | None
    kept: Kept


def read_stored(path: Path) -> Stored:
    """What `read_picture` makes floating point numbers of. Raises InputError as it does."""
    _check_is_file(path)
    found = read(path)
    colours = _colours(found, str(path), srgb=False)
    return Stored(colours.samples, colours.icc, found[0].kept)


def read_picture(path: Path, srgb: bool = False) -> Picture:
    """Read any supported image in full depth, upright (EXIF), in its own colours or in sRGB.

    Its own colours: grey and RGB values stay as they are, with their profile, which is made where the file says it in
    other words (gAMA, cICP); CMYK becomes sRGB, and so does grey with a profile for RGB. In sRGB the colours of fully
    transparent pixels are made from their neighbours. Raises InputError as `read_rgb8` does.
    """
    _check_is_file(path)
    found = read(path)
    return _picture(_colours(found, str(path), srgb), found[0].kept)


def from_pillow(image: Image.Image, srgb: bool = False) -> Picture:
    """An image that Pillow holds as `read_picture` has its file, upright (EXIF). `image` stays as it is.

    Pillow itself holds colours in 8 bits, also those of 16-bit files. Raises InputError for modes without a meaning
    here, and where the image's file turns out to be damaged.
    """
    found = head_and_raster(image)
    return _picture(_colours(found, "the Pillow image", srgb), found[0].kept)


def to_pillow(picture: Picture) -> Image.Image:
    """What is written of it, as an image of mode L, LA, RGB, RGBA or I;16, with the colour profile.

    Raises InputError for 16 bits in colour or with alpha, which Pillow has no mode for.
    """
    samples = to_samples(picture)
    if samples.dtype == np.uint16 and samples.shape[2] > 1:
        raise InputError("16 bits in colour or with alpha do not fit a Pillow image; have a file written instead")
    image = Image.fromarray(np.ascontiguousarray(samples[:, :, 0] if samples.shape[2] == 1 else samples))
    if picture.icc:
        image.info["icc_profile"] = picture.icc
    if picture.kept.dpi:
        image.info["dpi"] = picture.kept.dpi
    return image


def _picture(colours: Colours, kept: Kept) -> Picture:
    samples = colours.samples
    channels = samples.shape[2]
    levels = samples.astype(np.float32) / np.float32(np.iinfo(samples.dtype).max)
    rgb = np.repeat(levels[:, :, :1], 3, axis=2) if channels <= 2 else np.ascontiguousarray(levels[:, :, :3])
    alpha = np.ascontiguousarray(levels[:, :, -1]) if channels in (2, 4) else None
    return Picture(rgb, alpha, bits=8 * samples.itemsize, grey=channels <= 2, icc=colours.icc, kept=kept)


def _colours(found: tuple[Head, Raster], where: str, srgb: bool) -> Colours:
    """With what there is to say of the file on standard error."""
    head, raster = found
    for line in head.remarks:
        remark(where, line)
    convert = in_srgb if srgb else as_stored
    return refusing(where, lambda: convert(raster, head.icc, lambda line: remark(where, line)))


def say_what_is_left_out(kept: Kept) -> None:
    """On standard error, once."""
    if kept.more:
        say_once(_LEFT_OUT)


def to_samples(picture: Picture) -> Samples:
    """(H, W, C), uint8 or uint16 by `bits`; C = 1 grey, 2 with alpha, 3 RGB, 4 with alpha. Values are clipped."""
    levels: NDArray[np.float32] = np.rint(to_planes(picture) * np.float32(2**picture.bits - 1))
    return levels.astype(np.uint8) if picture.bits == 8 else levels.astype(np.uint16)


def to_planes(picture: Picture) -> NDArray[np.float32]:
    """The same in [0, 1], float32, not rounded."""
    colour = luma(picture.rgb) if picture.grey else picture.rgb
    planes = colour if picture.alpha is None else np.concatenate([colour, picture.alpha[:, :, None]], axis=2)
    clipped: NDArray[np.float32] = np.clip(planes, 0, 1)
    return clipped


def luma(rgb: Planes) -> Planes:
    """(..., 3) -> (..., 1), float32."""
    red, green, blue = _LUMA  # added one by one, in this order, by which rounding is the same wherever it is done
    total: Planes = rgb[..., :1] * red + rgb[..., 1:2] * green + rgb[..., 2:] * blue
    return total


def write_png(path: Path, array: Samples, icc: bytes | None = None, kept: Kept | None = None) -> None:
    """Write (H, W) or (H, W, 1|2|3|4) uint8 or uint16 as PNG: grey, grey + alpha, RGB or RGBA; atomic.

    `icc` is a colour profile to embed, `kept` what else is carried over from a photograph.

    Raises ValueError for any other shape or type.
    """
    samples = array[:, :, None] if array.ndim == 2 else array
    if samples.ndim != 3 or samples.shape[2] not in (1, 2, 3, 4) or samples.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"cannot write an array of shape {array.shape} and type {array.dtype} as PNG")
    with replacing(path) as temporary:
        shape = (samples.shape[0], samples.shape[1], samples.shape[2])
        with PngStream(temporary, shape, 8 * samples.itemsize, icc, kept) as file:
            file.write(samples)


def _check_is_file(path: Path) -> None:
    if not is_file(path):
        raise InputError(f"{path}: {'is a folder; an image file is needed' if is_folder(path) else 'no such file'}")
