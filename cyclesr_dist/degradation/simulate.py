"""Seeded simulated LR of one image; simulate_folder.py does folders.

A draw depends on (seed, track, name, variant) only: neither on the machine nor on the other files in the folder.
"""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cyclesr_dist.config.marks import check_marks
from cyclesr_dist.config.reader import check_range
from cyclesr_dist.config.schema import Degrade
from cyclesr_dist.degradation.track import BUILT_IN, Draws, SimulatedTrack, track_of
from cyclesr_dist.errors import ConfigError, InputError
from cyclesr_dist.runtime.user_modules import call_of_user

TRACKS: tuple[str, ...] = tuple(BUILT_IN)


def degrade(
    hr: Tensor, track: str, scale: int, levels: Degrade, seed: int, name: str, variant: int = 0
) -> tuple[Tensor, dict[str, Any]]:
    """What a track does to one image.

    `hr` is (1, 3, H, W) in [0, 1]; its bottom and right are cropped to multiples of `scale`. Returns LR, (1, 3,
    H // scale, W // scale) in [0, 1] on the 8-bit grid, and the parameters drawn, ready for JSON. Borders are
    replicated. A shift of (dy, dx) HR px moves the content down and to the right.
    Raises ValueError if `hr` is smaller than `smallest_px`, InputError for an unknown track.
    """
    parameters = draw_parameters(track, levels, seed, name, variant)
    return _applied(hr, track, scale, levels, parameters, Draws(seed, track, name, variant)), parameters


def _applied(hr: Tensor, track: str, scale: int, levels: Degrade, parameters: dict[str, Any], draws: Draws) -> Tensor:
    """LR of `hr` with parameters that were drawn. Raises ValueError if `hr` is too small."""
    simulated = track_of(track)
    height, width = (size // scale * scale for size in hr.shape[-2:])
    if min(height, width) < smallest_px(simulated, scale):
        raise ValueError(f"an image of {hr.shape[-1]} x {hr.shape[-2]} px cannot be shrunk by {scale}")
    used = hr[..., :height, :width]
    if track in BUILT_IN:
        return simulated.apply(used, scale, levels, parameters, draws)
    own = deepcopy(parameters)  # what is recorded is what was drawn, whatever a track of the user's own does with it
    lr = call_of_user(f"track = {track}", lambda: simulated.apply(used, scale, levels, own, draws))
    _check_lr(track, lr, (1, 3, height // scale, width // scale))
    return lr


def draw_parameters(track: str, levels: Degrade, seed: int, name: str, variant: int = 0) -> dict[str, Any]:
    """What `degrade` draws for one image, without its pixels; empty for `unknown`, which has one kernel for all."""
    simulated, draws = track_of(track), Draws(seed, track, name, variant)
    if track in BUILT_IN:
        return simulated.draw(levels, draws)
    drawn, again = (call_of_user(f"track = {track}", lambda: simulated.draw(levels, draws)) for _ in range(2))
    try:
        same = json.dumps(drawn) == json.dumps(again)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"track = {track} draws what JSON cannot hold ({error})") from error
    if not isinstance(drawn, dict) or not same:
        raise ConfigError(
            f"track = {track} draws {drawn!r:.80} and then {again!r:.80}; allowed: the same dict each time"
        )
    return drawn


def _check_lr(track: str, lr: object, shape: tuple[int, ...]) -> None:
    """Raise ConfigError unless it can be written as 8 bits without a change."""
    if not isinstance(lr, Tensor) or lr.shape != shape or not lr.is_floating_point():
        given = f"{tuple(lr.shape)}, {lr.dtype}" if isinstance(lr, Tensor) else f"a {type(lr).__name__}"
        raise ConfigError(f"track = {track} gives {given}; allowed: a float tensor {shape}")
    if not bool(((lr >= 0) & (lr <= 1)).all()):  # not a number is neither
        raise ConfigError(f"track = {track} gives values that are not in [0, 1]")
    if not torch.allclose(lr * 255, (lr * 255).round(), atol=1e-3):
        raise ConfigError(
            f"track = {track} gives values between the steps of 8 bits; end with data/resize.py's to_8bit_grid"
        )


def lr_names(stem: str, track: str, scale: int) -> list[str]:
    """File names of the variants of one scene, as DIV2K names them."""
    return [f"{stem}x{scale}{suffix}.png" for suffix in track_of(track).variants]


def smallest_px(track: SimulatedTrack, scale: int) -> int:
    """The least width and height of an HR image."""
    return scale * track.smallest_lr_px


def degrade_image(
    hr: NDArray[np.float32],
    *,
    track: str,
    scale: int,
    seed: int,
    levels: Degrade,
    name: str,
    variant: int = 0,
    where: str = "the image",
) -> NDArray[np.uint8]:
    """LR of one image: what `degrade_folder` (simulate_folder.py) makes of a file with the stem `name`.

    `hr` is (H, W, 3) in [0, 1]; LR is (H // scale, W // scale, 3). `where` is what errors call the image. Raises
    InputError for an image that is too small, an unknown track or variant; ConfigError for levels out of range.
    """
    count = len(check_settings(track, scale, levels).variants)
    if variant not in range(count):
        raise InputError(f"variant = {variant!r} of track {track} is unknown; allowed: 0 to {count - 1}")
    parameters = draw_parameters(track, levels, seed, name, variant)
    return lr_of(hr, where, track, scale, levels, parameters, Draws(seed, track, name, variant))


def lr_of(
    hr: NDArray[np.float32],
    where: str,
    track: str,
    scale: int,
    levels: Degrade,
    parameters: dict[str, Any],
    draws: Draws,
) -> NDArray[np.uint8]:
    """`_applied` from (H, W, 3) to (h, w, 3). Raises InputError when `hr` is too small."""
    least = smallest_px(track_of(track), scale)
    if min(hr.shape[:2]) < least:
        raise InputError(
            f"{where}: {hr.shape[1]} x {hr.shape[0]} px is too small for scale {scale}; "
            f"at least {least} x {least} px are needed"
        )
    x = torch.from_numpy(hr).permute(2, 0, 1).unsqueeze(0)
    lr = _applied(x, track, scale, levels, parameters, draws)
    return np.asarray((lr[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy())


def check_settings(track: str, scale: int, levels: Degrade) -> SimulatedTrack:
    check_range("scale", scale, minimum=1)
    check_marks(levels, "degrade.")
    return track_of(track)
