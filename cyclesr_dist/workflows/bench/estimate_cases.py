"""Pairs of folders that show different scenes, with a degradation between them that is known.

Lengths are px of the HR photographs unless LR is said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor

from cyclesr_dist.config.schema import Degrade, Track
from cyclesr_dist.data.images import read_rgb8, write_png
from cyclesr_dist.data.resize import bicubic_down, to_8bit_grid
from cyclesr_dist.degradation.simulate import degrade, draw_parameters
from cyclesr_dist.errors import InputError

SCALE = 4
KERNEL_PX = 9
BRIGHTNESSES = (0.1, 0.5, 0.9)
SMALLEST_TILE = 256
_TILE_STEP = 8  # tiles are multiples of it
_WINDOW = 32  # LR px, of the patches that the true kernel is measured on
_TRUTH_PHOTOS = 120  # whose kernels are averaged at most; the estimator looks at no more
_TRUTH_PX = 1024  # of their middles
_UNSHARP = ImageFilter.UnsharpMask(radius=SCALE, percent=150, threshold=0)

Rgb8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Case:
    """What is done to the LR side, and which photographs are on which side."""

    name: str
    count: int
    """Photographs a side."""
    track: Track = "mild"
    levels: Degrade = Degrade(0, 0, 0)  # noqa: RUF009 - frozen; all zero is bicubic alone
    split: str = "parity"
    """`parity`: by place in the order of names; `calm hr`: HR has the half with less detail, LR that with more;
    `calm lr`: the reverse."""
    jpeg: int | None = None
    """Quality at which LR is saved; None: PNG."""
    change: str = ""
    """What makes it impossible to know the degradation: `sharpened`, `blurred hr`, `flat`, `grey`, `few` or nothing."""


@dataclass(frozen=True)
class Cut:
    """A photograph, or a tile of one."""

    path: Path
    name: str
    box: tuple[int, int, int] | None = None
    """Top, left and side of the tile."""

    def read(self) -> Rgb8:
        """(H, W, 3). Raises InputError."""
        image = _read(self.path)
        if self.box is None:
            return image
        top, left, side = self.box
        return np.ascontiguousarray(image[top : top + side, left : left + side])


@lru_cache(maxsize=1)
def _read(path: Path) -> Rgb8:
    return read_rgb8(path)  # tiles of a photograph follow each other


@dataclass(frozen=True)
class Truth:
    kernel: Tensor
    """(9, 9) on the LR grid, without its phase, sum 1."""
    noise_std: tuple[float, ...]
    """At `BRIGHTNESSES`, in [0, 1], before clipping and rounding."""


def split(photos: Sequence[Path], how: str) -> tuple[list[Path], list[Path]]:
    """HR's and LR's photographs, as `Case.split` says. Raises InputError for fewer than two, or ones too small."""
    if len(photos) < 2:
        raise InputError(f"{photos[0].parent}: {len(photos)} photograph; at least two are needed, for two sides")
    for path in photos:
        with Image.open(path) as image:
            if min(image.size) < SMALLEST_TILE:
                raise InputError(f"{path}: below {SMALLEST_TILE} px a side")
    if how == "parity":
        return list(photos[::2]), list(photos[1::2])
    ranked = sorted(photos, key=_detail)
    half = len(ranked) // 2
    calm, busy = sorted(ranked[:half]), sorted(ranked[half:])
    return (calm, busy) if how == "calm hr" else (busy, calm)


@lru_cache(maxsize=1024)
def _detail(path: Path) -> float:
    """Mean square of differences between neighbouring pixels, on the LR grid: edge energy."""
    grey = bicubic_down(_tensor(_read(path)), SCALE).mean(1)
    return float(grey.diff(dim=-1).square().mean() + grey.diff(dim=-2).square().mean())


def cuts(photos: Sequence[Path], count: int, seed: int) -> tuple[list[Cut], int]:
    """`count` of the photographs, chosen by `seed`; where there are fewer, equal tiles of all of them.

    Returns them in the order of `photos` and the side of the tiles, 0 for whole photographs. Tiles are as large as they
    can be without overlap, but at least 256 px: then they overlap as much as they must. Raises InputError.
    """
    random = np.random.default_rng([seed, count])
    if len(photos) >= count:
        return [Cut(photos[i], photos[i].stem) for i in np.sort(random.permutation(len(photos))[:count])], 0
    sizes = [_read(path).shape[:2] for path in photos]
    each = math.ceil(count / len(photos))
    largest = min(min(size) for size in sizes) // _TILE_STEP * _TILE_STEP
    fitting = range(largest, SMALLEST_TILE, -_TILE_STEP)
    side = next((s for s in fitting if all((h // s) * (w // s) >= each for h, w in sizes)), SMALLEST_TILE)
    tiles: list[Cut] = []
    for path, (height, width) in zip(photos, sizes, strict=True):
        rows, columns = _grid(height, width, side, each)
        places = [(y, x) for y in _spaced(height, side, rows) for x in _spaced(width, side, columns)]
        kept = np.sort(random.permutation(len(places))[:each])
        tiles += [Cut(path, f"{path.stem}-{i}", (*places[i], side)) for i in kept]
    return [tiles[i] for i in np.sort(random.permutation(len(tiles))[:count])], side


def _grid(height: int, width: int, side: int, least: int) -> tuple[int, int]:
    """Rows and columns of tiles, `least` in all or more; without overlap if they can."""
    rows, columns = height // side, width // side
    while rows * columns < least:  # the direction in which they overlap less
        if (height - side) / rows >= (width - side) / columns:
            rows += 1
        else:
            columns += 1
    return rows, columns


def _spaced(length: int, side: int, count: int) -> list[int]:
    return [round(i * (length - side) / max(1, count - 1)) for i in range(count)]


def write_hr(case: Case, chosen: Sequence[Cut], folder: Path) -> None:
    """PNG files. Raises InputError."""
    folder.mkdir(parents=True)
    for i, cut in enumerate(chosen):
        image = _flat(cut, i) if case.change == "flat" else cut.read()
        if case.change == "blurred hr":
            image = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(6)))
        write_png(folder / f"{cut.name}.png", image)


def write_lr(case: Case, chosen: Sequence[Cut], folder: Path, seed: int) -> None:
    """PNG or JPEG files of the degraded photographs. Raises InputError."""
    folder.mkdir(parents=True)
    for i, cut in enumerate(chosen):
        image = _flat(cut, len(chosen) + i) if case.change == "flat" else cut.read()
        if case.change == "sharpened":
            image = np.asarray(Image.fromarray(image).filter(_UNSHARP))
        lr, _ = degrade(_tensor(image), case.track, SCALE, case.levels, seed, cut.name)
        made = _array(lr)
        if case.change == "grey":
            made = np.repeat(np.asarray(Image.fromarray(made).convert("L"))[..., None], 3, axis=2)
        if case.jpeg is None:
            write_png(folder / f"{cut.name}.png", made)
        else:
            Image.fromarray(made).save(folder / f"{cut.name}.jpg", quality=case.jpeg)


def truth(case: Case, chosen: Sequence[Cut], seed: int) -> Truth:
    """What lies between the LR files and shrunken HR of the same scenes.

    The gain is that of least squares over windowed patches: |sum conj(X) Y / sum |X|^2|^2, over all photographs for the
    one kernel of `unknown`, else for each and then the mean. Tiles are too small for it (the window blurs what few
    patches tell), so each kernel is measured on the whole photograph. Raises InputError.
    """
    levels = replace(case.levels, noise=0.0, shift_px=0)  # a shift has no gain, but moves content out of the window
    crosses, powers = [], []
    for cut in chosen[:: math.ceil(len(chosen) / _TRUTH_PHOTOS)]:
        hr = _tensor(_middle(_read(cut.path)))
        lr, _ = degrade(hr, case.track, SCALE, levels, seed, cut.name)
        x, y = _transformed(bicubic_down(hr, SCALE)), _transformed(lr)
        crosses.append((x.conj() * y).sum(0))
        powers.append(x.abs().square().sum(0))
    cross, power = torch.stack(crosses), torch.stack(powers)
    if case.track == "unknown":
        cross, power = cross.sum(0, keepdim=True), power.sum(0, keepdim=True)
    gain = (cross / power).abs().square().mean(0)
    wide = torch.fft.irfft2(gain.sqrt(), s=(_WINDOW, _WINDOW))
    half = KERNEL_PX // 2
    kernel = torch.roll(wide, (half, half), (-2, -1))[:KERNEL_PX, :KERNEL_PX]
    drawn = [draw_parameters(case.track, case.levels, seed, cut.name).get("noise", 0.0) for cut in chosen]
    mean = float(np.mean(np.square(drawn)))  # Poisson noise: its variance is that times 2 at brightness 1
    return Truth(kernel / kernel.sum(), tuple(math.sqrt(mean * 2 * m) for m in BRIGHTNESSES))


def _transformed(image: Tensor) -> Tensor:
    """(1, 3, h, w) -> (n, 32, 17): spectra of windowed patches, half overlapping."""
    patches = image[0].unfold(1, _WINDOW, _WINDOW // 2).unfold(2, _WINDOW, _WINDOW // 2).reshape(-1, _WINDOW, _WINDOW)
    window = torch.hann_window(_WINDOW, periodic=False)
    transformed: Tensor = torch.fft.rfft2((patches - patches.mean((-2, -1), keepdim=True)) * window[:, None] * window)
    return transformed


def _middle(image: Rgb8) -> Rgb8:
    top, left = (max(0, size - _TRUTH_PX) // 2 for size in image.shape[:2])
    return image[top : top + _TRUTH_PX, left : left + _TRUTH_PX]


def _flat(cut: Cut, number: int) -> Rgb8:
    """As large as the photograph: one colour, a few levels brighter to one side."""
    height, width = cut.read().shape[:2]
    random = np.random.default_rng([number, 5])
    ramp = np.linspace(0, 6, width)[None, :, None] + random.uniform(40, 200, 3)
    return np.broadcast_to(ramp, (height, width, 3)).round().astype(np.uint8)


def _tensor(image: Rgb8) -> Tensor:
    """(H, W, 3) -> (1, 3, H, W) in [0, 1], cropped to multiples of the scale."""
    height, width = (size // SCALE * SCALE for size in image.shape[:2])
    return torch.from_numpy(image[:height, :width].astype(np.float32)).permute(2, 0, 1)[None] / 255


def _array(image: Tensor) -> Rgb8:
    made: Rgb8 = (to_8bit_grid(image)[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    return made
