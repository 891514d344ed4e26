"""Scorers against direct transcriptions of their definitions, and `evaluate` over folders."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cyclesr_dist.cli import evaluate as cli
from cyclesr_dist.config.schema import Protocol
from cyclesr_dist.data.folders import Pair, match_pairs
from cyclesr_dist.data.images import write_png
from cyclesr_dist.data.resize import bicubic_down
from cyclesr_dist.errors import InputError
from cyclesr_dist.models.reach import Reach
from cyclesr_dist.models.torch_arithmetic import TorchArithmetic
from cyclesr_dist.models.upscaler import BicubicUpscaler
from cyclesr_dist.runtime.command import guarded
from cyclesr_dist.scoring.ntire import ntire2017, ntire2018
from cyclesr_dist.scoring.psnr import psnr, psnr_y, ssim, ssim_y
from cyclesr_dist.scoring.score import evaluate_folder, score_file, score_pair, to_uint8, write_scores
from cyclesr_dist.scoring.ssim_search import best_ssim

Image8 = NDArray[np.uint8]


def noise(height: int, width: int, seed: int = 0) -> Image8:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def waves(height: int, width: int) -> Image8:
    """Smooth, coloured, not periodic within the image: scores fall off around the true shift as on photographs."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [120 + 60 * np.sin(x / (5 + c) + y**2 / 900) + 50 * np.cos(y / 7 - c + x**2 / 1500) for c in range(3)]
    return np.stack(planes, axis=2).round().astype(np.uint8)


def degraded(hr: Image8, dy: int, dx: int, gain: float = 0.85) -> Image8:
    """`hr` moved by (dy, dx), darker and noisy."""
    moved = np.roll(hr, (dy, dx), axis=(0, 1)) * gain
    return np.clip(moved + np.random.default_rng(1).normal(0, 6, hr.shape), 0, 255).astype(np.uint8)


# ---- direct transcriptions, one window at a time ----


def direct_psnr(sr: NDArray[np.generic], hr: NDArray[np.generic]) -> float:
    mse = np.mean((sr.astype(np.float64) - hr.astype(np.float64)) ** 2)
    return float(10 * np.log10(255**2 / mse))


def direct_ssim(sr: NDArray[np.generic], hr: NDArray[np.generic]) -> float:
    """Every 11 x 11 window's weighted moments, written out."""
    t = np.arange(-5, 6)
    kernel = np.exp(-(t[:, None] ** 2 + t[None] ** 2) / (2 * 1.5**2))
    kernel /= kernel.sum()
    views = [np.lib.stride_tricks.sliding_window_view(i.astype(np.float64), (11, 11), (0, 1)) for i in (sr, hr)]
    x, y = (view - 0.0 for view in views)
    mean = [np.einsum("hwcij,ij->hwc", v, kernel) for v in (x, y)]
    dx, dy = (v - m[..., None, None] for v, m in zip((x, y), mean, strict=True))
    var_x, var_y, cov = (np.einsum("hwcij,ij->hwc", v, kernel) for v in (dx * dx, dy * dy, dx * dy))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    light = (2 * mean[0] * mean[1] + c1) / (mean[0] ** 2 + mean[1] ** 2 + c1)
    return float((light * (2 * cov + c2) / (var_x + var_y + c2)).mean())


def direct_2018(sr: Image8, hr: Image8, max_shift: int, with_ssim: bool = True) -> dict[str, float]:
    height, width = (size - size % 4 for size in hr.shape[:2])
    sr, hr = (image[:height, :width][10:-10, 10:-10] for image in (sr, hr))
    top, left = hr.shape[0] // 2 - 30, hr.shape[1] // 2 - 30
    window = hr[top : top + 60, left : left + 60]
    matched, raw, similar = [], [], []
    for dy in range(-max_shift, max_shift + 1):
        for dx in range(-max_shift, max_shift + 1):
            moved = sr[top + dy : top + dy + 60, left + dx : left + dx + 60]
            matched.append(direct_psnr(moved * (window.mean() / moved.mean()), window))
            raw.append(direct_psnr(moved, window))
            if with_ssim and dy % 2 == 0 and dx % 2 == 0:
                similar.append(direct_ssim(moved, window))
    return {"psnr": max(matched), "psnr_raw": max(raw)} | ({"ssim": max(similar)} if with_ssim else {})


class TestPlain:
    def test_agrees_with_scikit_image(self) -> None:
        """Values printed by scikit-image 0.26.0 for this pair (gaussian_weights, use_sample_covariance=False)."""
        y, x = np.mgrid[0:40, 0:53]
        hr = np.stack([127 + 100 * np.sin(x / 3 + c) * np.cos(y / (5 + c)) for c in range(3)], 2).round()
        sr = (hr.astype(int) * 7 + (x * y % 31)[:, :, None]) // 8
        pair = sr.astype(np.uint8), hr.astype(np.uint8)
        assert psnr(*pair) == pytest.approx(24.081135889571293, abs=1e-10)
        assert ssim(*pair) == pytest.approx(0.9831267860176407, abs=1e-12)

    @pytest.mark.parametrize(("height", "width"), [(11, 11), (12, 45), (90, 30)])
    def test_ssim_is_its_definition(self, height: int, width: int) -> None:
        for hr in (noise(height, width), waves(height, width)):
            sr = degraded(hr, 1, 0)
            assert ssim(sr, hr) == pytest.approx(direct_ssim(sr, hr), abs=1e-10)

    def test_equal_images(self) -> None:
        image = noise(20, 20)
        assert math.isinf(psnr(image, image))
        assert ssim(image, image) == pytest.approx(1)

    def test_luma_of_greys_and_primaries(self) -> None:
        """BT.601: white 235, black 16, and a green error weighs 128.553 / 255."""
        black, white = np.zeros((12, 12, 3), np.uint8), np.full((12, 12, 3), 255, np.uint8)
        assert psnr_y(black, white) == pytest.approx(20 * math.log10(255 / 219))
        green = black.copy()
        green[:, :, 1] = 100
        assert psnr_y(green, black) == pytest.approx(20 * math.log10(255 / (100 * 128.553 / 255)))
        assert ssim_y(green, green) == pytest.approx(1)
        assert ssim_y(green, black) < 0.6

    def test_border_is_left_out(self) -> None:
        hr = waves(40, 40)
        sr = degraded(hr, 0, 0)
        framed = np.pad(sr[4:-4, 4:-4], ((4, 4), (4, 4), (0, 0)))
        for score in (psnr, psnr_y, ssim, ssim_y):
            assert score(framed, hr, border=4) == score(sr[4:-4, 4:-4], hr[4:-4, 4:-4])

    def test_refuses_other_sizes(self) -> None:
        with pytest.raises(InputError, match="20x30 px against 30x20 px"):
            psnr(noise(30, 20), noise(20, 30))
        with pytest.raises(InputError, match="10x40 px is too small to score: 11x11"):
            ssim(noise(40, 10), noise(40, 10))
        with pytest.raises(InputError, match="too small to score: 9x9"):
            psnr(noise(8, 8), noise(8, 8), border=4)

    def test_thread_count_is_left_alone(self) -> None:
        before = torch.get_num_threads()
        ssim(noise(20, 20), noise(20, 20))
        assert torch.get_num_threads() == before


class TestNTIRE2018:
    @pytest.mark.parametrize("max_shift", [2, 3])
    @pytest.mark.parametrize("hr", [noise(91, 102), waves(91, 102)], ids=["noise", "waves"])
    def test_equals_the_loop(self, hr: Image8, max_shift: int) -> None:
        sr = degraded(hr, 2, -2)
        fast, slow = ntire2018(sr, hr, max_shift), direct_2018(sr, hr, max_shift)
        assert fast == pytest.approx(slow, abs=1e-6)

    @pytest.mark.parametrize("pattern", ["black", "white", "noise", "rows of period 3", "dots of period 3", "checks"])
    def test_ssim_search_misses_no_shift(self, pattern: str) -> None:
        """Patterns that are the worst for estimates from every third row and column."""
        y, x = np.mgrid[0:92, 0:84]
        area = {
            "black": np.zeros((92, 84, 3), np.uint8),
            "white": np.full((92, 84, 3), 255, np.uint8),
            "noise": noise(92, 84),
            "rows of period 3": np.repeat(np.uint8(255) * (y % 3 == 0)[..., None], 3, 2),
            "dots of period 3": np.repeat(np.uint8(200) * ((y % 3 == 0) & (x % 3 == 1))[..., None], 3, 2),
            "checks": np.repeat(np.uint8(255) * ((x + y) % 2)[..., None], 3, 2).astype(np.uint8),
        }[pattern]
        window = np.clip(area[17:77, 11:71] + np.random.default_rng(2).normal(0, 9, (60, 60, 3)), 0, 255).astype(
            np.uint8
        )
        every = [ssim(area[a : a + 60, b : b + 60], window) for a in range(0, 33, 2) for b in range(0, 25, 2)]
        assert best_ssim(window, area) == pytest.approx(max(every), abs=1e-12)

    def test_equals_the_loop_over_all_shifts(self) -> None:
        hr = waves(163, 190)
        sr = degraded(hr, 34, -27)
        fast = ntire2018(sr, hr)
        slow = direct_2018(sr, hr, 40, with_ssim=False)
        assert {key: fast[key] for key in slow} == pytest.approx(slow, abs=1e-6)

    def test_even_shift_is_found_exactly(self) -> None:
        """At the true shift the windows are equal; SSIM looks at even shifts only, PSNR at all."""
        hr = waves(170, 170)
        even, odd = (np.roll(hr, shift, axis=(0, 1)) for shift in ((-40, 38), (-39, 38)))
        assert ntire2018(even, hr)["ssim"] == pytest.approx(1, abs=1e-12)
        assert math.isinf(ntire2018(even, hr)["psnr_raw"])
        assert math.isinf(ntire2018(odd, hr)["psnr_raw"])
        assert ntire2018(odd, hr)["ssim"] < 0.999

    def test_best_ssim_over_all_even_shifts(self) -> None:
        hr = waves(160, 160)
        sr = degraded(hr, -38, 40)
        window = hr[50:110, 50:110]
        # The true shift is the best by far on this picture, so its score is the answer.
        assert ntire2018(sr, hr)["ssim"] == pytest.approx(direct_ssim(sr[12:72, 90:150], window), abs=1e-9)

    def test_brightness_is_matched_for_psnr_only(self) -> None:
        hr = waves(160, 160)
        scores = ntire2018((hr * 0.5).astype(np.uint8), hr)
        assert scores["psnr"] > 45
        assert scores["psnr_raw"] < 15
        assert scores["ssim"] < 0.95

    def test_flat_and_black_images(self) -> None:
        black, grey = np.zeros((160, 160, 3), np.uint8), np.full((160, 160, 3), 100, np.uint8)
        scores = ntire2018(black, grey, 4)
        assert scores["psnr"] == scores["psnr_raw"] == pytest.approx(20 * math.log10(255 / 100))
        assert 0 < scores["ssim"] < 0.01
        assert ntire2018(grey, grey, 4)["ssim"] == pytest.approx(1)

    def test_smallest_size(self) -> None:
        assert ntire2018(noise(160, 163), noise(160, 163))["ssim"] == pytest.approx(1)
        with pytest.raises(InputError, match="200x159 px is too small for this protocol: 160x160"):
            ntire2018(noise(159, 200), noise(159, 200))


class TestNTIRE2017:
    def test_unshifted_scores(self) -> None:
        hr = waves(120, 130)
        sr = degraded(hr, 1, 0)
        scores = ntire2017(sr, hr)
        inner = np.s_[10:-10, 10:-10]
        assert scores["psnr"] == pytest.approx(direct_psnr(sr[inner], hr[inner]), abs=1e-9)
        assert scores["ssim"] == pytest.approx(direct_ssim(sr[inner], hr[inner]), abs=1e-9)

    @pytest.mark.parametrize("make", [noise, waves])
    def test_shift10_equals_the_loop(self, make) -> None:  # type: ignore[no-untyped-def]
        hr = make(121, 112)
        sr = degraded(hr, 6, -9)
        inner = sr[10:-10, 10:-10]
        h, w = inner.shape[:2]
        best, dy, dx = max(
            (direct_psnr(inner, hr[dy : dy + h, dx : dx + w]), dy, dx) for dy in range(21) for dx in range(21)
        )
        scores = ntire2017(sr, hr)
        assert scores["psnr_shift10"] == pytest.approx(best, abs=1e-6)
        assert scores["ssim_shift10"] == pytest.approx(direct_ssim(inner, hr[dy : dy + h, dx : dx + w]), abs=1e-9)

    def test_shift40_equals_the_loop(self) -> None:
        hr = waves(121, 150)
        sr = degraded(hr, -25, 31)
        area, window = sr[10:-10, 10:-10], hr[50:-50, 50:-50]
        h, w = window.shape[:2]
        best = max(direct_psnr(area[dy : dy + h, dx : dx + w], window) for dy in range(81) for dx in range(81))
        assert ntire2017(sr, hr)["psnr_shift40"] == pytest.approx(best, abs=1e-6)

    def test_smallest_size(self) -> None:
        assert ntire2017(noise(111, 111), noise(111, 111))["ssim_shift40"] == pytest.approx(1)
        with pytest.raises(InputError, match="111x111 px at least"):
            ntire2017(noise(110, 200), noise(110, 200))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two HR images, sizes not multiples of 4, and their bicubic LR; (lr, hr)."""
    for folder in ("lr", "hr"):
        (tmp_path / folder).mkdir()
    for name, (height, width) in {"a": (171, 162), "b": (163, 180)}.items():
        hr = waves(height, width)
        write_png(tmp_path / "hr" / f"{name}.png", hr)
        cropped = torch.from_numpy(hr[: height // 4 * 4, : width // 4 * 4].astype(np.float32) / 255)
        lr = bicubic_down(cropped.permute(2, 0, 1)[None], 4)[0].permute(1, 2, 0).numpy()
        write_png(tmp_path / "lr" / f"{name}x4.png", np.rint(lr * 255).astype(np.uint8))
    return tmp_path / "lr", tmp_path / "hr"


class TestFolders:
    @pytest.mark.parametrize("protocol", ["plain", "ntire2017", "ntire2018"])
    def test_scores_of_every_image_and_their_mean(self, folders: tuple[Path, Path], protocol: Protocol) -> None:
        scores = evaluate_folder(BicubicUpscaler(4), *folders, protocol)
        assert (scores["protocol"], scores["model"]) == (protocol, "bicubic")
        assert [image["name"] for image in scores["images"]] == ["ax4", "bx4"]
        for key, value in scores["mean"].items():
            assert value == pytest.approx(np.mean([image[key] for image in scores["images"]]))
        assert 20 < scores["mean"]["psnr"] < 50
        assert 0.5 < scores["mean"]["ssim"] < 1

    def test_scores_the_8_bit_rounded_output(self, folders: tuple[Path, Path]) -> None:
        class Constant:
            name, scale, reach, arithmetic = "constant", 4, Reach(0), TorchArithmetic(torch.device("cpu"))

            def __call__(self, x: torch.Tensor) -> torch.Tensor:
                return torch.full((1, 3, x.shape[2] * 4, x.shape[3] * 4), 100.4 / 255)

        pair = match_pairs(folders[1], folders[0])[0]
        expected = score_pair(np.full((168, 160, 3), 100, np.uint8), waves(171, 162)[:168, :160], "plain")
        assert score_file(Constant(), pair, "plain") == expected

    def test_rounding_and_clipping(self) -> None:
        values = np.array([-1, 0.49 / 255, 0.51 / 255, 254.6 / 255, 2], np.float32)
        np.testing.assert_array_equal(to_uint8(values), [0, 0, 1, 255, 255])

    def test_refuses_sizes_that_do_not_fit(self, tmp_path: Path) -> None:
        write_png(tmp_path / "lr.png", noise(10, 10))
        write_png(tmp_path / "hr.png", noise(40, 44))
        pair = Pair("a", tmp_path / "hr.png", tmp_path / "lr.png")
        with pytest.raises(InputError, match=r"lr\.png: 10x10 px enlarged x4 is 40x40 px, but .*hr\.png is 44x40"):
            score_file(BicubicUpscaler(4), pair, "plain")

    def test_too_small_for_the_protocol_names_the_file(self, tmp_path: Path) -> None:
        write_png(tmp_path / "lr.png", noise(10, 10))
        write_png(tmp_path / "hr.png", noise(40, 40))
        with pytest.raises(InputError, match=r"hr\.png: 40x40 px is too small"):
            score_file(BicubicUpscaler(4), Pair("a", tmp_path / "hr.png", tmp_path / "lr.png"), "ntire2018")

    def test_infinite_psnr_is_null_in_json(self, tmp_path: Path) -> None:
        scores = {"images": [{"name": "a", "psnr": math.inf}], "mean": {"psnr": math.inf}}
        write_scores(tmp_path / "s.json", scores)
        assert json.loads((tmp_path / "s.json").read_text())["mean"]["psnr"] is None


def command(*argv: str) -> int:
    parser = argparse.ArgumentParser()
    cli.add_parser(parser.add_subparsers())
    args = parser.parse_args(["evaluate", *argv])
    return guarded(lambda: args.run(args), debug=args.debug)


class TestCommand:
    def test_writes_the_same_json_twice(self, folders: tuple[Path, Path], tmp_path: Path) -> None:
        argv = ["--model", "bicubic", "--lr", str(folders[0]), "--hr", str(folders[1]), "--quiet", "--json"]
        assert command(*argv, str(tmp_path / "1.json")) == 0
        assert command(*argv, str(tmp_path / "2.json")) == 0
        text = (tmp_path / "1.json").read_text()
        assert text == (tmp_path / "2.json").read_text()
        scores = json.loads(text)
        assert {"protocol", "model", "images", "mean"} < set(scores)
        assert [scores[key] for key in ("failed", "skipped", "crop_border", "y")] == [[], [], 0, False]
        assert {"psnr", "ssim"} <= set(scores["mean"])

    def test_prints_the_means(self, folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
        assert command("--model", "bicubic", "--lr", str(folders[0]), "--hr", str(folders[1]), "--quiet") == 0
        mean = evaluate_folder(BicubicUpscaler(4), *folders, "plain")["mean"]
        out = capsys.readouterr().out
        assert f"{mean['psnr']:.3f} dB" in out
        assert f"{mean['ssim']:.4f}" in out

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"--model": "nowhere"}, "neither 'bicubic'"),
            ({"--lr": "nowhere"}, "no such folder"),
            ({"--json": "nowhere/s.json"}, "no such folder nowhere"),
        ],
    )
    def test_bad_input_is_one_line_and_code_2(
        self,
        folders: tuple[Path, Path],
        change: dict[str, str],
        message: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        options = {"--model": "bicubic", "--lr": str(folders[0]), "--hr": str(folders[1])} | change
        assert command(*(part for option in options.items() for part in option)) == 2
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1

    def test_broken_photograph(self, folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
        (folders[0] / "ax4.png").write_text("not a photograph")
        assert command("--model", "bicubic", "--lr", str(folders[0]), "--hr", str(folders[1]), "--quiet") == 1
        assert "ax4.png: is not an image" in capsys.readouterr().err
