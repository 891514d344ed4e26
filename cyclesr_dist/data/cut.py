"""From photographs to encoded patches: reading, aligning, cutting."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cyclesr_dist.config.schema import Region, Shards
from cyclesr_dist.data.covered import covered, covered_px
from cyclesr_dist.data.encoding import encode
from cyclesr_dist.data.images import read_rgb8
from cyclesr_dist.data.resize import bicubic_up
from cyclesr_dist.data.shards import DOMAINS, Kind

MAX_SHIFT_PX = 16
"""How far apart, in HR px along each axis, `estimate_shift` looks."""


@dataclass(frozen=True)
class Photograph:
    """What one image, or pair of images, contributes."""

    stem: str
    """Tar-safe and unique in the set."""
    files: dict[str, Path]
    """By domain: 'hr', 'lr'."""


@dataclass(frozen=True)
class Cut:
    """The encoded patches of one photograph."""

    keys: list[str]
    patches: list[list[bytes]]
    """For each key the members, in the order of the kind's domains."""
    shift_px: tuple[int, int]
    """Of LR against HR, (down, right) in HR px; (0, 0) for single images."""
    num_flat: int = 0
    """Patches left out for `shards.min_std`."""
    too_small: tuple[int, int] | None = None
    """Width and height of what there was to cut from, where that holds no patch."""


def positions(length: int, patch: int, stride: int) -> list[int]:
    """Where patches start along an axis: every `stride`, and one that ends at the edge. Needs length >= patch."""
    starts = list(range(0, length - patch + 1, stride))
    return starts if starts[-1] == length - patch else [*starts, length - patch]


def estimate_shift(hr: NDArray[np.uint8], lr: NDArray[np.uint8], scale: int) -> tuple[int, int]:
    """How far the content of `lr` (h, w, 3) lies below and to the right of that of `hr` (H, W, 3), in HR px.

    Maximises the normalised correlation of the bicubically enlarged LR with HR over all whole shifts up to
    MAX_SHIFT_PX (a quarter of the image, if that is less) along each axis; it does not mind other brightness or
    contrast. A flat image gives (0, 0).
    """
    up = bicubic_up(torch.from_numpy(lr.astype(np.float32)).permute(2, 0, 1).unsqueeze(0) / 255, scale)
    moved = up[0].mean(dim=0).double().numpy()
    fixed = hr.mean(axis=2, dtype=np.float64) / 255
    height, width = (min(a, b) for a, b in zip(fixed.shape, moved.shape, strict=True))
    fixed = fixed[:height, :width] - fixed.mean()
    reach_y, reach_x = min(MAX_SHIFT_PX, height // 4), min(MAX_SHIFT_PX, width // 4)
    window = moved[reach_y : height - reach_y, reach_x : width - reach_x]
    window = window - window.mean()
    # Correlation with all windows of `fixed` at once; entry (u, v) is the one that starts there.
    spectrum = np.fft.rfft2(fixed) * np.conj(np.fft.rfft2(window, s=fixed.shape))
    products = np.fft.irfft2(spectrum, s=fixed.shape)[: 2 * reach_y + 1, : 2 * reach_x + 1]
    sums, squares = _window_sums(fixed, window.shape), _window_sums(fixed**2, window.shape)
    energy = squares - sums**2 / window.size
    if np.sum(window**2) < 1e-9 * window.size or energy.max() < 1e-9 * window.size:
        return 0, 0
    score = products / np.sqrt(np.maximum(energy, 1e-9 * window.size))
    u, v = np.unravel_index(np.argmax(score), score.shape)
    return reach_y - int(u), reach_x - int(v)


def cut_photograph(photograph: Photograph, *, kind: Kind, shards: Shards, scale: int) -> Cut:
    """Read, align, cut and encode one photograph; only the region that `shards` says, of pairs once they are aligned.

    Positions in keys are px of the image, of the LR image for pairs. Raises InputError for a file that cannot be read
    and for pairs of another scale.
    """
    images = {domain: read_rgb8(path) for domain, path in photograph.files.items()}
    shift, top, left = (0, 0), 0, 0
    if kind != "pairs":
        top, left, images[kind] = crop_region(images[kind], region_of(kind, shards))
    factor = dict.fromkeys(images, 1)
    if kind == "pairs":
        files = (str(photograph.files["lr"]), photograph.files["hr"].name)
        covered(images["lr"].shape, images["hr"].shape, scale, files)
        if shards.align:
            shift = estimate_shift(images["hr"], images["lr"], scale)
        (top, left), images = _overlap(images, scale, shift)
        y, x, images["lr"] = crop_region(images["lr"], region_of(kind, shards))
        height, width = images["lr"].shape[:2]
        images["hr"] = images["hr"][y * scale : (y + height) * scale, x * scale : (x + width) * scale]
        top, left = top + y, left + x
        factor["hr"] = scale
    size, stride = (n * (scale if kind == "hr" else 1) for n in (shards.patch, shards.stride))
    height, width = images[DOMAINS[kind][-1]].shape[:2]
    if min(height, width) < size:  # of pairs not known before: what both images show is less than either
        return Cut([], [], shift, too_small=(width, height))
    keys: list[str] = []
    patches: list[list[bytes]] = []
    num_flat = 0
    for y in positions(height, size, stride):
        for x in positions(width, size, stride):
            cut = [
                images[domain][y * f : (y + size) * f, x * f : (x + size) * f]
                for domain, f in ((domain, factor[domain]) for domain in DOMAINS[kind])
            ]
            if _contrast(cut[-1]) >= shards.min_std:
                keys.append(f"{photograph.stem}_{top + y}_{left + x}")
                patches.append([encode(patch, shards.encoding) for patch in cut])
            else:
                num_flat += 1
    return Cut(keys, patches, shift, num_flat)


def region_of(kind: Kind, shards: Shards) -> Region:
    """The part of each photograph that patches of a set of this kind are cut from."""
    return shards.hr_region if kind == "hr" else shards.lr_region


def crop_region(image: NDArray[np.uint8], region: Region) -> tuple[int, int, NDArray[np.uint8]]:
    """Top and left of the region in the image, and its pixels; an odd middle row or column is in the second half."""
    height, width = image.shape[:2]
    top = height // 2 if region == "bottom" else 0
    left = width // 2 if region == "right" else 0
    w, h = region_size(width, height, region)
    return top, left, image[top : top + h, left : left + w]


def region_size(width: int, height: int, region: Region) -> tuple[int, int]:
    """Width and height of the region of an image of that size."""
    if region in ("left", "right"):
        return (width // 2 if region == "left" else width - width // 2), height
    if region in ("top", "bottom"):
        return width, (height // 2 if region == "top" else height - height // 2)
    return width, height


def _overlap(
    images: Mapping[str, NDArray[np.uint8]], scale: int, shift: tuple[int, int]
) -> tuple[tuple[int, int], dict[str, NDArray[np.uint8]]]:
    """Crop LR to the rows and columns that HR has too, and HR to the same, moved by `shift`. Also LR's new origin."""
    hr, lr = images["hr"], images["lr"]
    first = [max(0, math.ceil(d / scale)) for d in shift]
    last = [
        max(a, covered_px(n, size + d, scale))
        for a, n, size, d in zip(first, lr.shape[:2], hr.shape[:2], shift, strict=True)
    ]
    hr_rows, hr_columns = (slice(a * scale - d, b * scale - d) for a, b, d in zip(first, last, shift, strict=True))
    rows, columns = (slice(a, b) for a, b in zip(first, last, strict=True))
    return (first[0], first[1]), {"hr": hr[hr_rows, hr_columns], "lr": lr[rows, columns]}


def _contrast(patch: NDArray[np.uint8]) -> float:
    """Standard deviation over the pixels, averaged over the channels, in [0, 1]: an even blue has none."""
    return float(patch.std(axis=(0, 1), dtype=np.float64).mean() / 255)


def _window_sums(image: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Sums over all windows of `shape`, through the integral image."""
    total = np.pad(image.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    h, w = shape
    sums: NDArray[np.float64] = total[h:, w:] - total[:-h, w:] - total[h:, :-w] + total[:-h, :-w]
    return sums
