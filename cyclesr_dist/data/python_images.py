"""Images as a Python program holds them, arrays, Pillow images and paths <-> `Picture`: what comes back is in kind."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cyclesr_dist.data.images import Picture, from_pillow, read_picture, to_pillow, to_planes, to_samples
from cyclesr_dist.errors import InputError
from cyclesr_dist.runtime.arguments import is_path, path_of

_TYPES = {("u", 1), ("u", 2), ("f", 2), ("f", 4), ("f", 8)}
"""Kind and bytes of NumPy's types, in any byte order."""
_SHAPES = "(H, W), (H, W, 1), (H, W, 2), (H, W, 3) or (H, W, 4): grey, grey with alpha, RGB or RGBA, channels last"


def read_given(image: object, srgb: bool = False) -> Picture:
    """Of an array, a Pillow image or a path, the latter two in their own colours or in sRGB.

    Arrays are uint8 or uint16 over their whole range, or floating point in [0, 1]. Raises InputError for any other,
    and for what cannot be read.
    """
    if isinstance(image, np.ndarray):
        return _of_array(image)
    if isinstance(image, Image.Image):
        if not all(image.size):
            raise InputError(f"the Pillow image is empty: {image.width} x {image.height} px")
        return from_pillow(image, srgb)
    if is_path(image):
        return read_picture(path_of("image", image), srgb)
    raise InputError(f"an image cannot be a {_kind(image)}; allowed: a numpy array, a Pillow image, or a path")


def in_kind(picture: Picture, image: object) -> Any:
    """`picture` as what `image` is: an array of its type and dimensions, or, for Pillow images and paths, a Pillow
    image. Values are clipped to [0, 1]. Raises InputError as `to_pillow` does."""
    if not isinstance(image, np.ndarray):
        return to_pillow(picture)
    planes = to_planes(picture) if image.dtype.kind == "f" else to_samples(picture)
    return (planes[:, :, 0] if image.ndim == 2 else planes).astype(image.dtype)


def check_in_kind(picture: Picture, image: object) -> None:
    """Raise InputError, before any work, where `in_kind` would."""
    if not isinstance(image, np.ndarray) and picture.bits == 16 and not (picture.grey and picture.alpha is None):
        where = f"{image}" if is_path(image) else "the Pillow image"
        raise InputError(
            f"{where}: has 16 bits in colour or with alpha, which a Pillow image cannot hold; "
            "give a path, and a PNG file as out"
        )


def _of_array(array: NDArray[Any]) -> Picture:
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 2, 3, 4):
        raise InputError(f"an array of shape {array.shape} is no image; allowed: {_SHAPES}")
    if not array.size:
        raise InputError(f"an array of shape {array.shape} is empty")
    if isinstance(array, np.ma.MaskedArray):
        raise InputError("a masked array has no pixels where it is masked; fill them first, with array.filled(...)")
    if (array.dtype.kind, array.dtype.itemsize) not in _TYPES:
        raise InputError(f"an array of type {array.dtype} is no image; allowed: uint8, uint16, or float in [0, 1]")
    bits = 16 if array.dtype.kind == "u" and array.dtype.itemsize == 2 else 8
    if array.dtype.kind == "f":
        _check_unit(array)
        levels = array.astype(np.float32)
    else:
        levels = array.astype(np.float32) / np.float32(2**bits - 1)
    planes = levels[:, :, None] if array.ndim == 2 else levels
    grey = channels <= 2
    rgb = np.repeat(planes[:, :, :1], 3, axis=2) if grey else np.ascontiguousarray(planes[:, :, :3])
    alpha = np.ascontiguousarray(planes[:, :, -1]) if channels in (2, 4) else None
    return Picture(rgb, alpha, bits, grey)


def _check_unit(array: NDArray[Any]) -> None:
    """Raise InputError unless all values are in [0, 1]."""
    low, high = float(array.min()), float(array.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError("an array with values that are not finite (nan or inf) is no image")
    if low < 0 or high > 1:
        raise InputError(
            f"an array of type {array.dtype} has values from {_shortest(array.min())} to {_shortest(array.max())}; "
            "floating point must be in "
            "[0, 1]: divide by the largest value that there can be, or clip"
        )


def _shortest(value: object) -> str:
    """As few digits as tell a number from its neighbours."""
    return str(value).removesuffix(".0")


def _kind(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
