"""Comparison pictures: the same crop of every method side by side, each with its caption.

All pictures are (H, W, 3) uint8, RGB in 0..255. A crop is (y, x, size) in pixels of the HR grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cyclesr_dist.data.images import write_png
from cyclesr_dist.errors import InputError

RGB8 = NDArray[np.uint8]
Crop = tuple[int, int, int]

_CROP_PX = 112
_ZOOM = 2
_BORDER_PX = 16
"""Crops keep this far from the border where the picture is large enough: networks see padding there."""
_GUTTER_PX = 6
_SMALLEST_PANEL_PX = 32
_WHITE, _INK = 255, (34, 34, 34)
_FONT_PX, _SMALLEST_FONT_PX = 17, 9


def most_detailed_crop(hr: RGB8, size: int) -> Crop:
    """The square window of `size` px with the most high-frequency energy; the first in reading order among equals.

    Energy is the sum of |dx| + |dy| of the luma, in integers, so that the choice is the same everywhere.
    A picture smaller than `size` gives the largest square that fits.
    """
    return _detailed_crops(hr, size, 1)[0]


def comparison_strip(panels: Sequence[tuple[str, RGB8]], crop: Crop, zoom: int, captions: bool = True) -> RGB8:
    """The crop of every (label, picture) in a row, enlarged `zoom` times with nearest, on white.

    A label may have a second line after a newline, set smaller. A picture smaller than the largest one (the LR input)
    is first brought to its grid with nearest, by the whole factor that comes closest. Raises InputError when a picture
    does not cover the crop.
    """
    if not panels:
        raise InputError("a comparison needs at least one picture")
    height = max(picture.shape[0] for _, picture in panels)
    cells = [_enlarge(_cut(label, picture, height, crop), zoom) for label, picture in panels]
    if captions:
        cells = [
            np.vstack([cell, _caption(label, cell.shape[1])]) for (label, _), cell in zip(panels, cells, strict=True)
        ]
    gutter = np.full((cells[0].shape[0], _GUTTER_PX, 3), _WHITE, np.uint8)
    row: list[RGB8] = [gutter]
    for cell in cells:
        row += [cell, gutter]
    return np.hstack(row)


def panels_of(strip: RGB8) -> list[RGB8]:
    """The panels of a strip that `comparison_strip` or `save_comparison` made, captions and all, found by the white
    between them; the picture itself where it is no such strip.

    Captions are centred, so that no division but the right one has white all the way down.
    """
    width = strip.shape[1]
    is_white = (strip == _WHITE).all(axis=(0, 2))
    for count in range((width - _GUTTER_PX) // (_SMALLEST_PANEL_PX + _GUTTER_PX), 0, -1):
        step, rest = divmod(width - _GUTTER_PX, count)
        starts = range(0, width - _GUTTER_PX + 1, step)
        if not rest and all(is_white[start : start + _GUTTER_PX].all() for start in starts):
            return [strip[:, start + _GUTTER_PX : start + step] for start in starts[:-1]]
    return [strip]


def renormalised(image: NDArray[Any], like: NDArray[Any]) -> NDArray[Any]:
    """(H, W, 3) in [0, 1] brought to the mean and the variance of `like`, channel by channel; the paper's Figure 3."""
    mean, std = image.mean(axis=(0, 1)), image.std(axis=(0, 1))
    wanted_mean, wanted_std = like.mean(axis=(0, 1)), like.std(axis=(0, 1))
    result: NDArray[Any] = (image - mean) * (wanted_std / np.maximum(std, 1e-6)) + wanted_mean
    return result


def save_comparison(path: Path, lr: RGB8, columns: Mapping[str, RGB8], hr: RGB8, scores: Mapping[str, float]) -> None:
    """Write a PNG of the two most detailed crops (one when no second fits): LR, each column in order, HR.

    `scores` are PSNR in dB of the whole picture by column name; a column without one has its name alone. The file
    appears under `path` only when complete; missing parent folders are made.
    """
    panels = [
        ("LR\ninput", lr),
        *((f"{name}\n{scores[name]:.2f} dB" if name in scores else name, image) for name, image in columns.items()),
        ("HR\noriginal", hr),
    ]
    crops = _detailed_crops(hr, _CROP_PX, 2)
    rows: list[RGB8] = []
    for crop in crops:  # scores belong to the whole picture: one line of captions, under the last row
        strip = comparison_strip(panels, crop, _ZOOM, captions=crop is crops[-1])
        rows += [np.full((_GUTTER_PX, strip.shape[1], 3), _WHITE, np.uint8), strip]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, np.vstack(rows))


def _detailed_crops(hr: RGB8, size: int, count: int) -> list[Crop]:
    """Up to `count` windows of most energy that do not overlap; at least one."""
    height, width = hr.shape[:2]
    size = min(size, height, width)
    rgb = hr.astype(np.int64)
    luma = 299 * rgb[..., 0] + 587 * rgb[..., 1] + 114 * rgb[..., 2]
    energy = np.zeros((height, width), np.int64)
    energy[:, 1:] += np.abs(np.diff(luma, axis=1))
    energy[1:] += np.abs(np.diff(luma, axis=0))
    integral = np.pad(energy.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    window = integral[size:, size:] - integral[:-size, size:] - integral[size:, :-size] + integral[:-size, :-size]

    top, left = (min(_BORDER_PX, (side - size) // 2) for side in (height, width))
    window = window[top : height - size - top + 1, left : width - size - left + 1]
    crops: list[Crop] = []
    while len(crops) < count and window.max() >= 0:
        y, x = (int(i) for i in np.unravel_index(window.argmax(), window.shape))
        crops.append((y + top, x + left, size))
        window[max(0, y - size + 1) : y + size, max(0, x - size + 1) : x + size] = -1  # would overlap
    return crops


def _cut(label: str, picture: RGB8, height: int, crop: Crop) -> RGB8:
    picture = _enlarge(picture, max(1, round(height / picture.shape[0])))
    y, x, size = crop
    cut = picture[y : y + size, x : x + size]
    if cut.shape[:2] != (size, size):
        name, shape = label.partition("\n")[0], picture.shape
        raise InputError(
            f"picture {name!r} of {shape[1]}x{shape[0]} px does not cover the crop at x {x}, y {y}, {size} px"
        )
    return cut


def _enlarge(picture: RGB8, factor: int) -> RGB8:
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def _caption(label: str, width: int) -> RGB8:
    """Up to two centred lines, the second smaller; all captions are equally high, so that panels line up."""
    image = Image.new("RGB", (width, 3 * _FONT_PX), (_WHITE,) * 3)
    draw = ImageDraw.Draw(image)
    top = 4
    for line, font_px in zip(label.split("\n")[:2], (_FONT_PX, _FONT_PX - 2), strict=False):
        while font_px > _SMALLEST_FONT_PX and draw.textlength(line, ImageFont.load_default(font_px)) > width - 6:
            font_px -= 1
        draw.text((width / 2, top), line, fill=_INK, font=ImageFont.load_default(font_px), anchor="ma")
        top += _FONT_PX + 4
    return np.asarray(image)
