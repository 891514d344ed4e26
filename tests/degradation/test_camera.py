"""The track `camera`: what lens, sensor, sharpening and JPEG do to pixels, what is drawn, and the command."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import write_photos
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cyclesr_dist.cli import degrade as command
from cyclesr_dist.config.schema import Degrade, load
from cyclesr_dist.data.resize import bicubic_down, to_8bit_grid
from cyclesr_dist.degradation import camera
from cyclesr_dist.degradation.simulate import degrade, draw_parameters
from cyclesr_dist.degradation.simulate_folder import degrade_folder
from cyclesr_dist.errors import ConfigError
from cyclesr_dist.runtime.command import guarded

LEVELS = Degrade(blur_px=3.2, noise=0.025, jpeg_quality=80)
NONE = Degrade(blur_px=0, noise=0, jpeg_quality=80)
MID = 128 / 255


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "hr", 3, 50, 61, seed=0)


def texture(height: int, width: int, seed: int = 0) -> Tensor:
    """Seeded by what is the same everywhere, for the pinned values."""
    values = np.random.RandomState(seed).random_sample((1, 3, height, width))
    return torch.from_numpy(values).float()


def flat(value: float, size: int = 400) -> Tensor:
    return torch.full((1, 3, size, size), value)


def shot(hr: Tensor, levels: Degrade = LEVELS, *, scale: int = 4, seed: int = 0, name: str = "a") -> Tensor:
    return degrade(hr, "camera", scale, levels, seed, name)[0]


def neighbours(noise: Tensor) -> float:
    """Correlation of each value with the one to its right."""
    left, right = noise[..., :-1].flatten(), noise[..., 1:].flatten()
    return float(torch.corrcoef(torch.stack([left, right]))[0, 1])


# --- the parts


def test_the_mosaic_is_rggb() -> None:
    mask = camera.bayer(torch.zeros(1, 1, 3, 5))
    assert torch.equal(mask.sum(dim=1), torch.ones(1, 3, 5))
    colours = mask[0].argmax(dim=0)
    assert colours.tolist() == [[0, 1, 0, 1, 0], [1, 2, 1, 2, 1], [0, 1, 0, 1, 0]]


@pytest.mark.parametrize("size", [(2, 2), (3, 2), (7, 6), (8, 9)])
def test_demosaicing_keeps_flat_colours_up_to_the_border(size: tuple[int, int]) -> None:
    colours = torch.tensor([0.1, 0.5, 0.9]).view(1, 3, 1, 1).expand(1, 3, *size)
    raw = (colours * camera.bayer(colours)).sum(dim=1, keepdim=True)
    torch.testing.assert_close(camera.demosaic(raw), colours.contiguous())


def test_demosaicing_is_bilinear() -> None:
    """A bright red photosite spreads as a tent, and to red alone."""
    raw = torch.zeros(1, 1, 7, 7)
    raw[..., 2, 4] = 1
    expected = torch.zeros(1, 3, 7, 7)
    expected[0, 0, 1:4, 3:6] = torch.tensor([[0.25, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 0.25]])
    torch.testing.assert_close(camera.demosaic(raw), expected)


@pytest.mark.parametrize("noise", [0.005, 0.025, 0.05])
def test_the_sensors_noise_has_its_level_at_mid_grey_in_display_values(noise: float) -> None:
    raw = torch.full((1, 1, 400, 400), 0.5**2.2)
    seen = camera.sensor_noise(raw, noise, np.random.RandomState(0)).pow(1 / 2.2)
    assert seen.std().item() == pytest.approx(noise, rel=0.03)


def test_the_sensors_noise_grows_with_light_and_is_not_gone_in_the_dark() -> None:
    """Poisson-Gauss: the variance is a line over light, which meets zero below black."""
    variances = []
    for light in (0.25, 0.5, 0.75):
        raw = torch.full((1, 1, 500, 500), light)
        variances.append(camera.sensor_noise(raw, 0.02, np.random.RandomState(1)).var().item())
    dark, middle, bright = variances
    assert middle - dark == pytest.approx(bright - middle, rel=0.05)
    assert dark - (middle - dark) == pytest.approx((middle - dark) * 0.15**2 / 0.25, rel=0.3)
    black = camera.sensor_noise(torch.zeros(1, 1, 100, 100), 0.02, np.random.RandomState(1))
    assert 0.4 < (black > 0).float().mean() < 0.6


def test_the_lens_blur_is_round_and_has_its_standard_deviation() -> None:
    point = torch.zeros(1, 3, 41, 41)
    point[..., 20, 20] = 1
    spread = camera.lens_blur(point, 3.2)[0, 1].double()
    assert spread.sum().item() == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(spread, spread.T, atol=1e-8, rtol=0)
    offsets = torch.arange(-20, 21)
    assert (spread.sum(dim=0) @ offsets.double() ** 2).sqrt().item() == pytest.approx(3.2, rel=0.01)


def test_sharpening_overshoots_at_edges_alone() -> None:
    edge = torch.full((1, 3, 8, 8), 0.4)
    edge[..., 4:] = 0.6
    sharp = camera.sharpen(edge)
    torch.testing.assert_close(sharp[0, 0, 3, 3:5], torch.tensor([0.375, 0.625]))  # a quarter of the step, halved
    torch.testing.assert_close(sharp[..., :3], edge[..., :3])
    torch.testing.assert_close(sharp[..., 5:], edge[..., 5:])


def test_without_noise_and_blur_mosaic_sharpening_and_jpeg_are_left() -> None:
    hr = texture(43, 50)
    light = bicubic_down(hr[..., :40, :48], 4) ** 2.2
    raw = (light * camera.bayer(light)).sum(dim=1, keepdim=True)
    quality = draw_parameters("camera", NONE, 0, "a")["jpeg_quality"]
    expected = camera.jpeg(camera.sharpen(camera.demosaic(raw) ** (1 / 2.2)), quality)
    assert torch.equal(shot(hr, NONE), expected)


# --- the whole


@given(
    height=st.integers(8, 40),
    width=st.integers(8, 40),
    scale=st.sampled_from([1, 2, 3, 4]),
    seed=st.integers(0, 1000),
    levels=st.builds(Degrade, blur_px=st.floats(0, 20), noise=st.floats(0, 1), jpeg_quality=st.integers(1, 100)),
)
@settings(max_examples=60, deadline=None)
def test_any_size_and_level_gives_an_8bit_image(
    height: int, width: int, scale: int, seed: int, levels: Degrade
) -> None:
    lr = shot(texture(height, width, seed), levels, scale=scale, seed=seed)
    assert lr.shape == (1, 3, height // scale, width // scale)
    assert lr.dtype == torch.float32
    assert torch.isfinite(lr).all()
    assert torch.equal(lr, to_8bit_grid(lr))


@pytest.mark.parametrize("size", [(7, 40), (40, 7)])
def test_less_than_one_square_of_the_mosaic_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="cannot be shrunk by 4"):
        shot(texture(*size))


def test_grey_stays_grey_without_noise() -> None:
    """Also at the borders, and though light is averaged in other units than display values."""
    assert torch.equal(shot(flat(MID, 66), replace(LEVELS, noise=0)), flat(MID, 16))


def test_noise_does_not_change_the_mean() -> None:
    """Of light exactly; of display values nearly, for their curve is bent over the width of the noise."""
    light = torch.full((1, 1, 800, 800), MID**2.2)
    noisy = camera.sensor_noise(light, 0.05, np.random.RandomState(0))
    assert noisy.mean().item() == pytest.approx(MID**2.2, abs=2e-4)
    for seed in range(3):
        means = shot(flat(MID, 800), seed=seed).mean(dim=(0, 2, 3))
        torch.testing.assert_close(means, torch.full((3,), MID), atol=2e-3, rtol=0)


def test_more_noise_is_more_noise() -> None:
    stds = [shot(flat(MID), replace(LEVELS, noise=noise)).std().item() for noise in (0, 0.02, 0.04, 0.08)]
    assert stds[0] == pytest.approx(0, abs=1e-6)
    assert all(more > 1.5 * less for less, more in pairwise(stds[1:]))


def test_more_blur_is_less_texture() -> None:
    stds = [shot(texture(160, 160), replace(NONE, blur_px=blur)).std().item() for blur in (0, 1.5, 3, 6)]
    assert all(more < 0.8 * less for less, more in pairwise(stds))


def test_less_quality_is_further_from_the_picture() -> None:
    picture = camera.lens_blur(texture(64, 64), 1.0)
    errors = [(camera.jpeg(picture, quality) - picture).square().mean().item() for quality in (95, 80, 50, 20, 1)]
    assert errors == sorted(errors)
    assert errors[-1] > 2 * errors[0]
    hr = texture(160, 160)
    assert not torch.equal(shot(hr), shot(hr, replace(LEVELS, jpeg_quality=40)))


def test_the_noise_of_neighbours_is_alike_unlike_that_of_equation_1() -> None:
    levels = Degrade(blur_px=0, noise=0.05, shift_px=0, jpeg_quality=100)
    mild, _ = degrade(flat(0.5), "mild", 4, levels, 0, "a")
    assert abs(neighbours(mild)) < 0.05
    assert all(neighbours(shot(flat(0.5), levels)[:, colour]) > 0.2 for colour in range(3))


# --- what is drawn from what


def test_levels_are_spread_around_those_given() -> None:
    drawn = [draw_parameters("camera", LEVELS, 0, f"{i}") for i in range(300)]
    for key, level, low, high in (("blur_px", 3.2, 0.8, 1.2), ("noise", 0.025, 0.7, 1.3)):
        factors = np.array([d[key] for d in drawn]) / level
        assert len(set(factors)) == 300
        assert low <= factors.min() < low + 0.02
        assert high - 0.02 < factors.max() <= high
        assert factors.mean() == pytest.approx(1, abs=0.03)
    assert {d["jpeg_quality"] for d in drawn} == set(range(72, 89))
    assert json.loads(json.dumps(drawn)) == drawn


def test_the_quality_drawn_stays_one_of_jpeg() -> None:
    best, worst = (
        {draw_parameters("camera", Degrade(jpeg_quality=level), 0, f"{i}")["jpeg_quality"] for i in range(200)}
        for level in (98, 3)
    )
    assert best == set(range(90, 101))
    assert worst == set(range(1, 12))


def test_draws_are_the_same_on_every_machine() -> None:
    """Golden: a change here makes every folder simulated so far differ."""
    assert draw_parameters("camera", LEVELS, 7, "0803") == {
        "blur_px": 3.4939033924538836,
        "noise": 0.021431794971008618,
        "jpeg_quality": 77,
    }


def test_pixels_are_the_same_on_every_machine() -> None:
    """Golden, but for the rounding of floats and of other versions of libjpeg."""
    hr = texture(16, 16, seed=1)
    lr, _ = degrade(hr, "camera", 4, Degrade(blur_px=1, noise=0.05, jpeg_quality=90), 7, "0803")
    green = [[119, 130, 139, 140], [121, 132, 140, 143], [126, 134, 141, 146], [131, 136, 141, 146]]
    np.testing.assert_allclose((lr[0, 1] * 255).round().numpy(), green, atol=2)


def test_seed_and_name_change_the_pixels_and_nothing_else_does() -> None:
    hr = texture(64, 64)
    assert torch.equal(shot(hr), shot(hr.clone()))
    assert not torch.equal(shot(hr), shot(hr, seed=1))
    assert not torch.equal(shot(hr), shot(hr, name="b"))
    assert torch.equal(shot(hr), shot(hr, replace(LEVELS, shift_px=9))), "a camera has no shift"


def test_the_noise_is_the_same_at_every_level() -> None:
    """The draw of levels does not move the stream of the noise."""
    one, three = (
        shot(flat(MID), Degrade(blur_px=blur, noise=0.05, jpeg_quality=100)) for blur in (0, 3)
    )  # flat: blur does nothing
    assert torch.equal(one, three)


# --- folders and the command


def make(photos: Path, out: Path, levels: Degrade = LEVELS, seed: int = 0) -> int:
    return degrade_folder(photos, out, track="camera", scale=4, seed=seed, levels=levels, progress=False)


def run_command(*argv: str | Path) -> int:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    args = parser.parse_args(["degrade", *map(str, argv)])
    return guarded(lambda: args.run(args), debug=args.debug)


def test_a_folder_is_named_as_the_unknown_tracks_and_records_the_quality(photos: Path, tmp_path: Path) -> None:
    assert make(photos, tmp_path / "out") == 3
    record = json.loads((tmp_path / "out/degradations.json").read_text())
    assert record["levels"] == {"blur_px": 3.2, "noise": 0.025, "shift_px": 4, "jpeg_quality": 80}
    assert "kernel" not in record
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == set(record["files"])
    for name, entry in record["files"].items():
        assert name == f"{Path(entry['hr']).stem}x4.png"
        assert entry["parameters"] == draw_parameters("camera", LEVELS, 0, Path(entry["hr"]).stem)


def test_an_image_does_not_depend_on_its_neighbours(photos: Path, tmp_path: Path) -> None:
    make(photos, tmp_path / "all")
    first, *_, last = sorted(photos.iterdir())
    first.unlink()
    make(photos, tmp_path / "some")
    name = f"{last.stem}x4.png"
    assert (tmp_path / "all" / name).read_bytes() == (tmp_path / "some" / name).read_bytes()


def test_the_command_run_twice_does_nothing_the_second_time(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    argv = ("--hr", photos, "--out", out, "--track", "camera", "--jpeg-quality", "60", "--quiet")
    assert run_command(*argv) == 0
    assert "3 LR files" in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert run_command(*argv) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    assert json.loads((out / "degradations.json").read_text())["levels"]["jpeg_quality"] == 60
    assert run_command(*argv, "--jpeg-quality", "61") == 2
    assert "--overwrite" in capsys.readouterr().err


@pytest.mark.parametrize("quality", ["0", "101", "-5"])
def test_a_bad_quality_is_named_with_its_range(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], quality: str
) -> None:
    out = tmp_path / "out"
    assert run_command("--hr", photos, "--out", out, "--track", "camera", f"--jpeg-quality={quality}") == 2
    expected = f"degrade.jpeg_quality = {quality} is out of range; allowed: at least 1 and at most 100"
    assert capsys.readouterr().err == f"cyclesr: error: {expected}\n"
    assert not out.exists()
    with pytest.raises(ConfigError, match=expected):
        load(None, [f"degrade.jpeg_quality={quality}"])


def test_a_photograph_smaller_than_one_square_of_the_mosaic_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = write_photos(tmp_path / "hr", 1, 7, 40, seed=0)
    assert run_command("--hr", photos, "--out", tmp_path / "out", "--track", "camera", "--quiet") == 1
    error = capsys.readouterr().err
    assert "photo0.png: 40 x 7 px is too small for scale 4; at least 8 x 8 px are needed" in error
    assert "not one photograph could be used" in error
    assert not (tmp_path / "out").exists()
