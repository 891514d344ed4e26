"""Colours behind full transparency: nobody sees them in the file, and nobody may in what is made of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.photo_checks import written
from helpers.photo_files import png

from cyclesr_dist.data.images import read_picture, read_rgb8
from cyclesr_dist.data.photo.transparency import Filling, filled
from cyclesr_dist.data.resize import bicubic_up
from cyclesr_dist.models.infer import upscale_file, upscale_picture
from cyclesr_dist.models.model_name import resolve_model

BICUBIC = resolve_model("bicubic", 4)
Y, X = np.mgrid[0:40, 0:48]
DISC = (X - 24) ** 2 + (Y - 20) ** 2 < 14**2


def rgba(colour: tuple[int, int, int], hidden: tuple[int, int, int], bits: int = 8) -> np.ndarray:
    """A disc that can be seen, of one colour, before hidden pixels of another."""
    full = 2**bits - 1
    scale = full // 255
    samples = np.where(DISC[:, :, None], np.array(colour), np.array(hidden)) * scale
    return np.dstack([samples, np.where(DISC, full, 0)])


@pytest.mark.parametrize("hidden", [(0, 0, 0), (255, 255, 255), (0, 255, 0)])
@pytest.mark.parametrize("bits", [8, 16])
def test_nothing_hidden_reaches_into_an_enlargement(tmp_path: Path, hidden: tuple[int, int, int], bits: int) -> None:
    colour = (200, 40, 90)
    path = written(tmp_path, png(rgba(colour, hidden, bits), bits, "rgba"))
    large = upscale_picture(BICUBIC, read_picture(path))
    assert large.alpha is not None
    seen = large.alpha > 0
    assert np.abs(large.rgb[seen] * 255 - colour).max() < 0.6
    raw = bicubic_up(torch.from_numpy(read_picture(path).rgb).permute(2, 0, 1)[None], 4)[0].permute(1, 2, 0).numpy()
    assert np.abs(raw[seen] * 255 - colour).max() > 30  # what reading without filling would give


def test_the_same_in_files(tmp_path: Path) -> None:
    paths = [
        written(tmp_path, png(rgba((9, 8, 7), hidden), 8, "rgba"), f"{hidden[0]}.png")
        for hidden in ((0, 0, 0), (255, 99, 3))
    ]
    for path in paths:
        upscale_file(BICUBIC, path, path.with_suffix(".large.png"))
    first, second = (path.with_suffix(".large.png").read_bytes() for path in paths)
    assert first == second


@pytest.mark.parametrize("hidden", [(0, 0, 0), (255, 255, 255)])
def test_nothing_hidden_is_degraded_or_cut_into_patches(tmp_path: Path, hidden: tuple[int, int, int]) -> None:
    path = written(tmp_path, png(rgba((200, 40, 90), hidden), 8, "rgba"))
    np.testing.assert_array_equal(read_rgb8(path), np.broadcast_to(np.array([200, 40, 90], np.uint8), (40, 48, 3)))


def test_what_can_be_seen_stays(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    samples = rng.integers(0, 256, (40, 48, 4))
    samples[:, :, 3] = np.where(DISC, np.maximum(samples[:, :, 3], 1), 0)
    path = written(tmp_path, png(samples, 8, "rgba"))
    np.testing.assert_array_equal(read_rgb8(path)[DISC], samples[:, :, :3][DISC])
    np.testing.assert_array_equal(np.rint(read_picture(path).rgb * 255), samples[:, :, :3])


def test_hidden_pixels_take_after_their_neighbours() -> None:
    colour = np.zeros((20, 30, 3), np.uint8)
    alpha = np.zeros((20, 30), np.uint8)
    colour[:, :3], colour[:, -3:] = (10, 20, 30), (250, 240, 230)
    alpha[:, :3] = alpha[:, -3:] = 255
    result = filled(colour, alpha).astype(int)
    np.testing.assert_array_equal(result[:, 3], np.broadcast_to([10, 20, 30], (20, 3)))
    np.testing.assert_array_equal(result[:, -4], np.broadcast_to([250, 240, 230], (20, 3)))
    assert (result[:, 3:-3] >= [10, 20, 30]).all()
    assert (result[:, 3:-3] <= [250, 240, 230]).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (2, 2), (33, 5)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_any_size_and_type(size: tuple[int, int], kind: type) -> None:
    full = 1 if kind is np.float32 else np.iinfo(kind).max
    colour, alpha = np.zeros((*size, 3), kind), np.zeros(size, kind)
    np.testing.assert_array_equal(filled(colour, alpha), colour)  # nothing to be seen
    colour[-1, -1], alpha[-1, -1] = full, full
    result = filled(colour, alpha)
    assert result.dtype == kind
    np.testing.assert_array_equal(result, np.full((*size, 3), full, kind))


def of_rows(colour: np.ndarray, alpha: np.ndarray) -> Filling:
    return Filling(alpha.shape, lambda rows: (colour[rows], alpha[rows, :, None]))


def by_hand(colour: np.ndarray, alpha: np.ndarray, y: int, x: int) -> np.ndarray:
    """The mean around a pixel: of 3 x 3 squares, each twice as wide as before until something in them can be seen."""
    height, width = alpha.shape
    for level in range(20):
        side = 1 << level
        top, left = (max(0, (place // side - 1) * side) for place in (y, x))
        bottom, right = (min(size, (place // side + 2) * side) for place, size in ((y, height), (x, width)))
        weight = alpha[top:bottom, left:right, None].astype(np.float64)
        if weight.any():
            mean: np.ndarray = (colour[top:bottom, left:right] * weight).sum((0, 1)) / weight.sum()
            return mean
    raise AssertionError


@pytest.mark.parametrize("size", [(300, 200), (129, 17), (1, 500), (70, 16_384)])
def test_some_rows_are_filled_as_the_whole_picture_is(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    colour = rng.random((*size, 3), dtype=np.float32)
    alpha = np.where(rng.random(size) < 3 / size[1] ** 1.5, rng.random(size), 0).astype(np.float32)
    alpha[-1, -1] = 1
    filling, (height, width) = of_rows(colour, alpha), size
    whole = filling.means(slice(0, height))
    for start, stop in ((63, 66), (40, 250), (128, 129), (height - 1, height)):
        if stop <= height:
            np.testing.assert_array_equal(filling.means(slice(start, stop)), whole[start:stop])
    for y, x in zip(rng.integers(0, height, 8), rng.integers(0, width, 8), strict=True):
        np.testing.assert_allclose(whole[y, x], by_hand(colour, alpha, int(y), int(x)), atol=1e-4)
