"""`cyclesr evaluate`: figures as other toolkits have them, sizes that do not divide, folders with bad files."""

from __future__ import annotations

import json
import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.many_photos import photographs
from numpy.typing import NDArray

from cyclesr_dist.cli.main import main
from cyclesr_dist.config.schema import Shards
from cyclesr_dist.data.covered import covered
from cyclesr_dist.data.cut import Photograph, cut_photograph
from cyclesr_dist.data.images import write_png
from cyclesr_dist.errors import InputError
from cyclesr_dist.models.upscaler import BicubicUpscaler
from cyclesr_dist.scoring.score import Part, score_image

RNG = np.random.default_rng(0)


def image(height: int, width: int) -> NDArray[np.uint8]:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def luma(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """ITU-R BT.601, studio range, of 8 bits, as in MATLAB's documentation of rgb2ycbcr."""
    r, g, b = np.moveaxis(picture.astype(np.float64) / 255, 2, 0)
    return 16 + 65.481 * r + 128.553 * g + 24.966 * b


def direct_psnr(a: NDArray[Any], b: NDArray[Any]) -> float:
    return 10 * math.log10(255**2 / np.mean((a.astype(np.float64) - b) ** 2))


def direct_ssim(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Wang et al. 2004 of one plane, window by window."""
    axis = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(axis, axis) / axis.sum() ** 2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for top, left in product(range(a.shape[0] - 10), range(a.shape[1] - 10)):
        x, y = (plane[top : top + 11, left : left + 11].astype(np.float64) for plane in (a, b))
        mx, my = (window * x).sum(), (window * y).sum()
        vx, vy, cov = ((window * p * q).sum() - m for p, q, m in ((x, x, mx * mx), (y, y, my * my), (x, y, mx * my)))
        values.append((2 * mx * my + c1) * (2 * cov + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2)))
    return float(np.mean(values))


@pytest.mark.parametrize("border", [0, 4])
def test_scores_of_luma_and_rgb_less_a_border_from_their_definitions(border: int) -> None:
    hr = image(32, 29)
    sr = np.clip(hr.astype(int) + RNG.integers(-20, 21, hr.shape), 0, 255).astype(np.uint8)
    inner = np.s_[border : 32 - border, border : 29 - border]
    found = score_image(None, sr.astype(np.float32) / 255, hr, "plain", part=Part(border, y=True))
    assert found["psnr"] == found["psnr_y"] == pytest.approx(direct_psnr(luma(sr[inner]), luma(hr[inner])))
    assert found["ssim"] == found["ssim_y"] == pytest.approx(direct_ssim(luma(sr[inner]), luma(hr[inner])))
    rgb = score_image(None, sr.astype(np.float32) / 255, hr, "plain", part=Part(border))
    assert rgb["psnr"] == pytest.approx(direct_psnr(sr[inner], hr[inner]))
    assert rgb["ssim"] == pytest.approx(np.mean([direct_ssim(sr[inner][..., c], hr[inner][..., c]) for c in range(3)]))


SCALE = 4


@pytest.mark.parametrize(("down", "right"), list(product(range(-3, 4), repeat=2)))
def test_sizes_of_every_remainder_are_treated_alike_by_scores_and_shards(tmp_path: Path, down: int, right: int) -> None:
    """HR is larger or smaller than the enlargement by less than the scale: LR was rounded down, or up."""
    lr = image(13, 15)
    hr = image(13 * SCALE + down, 15 * SCALE + right)
    h, w = covered(lr.shape, hr.shape, SCALE, ("lr", "hr"))
    assert (h, w) == (13 if down >= 0 else 12, 15 if right >= 0 else 14)

    class Corner(BicubicUpscaler):
        """Gives what is in HR, wherever it is scored."""

        def __call__(self, x: Any) -> Any:
            y = super().__call__(x)
            y[0, :, : h * SCALE, : w * SCALE] = y.new_tensor(hr[: h * SCALE, : w * SCALE].transpose(2, 0, 1)) / 255
            return y

    assert score_image(Corner(SCALE), lr.astype(np.float32) / 255, hr, "plain")["psnr"] == math.inf

    for name, pixels in (("lr", lr), ("hr", hr)):
        write_png(tmp_path / f"{name}.png", pixels)
    files = {name: tmp_path / f"{name}.png" for name in ("hr", "lr")}
    shards = Shards(patch=4, stride=1, min_std=0.0, align=False)
    cut = cut_photograph(Photograph("a", files), kind="pairs", shards=shards, scale=SCALE)
    places = [tuple(map(int, key.split("_")[1:])) for key in cut.keys]
    assert max(y for y, _ in places) + 4 == h
    assert max(x for _, x in places) + 4 == w


@pytest.mark.parametrize("size", [(56, 60), (48, 60), (52, 64), (3, 60)])
def test_other_sizes_are_refused_by_both(tmp_path: Path, size: tuple[int, int]) -> None:
    lr, hr = image(13, 15), image(*size)
    with pytest.raises(InputError, match="15x13 px enlarged x4 is 60x52 px, but"):
        score_image(BicubicUpscaler(SCALE), lr.astype(np.float32) / 255, hr, "plain")
    for name, pixels in (("lr", lr), ("hr", hr)):
        write_png(tmp_path / f"{name}.png", pixels)
    files = {name: tmp_path / f"{name}.png" for name in ("hr", "lr")}
    with pytest.raises(InputError, match="15x13 px enlarged x4 is 60x52 px, but"):
        cut_photograph(Photograph("a", files), kind="pairs", shards=Shards(patch=4, align=False), scale=SCALE)


class TestCommand:
    def evaluate(self, root: Path, *more: object) -> int:
        folders = ["--lr", str(root / "lr"), "--hr", str(root / "hr"), "--json", str(root / "s.json"), "--quiet"]
        return main(["evaluate", "--model", "bicubic", "--scale", "1", *folders, *map(str, more)])

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        for name, count in (("hr", 4), ("lr", 3)):
            photographs(tmp_path / name, count, height=30, width=30)
        return tmp_path

    def test_the_rest_is_scored_and_the_code_is_1(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.evaluate(root) == 0
        (root / "lr" / "p0000.png").write_bytes(b"no image")
        (root / "hr" / "p0001.png").unlink()
        (root / "lr" / "x.heic").touch()
        capsys.readouterr()
        assert self.evaluate(root) == 1
        said = capsys.readouterr()
        assert "mean of 1 image\n" in said.out
        scores = json.loads((root / "s.json").read_text())
        assert [entry["name"] for entry in scores["images"]] == ["p0002"]
        failed = {Path(entry["name"]).name: entry["reason"] for entry in scores["failed"]}
        assert failed.keys() == {"p0000.png", "p0001.png"}
        assert "no HR file" in failed["p0001.png"]
        assert [Path(entry["name"]).name for entry in scores["skipped"]] == ["x.heic"]
        assert said.err.splitlines()[-1] == "2 of 3 images failed, 1 skipped"

    def test_nothing_scored_is_1_and_writes_nothing(self, root: Path) -> None:
        for path in (root / "lr").iterdir():
            path.write_bytes(b"no image")
        assert self.evaluate(root) == 1
        assert not (root / "s.json").exists()

    def test_the_part_is_in_the_file(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.evaluate(root, "--y", "--crop-border", 3) == 0
        assert "luma, 3 px cut from every side" in capsys.readouterr().out
        scores = json.loads((root / "s.json").read_text())
        assert (scores["crop_border"], scores["y"]) == (3, True)
        assert scores["mean"]["psnr"] == scores["mean"]["psnr_y"]

    @pytest.mark.parametrize(
        ("more", "said"),
        [
            (("--crop-border", -1), "--crop-border -1: must be 0 or more"),
            (("--y", "--protocol", "ntire2018"), "--y: protocol ntire2018 does not score luma"),
        ],
    )
    def test_bad_arguments(
        self, root: Path, more: tuple[object, ...], said: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.evaluate(root, *more) == 2
        assert said in capsys.readouterr().err

    def test_a_border_that_leaves_nothing_fails_each_image(
        self, root: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.evaluate(root, "--crop-border", 15) == 1
        assert "30x30 px is too small for --crop-border 15" in capsys.readouterr().err

    def test_a_json_file_that_is_a_folder(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (root / "s.json").mkdir()
        assert self.evaluate(root) == 2
        assert "is a folder; a file is needed" in capsys.readouterr().err

    def test_sub_folders(self, root: Path) -> None:
        for name in ("hr", "lr"):
            photographs(root / name / "b", 2, height=30, width=30)
        assert self.evaluate(root, "--recursive") == 0
        names = [entry["name"] for entry in json.loads((root / "s.json").read_text())["images"]]
        assert names == ["b/p0000", "b/p0001", "p0000", "p0001", "p0002"]
