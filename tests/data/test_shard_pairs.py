"""Sets of pairs: aligned where the shift is known or found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.shard_sets import CUT, SCALE, build_pairs, contents, save, scene
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cyclesr_dist.config.schema import Degrade
from cyclesr_dist.data.cut import MAX_SHIFT_PX, estimate_shift
from cyclesr_dist.degradation.simulate import degrade
from cyclesr_dist.errors import InputError


def test_pairs_are_cut_where_the_shift_says(tmp_path: Path, pairs: dict[str, tuple[int, int]]) -> None:
    found = build_pairs(tmp_path)
    drawn = {d for shift in pairs.values() for d in shift}
    assert any(d > 0 and d % SCALE for d in drawn), "the case that rounds"
    assert any(d < 0 and d % SCALE for d in drawn)
    assert found.manifest["shifts_px"] == {stem: list(shift) for stem, shift in pairs.items()}
    rows = set()
    for i in range(len(found)):
        stem, y, x = found.key(i).rsplit("_", 2)
        row, column = int(y), int(x)
        rows.add((stem, row))
        dy, dx = pairs[stem]
        lr = np.array(Image.open(tmp_path / f"lr/{stem}.png"))
        hr = np.array(Image.open(tmp_path / f"hr/{stem[:2]}.png"))
        top, left = SCALE * row - dy, SCALE * column - dx
        sample = found.read(i)
        np.testing.assert_array_equal(sample["lr"], lr[row : row + 8, column : column + 8])
        np.testing.assert_array_equal(sample["hr"], hr[top : top + 16, left : left + 16])
    for stem, (dy, _) in pairs.items():  # nothing of the region that both images have is lost
        height = Image.open(tmp_path / f"hr/{stem[:2]}.png").height
        valid = [y for y in range(height // SCALE) if SCALE * y >= dy and SCALE * (y + 1) - dy <= height]
        mine = sorted(row for name, row in rows if name == stem)
        assert (mine[0], mine[-1] + 8) == (valid[0], valid[-1] + 1)


def test_without_align_pairs_are_cut_as_they_lie(tmp_path: Path, pairs: dict[str, tuple[int, int]]) -> None:
    found = build_pairs(tmp_path, shards=replace(CUT, align=False))
    stem, y, x = found.key(0).rsplit("_", 2)
    row, column = int(y) * SCALE, int(x) * SCALE
    hr = np.array(Image.open(tmp_path / f"hr/{stem[:2]}.png"))
    np.testing.assert_array_equal(found.read(0)["hr"], hr[row : row + 16, column : column + 16])
    with pytest.raises(InputError, match="--overwrite"):
        build_pairs(tmp_path)


@given(
    dy=st.integers(-MAX_SHIFT_PX, MAX_SHIFT_PX),
    dx=st.integers(-MAX_SHIFT_PX, MAX_SHIFT_PX),
    gain=st.sampled_from([0.6, 1.0]),
)
@settings(max_examples=25, deadline=None)
def test_the_shift_is_found_up_to_its_limit_whatever_the_brightness(dy: int, dx: int, gain: float) -> None:
    wide = scene(176, 200, seed=3)
    hr = wide[20:156, 20:180]
    moved = torch.from_numpy(wide[20 - dy : 156 - dy, 20 - dx : 180 - dx].astype(np.float32) / 255 * gain)
    lr, _ = degrade(moved.permute(2, 0, 1)[None], "mild", 4, Degrade(blur_px=5, noise=0.02, shift_px=0), 0, "a")
    assert estimate_shift(hr, (lr[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8), 4) == (dy, dx)


def test_flat_pairs_have_no_shift() -> None:
    assert estimate_shift(np.full((64, 64, 3), 99, np.uint8), np.full((16, 16, 3), 80, np.uint8), 4) == (0, 0)


def test_pairs_of_the_wrong_scale_are_refused(tmp_path: Path, pairs: Any) -> None:
    with pytest.raises(InputError, match=r"s0x2m\.png: 60x48 px enlarged x4 is 240x192 px, but s0\.png is 120x96 px"):
        build_pairs(tmp_path, scale=4)
    assert not (tmp_path / "pairs").exists()


@pytest.mark.parametrize("region", ["all", "right"])
@pytest.mark.parametrize("small", ["hr", "lr"])
def test_a_pair_is_left_out_when_either_is_too_small(
    tmp_path: Path, pairs: Any, capsys: pytest.CaptureFixture[str], region: Any, small: str
) -> None:
    shards = replace(CUT, lr_region=region)
    whole = build_pairs(tmp_path, "whole", shards=shards)
    short, enough = (7, 8) if region == "all" else (14, 16)
    save(tmp_path / "lr/tiny.png", scene(20, short if small == "lr" else enough, seed=9))
    save(tmp_path / "hr/tiny.png", scene(40, 2 * (short if small == "hr" else enough), seed=9))
    found = build_pairs(tmp_path, "set", shards=shards)
    assert found.manifest["left_out"] == ["tiny.png"]
    assert len(found) == len(whole)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tiny.png: " + ("its right half, " if region != "all" else ""))
    assert line.endswith("the pair is left out")
    assert ("16x16" in line) == (small == "hr")


def test_a_pair_that_is_too_small_once_aligned_is_left_out(
    tmp_path: Path, pairs: dict[str, tuple[int, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    shards = replace(CUT, patch=min(96 // SCALE - 1, 47), stride=8)
    assert min(abs(dy) for dy, _ in pairs.values()) > 0
    (tmp_path / "hr/flat.png").write_bytes((tmp_path / "hr/s0.png").read_bytes())
    Image.open(tmp_path / "hr/s0.png").resize((60, 48)).save(tmp_path / "lr/flat.png")  # no shift
    (stem,) = (stem for stem in pairs if stem.startswith("s0"))
    found = build_pairs(tmp_path, shards=shards)
    assert f"{stem}.png" in found.manifest["left_out"]
    assert "flat.png" not in found.manifest["left_out"]
    assert all(not found.key(i).startswith(stem) for i in range(len(found)))
    assert "the part that it shares with its HR file" in capsys.readouterr().err


def test_pairs_do_not_depend_on_workers(tmp_path: Path, pairs: Any) -> None:
    build_pairs(tmp_path, "one", workers=1)
    build_pairs(tmp_path, "two", workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
