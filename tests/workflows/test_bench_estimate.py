"""`cyclesr bench estimate`, small: that its truth is true and its table says what was found."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cyclesr_dist
from cyclesr_dist.cli.main import main as cyclesr
from cyclesr_dist.config.schema import Degrade
from cyclesr_dist.degradation import fit
from cyclesr_dist.degradation.estimate import blur_std_px
from cyclesr_dist.workflows.bench import estimate_cases as cases
from cyclesr_dist.workflows.bench.estimate import plan_cases
from cyclesr_dist.workflows.bench.plans import EstimateBench

BUNDLED = sorted((Path(cyclesr_dist.__file__).parent / "workflows" / "demo_photos").glob("*.webp"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in BUNDLED[:8]:
        shutil.copy(path, folder)
    return folder


def test_quick_table(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "STEPS", 40)
    argv = ["bench", "estimate", "--photos", str(photos), "--quick", "--json", str(tmp_path / "e.json"), "--quiet"]
    assert cyclesr(argv) == 0
    result = json.loads((tmp_path / "e.json").read_text())
    rows = {row["name"]: row for row in result["cases"]}
    assert rows.keys() == {"mild", "HR with less detail than LR", "JPEG 75", "three photographs"}
    mild = rows["mild"]
    assert mild["photographs"] == {"hr": 6, "lr": 6}
    assert mild["tiles"]["hr"]["of"] == 4
    assert mild["noise_std"]["0.5"]["true"] == pytest.approx(0.08)
    assert mild["noise_std"]["0.9"]["true"] == pytest.approx(0.08 * 1.8**0.5)
    assert 0.3 < mild["width_px"]["true"] < 1.5
    assert 0 < mild["kernel_l2"] < 1
    assert rows["JPEG 75"]["jpeg_quality"] == 75
    assert rows["three photographs"]["doubts"]
    out = capsys.readouterr().out
    assert "said: There are only 3" in out
    assert "6 a side: HR is tiles of" in out


@pytest.mark.slow
def test_cost(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["bench", "estimate", "--photos", str(photos), "--quick", "--cost", "--json", str(tmp_path / "c.json")]
    assert cyclesr([*argv, "--quiet"]) == 0
    result = json.loads((tmp_path / "c.json").read_text())
    (cost,) = result["cost"]
    assert cost["seconds"] > 0
    assert cost["memory_mb"] > cost["start_mb"] > 0
    assert result["cases"] == []
    assert "peak MB" in capsys.readouterr().out


def test_bad_counts(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cyclesr(["bench", "estimate", "--counts", "3,x"])
    assert "--counts" in capsys.readouterr().err


def test_too_few_photographs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(BUNDLED[0], tmp_path)
    assert cyclesr(["bench", "estimate", "--photos", str(tmp_path), "--quick", "--quiet"]) == 2
    assert "at least two" in capsys.readouterr().err
    Image.new("RGB", (300, 200)).save(tmp_path / "small.png")
    assert cyclesr(["bench", "estimate", "--photos", str(tmp_path), "--quick", "--quiet"]) == 2
    assert "small.png: below 256 px" in capsys.readouterr().err


def test_default_plan_has_every_case() -> None:
    planned = plan_cases(EstimateBench())
    assert [case.count for case in planned if case.name == "wild"] == [400, 40, 10, 3]
    assert {case.jpeg for case in planned} == {None, 95, 75, 50}
    assert {case.change for case in planned} == {"", "sharpened", "blurred hr", "flat", "few", "grey"}
    assert {case.split for case in planned} == {"parity", "calm hr", "calm lr"}


@pytest.mark.parametrize("how", ["parity", "calm hr", "calm lr"])
def test_no_scene_is_on_both_sides(how: str) -> None:
    hr, lr = cases.split(BUNDLED, how)
    assert not set(hr) & set(lr)
    assert len(hr) + len(lr) == len(BUNDLED)


def test_calm_sides_are_opposites() -> None:
    assert cases.split(BUNDLED, "calm hr") == cases.split(BUNDLED, "calm lr")[::-1]


@pytest.mark.parametrize(("count", "overlap"), [(8, False), (60, True)])
def test_tiles(count: int, overlap: bool) -> None:
    tiles, side = cases.cuts(BUNDLED[:4], count, 0)
    assert len(tiles) == count
    assert len({tile.name for tile in tiles}) == count
    assert all(tile.read().shape == (side, side, 3) for tile in tiles)
    boxes = [(tile.path, tile.box[:2]) for tile in tiles if tile.box]
    pairs = [(a, b) for p, a in boxes for q, b in boxes if p == q and a < b]
    assert any(max(abs(a[0] - b[0]), abs(a[1] - b[1])) < side for a, b in pairs) == overlap


def test_whole_photographs_are_chosen_by_the_seed() -> None:
    chosen = [tuple(cut.path for cut in cases.cuts(BUNDLED, 5, seed)[0]) for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert cases.cuts(BUNDLED, 5, 0)[1] == 0


def test_truth_of_no_degradation() -> None:
    true = cases.truth(cases.Case("none", 3), [cases.Cut(path, path.stem) for path in BUNDLED[:3]], 0)
    identity = torch.zeros(9, 9)
    identity[4, 4] = 1
    assert float((true.kernel - identity).norm()) < 0.05  # 8 bits
    assert blur_std_px(true.kernel) < 0.15
    assert true.noise_std == (0, 0, 0)


def test_truth_of_a_blur_is_its_width() -> None:
    """Motion of 16 px is 4 px on the LR grid, a box of standard deviation 4 / sqrt(12), here in all directions."""
    case = cases.Case("mild", 12, levels=Degrade(16, 0.05))
    true = cases.truth(case, [cases.Cut(path, path.stem) for path in BUNDLED[:12]], 0)
    narrow = cases.truth(cases.Case("mild", 12, levels=Degrade(8, 0)), [cases.Cut(p, p.stem) for p in BUNDLED[:12]], 0)
    assert blur_std_px(narrow.kernel) < blur_std_px(true.kernel) < 4 / 12**0.5
    assert true.noise_std[1] == pytest.approx(0.05)


def test_truth_of_wild_noise_is_the_mean_of_variances() -> None:
    cuts = [cases.Cut(path, path.stem) for path in BUNDLED[:4]]
    case = cases.Case("wild", 4, track="wild", levels=Degrade(8, 0.1))
    drawn = [cases.draw_parameters("wild", case.levels, 3, cut.name)["noise"] for cut in cuts]
    assert cases.truth(case, cuts, 3).noise_std[1] == pytest.approx(np.sqrt(np.mean(np.square(drawn))))
