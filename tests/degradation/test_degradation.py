"""The estimated degradation: what is measured, its files, and how it is applied."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import write_photos
from helpers.quick_fit import few_steps
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cyclesr_dist.config.schema import Data
from cyclesr_dist.data.images import write_png
from cyclesr_dist.degradation.apply import degraded, translate
from cyclesr_dist.degradation.blur import blur
from cyclesr_dist.degradation.estimate import blur_std_px, estimate, estimate_from
from cyclesr_dist.degradation.fit import fit, variance_at
from cyclesr_dist.degradation.record import ARRAYS, FACTS, Degradation, checked, load, save
from cyclesr_dist.degradation.sample import Sample, read_sample
from cyclesr_dist.degradation.sentences import sentences
from cyclesr_dist.degradation.spectra import gain_of, radial, spectra
from cyclesr_dist.degradation.variation import kernels_of
from cyclesr_dist.errors import InputError


def gaussian(std: float, side: int = 9) -> Tensor:
    line = torch.exp(-0.5 * ((torch.arange(side) - side // 2) / std) ** 2)
    kernel = line[:, None] * line
    return kernel / kernel.sum()


def texture(n: int, p: int, seed: int, slope: float = 1.0) -> Tensor:
    """(n, 3, p, p) in [0, 1]: coloured noise with a photograph's falling spectrum, of different contrast."""
    g = torch.Generator().manual_seed(seed)
    side = 2 * p
    frequency = (torch.fft.fftfreq(side)[:, None] ** 2 + torch.fft.rfftfreq(side) ** 2).sqrt().clamp(min=1 / side)
    grey = torch.fft.irfft2(torch.fft.rfft2(torch.randn(n, 1, side, side, generator=g)) / frequency**slope)[..., :p, :p]
    grey = grey / grey.std()
    contrast = 0.02 + 0.12 * torch.rand(n, 1, 1, 1, generator=g)
    mean = 0.25 + 0.5 * torch.rand(n, 1, 1, 1, generator=g)
    return (mean + contrast * grey).expand(-1, 3, -1, -1).clamp(0, 1).contiguous()


def sample_of(patches: Tensor, num_photos: int) -> Sample:
    photo = torch.arange(len(patches)) % num_photos
    return Sample(patches, photo, num_photos, num_photos, (), ())


def degradation(**changes: Tensor) -> Degradation:
    g = torch.Generator().manual_seed(0)
    values = {
        "kernels": gaussian(1.0)[None],
        "variance": torch.tensor([0.0002, 0.001, 0.002]),
        "levels": torch.ones(1),
        "colouring": torch.eye(3)[..., None, None],
        "noise": torch.randn(300, 3, 16, 16, generator=g),
    } | changes
    return Degradation(**values, facts={"version": 1})


def rounded(x: Tensor) -> Tensor:
    return (x.clamp(0, 1) * 255).round() / 255


@pytest.mark.parametrize(
    ("std_px", "noise"),
    [(0.8, 0.03), *(pytest.param(*case, marks=pytest.mark.slow) for case in [(0.8, 0.0), (0.0, 0.05), (1.2, 0.01)])],
)
def test_blur_and_noise_are_found_between_scenes_that_are_not_the_same(std_px: float, noise: float) -> None:
    kernel = gaussian(std_px) if std_px else torch.ones(1, 1)
    clean = texture(700, 48, seed=1)
    blurred = blur(clean, kernel[None], torch.zeros(700))[..., 8:40, 8:40]
    std = noise * (2 * blurred).sqrt()
    real = rounded(blurred + std * torch.randn(blurred.shape, generator=torch.Generator().manual_seed(2)))
    found = estimate_from(sample_of(rounded(texture(700, 32, seed=3)), 30), sample_of(real, 30), scale=4)
    facts = found.facts
    assert facts["blur"]["std_px"] == pytest.approx(std_px, abs=0.2)
    assert facts["noise"]["std_at"]["0.5"] == pytest.approx(noise, rel=0.12, abs=0.006)
    assert facts["spectrum_distance"]["translated"] < max(0.05, 0.3 * facts["spectrum_distance"]["synthetic"])
    assert facts["noise"]["kind"] == "gaussian"


def test_sharpening_is_said_not_guessed_as_blur() -> None:
    kernel = torch.zeros(3, 3)
    kernel[1, 1] = 3.0
    kernel[0, 1] = kernel[1, 0] = kernel[1, 2] = kernel[2, 1] = -0.5
    real = rounded(blur(texture(800, 48, seed=1), kernel[None], torch.zeros(800))[..., 8:40, 8:40])
    found = estimate_from(sample_of(texture(800, 32, seed=3), 20), sample_of(real, 20), scale=4)
    assert any("sharper" in doubt for doubt in found.facts["doubts"])
    assert found.facts["blur"]["std_px"] == 0


@pytest.mark.usefixtures("few_fit_steps")
def test_jpeg_that_cannot_be_looked_for_is_not_denied() -> None:
    small = sample_of(texture(60, 32, seed=1), 20)
    found = estimate_from(sample_of(texture(60, 32, seed=2), 20), small, scale=4)
    assert found.facts["jpeg_looked_for"] is False
    assert "JPEG" not in " ".join(sentences(found.facts))


@pytest.mark.usefixtures("few_fit_steps")
def test_few_and_grey_photographs_are_doubted() -> None:
    colour, grey = texture(200, 32, seed=1), texture(200, 32, seed=2)
    colour[:, 0] *= 0.8
    found = estimate_from(sample_of(colour, 3), sample_of(grey, 20), scale=4)
    assert any("only 3 HR photographs" in doubt for doubt in found.facts["doubts"])
    assert any("grey" in doubt for doubt in found.facts["doubts"])


def test_flat_photographs_show_no_blur_and_say_so() -> None:
    level = torch.linspace(0.2, 0.8, 300)[:, None, None, None].expand(-1, 3, 32, 32)
    found = estimate_from(sample_of(rounded(level), 20), sample_of(rounded(level), 20), scale=4)
    assert any("hardly any detail" in doubt for doubt in found.facts["doubts"])
    assert found.facts["noise"]["std_at"]["0.5"] < 0.003


def test_of_more_detail_in_calm_photographs_little_is_taken_for_noise() -> None:
    """Real LR that shows more fine detail than HR, with calm places in every photograph and no noise."""
    detail, place = rounded(texture(400, 32, seed=1, slope=0.75)), torch.arange(400)
    calm = (place // 20) % 4 == 0
    detail[calm] = rounded(texture(int(calm.sum()), 32, seed=2, slope=1.6))
    found = estimate_from(sample_of(rounded(texture(400, 32, seed=3)), 20), sample_of(detail, 20), scale=4)
    assert found.facts["noise"]["std_at"]["0.5"] < 0.012
    noise = 0.04 * torch.randn(detail.shape, generator=torch.Generator().manual_seed(4))
    found = estimate_from(
        sample_of(rounded(texture(400, 32, seed=3)), 20), sample_of(rounded(detail + noise), 20), scale=4
    )
    assert found.facts["noise"]["std_at"]["0.5"] == pytest.approx(0.04, rel=0.35)


def test_noise_levels_of_photographs_are_kept_apart() -> None:
    g = torch.Generator().manual_seed(0)
    clean = texture(600, 32, seed=1)
    photo = torch.arange(600) % 20
    std = torch.where(photo < 10, 0.02, 0.06)[:, None, None, None]
    real = rounded(clean + std * torch.randn(clean.shape, generator=g))
    found = estimate_from(sample_of(texture(600, 32, seed=3), 20), Sample(real, photo, 20, 20, (), ()), scale=4)
    assert found.facts["noise"]["spread"] > 0.3
    alike = rounded(clean + 0.04 * torch.randn(clean.shape, generator=g))
    calm = estimate_from(sample_of(texture(600, 32, seed=3), 20), sample_of(alike, 20), scale=4)
    assert calm.facts["noise"]["spread"] < 0.15


@settings(max_examples=5, deadline=None)
@given(
    kind=st.sampled_from(["black", "white", "random", "texture", "checkers", "one bright px"]),
    other=st.sampled_from(["black", "random", "texture", "gradient"]),
    n=st.integers(1, 60),
    p=st.sampled_from([16, 18, 24, 32]),
)
def test_odd_patches_give_a_degradation_that_can_be_used(kind: str, other: str, n: int, p: int) -> None:
    def patches(name: str) -> Tensor:
        x = torch.zeros(n, 3, p, p)
        match name:
            case "white":
                x += 1
            case "random":
                x = torch.rand(n, 3, p, p, generator=torch.Generator().manual_seed(1))
            case "texture":
                x = texture(n, p, seed=5)
            case "checkers":
                x[..., ::2, ::2] = 1
            case "one bright px":
                x[..., p // 2, p // 2] = 1
            case "gradient":
                x += torch.linspace(0, 1, p)
        return rounded(x)

    num_photos = max(1, n // 5)
    with few_steps():
        found = estimate_from(sample_of(patches(kind), num_photos), sample_of(patches(other), num_photos), scale=4)
    again = checked(found.tensors(), found.facts, "test")
    assert float((again.kernels.sum((1, 2)) - 1).abs().max()) < 1e-4
    assert json.loads(json.dumps(found.facts, allow_nan=False)) == found.facts
    made = degraded(found, patches("texture"), seed=0)
    assert bool(torch.isfinite(made).all())
    assert 0 <= float(made.min()) <= float(made.max()) <= 1


@pytest.mark.usefixtures("few_fit_steps")
def test_the_same_seed_gives_the_same_estimate_and_another_seed_another_sample(tmp_path: Path) -> None:
    write_photos(tmp_path / "hr", 6, 256, 320, seed=0)
    write_photos(tmp_path / "lr", 6, 96, 80, seed=1)
    one, two, other = (estimate(f"{tmp_path}/hr", f"{tmp_path}/lr", scale=4, seed=seed) for seed in (0, 0, 1))
    assert one.facts == two.facts
    assert all(torch.equal(one.tensors()[name], two.tensors()[name]) for name in one.tensors())
    assert one.facts["seed"] != other.facts["seed"]


def test_what_cannot_be_sampled_is_said(tmp_path: Path) -> None:
    write_photos(tmp_path / "hr", 2, 256, 320, seed=0)
    write_photos(tmp_path / "tiny", 2, 40, 40, seed=1)
    with pytest.raises(InputError, match="too small; at least 64 px"):
        read_sample(str(tmp_path / "tiny"), "hr", 4, Data(), 0)
    (tmp_path / "hr" / "broken.png").write_text("no picture")
    with pytest.raises(InputError, match=r"broken\.png"):
        read_sample(str(tmp_path / "hr"), "hr", 4, Data(), 0)


def test_photographs_too_small_are_left_out_beside_others(tmp_path: Path) -> None:
    write_photos(tmp_path, 2, 64, 64, seed=0)
    write_png(tmp_path / "icon.png", np.zeros((8, 8, 3), np.uint8))
    sample = read_sample(str(tmp_path), "lr", 4, Data(), 0)
    assert (sample.num_photos, sample.num_there) == (2, 3)


@pytest.mark.parametrize("size", [(8, 8), (16, 16), (9, 15), (17, 16), (40, 33), (3, 5), (1, 1)])
def test_images_of_any_size_are_translated(size: tuple[int, int]) -> None:
    x = torch.rand(3, 3, *size)
    made = degraded(degradation(), x, seed=0)
    assert made.shape == x.shape
    assert torch.equal(rounded(made), made)


def test_noise_keeps_its_level_and_mean_where_pieces_overlap() -> None:
    found = degradation(kernels=torch.ones(1, 1, 1), variance=torch.full((3,), 0.002))
    made = degraded(found, torch.full((400, 3, 40, 40), 0.5), seed=0) - 0.5
    assert abs(float(made.mean())) < 1e-3
    level = made.std(dim=(0, 1))
    assert float((level / 0.002**0.5 - 1).abs().max()) < 0.12


def test_noise_follows_brightness() -> None:
    found = degradation(kernels=torch.ones(1, 1, 1))
    for brightness, variance in ((0.3, 0.0006), (0.7, 0.0015)):
        made = degraded(found, torch.full((100, 3, 16, 16), brightness), seed=0)
        assert float(made.var()) == pytest.approx(variance, rel=0.1)
        assert float(variance_at(found.variance, torch.tensor(brightness))) == pytest.approx(variance, rel=1e-4)


def test_a_sample_is_translated_alike_in_any_company() -> None:
    """So that neither the number of ranks nor the batch changes it."""
    found = degradation(kernels=torch.stack([gaussian(0.5), gaussian(1.5)]))
    x, white = torch.rand(6, 3, 20, 20), torch.randn(6, 3, 20, 20)
    whole = translate(x, white, **found.tensors())
    alone = torch.cat([translate(x[i : i + 1], white[i : i + 1], **found.tensors()) for i in range(6)])
    assert torch.equal(whole, alone)


def test_kernels_and_pieces_are_drawn_evenly() -> None:
    found = degradation(kernels=torch.stack([gaussian(0.3), gaussian(2.0)]), variance=torch.zeros(3))
    x = torch.zeros(400, 3, 9, 9)
    x[..., 4, 4] = 1
    sharp = degraded(found, x, seed=0)[:, 0, 4, 4] > 0.5
    assert 0.4 < float(sharp.float().mean()) < 0.6


def test_gradients_pass_rounding() -> None:
    x = torch.rand(1, 3, 16, 16, requires_grad=True)
    translate(x, torch.randn(1, 3, 16, 16), **degradation().tensors()).sum().backward()
    assert x.grad is not None
    assert float(x.grad.abs().min()) > 0


def test_a_range_of_kernels_has_the_mean_one_in_its_middle() -> None:
    kernel = gaussian(1.0)
    several = kernels_of(kernel, 0.4)
    assert len(several) > 1
    assert torch.allclose(several.sum((1, 2)), torch.ones(len(several)), atol=1e-5)
    assert float((several[len(several) // 2] - kernel).norm() / kernel.norm()) < 0.05
    widths = [blur_std_px(k) for k in several]
    assert widths == sorted(widths)
    assert len(kernels_of(kernel, None)) == len(kernels_of(kernel, 0.01)) == 1


@pytest.mark.parametrize("std_px", [0.8, 1.5, 2.5])
def test_width_of_a_gaussian(std_px: float) -> None:
    assert blur_std_px(gaussian(std_px, 21)) == pytest.approx(std_px, rel=0.1)


def test_spectra_of_white_noise_are_level_and_gain_is_the_kernels() -> None:
    white = 0.5 + 0.1 * torch.randn(500, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    _, power = radial(spectra(white).power.mean(0))
    assert torch.allclose(power, torch.full((16,), 0.01), rtol=0.1)
    assert float(gain_of(gaussian(1.0), 32)[0, 0]) == pytest.approx(1, abs=1e-5)


def test_fit_of_equal_sets_is_the_identity() -> None:
    patches = rounded(texture(600, 32, seed=0))
    of = spectra(patches)
    found = fit(patches, of, of)
    assert float(found.kernel.max()) > 0.9
    assert float(found.kernel.sum()) == pytest.approx(1, abs=1e-5)


def test_files_are_read_as_they_were_written(tmp_path: Path) -> None:
    found = degradation()
    save(tmp_path / "e", found)
    for path in (tmp_path / "e", tmp_path / "e" / FACTS):
        again = load(path)
        assert all(torch.equal(again.tensors()[name], found.tensors()[name]) for name in found.tensors())
        assert again.facts == found.facts


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / ARRAYS).unlink(), f"{ARRAYS}: missing"),
        (lambda folder: (folder / FACTS).write_text("{"), "cannot be read"),
        (lambda folder: (folder / FACTS).write_text('{"version": 99}'), "version 1"),
        (lambda folder: (folder / ARRAYS).write_bytes(b"no tensors"), "cannot be read"),
    ],
)
def test_files_that_are_no_estimate_are_refused(damage, message: str, tmp_path: Path) -> None:
    save(tmp_path, degradation())
    damage(tmp_path)
    with pytest.raises(InputError, match=message):
        load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernels": torch.ones(1, 3, 3)}, "does not sum to 1"),
        ({"kernels": torch.ones(1, 2, 2) / 4}, "k odd"),
        ({"kernels": torch.full((1, 1, 1), torch.nan)}, "not finite"),
        ({"variance": torch.tensor([0.0, -1.0, 0.0])}, "at least 0"),
        ({"levels": torch.zeros(0)}, "one or more"),
        ({"colouring": torch.ones(3, 3, 2, 2)}, "q odd"),
        ({"noise": torch.zeros(2, 1, 8, 8)}, "needed"),
    ],
)
def test_tensors_that_are_no_estimate_are_refused(change: dict[str, Tensor], message: str) -> None:
    with pytest.raises(InputError, match=message):
        checked(degradation(**change).tensors(), {}, "file")
