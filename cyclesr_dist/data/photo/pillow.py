"""Images that Pillow holds, as a file's head and samples."""

from __future__ import annotations

import numpy as np
from PIL import ExifTags, Image, ImageFile, TiffImagePlugin

from cyclesr_dist.data.photo.exif import read_exif, sane_dpi
from cyclesr_dist.data.photo.kinds import DamagedError, Head, Kept, Raster, Samples, decoder, to_8_bits, turned
from cyclesr_dist.data.photo.reading import read_bytes
from cyclesr_dist.errors import InputError

_WHERE = "the Pillow image"
_TO_GREY = {"1": "L", "La": "LA"}
_TO_RGB = {"P": "RGB", "PA": "RGBA", "RGBa": "RGBA", "RGBX": "RGB", "YCbCr": "RGB", "HSV": "RGB"}
_PLAIN = ("L", "LA", "RGB", "RGBA", "CMYK")


def head_and_raster(image: Image.Image) -> tuple[Head, Raster]:
    """Upright (EXIF). `image` stays as it is. Raises InputError for modes without a meaning here, and for damage."""
    if (file := _file_of(image)) is not None:
        head, raster = read_bytes(file, _WHERE)
        return head, _in_pillows_depth(raster)
    try:
        with decoder("Pillow"):
            image.load()
        return _head(image), _raster(image)
    except DamagedError as error:
        raise InputError(f"{_WHERE}: cannot be read as an image ({error})") from error


def _file_of(image: Image.Image) -> bytes | None:
    """The file of a TIFF that Pillow has opened and not decoded: what it decodes is not always what is in the file."""
    if not (isinstance(image, TiffImagePlugin.TiffImageFile) and image.tile and image.fp and image.tell() == 0):
        return None
    place = image.fp.tell()
    image.fp.seek(0)
    data = image.fp.read()
    image.fp.seek(place)
    return data


def _in_pillows_depth(raster: Raster) -> Raster:
    """16 bits for grey alone."""
    if raster.samples.dtype == np.uint8 or raster.samples.shape[2] == 1:
        return raster
    return Raster(to_8_bits(raster.samples), raster.model, raster.alpha)


def _head(image: Image.Image) -> Head:
    orientation, kept = read_exif(image.info.get("exif") or b"")
    try:
        with decoder("Pillow"):
            said = image.getexif().get(ExifTags.Base.Orientation, 1)
    except DamagedError:
        said = orientation
    if not isinstance(image, ImageFile.ImageFile) or "exif" not in image.info:
        orientation = said if isinstance(said, int) and 1 <= said <= 8 else 1
    icc, dpi = image.info.get("icc_profile"), image.info.get("dpi")
    kept = Kept(kept.dpi or _dpi(dpi), kept.date, kept.make, kept.model)
    return Head(image.width, image.height, orientation, icc if isinstance(icc, bytes) else None, kept)


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
