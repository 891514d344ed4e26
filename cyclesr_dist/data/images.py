"""Photographs on disk <-> arrays: listing folders, reading any common file, writing PNG, pairing LR with HR by name."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, ImageOps, TiffImagePlugin, UnidentifiedImageError

from cyclesr_dist.errors import InputError
from cyclesr_dist.runtime.files import is_file, is_folder, reading, replacing
from cyclesr_dist.runtime.passing import failed, patiently

Samples = NDArray[np.uint8] | NDArray[np.uint16]

# What Pillow raises on files that are not images, are cut short or claim absurd sizes, depending on the format.
_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_ON_THEIR_SIDE = (5, 6, 7, 8)
"""EXIF orientations of photographs that are to be turned by 90 degrees."""
_OTHER_BYTE = {
    f"{mode};16{order}": f"{mode};16{other}"
    for mode in ("RGB", "RGBA")
    for order, other in (("L", "B"), ("B", "L"), ("N", "B" if sys.byteorder == "little" else "L"))
}
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


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
    """Colour profile, which says what the values mean; None: sRGB by custom."""


def image_size(path: Path) -> tuple[int, int]:
    """Width and height in px, upright (EXIF) as `read_rgb8` has them, from the head of the file: nothing is decoded.

    Raises InputError when the file is missing or is not an image.
    """
    _check_is_file(path)
    try:
        return patiently(lambda: _size(path))
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: is not an image") from error
    except _UNREADABLE as error:
        raise failed(_unreadable(str(path), error), error) from error


def _size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        size = image.size
        if isinstance(image, TiffImagePlugin.TiffImageFile):  # whose size newer versions of Pillow have turned
            size = image.tag_v2[ExifTags.Base.ImageWidth], image.tag_v2[ExifTags.Base.ImageLength]
        # Image's own: that of PNG decodes the image to look behind it.
        turned = Image.Image.getexif(image).get(ExifTags.Base.Orientation) in _ON_THEIR_SIDE
        return (size[1], size[0]) if turned else size


def read_rgb8(path: Path) -> NDArray[np.uint8]:
    """Read any supported image as (H, W, 3) uint8, upright (EXIF), grey repeated, transparency dropped.

    16-bit files are rounded to the nearest of 256 levels. Raises InputError when the file is missing, is not an image,
    is cut short or is too large to be a photograph (Pillow's decompression bomb limit).
    """
    samples, _ = _read_samples(path)
    channels = samples.shape[2]
    colour = np.repeat(samples[:, :, :1], 3, axis=2) if channels <= 2 else samples[:, :, :3]
    if colour.dtype == np.uint16:
        colour = (colour.astype(np.uint32) + 128) // 257
    return np.ascontiguousarray(colour, dtype=np.uint8)


def read_picture(path: Path) -> Picture:
    """Read any supported image in full depth, upright (EXIF).

    16 bits are kept for grey, RGB and RGBA in PNG and TIFF; 16-bit grey with alpha comes out as 8 bits.
    Raises InputError as `read_rgb8` does.
    """
    return _picture(*_read_samples(path))


def from_pillow(image: Image.Image) -> Picture:
    """An image that Pillow holds as `read_picture` has its file, upright (EXIF). `image` stays as it is.

    Pillow itself holds colours in 8 bits, also those of 16-bit files. Raises InputError for modes without a meaning
    here, and where the image's file turns out to be damaged.
    """
    try:
        return _picture(*_samples_of(image, "the Pillow image"))
    except _UNREADABLE as error:
        raise InputError(_unreadable("the Pillow image", error)) from error


def to_pillow(picture: Picture) -> Image.Image:
    """What `write_picture` would write, as an image of mode L, LA, RGB, RGBA or I;16, with the colour profile.

    Raises InputError for 16 bits in colour or with alpha, which Pillow has no mode for.
    """
    samples = to_samples(picture)
    if samples.dtype == np.uint16 and samples.shape[2] > 1:
        raise InputError("16 bits in colour or with alpha do not fit a Pillow image; have a file written instead")
    image = Image.fromarray(np.ascontiguousarray(samples[:, :, 0] if samples.shape[2] == 1 else samples))
    if picture.icc:
        image.info["icc_profile"] = picture.icc
    return image


def _picture(samples: Samples, icc: bytes | None) -> Picture:
    channels = samples.shape[2]
    levels = samples.astype(np.float32) / np.float32(np.iinfo(samples.dtype).max)
    rgb = np.repeat(levels[:, :, :1], 3, axis=2) if channels <= 2 else np.ascontiguousarray(levels[:, :, :3])
    alpha = np.ascontiguousarray(levels[:, :, -1]) if channels in (2, 4) else None
    return Picture(rgb, alpha, bits=8 * samples.itemsize, grey=channels <= 2, icc=icc)


def write_picture(path: Path, picture: Picture) -> None:
    """Write `picture` as PNG in its own bit depth, grey if it is grey, with its alpha and colour profile; atomic.

    Values outside [0, 1] are clipped.
    """
    write_png(path, to_samples(picture), picture.icc)


def to_samples(picture: Picture) -> Samples:
    """(H, W, C), uint8 or uint16 by `bits`; C = 1 grey, 2 with alpha, 3 RGB, 4 with alpha. Values are clipped."""
    levels: NDArray[np.float32] = np.rint(to_planes(picture) * np.float32(2**picture.bits - 1))
    return levels.astype(np.uint8) if picture.bits == 8 else levels.astype(np.uint16)


def to_planes(picture: Picture) -> NDArray[np.float32]:
    """The same in [0, 1], float32, not rounded."""
    colour = (picture.rgb @ _LUMA)[:, :, None] if picture.grey else picture.rgb
    planes = colour if picture.alpha is None else np.concatenate([colour, picture.alpha[:, :, None]], axis=2)
    return np.clip(planes, 0, 1)


def write_png(path: Path, array: Samples, icc: bytes | None = None) -> None:
    """Write (H, W) or (H, W, 1|2|3|4) uint8 or uint16 as PNG: grey, grey + alpha, RGB or RGBA; atomic.

    `icc` is a colour profile to embed.

    Raises ValueError for any other shape or type.
    """
    samples = array[:, :, None] if array.ndim == 2 else array
    if samples.ndim != 3 or samples.shape[2] not in (1, 2, 3, 4) or samples.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"cannot write an array of shape {array.shape} and type {array.dtype} as PNG")
    with replacing(path) as temporary:
        if samples.dtype == np.uint16:
            temporary.write_bytes(_encode_png16(samples.astype(np.uint16, copy=False), icc))
        else:
            plane_or_planes = samples[:, :, 0] if samples.shape[2] == 1 else samples
            Image.fromarray(np.ascontiguousarray(plane_or_planes)).save(temporary, format="PNG", icc_profile=icc)


def _read_samples(path: Path) -> tuple[Samples, bytes | None]:
    """The file's own samples, upright, and its colour profile.

    (H, W, C), uint8 or uint16, C = 1 grey, 2 with alpha, 3 RGB, 4 with alpha.
    """
    _check_is_file(path)
    with reading(path):
        data = patiently(path.read_bytes)  # libtiff's own reading does not say whether the disk fails or the file
    try:
        with Image.open(io.BytesIO(data)) as image:
            return _samples_of(image, str(path), data)
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: is not an image") from error
    except _UNREADABLE as error:
        raise InputError(_unreadable(str(path), error)) from error


def _samples_of(image: Image.Image, where: str, data: bytes | None = None) -> tuple[Samples, bytes | None]:
    """As `_read_samples`, of an open image. `data` is its file, which is decoded again for 16 bits in colour."""
    if image.mode in ("I", "F"):
        raise InputError(f"{where}: 32-bit samples (mode {image.mode}) are not supported; save as 8 or 16 bits")
    rawmodes = {_rawmode(tile) for tile in image.tile} if data and isinstance(image, ImageFile.ImageFile) else set()
    upright = ImageOps.exif_transpose(image)
    # A CMYK or Lab profile does not describe the RGB that such files become.
    icc = image.info.get("icc_profile") if image.mode not in ("CMYK", "LAB", "YCbCr") else None
    if image.mode.startswith("I;16"):
        return _with_keyed_alpha(np.asarray(upright).astype(np.uint16)[:, :, None], image), icc
    if data and rawmodes and rawmodes <= _OTHER_BYTE.keys():
        high_and_low = np.stack([np.asarray(upright), _read_low_bytes(data)], axis=-1)
        return _with_keyed_alpha(high_and_low.view(">u2")[..., 0].astype(np.uint16), image), icc
    grey = image.mode in ("1", "L", "LA", "La") or rawmodes == {"LA;16B"}
    mode = ("LA" if grey else "RGBA") if upright.has_transparency_data else ("L" if grey else "RGB")
    samples = np.asarray(upright.convert(mode))
    return samples.reshape(*samples.shape[:2], -1), icc


def _check_is_file(path: Path) -> None:
    if not is_file(path):
        raise InputError(f"{path}: {'is a folder; an image file is needed' if is_folder(path) else 'no such file'}")


def _unreadable(where: str, error: Exception) -> str:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"{where}: cannot be read as an image ({reason})"


def _rawmode(tile: Any) -> str:
    """Pillow's name for the layout of samples in the file, from one entry of `Image.tile`."""
    return str(tile.args if isinstance(tile.args, str) else tile.args[0])


def _read_low_bytes(data: bytes) -> NDArray[np.uint8]:
    """The low bytes of 16-bit RGB(A) samples.

    Pillow has no 16-bit RGB mode: it keeps the high byte of each sample. Told that the file has the other byte order it
    takes the other byte, so decoding twice recovers all 16 bits.
    """
    with Image.open(io.BytesIO(data)) as image:
        image.tile = [_with_other_byte_order(tile) for tile in image.tile]
        return np.asarray(ImageOps.exif_transpose(image), dtype=np.uint8)


def _with_other_byte_order(tile: Any) -> Any:
    other = _OTHER_BYTE[_rawmode(tile)]
    return tile._replace(args=other if isinstance(tile.args, str) else (other, *tile.args[1:]))


def _with_keyed_alpha(samples: NDArray[np.uint16], image: Image.Image) -> NDArray[np.uint16]:
    """Append alpha where PNG names one colour as transparent (tRNS) instead of storing a channel."""
    key = image.info.get("transparency")
    if key is None or samples.shape[2] == 4:
        return samples
    opaque = np.any(samples != np.array(key, dtype=np.uint16), axis=2, keepdims=True)
    return np.concatenate([samples, opaque * np.uint16(65535)], axis=2, dtype=np.uint16)


def _encode_png16(samples: NDArray[np.uint16], icc: bytes | None) -> bytes:
    """(H, W, 1|2|3|4) uint16 as a PNG file. Pillow writes 16 bits for grey alone."""
    height, width, channels = samples.shape
    rows = np.ascontiguousarray(samples, dtype=">u2").view(np.uint8).reshape(height, -1)
    above = np.vstack([np.zeros_like(rows[:1]), rows[:-1]])
    # Filter type 2 (Up) leads every row: differences compress better than samples.
    filtered = np.hstack([np.full((height, 1), 2, np.uint8), rows - above])
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    profile = [(b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc))] if icc else []
    pixels = zlib.compress(filtered.tobytes(), 6)
    chunks = [(b"IHDR", header), *profile, (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
