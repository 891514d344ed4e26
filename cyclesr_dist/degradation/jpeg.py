"""Were real photographs JPEGs: at what quality, and where does the grid of 8x8 blocks lie.

Two sources: the header of a file, and pixels alone, for photographs that were decoded, perhaps cropped, and saved as
something else. Qualities are those of the IJG's library, 1 to 100, which scale the luminance table of ITU-T T.81
Annex K, table K.1.

Shapes: n patches or blocks, F = 20 frequencies, Q = 95 qualities. Evidence is in nats: log p(JPEG) / p(smooth).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

SMALLEST_PX, _LARGEST = 40, 1024  # px a side: ignored below, cropped to its middle above
_HIGHEST = 95  # above it most steps are 1, which rounding hides
_FEWEST, _PATCHES = 12, 192  # needed and looked at in each image
_REACH = 15  # px: a patch of this side holds one block at each of the 64 offsets
_SHORTLIST = 4  # offsets of which the steps are looked for
_SIGMA = 0.4  # of a coefficient: rounding of YCbCr, then of RGB, is sqrt((1 + 0.447) / 12) = 0.35 in Y; and some more
_OUTLIERS = 0.1  # share of coefficients that fit no step
_MOST = 255  # the largest step of baseline JPEG
_BIN, _BINS = 0.125, 8193  # of the sizes of coefficients, up to 1024, the largest there can be
_LEAST = 30.0  # nats: chance reaches it once in e^30, and 64 offsets times 95 qualities are tried
_SUPPORT, _SUPPORT_OTHER = 4, 10  # frequencies: evidence is not to come from one or two; IJG's tables and others
_BASE = """
16 11 10 16 24 40 51 61      12 12 14 19 26 58 60 55      14 13 16 24 40 57 69 56      14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77    24 35 55 64 81 104 113 92    49 64 78 87 103 121 120 101  72 92 95 98 112 100 103 99
"""  # table K.1, row by row


@dataclass(frozen=True)
class Blocks:
    """What pixels tell of JPEG."""

    quality: int
    """1 to 95, the median of the images with blocks."""
    offset: tuple[int, int]
    """Row and column of the first block edge, 0 to 7 px each, in most of the images with blocks."""
    share: float
    """Of the images that are large enough, those with blocks; above 0, at most 1."""


def luminance_table(quality: int) -> Ints:
    """(8, 8) steps 1 to 255, row by row, of `quality` 1 to 100: IJG's `jpeg_quality_scaling`, baseline."""
    base = np.array(_BASE.split(), dtype=np.int64).reshape(8, 8)
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.clip((base * percent + 50) // 100, 1, _MOST)


def _transform() -> Floats:
    """(64, 15): 8 offsets by 8 frequencies, px. The orthonormal DCT of the 8 px from each offset of a line of 15."""
    line = np.arange(8)
    dct = 0.5 * np.cos((2 * line[None] + 1) * line[:, None] * math.pi / 16)
    dct[0] /= math.sqrt(2)
    out = np.zeros((8, 8, _REACH), dtype=np.float32)
    for offset in range(8):
        out[offset, :, offset : offset + 8] = dct
    return out.reshape(64, _REACH)


_TRANSFORM = _transform()
_ORDER = np.add.outer(np.arange(8), np.arange(8))
_LOW = (_ORDER >= 1) & (_ORDER <= 5)  # whose coefficients are large enough to tell their steps
_HIGH = _ORDER >= 3  # whose coefficients JPEG mostly sets to 0
_TABLES = np.stack([luminance_table(quality) for quality in range(1, 101)])
_STEPS = _TABLES[:_HIGHEST, _LOW]  # (Q, F)


def quality_of_file(path: Path) -> int | None:
    """1 to 100: the quality whose luminance table is nearest to the file's, by the mean |log| of the steps' ratios.

    None: no JPEG, or unreadable. Reads the header alone, so a file cut short after it has a quality.
    """
    try:
        with Image.open(path) as image:
            if not isinstance(image, JpegImageFile):  # MPO, as cameras write it, is one
                return None
            # A component names its table; the first is luminance. Pillow has undone the zigzag: rows, as in `_TABLES`.
            steps = np.array(image.quantization[image.layer[0][3]], dtype=np.float64).reshape(8, 8)
    except Exception:  # Pillow raises many kinds on broken files, and none of them is the caller's concern
        return None
    ratios = np.log(np.maximum(steps, 1)) - np.log(_TABLES)
    return int(np.abs(ratios).mean((1, 2)).argmin()) + 1


def find_blocks(images: Sequence[NDArray[np.uint8]]) -> Blocks | None:
    """Look for JPEG's steps in decoded (H, W, 3) uint8 RGB; images below 40 px a side are ignored. None: not found.

    Finds what was decoded, cropped and saved without loss, at qualities up to 95. Does not find what was resized, or
    made noisier by more than about a level, since. Tables that are not the IJG's give the nearest quality. Of two
    JPEGs on the same grid it may find either.
    """
    found = _find(images)
    return None if found is None else found[0]


def describe(paths: Sequence[Path], images: Sequence[NDArray[np.uint8]]) -> dict[str, Any] | None:
    """JSON-ready facts: `quality` 1 to 100 (median), `from` "files" or "pixels", `share` of photographs, `grid`.

    From the files if at least half of `paths` (may be empty) are JPEG, else from the pixels if at least half of the
    `images` that are large enough show blocks, else None. `grid` is [row, column] of the first block edge, 0 to 7, or
    None where most images with blocks do not agree on one, as patches cut anywhere. Files without blocks in their
    pixels count as not cropped: [0, 0]. Never raises for what a file or an image holds.
    """
    found = _find(images)
    if found is not None and found[0].share < 0.5:
        found = None
    grid = [0, 0] if found is None else list(found[0].offset) if found[1] else None
    qualities = [quality for path in paths if (quality := quality_of_file(path)) is not None]
    if qualities and 2 * len(qualities) >= len(paths):
        share = len(qualities) / len(paths)
        return {"quality": round(median(qualities)), "from": "files", "share": share, "grid": grid}
    if found is None:
        return None
    return {"quality": found[0].quality, "from": "pixels", "share": found[0].share, "grid": grid}


def _find(images: Sequence[NDArray[np.uint8]]) -> tuple[Blocks, bool] | None:
    """What there is in the images, and whether more than half of those with blocks have them at that offset."""
    lumas = [luma for image in images if (luma := _luma(image)) is not None]
    found = [fit for luma in lumas if (fit := _fit(*luma)) is not None]
    if not found:
        return None
    offset, count = Counter(offset for _, offset in found).most_common(1)[0]
    quality = round(median(quality for quality, _ in found))
    return Blocks(quality, offset, len(found) / len(lumas)), 2 * count > len(found)


def _luma(image: NDArray[np.uint8]) -> tuple[Floats, NDArray[np.bool_]] | None:
    """Y (H, W), 0 to 255 as JPEG has it, and which pixels are clipped (H, W). None: too small, or no such image."""
    image = image[..., None] if image.ndim == 2 else image
    if image.dtype != np.uint8 or image.ndim != 3 or min(image.shape[:2]) < SMALLEST_PX or image.shape[2] < 1:
        return None
    top, left = (max(side - _LARGEST, 0) // 16 * 8 for side in image.shape[:2])  # multiples of 8 keep the offset
    image = image[top : top + _LARGEST, left : left + _LARGEST]
    rgb = image[..., :3] if image.shape[2] >= 3 else image[..., [0, 0, 0]]  # without alpha
    clipped = ((rgb == 0) | (rgb == 255)).any(-1)
    return rgb.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32), clipped


def _fit(luma: Floats, clipped: NDArray[np.bool_]) -> tuple[int, tuple[int, int]] | None:
    """Quality and offset of the steps on which the coefficients of one image lie; None: on none. Arguments (H, W)."""
    patches = _patches(luma, clipped)
    if len(patches) < _FEWEST:
        return None
    # One product a patch: small ones, which no library spreads over threads.
    coefficients = (_TRANSFORM @ patches @ _TRANSFORM.T).reshape(-1, 8, 8, 8, 8)  # n, (offset, frequency) down, across
    coefficients = coefficients.transpose(1, 3, 0, 2, 4)  # offsets, n, frequencies
    # On the true grid far more coefficients are 0 but for rounding than on others.
    zeros = (np.abs(coefficients[..., _HIGH]) < 2 * _SIGMA).sum((2, 3))
    offsets = [divmod(int(index), 8) for index in np.argsort(-zeros, axis=None, kind="stable")[:_SHORTLIST]]
    fits = [(_ijg(nats), _other(nats)) for nats in (_evidence(coefficients[at][:, _LOW]) for at in offsets)]
    best = max(range(_SHORTLIST), key=lambda i: fits[i][0][1])  # the first, with most zeros, if none has any evidence
    table = int(fits[best][1][1] > fits[best][0][1])
    quality, nats = fits[best][table]
    # JPEG has one grid. What fits on others as well is a pattern, drawn rather than photographed.
    rest = max(fit[table][1] for i, fit in enumerate(fits) if i != best)
    return (quality, offsets[best]) if nats > max(_LEAST, 2 * rest) else None


def _patches(luma: Floats, clipped: NDArray[np.bool_]) -> Floats:
    """(n, 15, 15), n at most 192: those with most detail of the ones that start at multiples of 8 px, all different.

    Clipped pixels are off the steps, so patches with any are left out. Equal ones, as in a pattern that repeats every
    8 px, would count one chance fit many times.
    """
    windows = np.lib.stride_tricks.sliding_window_view(luma, (_REACH, _REACH))[::8, ::8].reshape(-1, _REACH, _REACH)
    hit = np.lib.stride_tricks.sliding_window_view(clipped, (_REACH, _REACH))[::8, ::8].any((-2, -1)).ravel()
    detail = np.where(hit, 0, windows.var((1, 2)))
    order = np.argsort(-detail, kind="stable")[:_PATCHES]
    chosen: Floats = np.unique(windows[order[detail[order] > 0]], axis=0)
    return chosen


def _ijg(evidence: Floats) -> tuple[int, float]:
    """The quality 1 to 95 with most of the (F, 255) evidence, and how much; the middle one of equals."""
    each = np.take_along_axis(evidence.T, _STEPS - 1, axis=0)  # (Q, F)
    total = np.where(np.sign(each).sum(1) >= _SUPPORT, each.sum(1), 0)
    best = np.flatnonzero(total == total.max())
    return int(best[len(best) // 2]) + 1, float(total.max())


def _other(evidence: Floats) -> tuple[int, float]:
    """The quality whose table is nearest to the best step of each frequency, less the evidence that choosing costs."""
    nats = np.maximum(evidence.max(1) - math.log(_MOST), 0)  # (F,)
    ratios = np.log(evidence.argmax(1) + 1) - np.log(_STEPS)  # (Q, F)
    supported = int((nats > 0).sum()) >= _SUPPORT_OTHER
    return int((np.abs(ratios) @ (nats > 0)).argmin()) + 1, float(nats.sum()) if supported else 0.0


def _evidence(coefficients: Floats) -> Floats:
    """(F, 255) for each step 1 to 255 of each frequency, from coefficients (n, F)."""
    bins = np.minimum(np.abs(coefficients) / _BIN, _BINS - 1).astype(np.int64)
    evidence: Floats = _nats()[bins].sum(0)
    return evidence


@lru_cache(maxsize=1)
def _nats() -> Floats:
    """(bins, 255): the evidence of a coefficient of some size, for each step.

    With JPEG it is normal about a multiple of the step, else even between two. The density of the former grows with
    the step, so the true step wins over those that divide it. Sizes below half a step say nothing, as they are round to
    0 at any. Beyond, photographs have fewer the larger, which without JPEG gives evidence below 0. A step of 1 has
    none.
    """
    size = (np.arange(_BINS, dtype=np.float32)[:, None] + 0.5) * _BIN
    step = np.arange(1, _MOST + 1, dtype=np.float32)
    distance = (size - step * np.round(size / step)) / _SIGMA
    ratio = (1 - _OUTLIERS) / (_SIGMA * math.sqrt(2 * math.pi)) * step * np.exp(-0.5 * distance**2) + _OUTLIERS
    nats: Floats = np.where((size > step / 2) & (step > 1), np.log(ratio), 0)
    return nats
