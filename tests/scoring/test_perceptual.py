"""LPIPS, DISTS and NIQE: figures of the original programs, what any such score must keep, and what is refused.

The figures of LPIPS and DISTS are those that the packages lpips 0.1.4 and DISTS-pytorch 0.1 gave in float64 with the
backbones of tests/helpers/backbones.py; those of NIQE BasicSR's 1.4.2, its `imresize` in float64 as well. The images
are `waves`.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import write_photos
from helpers.backbones import drawn_weights, waves
from numpy.typing import NDArray
from safetensors.torch import save_file

import cyclesr_dist
from cyclesr_dist.cli.main import main
from cyclesr_dist.config.metrics import ASKED_FOR, METRICS, lower_is_better
from cyclesr_dist.data.images import read_rgb8
from cyclesr_dist.errors import InputError, MemoryShortError
from cyclesr_dist.scoring.perceptual import scores as perceptual_scores
from cyclesr_dist.scoring.perceptual.backbones import FOLDER_VARIABLE, backbone_weights
from cyclesr_dist.scoring.perceptual.distances import Dists, Lpips
from cyclesr_dist.scoring.perceptual.niqe import niqe
from cyclesr_dist.scoring.perceptual.scores import Perceptual

DISTANCES = tuple(name for name in ASKED_FOR if "pairs" in METRICS[name].needs)
CLEAN = waves(40, 56)


@pytest.fixture
def backbones(drawn_backbones: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(drawn_backbones))


def of(name: str, sr8: NDArray[np.uint8], hr8: NDArray[np.uint8]) -> float:
    return Perceptual((name,)).of_pair(sr8, hr8)[name]


@pytest.mark.parametrize(
    ("name", "noisy", "blurred"),
    [
        ("lpips", 0.014077130599725048, 0.0017958243322668476),
        ("lpips_vgg", 0.029426999910046103, 0.004941148783093169),
        ("dists", 0.012076571832397742, 0.0019064729100531919),
    ],
)
@pytest.mark.usefixtures("backbones")
def test_distances_are_those_of_the_original_programs(name: str, noisy: float, blurred: float) -> None:
    assert of(name, waves(40, 56, noise=20), CLEAN) == pytest.approx(noisy, rel=2e-4)
    assert of(name, waves(40, 56, blur=2), CLEAN) == pytest.approx(blurred, rel=2e-4)


@pytest.mark.parametrize(
    ("settings", "grey", "luma"),
    [
        ({}, 14.094834391754514, 13.80879996706767),
        ({"noise": 20}, 13.62697127578362, 13.577530444216412),
        ({"blur": 2}, 18.122782748040173, 17.87783830526611),
    ],
)
def test_niqe_is_that_of_the_original_program(settings: dict[str, int], grey: float, luma: float) -> None:
    image = waves(200, 300, **settings)
    assert niqe(image) == pytest.approx(grey, abs=1e-6)
    assert niqe(image, y=True) == pytest.approx(luma, abs=1e-6)


@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.usefixtures("backbones")
def test_a_distance_is_none_to_itself_symmetric_and_grows_with_noise_and_blur(name: str) -> None:
    clean, noisy = waves(32, 32), waves(32, 32, noise=20)
    assert of(name, clean, clean) == pytest.approx(0, abs=1e-6)
    assert of(name, noisy, clean) == pytest.approx(of(name, clean, noisy), rel=1e-3)
    for kind, levels in (("noise", (10, 40)), ("blur", (1, 3))):
        scores = [of(name, waves(32, 32, **{kind: level}), clean) for level in levels]
        assert scores == sorted(scores)
        assert scores[0] > 1e-5


def test_niqe_of_a_photograph_grows_with_blur_and_with_noise() -> None:
    photo = read_rgb8(Path(cyclesr_dist.__file__).parent / "workflows/demo_photos/beacon-street-sunset.webp")
    for scores in (
        [niqe(blur(photo, radius)) for radius in (0, 1, 2, 4)],
        [niqe(noisy(photo, level)) for level in (0, 10, 25, 60)],
    ):
        assert scores == sorted(scores)
        assert scores[-1] > 1.5 * scores[0]


def blur(image: NDArray[np.uint8], radius: int) -> NDArray[np.uint8]:
    out = image.astype(np.float64)
    for axis in (0, 1):
        out = np.mean([np.roll(out, shift, axis) for shift in range(-radius, radius + 1)], axis=0)
    return np.rint(out).astype(np.uint8)


def noisy(image: NDArray[np.uint8], level: float) -> NDArray[np.uint8]:
    return np.rint((image + np.random.RandomState(3).standard_normal(image.shape) * level).clip(0, 255)).astype(
        np.uint8
    )


@pytest.mark.parametrize("net", ["alexnet", "vgg16", "dists"])
def test_images_of_a_batch_do_not_touch_each_other(net: str) -> None:
    weights = drawn_weights("alexnet" if net == "alexnet" else "vgg16")
    distance = Dists(weights) if net == "dists" else Lpips(net, weights)
    x, y = torch.rand(2, 3, 3, 33, 35, generator=torch.Generator().manual_seed(0))
    together = distance(x, y)
    assert together.shape == (3,)
    torch.testing.assert_close(together, torch.cat([distance(x[i : i + 1], y[i : i + 1]) for i in range(3)]))


@pytest.mark.usefixtures("backbones")
def test_grey_images_and_odd_sizes_have_all_scores_and_what_is_over_does_not_count_for_niqe() -> None:
    image = waves(203, 217, noise=5)
    grey = np.repeat(image[:, :, :1], 3, axis=2)
    assert niqe(grey) == niqe(grey[:192, :192])
    scores = Perceptual(DISTANCES).of_pair(grey[:35, :37], image[:35, :37])
    assert tuple(scores) == DISTANCES
    assert all(np.isfinite(value) and value > 0 for value in scores.values())


@pytest.mark.parametrize(
    ("name", "height", "width", "said"),
    [
        ("lpips", 30, 64, "64x30 px is too small for lpips: 31x31 px at least"),
        ("lpips_vgg", 64, 15, "15x64 px is too small for lpips_vgg: 16x16 px at least"),
        ("dists", 15, 15, "15x15 px is too small for dists: 16x16 px at least"),
        ("niqe", 191, 191, "191x191 px is too small for niqe: two blocks of 96x96 px at least"),
    ],
)
@pytest.mark.usefixtures("backbones")
def test_tiny_images_are_refused_and_the_smallest_ones_scored(name: str, height: int, width: int, said: str) -> None:
    tiny = waves(height, width)
    with pytest.raises(InputError, match=said):
        of(name, tiny, tiny)
    least = waves(*{"niqe": (96, 192), "lpips": (31, 31)}.get(name, (16, 16)), noise=9)
    assert np.isfinite(of(name, least, least[::-1]))


@pytest.mark.usefixtures("backbones")
def test_flat_images_and_unequal_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="niqe: cannot be had of an image that is flat nearly everywhere"):
        niqe(np.full((192, 192, 3), 80, np.uint8))
    half = np.full((192, 288, 3), 80, np.uint8)
    half[:, :192] = waves(192, 192, noise=5)
    assert np.isfinite(niqe(half))  # two blocks are flat, four are not
    with pytest.raises(InputError, match="sizes differ: 56x40 px against 55x40 px"):
        of("lpips", CLEAN, CLEAN[:, 1:])


@pytest.mark.usefixtures("backbones")
def test_images_that_need_more_memory_than_is_free_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptual_scores, "free_on_host", lambda: 2**20)
    with pytest.raises(MemoryShortError, match=r"56x40 px: VGG16 needs about 4 MB of memory .*, 1 MB are free"):
        of("dists", CLEAN, CLEAN)
    assert of("lpips", CLEAN, CLEAN) == 0


def test_all_of_them_say_that_lower_is_better() -> None:
    assert set(ASKED_FOR) == {"lpips", "lpips_vgg", "dists", "niqe"}
    assert all(map(lower_is_better, ASKED_FOR))
    assert not lower_is_better("psnr")
    assert not lower_is_better("psnr_y")  # of a protocol, and no metric


def test_weights_that_are_missing_damaged_or_of_another_network_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(InputError, match=r"CYCLESR_WEIGHTS = .*: holds neither vgg16-397923af\.pth \(https://"):
        backbone_weights("vgg16")
    (tmp_path / "vgg16-397923af.pth").write_bytes(b"cut short")
    with pytest.raises(InputError, match=r"vgg16-397923af\.pth: is damaged or another file: its SHA-256 is \w"):
        backbone_weights("vgg16")
    save_file(drawn_weights("alexnet"), tmp_path / "other.safetensors")
    (tmp_path / "vgg16-397923af.pth").unlink()
    (tmp_path / "other.safetensors").rename(tmp_path / "vgg16.safetensors")
    with pytest.raises(InputError, match=r"has no features\.0\.weight of shape \[64, 3, 3, 3\]: no vgg16"):
        backbone_weights("vgg16")
    (tmp_path / "alexnet.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InputError, match=r"alexnet\.safetensors: cannot be read as a safetensors file"):
        backbone_weights("alexnet")


def test_what_cannot_be_fetched_is_named_with_the_place_to_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(url: str, *_: object, **__: object) -> None:
        raise OSError(f"no route to {url}")

    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", away)
    with pytest.raises(InputError) as error:
        backbone_weights("alexnet")
    said = str(error.value)
    assert "\n" not in said
    for part in (
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        str(tmp_path / "checkpoints"),
        "244 MB",
    ):
        assert part in said
    assert FOLDER_VARIABLE in said
    assert not list((tmp_path / "checkpoints").iterdir())


def test_what_is_fetched_is_kept_and_must_have_its_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetched(url: str, path: str, sha256: str, progress: bool) -> None:
        asked.append((url, sha256))
        torch.save(drawn_weights("alexnet"), path)

    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fetched)
    for _ in range(2):
        with pytest.raises(InputError, match="is damaged or another file"):  # drawn ones are
            backbone_weights("alexnet")
    ((url, sha256),) = asked
    assert url.endswith(f"-{sha256[:8]}.pth")


# ---- the command and the function ----


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    write_photos(root / "hr", 2, 96, 192, seed=0)
    command = ["degrade", "--hr", str(root / "hr"), "--track", "mild", "--seed", "0", "--out", str(root / "lr")]
    assert main([*command, "--quiet"]) == 0
    return root


def evaluate(photos: Path, *arguments: str) -> int:
    folders = ["--lr", str(photos / "lr"), "--hr", str(photos / "hr")]
    return main(["evaluate", "--model", "bicubic", *folders, "--quiet", *arguments])


@pytest.mark.usefixtures("backbones")
def test_evaluate_takes_what_it_is_asked_for_and_says_which_way_is_better(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(photos, "--scores", "lpips, niqe", "--json", str(tmp_path / "scores.json")) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    for image in scores["images"]:
        assert image.keys() == {"name", "psnr", "ssim", "psnr_y", "ssim_y", "lpips", "niqe"}
    assert scores["mean"]["niqe"] == pytest.approx(np.mean([image["niqe"] for image in scores["images"]]))
    said = capsys.readouterr().out.splitlines()
    better = {line.split()[0] for line in said if line.endswith("lower is better")}
    assert better == {"lpips", "niqe"}
    bicubic = cyclesr_dist.load_model("bicubic")
    assert cyclesr_dist.score(photos / "lr", photos / "hr", model=bicubic, scores=["lpips", "niqe"]) == scores["mean"]
    assert cyclesr_dist.score(photos / "lr", photos / "hr", model=bicubic).keys() == {
        "psnr",
        "ssim",
        "psnr_y",
        "ssim_y",
    }


def test_evaluate_scores_luma_and_a_part_with_niqe_too(photos: Path, tmp_path: Path) -> None:
    for name, arguments in {"whole": [], "luma": ["--y"], "part": ["--crop-border", "1"]}.items():
        code = evaluate(photos, "--scores", "niqe", "--json", str(tmp_path / f"{name}.json"), *arguments)
        assert code == (1 if name == "part" else 0)
    whole, luma = (json.loads((tmp_path / f"{name}.json").read_text())["mean"] for name in ("whole", "luma"))
    assert whole["niqe"] != luma["niqe"]


def test_evaluate_refuses_what_it_does_not_know_or_cannot_have(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    target = tmp_path / "scores.json"
    for names, said in (
        ("lpips,fid", "--scores: 'fid' is no perceptual score; allowed: lpips, lpips_vgg, dists, niqe"),
        ("lpips,", "--scores: '' is no perceptual score"),
        ("dists", f"CYCLESR_WEIGHTS = {tmp_path}: holds neither vgg16-397923af.pth"),
    ):
        assert evaluate(photos, "--scores", names, "--json", str(target)) == 2
        (line,) = capfd.readouterr().err.strip().splitlines()
        assert said in line
        assert not target.exists()
