"""Patches as NumPy's own files (numpy.lib.format): nothing is compressed, and nothing has to be decoded."""

from __future__ import annotations

import io
import tokenize
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from cyclesr_dist.errors import InputError

_READERS: dict[Any, Any] = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
# What Python's parser raises for what is no header, too.
_UNREADABLE = (ValueError, EOFError, TypeError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError)


def npy_encoded(patch: NDArray[np.uint8]) -> bytes:
    """An (h, w, 3) patch as a .npy file; equal patches give equal bytes."""
    buffer = io.BytesIO()
    npy.write_array(buffer, np.ascontiguousarray(patch), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def npy_decoded(data: bytes, size: int, where: object) -> NDArray[np.uint8]:
    """A .npy file of a patch as (size, size, 3), read-only. Raises InputError starting with `where` if it is anything
    else; nothing is read, and no pickle ever, before the header is seen to be right."""
    if not data.startswith(head := _head(size)):
        head = data[: _end_of_head(data, size, where)]
    if len(data) - len(head) != 3 * size * size:
        raise InputError(f"{where} is damaged ({len(data) - len(head)} bytes of samples, not {3 * size * size})")
    return np.frombuffer(data, np.uint8, offset=len(head)).reshape(size, size, 3)


@lru_cache(maxsize=16)
def _head(size: int) -> bytes:
    """As this NumPy writes it."""
    buffer = io.BytesIO()
    npy.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": (size, size, 3)})
    return buffer.getvalue()


def _end_of_head(data: bytes, size: int, where: object) -> int:
    """Where the samples begin, with a header that says the same in other bytes."""
    buffer = io.BytesIO(data)
    try:
        version = npy.read_magic(buffer)
        if version not in _READERS:
            raise ValueError(f"version {version[0]}.{version[1]} of the format")
        shape, by_columns, dtype = _READERS[version](buffer)
    except _UNREADABLE as error:
        raise InputError(f"{where} is damaged ({str(error).splitlines()[0] if str(error) else error!r})") from error
    if (shape, by_columns, dtype) != ((size, size, 3), False, np.dtype(np.uint8)):
        is_patch = dtype == np.uint8 and not by_columns and len(shape) == 3 and shape[2] == 3
        order = " by columns" if by_columns else ""
        found = f"{shape[1]} x {shape[0]} RGB" if is_patch else f"an array {shape} of {dtype}{order}"
        raise InputError(f"{where} is {found}; the manifest says {size} x {size} RGB")
    return buffer.tell()
