"""How a patch is stored: the image formats of shards, chosen by measurement (docs/decisions/0004-streaming.md)."""

from __future__ import annotations

import io
import struct
import zlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cyclesr_dist.data.npy import npy_decoded, npy_encoded
from cyclesr_dist.data.own_tiff import Layout, decoded, layout_of
from cyclesr_dist.errors import InputError

EXTENSIONS = {"tiff": "tiff", "webp": "webp", "png": "png", "jpeg": "jpg", "npy": "npy"}
"""File name extension in the tar, by `shards.encoding`."""
JPEG_QUALITY = 95
"""Of 100."""

_LARGEST_OWN = 2048
"""px. Of larger ones a general reader's time is no matter, and a manifest may say any size."""
_PREDICTOR_TAG, _HORIZONTAL_DIFFERENCES = 317, 2
_ROWS_PER_STRIP_TAG = 278
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error)


def encode(patch: NDArray[np.uint8], encoding: str) -> bytes:
    """An (h, w, 3) patch as a file of that encoding; equal patches give equal bytes.

    Raises InputError where Pillow was built without the encoder.
    """
    if encoding == "npy":
        return npy_encoded(patch)
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(patch))
    try:
        if encoding == "tiff":
            tags = {_PREDICTOR_TAG: _HORIZONTAL_DIFFERENCES, _ROWS_PER_STRIP_TAG: patch.shape[0]}
            image.save(buffer, format="TIFF", compression="zstd", tiffinfo=tags)
        elif encoding == "webp":
            image.save(buffer, format="WEBP", lossless=True, method=4, quality=50)  # of 100: a third faster, same size
        elif encoding == "png":
            image.save(buffer, format="PNG")
        else:
            image.save(buffer, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
    except (OSError, KeyError) as error:
        raise InputError(f"shards.encoding = {encoding}: this Pillow cannot write it ({error}); use png") from error
    return buffer.getvalue()


def decode(data: bytes, encoding: str, size: int, where: object) -> NDArray[np.uint8]:
    """An encoded patch as (size, size, 3), read-only. Raises InputError starting with `where` if it is anything else.

    Nothing is decoded before the header is seen to have the right size: no decompression bomb.
    """
    if encoding == "npy":
        return npy_decoded(data, size, where)
    if encoding == "tiff" and (layout := _own_layout(size)) and (patch := decoded(data, layout, size)) is not None:
        return patch
    try:
        with Image.open(io.BytesIO(data), formats=[encoding.upper()]) as image:
            found = (*image.size, image.mode)
            if found == (size, size, "RGB"):
                return np.asarray(image)
    except _UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{where} is damaged ({reason})") from error
    raise InputError(f"{where} is {found[0]} x {found[1]} {found[2]}; the manifest says {size} x {size} RGB")


@lru_cache(maxsize=16)
def _own_layout(size: int) -> Layout | None:
    """None where this Pillow writes other files, or none: those of others are read all the same."""
    if not 1 <= size <= _LARGEST_OWN:
        return None
    try:
        return layout_of(encode(np.zeros((size, size, 3), np.uint8), "tiff"))
    except InputError:
        return None
