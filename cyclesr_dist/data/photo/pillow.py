"""Images that Pillow holds, as a file's head and samples.

What Pillow decodes is not always what is in the file. An image that it has opened and not decoded is read from its
file, as a path is. Of all others there is nothing but what Pillow holds; what is known to be wrong there is refused.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from cyclesr_dist.data.photo.exif import camera_colours, read_exif, sane_dpi
from cyclesr_dist.data.photo.icc import SRGB, ProfileError, of_gamma, of_primaries
from cyclesr_dist.data.photo.kinds import DamagedError, Head, Kept, Raster, Samples, decoder, to_8_bits, turned
from cyclesr_dist.data.photo.reading import read_bytes
from cyclesr_dist.errors import InputError

_WHERE = "the Pillow image"
_TO_GREY = {"1": "L", "La": "LA"}
_TO_RGB = {"P": "RGB", "PA": "RGBA", "RGBa": "RGBA", "RGBX": "RGB", "YCbCr": "RGB", "HSV": "RGB"}
_PLAIN = ("L", "LA", "RGB", "RGBA", "CMYK")
_OF_FORMATS_READ = (
    AvifImagePlugin.AvifImageFile,
    BmpImagePlugin.BmpImageFile,
    GifImagePlugin.GifImageFile,
    Jpeg2KImagePlugin.Jpeg2KImageFile,
    JpegImagePlugin.JpegImageFile,
    PngImagePlugin.PngImageFile,
    PpmImagePlugin.PpmImageFile,
    TiffImagePlugin.TiffImageFile,
    WebPImagePlugin.WebPImageFile,
)
_WIDTH, _LENGTH, _BITS, _PHOTOMETRIC = 256, 257, 258, 262
_BLACK_IS_ZERO = 1


def head_and_raster(image: Image.Image) -> tuple[Head, Raster]:
    """Upright (EXIF). `image` stays as it is.

    Raises InputError for modes without a meaning here, for damage, and for what Pillow is known to have decoded wrong.
    """
    if isinstance(image, _OF_FORMATS_READ) and (file := _file_of(image)) is not None:
        head, raster = read_bytes(file, _WHERE)
        return head, _in_pillows_depth(raster)
    try:
        with decoder("Pillow"):
            image.load()
        _check_decoded_right(image)
        return _head(image).with_upright_resolution(), _raster(image)
    except DamagedError as error:
        raise InputError(f"{_WHERE}: cannot be read as an image ({error})") from error


def _file_of(image: ImageFile.ImageFile) -> bytes | None:
    """The file of an image that Pillow has opened, and neither decoded nor changed (`draft`, `info`)."""
    file = image.fp
    undecoded = bool(image.tile) or isinstance(image, WebPImagePlugin.WebPImageFile)
    if not undecoded or file is None or getattr(file, "closed", False) or image.tell() != 0:
        return None
    place = file.tell()
    file.seek(0)
    data = file.read()
    file.seek(place)
    if isinstance(image, WebPImagePlugin.WebPImageFile) and data[:4] != b"RIFF":  # its pixels, decoded
        return None
    try:
        with decoder("Pillow"):
            again = type(image)(io.BytesIO(data))
    except DamagedError:
        return None
    same = (again.size, again.mode, again.info) == (image.size, image.mode, image.info)
    return data if same else None


def _in_pillows_depth(raster: Raster) -> Raster:
    """16 bits for grey alone."""
    if raster.samples.dtype == np.uint8 or raster.samples.shape[2] == 1:
        return raster
    return Raster(to_8_bits(raster.samples), raster.model, raster.alpha)


def _check_decoded_right(image: Image.Image) -> None:
    """Raise InputError for what Pillow is known to make of some files, now that they are decoded."""
    wrong, key = "", image.info.get("transparency")
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags: Any = image.tag_v2
        bits = tags.get(_BITS, (1,))
        if max(bits) > 8 and (bits != (16,) or tags.get(_PHOTOMETRIC) != _BLACK_IS_ZERO):
            wrong = "a TIFF of more than 8 bits"
        elif image.size != (tags.get(_WIDTH), tags.get(_LENGTH)):
            wrong = "a TIFF that lies on its side"
    elif isinstance(image, BmpImagePlugin.BmpImageFile) and image.mode == "1":
        wrong = "a BMP in black and white"
    elif isinstance(image, Jpeg2KImagePlugin.Jpeg2KImageFile) and image.mode != "L":
        wrong = "a JPEG 2000 of colours, of more than 8 bits or with alpha"
    elif isinstance(key, tuple) and (isinstance(image, PngImagePlugin.PngImageFile) or max(key) > 255):
        wrong = "a PNG with a transparent colour"
    if wrong:
        raise InputError(
            f"{_WHERE}: is {wrong}, which Pillow has decoded, and not always rightly; give the path, or the image as "
            "Image.open returns it"
        )


def _head(image: Image.Image) -> Head:
    """Of the orientation what EXIF itself says: Pillow also takes it from XMP and from texts."""
    block = image.info.get("exif")
    orientation, kept = read_exif(block if isinstance(block, bytes) else b"")
    icc, dpi = image.info.get("icc_profile"), image.info.get("dpi")
    kept = Kept(kept.dpi or _dpi(dpi), kept.date, kept.make, kept.model)
    icc = icc if isinstance(icc, bytes) else _of_words(image)
    return Head(image.width, image.height, orientation, icc, kept)


def _of_words(image: Image.Image) -> bytes | None:
    """The profile of gAMA and cHRM, and of EXIF."""
    gamma, points = image.info.get("gamma"), image.info.get("chromaticity")
    grey = image.mode in ("1", "L", "LA") or image.mode.startswith("I;16")
    if "srgb" in image.info or image.mode == "CMYK":
        return None
    if not (gamma or points):
        block = image.info.get("exif")
        return camera_colours(block if isinstance(block, bytes) else b"", grey)[0]
    chromaticities = tuple(points) if points else SRGB
    try:
        return of_gamma(1 / gamma, chromaticities, grey) if gamma else of_primaries(chromaticities, grey)
    except ProfileError:
        return None


def _dpi(value: object) -> tuple[float, float] | None:
    if isinstance(value, tuple) and len(value) == 2 and all(isinstance(part, int | float) for part in value):
        return sane_dpi(*map(float, value))
    return None


def _raster(image: Image.Image) -> Raster:
    orientation = _head(image).orientation
    if image.mode.startswith("I;16"):
        samples = np.asarray(image).astype(np.uint16)[:, :, None]
        key = image.info.get("transparency")
        if isinstance(key, int):
            opaque = (samples != key) * np.uint16(65535)
            samples = np.concatenate([samples, opaque], axis=2, dtype=np.uint16)
        return Raster(turned(samples, orientation), "grey", alpha=samples.shape[2] == 2)
    mode = {**_TO_GREY, **_TO_RGB}.get(image.mode, image.mode)
    if mode not in _PLAIN:
        raise InputError(f"{_WHERE}: mode {image.mode} (32-bit, Lab or the like) is not supported; convert it first")
    if image.has_transparency_data and mode in ("L", "RGB"):
        mode += "A"
    with decoder("Pillow"):
        array = np.asarray(image if mode == image.mode else image.convert(mode))
    upright: Samples = turned(array.reshape(*array.shape[:2], -1), orientation)
    return Raster(upright, {"L": "grey", "R": "rgb", "C": "cmyk"}[mode[0]], alpha=mode.endswith("A"))  # type: ignore[arg-type]
