"""Colour profiles: what one says, one made of PNG's and AVIF's own words for colours, and conversion to sRGB."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from cyclesr_dist.data.photo.kinds import CHANNELS, Model, Samples, UnreadError, in_rows, to_8_bits

_SPACES: dict[bytes, Model] = {b"GRAY": "grey", b"RGB ": "rgb", b"CMYK": "cmyk"}
_CLASSES = (b"mntr", b"scnr", b"prtr", b"spac")
_LCMS_SPACES = {"grey": "gray", "rgb": "rgb", "cmyk": "cmyk"}
_RELATIVE_COLORIMETRIC = 1
_BLACK_POINT_COMPENSATION, _NO_TABLES = 8192, 256
"""Flags of LittleCMS. With its own tables in the place of the profile's curves it is up to 19 levels of 255 off."""
_DATE = slice(24, 36)
_SRGB_WITHIN = 64
"""Of 65535, a quarter of an 8-bit level: a profile that differs less is sRGB."""

Chromaticities = tuple[float, float, float, float, float, float, float, float]
"""x and y of white, red, green and blue."""
_D65 = (0.3127, 0.3290)
SRGB: Chromaticities = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
ADOBE_RGB: Chromaticities = (*_D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
ADOBE_RGB_GAMMA = 2.19921875
_PRIMARIES: dict[int, Chromaticities] = {
    1: SRGB,
    2: SRGB,
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*_D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    7: (*_D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}
"""By the number of ITU-T H.273."""
_AS_SRGB = (1, 2, 6, 13, 14, 15)
"""Transfer functions of H.273 that are sRGB's, or of camera video, which is shown with sRGB's."""
_GAMMA = {4: 2.2, 5: 2.8, 8: 1.0}
_HDR = {16: "PQ", 18: "HLG"}
_HDR_NAME = re.compile(rb"(?<![a-z])(?:PQ|HLG|ST[ ._-]?2084)(?![a-z])", re.IGNORECASE)
"""In the name of a profile: "Rec2100PQ", "BT.2100 HLG"; no part of a longer word."""


class ProfileError(Exception):
    """A profile that cannot be used, and why."""


@dataclass(frozen=True)
class Profile:
    """A usable profile."""

    model: Model
    srgb: bool
    """Values in it are sRGB values."""


def of_gamma(gamma: float, chromaticities: Chromaticities, grey: bool) -> bytes | None:
    """The profile of values that are light to the power of 1/`gamma`; None: it is sRGB for all that is known.

    PNG has sRGB written as 1/2.2, its nearest power. Raises ProfileError for numbers that are no colours.
    """
    if 2.15 < gamma < 2.25 and (grey or _near_srgb(chromaticities)):
        return None
    if not 0.1 <= gamma <= 10:
        raise ProfileError(f"a gamma of {gamma:.4g}")
    return _made(chromaticities, grey, gamma=gamma)


def of_primaries(chromaticities: Chromaticities, grey: bool) -> bytes | None:
    """The profile of other primaries with sRGB's curve; None: it is sRGB. Raises ProfileError as `of_gamma` does."""
    return None if grey or _near_srgb(chromaticities) else _made(chromaticities, grey, curve=_srgb_curve())


def _near_srgb(chromaticities: Chromaticities) -> bool:
    return all(abs(a - b) < 0.001 for a, b in zip(chromaticities, SRGB, strict=True))


def of_cicp(primaries: int, transfer: int, grey: bool) -> bytes | None:
    """The profile of two numbers of ITU-T H.273; None: sRGB. Raises UnreadError for HDR and for unknown numbers."""
    if transfer in _HDR:
        raise UnreadError(_hdr(_HDR[transfer]))
    if transfer not in (*_AS_SRGB, *_GAMMA) or primaries not in _PRIMARIES:
        raise UnreadError(
            f"has colours that are not known (primaries {primaries}, transfer {transfer} of ITU-T H.273); "
            "convert it to sRGB first"
        )
    chromaticities = _PRIMARIES[primaries]
    if transfer in _AS_SRGB:
        return None if grey or chromaticities == SRGB else _made(chromaticities, grey, curve=_srgb_curve())
    return _made(chromaticities, grey, gamma=_GAMMA[transfer])


def _srgb_curve() -> NDArray[np.float32]:
    v = np.linspace(0, 1, 1024)
    curve: NDArray[np.float64] = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    return curve.astype(np.float32)


def _made(
    chromaticities: Chromaticities, grey: bool, *, gamma: float | None = None, curve: NDArray[np.float32] | None = None
) -> bytes:
    wx, wy, rx, ry, gx, gy, bx, by = chromaticities
    try:
        if grey:
            made = imagecodecs.cms_profile("gray", whitepoint=(wx, wy, 1.0), gamma=gamma, transferfunction=curve)
        else:
            made = imagecodecs.cms_profile(
                "rgb",
                whitepoint=(wx, wy, 1.0),
                primaries=(rx, ry, 1.0, gx, gy, 1.0, bx, by, 1.0),
                gamma=gamma,
                transferfunction=curve,
            )
    except (ValueError, RuntimeError) as error:
        raise ProfileError(f"chromaticities that make no colours ({error})") from error
    return made[: _DATE.start] + bytes(12) + made[_DATE.stop :]  # without the time at which it was made


@lru_cache(maxsize=32)
def examine(icc: bytes) -> Profile:
    """Raises ProfileError for a profile that cannot be used, UnreadError for one of HDR."""
    if len(icc) < 132 or icc[36:40] != b"acsp":
        raise ProfileError("it is damaged")
    model, device_class = _SPACES.get(icc[16:20]), icc[12:16]
    if model is None or device_class not in _CLASSES:
        raise ProfileError(f"it is for {_name(icc[16:20])!r} ({_name(device_class)}), which no photograph is")
    _refuse_hdr(icc)
    channels = CHANNELS[model]
    steps = np.linspace(0, 65535, 9).astype(np.uint16)
    lattice = np.stack(np.meshgrid(*[steps] * min(channels, 3), indexing="ij"), axis=-1).reshape(
        1, -1, min(channels, 3)
    )
    if model == "cmyk":
        lattice = np.concatenate([lattice, np.zeros_like(lattice[:, :, :1])], axis=2)
    converted = _transform(lattice, icc, model)
    srgb = model != "cmyk" and int(np.abs(converted.astype(int) - lattice).max()) < _SRGB_WITHIN
    return Profile(model, srgb)


def space_of(icc: bytes) -> str | None:
    """The colours that a profile is for: "grey", "rgb", "cmyk", or its own word for others; None: it is no profile."""
    if len(icc) < 132 or icc[36:40] != b"acsp":
        return None
    return _SPACES.get(icc[16:20]) or _name(icc[16:20])


def to_srgb(samples: Samples, icc: bytes) -> Samples:
    """(H, W, C) of the profile's own channels -> (H, W, 3) of the same depth, in sRGB.

    Relative colorimetric, with black point compensation; computed in 16 bits. Raises ProfileError.
    """
    model = examine(icc).model
    height, width, _ = samples.shape
    out = np.empty((height, width, 3), samples.dtype)
    for rows in in_rows(height, width):
        part = _transform(np.ascontiguousarray(samples[rows]), icc, model)
        out[rows] = part if samples.dtype == np.uint16 else to_8_bits(part)
    return out


@lru_cache(maxsize=1)
def _srgb_profile() -> bytes:
    return bytes(imagecodecs.cms_profile("srgb"))


def _transform(samples: NDArray[Any], icc: bytes, model: Model) -> NDArray[np.uint16]:
    try:
        converted: NDArray[np.uint16] = imagecodecs.cms_transform(
            samples,
            icc,
            _srgb_profile(),
            colorspace=_LCMS_SPACES[model],
            outcolorspace="rgb",
            outdtype=np.uint16,
            intent=_RELATIVE_COLORIMETRIC,
            flags=_BLACK_POINT_COMPENSATION | _NO_TABLES,
        )
    except (imagecodecs.CmsError, ValueError) as error:
        raise ProfileError(f"it is damaged ({error})") from error
    return converted.reshape(*samples.shape[:2], 3)


def _refuse_hdr(icc: bytes) -> None:
    """Raise UnreadError for a profile of PQ or HLG, which an ICC version 4 profile names in a tag or in its name."""
    (count,) = struct.unpack(">I", icc[128:132])
    for start in range(132, min(132 + 12 * count, len(icc) - 11), 12):
        name, offset, size = struct.unpack(">4sII", icc[start : start + 12])
        value = icc[offset : offset + min(size, 4096)]
        if name == b"cicp" and len(value) >= 12 and value[9] in _HDR:
            raise UnreadError(_hdr(_HDR[value[9]]))
        if name == b"desc":
            found = _HDR_NAME.search(value.replace(b"\0", b""))
            if found:
                raise UnreadError(_hdr(found[0].decode().upper()))


def _hdr(name: str) -> str:
    return f"is an HDR photograph ({name}); save it in sRGB, as SDR, first"


def _name(code: bytes) -> str:
    return code.decode("ascii", errors="replace").strip()
