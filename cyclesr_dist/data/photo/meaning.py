"""What samples mean as colours: kept with their profile, or made sRGB."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cyclesr_dist.data.photo.icc import ProfileError, examine, to_srgb
from cyclesr_dist.data.photo.kinds import Raster, Samples, in_rows
from cyclesr_dist.data.photo.transparency import filled

Say = Callable[[str], None]


@dataclass(frozen=True)
class Colours:
    """Samples, (H, W, 1|2|3|4): grey, grey with alpha, RGB, RGB with alpha, and their profile; None: sRGB."""

    samples: Samples
    icc: bytes | None


def in_srgb(raster: Raster, icc: bytes | None, say: Say) -> Colours:
    """In sRGB, with colours of transparent pixels filled. `say` is told of profiles that cannot be used."""
    return _colours(raster, icc, say, keep=False)


def as_stored(raster: Raster, icc: bytes | None, say: Say) -> Colours:
    """In the picture's own colours, where they are grey or RGB and its profile is of that kind. Nothing is filled."""
    return _colours(raster, icc, say, keep=True)


def _colours(raster: Raster, icc: bytes | None, say: Say, keep: bool) -> Colours:
    stored, alpha = raster.samples, None
    if raster.alpha:
        stored, alpha = raster.samples[:, :, :-1], raster.samples[:, :, -1]
    colour, icc = _converted(stored, raster.model, icc, say, keep)
    if alpha is None:
        return Colours(colour, icc)
    visible = colour if keep else filled(colour, alpha)
    if visible is stored:  # as they were, beside their alpha: no copy
        return Colours(raster.samples, icc)
    both: Samples = np.concatenate([visible, alpha[:, :, None]], axis=2)
    return Colours(both, icc)


def _converted(colour: Samples, model: str, icc: bytes | None, say: Say, keep: bool) -> tuple[Samples, bytes | None]:
    """Colours and their profile."""
    try:
        profile = examine(icc) if icc else None
        if icc is None or profile is None:
            if model == "cmyk":
                say("is CMYK without a colour profile; its colours are a guess")
                return _plain_rgb(colour), None
            return colour, None
        if profile.model != model and not (model == "grey" and profile.model == "rgb"):
            raise ProfileError(f"it is for {profile.model}, and the picture is {model}")
        if profile.model == model and model != "cmyk" and (keep or profile.srgb):
            return colour, icc if keep else None
        if profile.srgb:
            return colour, None
        own: Samples = colour if profile.model == model else colour.repeat(3, axis=2)
        rgb = to_srgb(own, icc)
    except ProfileError as error:
        meaning = "its colours are a guess" if model == "cmyk" else "it is read as sRGB"
        say(f"its colour profile cannot be used ({error}); {meaning}")
        return (_plain_rgb(colour) if model == "cmyk" else colour), None
    return (rgb[:, :, 1:2] if model == "grey" else rgb), None


def _plain_rgb(ink: Samples) -> Samples:
    """What light is left when each ink takes its part: no printer's colours, but no negative either."""
    full = int(np.iinfo(ink.dtype).max)
    light: Samples = np.empty((*ink.shape[:2], 3), ink.dtype)
    for rows in in_rows(*ink.shape[:2]):
        paper = full - ink[rows].astype(np.uint64)
        light[rows] = (paper[:, :, :3] * paper[:, :, 3:] + full // 2) // full
    return light
