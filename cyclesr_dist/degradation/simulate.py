"""Seeded simulated tracks: three of equation (1), y = (x * k) down_s + n, like the NTIRE challenges', and a camera.

The challenges never published their parameters, so these are "unknown-like", "mild-like" and "wild-like":

- `unknown`: one fixed kernel, elongated, rotated and lopsided, drawn from the seed alone; no noise, no shift.
- `mild`: motion blur along a bent path, Poisson noise and a pixel shift. One level for all images; the direction and
  bend of the path, the direction of the shift and the noise itself are drawn per image.
- `wild`: the same with the levels drawn per image too, four variants a scene.

`camera` is outside equation (1): see camera.py. Its levels are drawn per image, around those given.

A draw depends on (seed, track, name, variant) only: neither on the machine nor on the other files in the folder.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from cyclesr_dist.config.reader import check_range
from cyclesr_dist.config.schema import Degrade, Track
from cyclesr_dist.data.images import list_images, read_rgb8, write_png
from cyclesr_dist.data.overlap import RECORD
from cyclesr_dist.data.resize import bicubic_down, to_8bit_grid
from cyclesr_dist.degradation.camera import SMALLEST_PX, photograph
from cyclesr_dist.errors import InputError
from cyclesr_dist.runtime.bars import each
from cyclesr_dist.runtime.files import new_folder, sha256, write_json

TRACKS: tuple[str, ...] = get_args(Track)

_VARIANTS = {"unknown": ("",), "mild": ("m",), "wild": ("w1", "w2", "w3", "w4"), "camera": ("",)}
_VERSION = 1  # of the drawing code and the record; a change of either makes old folders differ


def degrade(
    hr: Tensor, track: Track, scale: int, levels: Degrade, seed: int, name: str, variant: int = 0
) -> tuple[Tensor, dict[str, Any]]:
    """What a track does to one image.

    `hr` is (1, 3, H, W) in [0, 1]; its bottom and right are cropped to multiples of `scale`. Returns LR, (1, 3,
    H // scale, W // scale) in [0, 1] on the 8-bit grid, and the parameters drawn, ready for JSON. Borders are
    replicated. A shift of (dy, dx) HR px moves the content down and to the right.
    Raises ValueError if `hr` is smaller than `smallest_px`.
    """
    parameters = draw_parameters(track, levels, seed, name, variant)
    height, width = (size // scale * scale for size in hr.shape[-2:])
    if min(height, width) < smallest_px(track, scale):
        raise ValueError(f"an image of {hr.shape[-1]} x {hr.shape[-2]} px cannot be shrunk by {scale}")
    if track == "camera":
        random = _random(seed, track, name, variant, "noise")
        return photograph(hr[..., :height, :width], scale, **parameters, random=random), parameters
    kernel = (
        unknown_kernel(levels.blur_px, seed)
        if track == "unknown"
        else motion_kernel(parameters["blur_px"], parameters["angle"], parameters["bend"])
    )
    blurred = _blur_and_shift(hr[..., :height, :width], kernel, tuple(parameters.get("shift_px", (0, 0))))
    lr = bicubic_down(blurred, scale)
    noise = parameters.get("noise", 0.0)
    if noise > 0:
        lr = _poisson(lr, noise, _random(seed, track, name, variant, "noise"))
    return to_8bit_grid(lr), parameters


def draw_parameters(track: Track, levels: Degrade, seed: int, name: str, variant: int = 0) -> dict[str, Any]:
    """What `degrade` draws for one image, without its pixels; empty for `unknown`, which has one kernel for all.

    `blur_px`: length of the path; `angle`: its direction half-way, `bend`: by how much it turns, both in radians;
    `noise`: standard deviation at mid grey, in [0, 1]; `shift_px`: (down, right). Lengths are HR px.
    `camera` has `blur_px`, the standard deviation of its blur, `noise`, and `jpeg_quality`.
    """
    if track == "unknown":
        return {}
    random = _random(seed, track, name, variant, "parameters")
    if track == "camera":
        return {
            "blur_px": float(random.uniform(0.8, 1.2) * levels.blur_px),
            "noise": float(random.uniform(0.7, 1.3) * levels.noise),
            "jpeg_quality": min(max(levels.jpeg_quality + int(random.randint(-8, 9)), 1), 100),
        }
    share, share_noise, share_shift = random.random_sample(3) if track == "wild" else (1.0, 1.0, 1.0)
    largest_shift = math.floor(share_shift * (levels.shift_px + 1)) if track == "wild" else levels.shift_px
    return {
        "blur_px": float(share * levels.blur_px),
        "angle": float(random.uniform(0, math.pi)),
        "bend": float(random.uniform(-math.pi / 2, math.pi / 2)),
        "noise": float(share_noise * levels.noise),
        "shift_px": [int(random.randint(-largest_shift, largest_shift + 1)) for _ in range(2)],
    }


def unknown_kernel(width_px: float, seed: int) -> NDArray[np.float32]:
    """The kernel of track `unknown`: (K, K), K = `width_px` rounded down to odd, non-negative, sum 1.

    A long rotated Gaussian with two smaller ones at its side, so that it is neither round nor symmetrical; their
    common centre of mass is the middle (but for the cut at the border), so it does not shift the image.
    """
    radius = int(width_px // 2)
    random = _random(seed, "unknown", "", 0, "kernel")
    weights = np.array([1.0, *random.uniform(0.25, 0.5, 2)])
    centres = np.vstack([np.zeros((1, 2)), random.uniform(0.15, 0.3, (2, 1)) * _directions(random, 2)]) * width_px
    centres -= weights @ centres / weights.sum()
    long, short = random.uniform((0.2, 0.08, 0.08), (0.28, 0.12, 0.12)), random.uniform(0.05, 0.09, 3)
    angles = random.uniform(0, math.pi, 3)

    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float64)
    kernel = np.zeros_like(y)
    for weight, (cy, cx), along, across, angle in zip(weights, centres, long, short, angles, strict=True):
        u = (x - cx) * math.cos(angle) + (y - cy) * math.sin(angle)
        v = (y - cy) * math.cos(angle) - (x - cx) * math.sin(angle)
        # Never narrower than a pixel can sample.
        s, t = max(along * width_px, 0.4), max(across * width_px, 0.4)
        kernel += weight / (s * t) * np.exp(-0.5 * ((u / s) ** 2 + (v / t) ** 2))
    normalised: NDArray[np.float32] = (kernel / kernel.sum()).astype(np.float32)
    return normalised


def motion_kernel(length_px: float, angle: float, bend: float) -> NDArray[np.float32]:
    """Blur by a camera that moves `length_px` along an arc: (K, K), K odd, non-negative, sum 1, centre of mass centred.

    `angle` is the direction half-way along the arc, `bend` by how much it turns in all (radians). Length 0: identity.
    """
    steps = max(1, math.ceil(length_px * 16))
    along = (np.arange(steps) + 0.5) / steps - 0.5
    heading = angle + bend * along
    path = np.stack([np.sin(heading), np.cos(heading)], axis=1).cumsum(axis=0) * (length_px / steps)
    path -= path.mean(axis=0)
    radius = math.ceil(np.abs(path).max())
    kernel = np.zeros((2 * radius + 2, 2 * radius + 2))
    corner = np.floor(path).astype(np.int64)
    fy, fx = (path - corner).T
    row, column = (corner + radius).T
    for dy, wy in ((0, 1 - fy), (1, fy)):  # bilinear: a moving point covers pixels by its share
        for dx, wx in ((0, 1 - fx), (1, fx)):
            np.add.at(kernel, (row + dy, column + dx), wy * wx)
    kernel = kernel[: 2 * radius + 1, : 2 * radius + 1]
    normalised: NDArray[np.float32] = (kernel / kernel.sum()).astype(np.float32)
    return normalised


def lr_names(stem: str, track: Track, scale: int) -> list[str]:
    """File names of the variants of one scene, as DIV2K names them."""
    return [f"{stem}x{scale}{suffix}.png" for suffix in _VARIANTS[track]]


def smallest_px(track: Track, scale: int) -> int:
    """The least width and height of an HR image."""
    return scale * SMALLEST_PX if track == "camera" else scale


def degrade_folder(
    hr_dir: Path,
    out: Path,
    *,
    track: str,
    scale: int,
    seed: int,
    levels: Degrade,
    overwrite: bool = False,
    progress: bool = True,
) -> int:
    """Make the LR files of `track` for all images of `hr_dir`, with `degradations.json` beside them; all or nothing.

    Returns the number of files written: 0 if `out` held this very result already. The record has the levels, and for
    every LR file its HR file, the parameters drawn and the checksums of both; no times.
    Raises InputError for a bad image, an unknown track, an `out` that holds anything else (without `overwrite`) or
    contains `hr_dir`; ConfigError for levels out of range.
    """
    chosen = _check_settings(track, scale, levels)
    sources = _scenes(hr_dir, chosen, scale)
    header: dict[str, Any] = {
        "version": _VERSION,
        "track": track,
        "scale": scale,
        "seed": seed,
        "levels": _recorded(levels, chosen),
        "crop": "top left, to multiples of the scale",
    }
    files: dict[str, dict[str, Any]] = {
        lr: {"hr": path.name, "hr_sha256": checksum, "parameters": draw_parameters(chosen, levels, seed, path.stem, i)}
        for path, checksum in ((path, sha256(path)) for path in sources)
        for i, lr in enumerate(lr_names(path.stem, chosen, scale))
    }
    if _holds(out, header, files):
        return 0
    with new_folder(out, overwrite=overwrite, inputs=(hr_dir,)) as folder:
        for path in each(sources, f"degrade {track}", "image", progress):
            hr = read_rgb8(path).astype(np.float32) / np.float32(255)
            for i, lr_name in enumerate(lr_names(path.stem, chosen, scale)):
                lr = _lr_of(hr, str(path), chosen, scale, levels, seed, path.stem, i)
                write_png(folder / lr_name, lr)
                files[lr_name] |= {
                    "hr_used_px": [lr.shape[0] * scale, lr.shape[1] * scale],
                    "lr_sha256": sha256(folder / lr_name),
                }
        kernel = {"kernel": unknown_kernel(levels.blur_px, seed).tolist()} if chosen == "unknown" else {}
        write_json(folder / RECORD, {**header, **kernel, "files": files})
    return len(files)


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
    """LR of one image: what `degrade_folder` makes of a file with the stem `name`.

    `hr` is (H, W, 3) in [0, 1]; LR is (H // scale, W // scale, 3). `where` is what errors call the image. Raises
    InputError for an image that is too small, an unknown track or variant; ConfigError for levels out of range.
    """
    chosen = _check_settings(track, scale, levels)
    count = len(_VARIANTS[chosen])
    if variant not in range(count):
        raise InputError(f"variant = {variant!r} of track {track} is unknown; allowed: 0 to {count - 1}")
    return _lr_of(hr, where, chosen, scale, levels, seed, name, variant)


def _lr_of(
    hr: NDArray[np.float32], where: str, track: Track, scale: int, levels: Degrade, seed: int, name: str, variant: int
) -> NDArray[np.uint8]:
    """`degrade` from (H, W, 3) to (h, w, 3). Raises InputError when `hr` is too small."""
    least = smallest_px(track, scale)
    if min(hr.shape[:2]) < least:
        raise InputError(
            f"{where}: {hr.shape[1]} x {hr.shape[0]} px is too small for scale {scale}; "
            f"at least {least} x {least} px are needed"
        )
    x = torch.from_numpy(hr).permute(2, 0, 1).unsqueeze(0)
    lr, _ = degrade(x, track, scale, levels, seed, name, variant)
    return np.asarray((lr[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy())


def _random(*what: int | str) -> np.random.RandomState:
    """A generator for one purpose. RandomState, because NEP 19 froze its streams for good, unlike Generator's."""
    digest = hashlib.sha256(json.dumps(what).encode()).digest()
    return np.random.RandomState(np.frombuffer(digest, "<u4").astype(np.uint32))


def _directions(random: np.random.RandomState, count: int) -> NDArray[np.float64]:
    angles = random.uniform(0, 2 * math.pi, count)
    return np.stack([np.sin(angles), np.cos(angles)], axis=1)


def _blur_and_shift(x: Tensor, kernel: NDArray[np.float32], shift: tuple[int, int]) -> Tensor:
    """(1, 3, H, W) to the same size: convolve, move content by `shift` (down, right), replicate the border."""
    radius = kernel.shape[0] // 2
    margin = radius + max(abs(shift[0]), abs(shift[1]))
    padded = F.pad(x, (margin, margin, margin, margin), mode="replicate")
    top, left = margin - radius - shift[0], margin - radius - shift[1]
    window = padded[..., top : top + x.shape[-2] + 2 * radius, left : left + x.shape[-1] + 2 * radius]
    if radius == 0:
        return window
    # conv2d correlates; flipped, it is the convolution of equation (1). Channels go through as a batch.
    flipped = torch.from_numpy(kernel[::-1, ::-1].copy()).to(x.dtype)
    return F.conv2d(window.transpose(0, 1), flipped[None, None]).transpose(0, 1)


def _poisson(x: Tensor, noise: float, random: np.random.RandomState) -> Tensor:
    """Count photons: the variance is proportional to brightness, the standard deviation at 0.5 is `noise`."""
    photons = 0.5 / noise**2  # at brightness 1
    counts = random.poisson(x.clamp(0, 1).double().numpy() * photons)
    return torch.from_numpy(counts / photons).to(x.dtype)


def _recorded(levels: Degrade, track: Track) -> dict[str, Any]:
    """The levels as the record has them."""
    recorded = asdict(levels)
    if track != "camera":
        del recorded["jpeg_quality"]  # folders made before there was a camera hold the same result still
    return recorded


def _check_settings(track: str, scale: int, levels: Degrade) -> Track:
    check_range("scale", scale, minimum=1)
    check_range("degrade.blur_px", levels.blur_px, minimum=0, maximum=255)
    check_range("degrade.noise", levels.noise, minimum=0, maximum=1)
    check_range("degrade.shift_px", levels.shift_px, minimum=0, maximum=255)
    check_range("degrade.jpeg_quality", levels.jpeg_quality, minimum=1, maximum=100)
    for known in get_args(Track):
        if track == known:
            chosen: Track = known
            return chosen
    raise InputError(f"track = {track!r} is unknown; allowed: {', '.join(TRACKS)}")


def _scenes(hr_dir: Path, track: Track, scale: int) -> list[Path]:
    """The images of `hr_dir`, whose LR names must lead back to exactly one of them."""
    paths = list_images(hr_dir)
    by_stem: dict[str, Path] = {}
    for path in paths:
        if path.stem in by_stem:
            raise InputError(f"{hr_dir}: {by_stem[path.stem].name} and {path.name} have the same stem; keep one")
        by_stem[path.stem] = path
    for path in paths:
        for name in lr_names(path.stem, track, scale):
            if Path(name).stem in by_stem:
                raise InputError(
                    f"{path}: its LR file {name} would be taken for that of {by_stem[Path(name).stem].name}"
                )
    return paths


def _holds(out: Path, header: dict[str, Any], files: dict[str, dict[str, Any]]) -> bool:
    """Whether `out` holds exactly this result, with every LR file as it was written."""
    if not (out / RECORD).is_file():
        return False
    try:
        record = json.loads((out / RECORD).read_bytes())
        made = record.pop("files")
        record.pop("kernel", None)  # follows from the header, but for the last bit of a float on another machine
        same = (
            record == header
            and {lr: {key: entry[key] for key in ("hr", "hr_sha256", "parameters")} for lr, entry in made.items()}
            == files
        )
        present = {path.name for path in out.iterdir() if not path.name.startswith(".")} == {RECORD, *files}
        return bool(same and present and all(sha256(out / lr) == made[lr]["lr_sha256"] for lr in files))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):  # not a record of ours
        return False
