"""What a simulated track is, and the ones there are. docs/extending.md shows how to add one."""

from __future__ import annotations

import hashlib
import json
import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from torch import Tensor

from cyclesr_dist.config.schema import Degrade
from cyclesr_dist.errors import ConfigError, InputError
from cyclesr_dist.runtime.user_modules import ours_or_yours

LEVELS = tuple(field.name for field in fields(Degrade))


@dataclass(frozen=True)
class Draws:
    """Random generators of one image and variant, one a purpose."""

    seed: int
    track: str
    name: str
    variant: int = 0

    def __call__(self, purpose: str) -> np.random.RandomState:
        """RandomState, because NEP 19 froze its streams for good, unlike Generator's."""
        what = (self.seed, self.track, self.name, self.variant, purpose)
        digest = hashlib.sha256(json.dumps(what).encode()).digest()
        return np.random.RandomState(np.frombuffer(digest, "<u4").astype(np.uint32))


@dataclass(frozen=True)
class SimulatedTrack:
    """From HR to LR, of one kind. Lengths are in HR px, images (1, 3, H, W) in [0, 1]."""

    draw: Callable[[Degrade, Draws], dict[str, Any]]
    """Draws the parameters of one image around the levels, ready for JSON."""
    apply: Callable[[Tensor, int, Degrade, dict[str, Any], Draws], Tensor]
    """(hr, scale, levels, parameters, draws) -> LR (1, 3, H // scale, W // scale) on the 8-bit grid; H and W are
    multiples of `scale`."""
    variants: tuple[str, ...] = ("",)
    """Endings of the LR files' names, one file a scene each."""
    smallest_lr_px: int = 1
    """Least width and height of LR."""
    levels: tuple[str, ...] = LEVELS
    """Which of the levels it reads: those are recorded."""
    record: Callable[[Degrade, int], dict[str, Any]] = lambda levels, seed: {}
    """(levels, seed) -> what `degradations.json` says beside."""


BUILT_IN: Mapping[str, str] = {
    "unknown": "cyclesr_dist.degradation.equation1:UNKNOWN",
    "mild": "cyclesr_dist.degradation.equation1:MILD",
    "wild": "cyclesr_dist.degradation.equation1:WILD",
    "camera": "cyclesr_dist.degradation.camera:CAMERA",
}


def track_of(name: str) -> SimulatedTrack:
    """One of ours, or of yours (`package.module:TRACK`). Raises InputError when it is neither."""
    if name not in BUILT_IN and ":" not in name:
        raise InputError(f"track = {name!r} is unknown; allowed: {', '.join(BUILT_IN)}, or package.module:TRACK")
    if name in BUILT_IN:
        ours: SimulatedTrack = pkgutil.resolve_name(BUILT_IN[name])
        return ours
    track: SimulatedTrack = ours_or_yours("track", name, {}, "package.module:TRACK", "a SimulatedTrack", SimulatedTrack)
    _check(name, track)
    return track


def _check(name: str, track: SimulatedTrack) -> None:
    """Raise ConfigError for what would write no LR files, or one over another, or record levels that are not there."""
    endings = track.variants
    if not isinstance(endings, tuple) or not endings or len(set(endings)) < len(endings):
        raise ConfigError(f"track = {name} has variants = {endings!r}; allowed: a tuple of different endings")
    if not all(isinstance(ending, str) and re.fullmatch(r"\w*", ending) for ending in endings):
        raise ConfigError(f"track = {name} has variants = {endings!r}; allowed: letters, digits and _")
    if unknown := set(track.levels) - set(LEVELS):
        raise ConfigError(f"track = {name} has levels = {sorted(unknown)}; allowed: {', '.join(LEVELS)}")
