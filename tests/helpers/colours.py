"""Colour spaces and profiles made from their definitions, to hold conversions against."""

from __future__ import annotations

import struct
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
WHITE = (0.3127, 0.3290)
SRGB = (*WHITE, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
ADOBE_RGB = (*WHITE, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
DISPLAY_P3 = (*WHITE, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
BT_2020 = (*WHITE, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046)


def to_xyz(points: tuple[float, ...]) -> Array:
    """The matrix of linear RGB with these white and primaries."""
    wx, wy, *rest = points
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in zip(rest[::2], rest[1::2], strict=True)]).T
    return columns * np.linalg.solve(columns, [wx / wy, 1, (1 - wx - wy) / wy])


def srgb_light(values: Array) -> Array:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def srgb_of_light(light: Array) -> Array:
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def in_srgb(values: Array, points: tuple[float, ...], gamma: float | None) -> Array:
    """(H, W, 3) in [0, 1] of a space as sRGB, clipped; `gamma` None: sRGB's own curve."""
    light = srgb_light(values) if gamma is None else values**gamma
    return srgb_of_light(light @ (np.linalg.inv(to_xyz(SRGB)) @ to_xyz(points)).T)


def profile(points: tuple[float, ...], gamma: float) -> bytes:
    xy = [*points]
    primaries = [value for i in range(2, 8, 2) for value in (xy[i], xy[i + 1], 1.0)]
    return bytes(imagecodecs.cms_profile("rgb", whitepoint=(*points[:2], 1.0), primaries=primaries, gamma=gamma))


def grey_profile(gamma: float) -> bytes:
    return bytes(imagecodecs.cms_profile("gray", whitepoint=(*WHITE, 1.0), gamma=gamma))


def cmyk_profile(lab_of_inks: Array) -> bytes:
    """(2, 2, 2, 2, 3) Lab colours of no and full ink of each kind; between them it is linear."""
    encoded = np.stack(
        [lab_of_inks[..., 0] * 652.8, (lab_of_inks[..., 1] + 128) * 256, (lab_of_inks[..., 2] + 128) * 256], axis=-1
    )
    table = np.rint(encoded).astype(">u2").tobytes()
    identity = struct.pack(">9i", *(65536 * v for v in (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    curve = struct.pack(">2H", 0, 65535)
    lut = b"mft2" + bytes(4) + bytes([4, 3, 2, 0]) + identity + struct.pack(">2H", 2, 2) + curve * 4 + table + curve * 3
    text = b"inks of a test\0"
    described = b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78)
    white = b"XYZ " + bytes(4) + struct.pack(">3i", *(round(v * 65536) for v in (0.9642, 1.0, 0.8249)))
    body, tags = b"", b""
    start = 128 + 4 + 12 * 3
    for name, value in ((b"desc", described), (b"wtpt", white), (b"A2B0", lut)):
        tags += name + struct.pack(">II", start + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    size = start + len(body)
    head = struct.pack(">I", size) + bytes(4) + struct.pack(">I", 0x02400000) + b"prtrCMYKLab " + bytes(12) + b"acsp"
    head += bytes(28) + struct.pack(">3i", *(round(v * 65536) for v in (0.9642, 1.0, 0.8249)))
    return head.ljust(128, b"\0") + struct.pack(">I", 3) + tags + body
