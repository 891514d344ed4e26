"""Pictures side by side: which part is shown, with which captions."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from helpers.pages import noise
from PIL import Image

from cyclesr_dist.errors import InputError
from cyclesr_dist.reports.strips import comparison_strip, most_detailed_crop, panels_of, save_comparison


def test_crop_finds_the_detail() -> None:
    hr = np.full((120, 200, 3), 90, np.uint8)
    hr[50:80, 130:160] = noise(30, 30)
    y, x, size = most_detailed_crop(hr, 40)
    assert size == 40
    assert y <= 50
    assert y + size >= 80
    assert x <= 130
    assert x + size >= 160


@pytest.mark.parametrize("axis", [0, 1])
def test_crop_counts_edges_of_both_directions(axis: int) -> None:
    hr = np.full((160, 160, 3), 90, np.uint8)
    hr[80:110] = noise(30, 1)  # stripes across the whole picture, without an end
    start = most_detailed_crop(hr if axis == 0 else hr.swapaxes(0, 1), 40)[axis]
    assert 70 <= start <= 80


def test_crop_keeps_away_from_the_border_and_inside_small_pictures() -> None:
    hr = np.zeros((100, 100, 3), np.uint8)
    hr[:10, :10] = noise(10, 10)
    y, x, _ = most_detailed_crop(hr, 40)
    assert (y, x) == (16, 16)
    assert most_detailed_crop(noise(30, 50), 64)[2] == 30
    assert most_detailed_crop(np.zeros((100, 100, 3), np.uint8), 20) == (16, 16, 20)


def test_strip_shows_the_same_place_of_every_panel() -> None:
    hr, lr = noise(40, 60), noise(10, 15, seed=1)
    strip = comparison_strip([("LR", lr), ("HR\n23.41 dB", hr)], (8, 12, 16), 3)
    gutter = (strip.shape[1] - 2 * 48) // 3
    left, right = strip[:48, gutter : gutter + 48], strip[:48, 2 * gutter + 48 : 2 * gutter + 96]
    assert np.array_equal(right[::3, ::3], hr[8:24, 12:28])
    assert np.array_equal(right[1::3, 2::3], hr[8:24, 12:28])
    assert np.array_equal(left[::12, ::12], lr[2:6, 3:7])
    assert np.array_equal(left[11::12, 11::12], lr[2:6, 3:7])
    assert (strip[:, :gutter] == 255).all()
    caption = strip[48:]
    assert caption.min() < 80  # dark text
    assert np.median(caption) == 255  # on white


def test_caption_that_is_too_long_is_set_smaller_not_cut() -> None:
    panels = [("a name of a method much too long for it", noise(40, 40)), ("b", noise(40, 40))]
    strip = comparison_strip(panels, (0, 0, 40), 6)
    gutter = (strip.shape[1] - 480) // 3
    caption = strip[240:, gutter : gutter + 240]
    assert caption.min() < 80
    assert (caption[:, :2] == 255).all()
    assert (caption[:, -2:] == 255).all()


def test_strip_refuses_a_panel_that_does_not_cover_the_crop() -> None:
    with pytest.raises(InputError, match="'cyclesr' of 60x38 px"):
        comparison_strip([("cyclesr\n20.00 dB", noise(38, 60)), ("HR", noise(40, 60))], (24, 0, 16), 2)


def test_saved_comparison_is_a_deterministic_png_with_scores(tmp_path: Path) -> None:
    hr, lr = noise(160, 320), noise(40, 80, seed=1)
    columns = {"bicubic": noise(160, 320, 2), "cyclesr": noise(160, 320, 3)}
    paths = [tmp_path / "comparisons" / name for name in ("a.png", "b.png", "c.png")]
    for path, scores in zip(paths, ({"cyclesr": 23.41}, {"cyclesr": 23.41}, {}), strict=True):
        save_comparison(path, lr, columns, hr, scores)
    with Image.open(paths[0]) as image:
        assert image.format == "PNG"
        assert image.width > 4 * 112 * 2
        assert image.height > 2 * 112 * 2  # two crops
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].read_bytes() != paths[2].read_bytes()
    assert sorted(path.name for path in (tmp_path / "comparisons").iterdir()) == ["a.png", "b.png", "c.png"]


def test_comparison_of_a_small_picture_has_one_crop(tmp_path: Path) -> None:
    hr = noise(64, 80)
    save_comparison(tmp_path / "a.png", noise(16, 20), {"bicubic": hr}, hr, {"bicubic": math.inf})
    with Image.open(tmp_path / "a.png") as image:
        assert 128 < image.height < 256


def test_panels_of_a_strip_are_found_again() -> None:
    for count in range(1, 9):
        panels = [(f"panel {i}\n20.00 dB", noise(40, 40, i)) for i in range(count)]
        strip = comparison_strip(panels, (0, 0, 40), 2)
        found = panels_of(strip)
        assert len(found) == count
        assert all(np.array_equal(one[:80:2, ::2], image) for one, (_, image) in zip(found, panels, strict=True))
        assert len({one.shape for one in found}) == 1
    picture = noise(50, 230)
    (found,) = panels_of(picture)
    assert found is picture
    assert [one.shape for one in panels_of(noise(5, 3))] == [(5, 3, 3)]
