"""Small copies of public data sets, laid out and named as they unpack (docs/datasets.md), with photographs of noise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

SCENES = (1, 2, 400, 401, 799, 800)
"""Of DIV2K, to train on."""
DIV2K = {"unknown": ("X4", ("",), ("",)), "mild": ("", ("m",), ("m",)), "wild": ("", ("w1", "w2", "w3", "w4"), ("w",))}
"""By track: the inner folder, and what stands behind x4 in names to train on and to validate."""


def write_div2k(root: Path, height: int = 64, width: int = 96) -> Path:
    """DIV2K with the LR of three challenges: six scenes to train on, two to validate."""
    random = np.random.default_rng(3)
    for part, scenes, place in (("train", SCENES, 1), ("valid", (801, 900), 2)):
        for scene in scenes:
            image = _photo(random, height, width)
            small = image.resize((width // 4, height // 4), Image.Resampling.BICUBIC)
            _write(root / f"DIV2K_{part}_HR" / f"{scene:04}.png", image)
            for track, names in DIV2K.items():
                for variant in names[place]:
                    _write(root / f"DIV2K_{part}_LR_{track}" / names[0] / f"{scene:04}x4{variant}.png", small)
    return root


def write_realsr(root: Path, same_size: bool = False) -> Path:
    """RealSR version 3: HR and LR in one folder. `same_size`: as versions 1 and 2, whose LR is as large as HR."""
    random = np.random.default_rng(0)
    for camera in ("Canon", "Nikon"):
        for part, numbers in (("Train", (1, 2, 3, 4, 10)), ("Test", (1, 2))):
            for scale in (2, 4):
                for number in numbers:
                    folder = root / f"RealSR(V{2 if same_size else 3})" / camera / part / str(scale)
                    hr = folder / f"{camera}_{number:03}_HR.png"
                    lr = folder / f"{camera}_{number:03}_LR{scale}.png"
                    _write_pair(random, hr, lr, scale, same_size)
    return root


def write_drealsr(root: Path) -> Path:
    """DRealSR: training photographs in patches, test photographs whole."""
    random = np.random.default_rng(1)
    x4 = root / "DRealSR" / "x4"
    for photo in ("Canon_1", "Canon_50", "DSC_1411", "DSC_1412", "panasonic_104", "sony_7", "IMG_150", "P1100012"):
        for patch in (1, 2):
            hr, lr = (x4 / "Train_x4" / f"train_{side}" for side in ("HR", "LR"))
            _write_pair(random, hr / f"{photo}_x4_{patch}.png", lr / f"{photo}_x1_{patch}.png", 4)
    for photo in ("Canon_10", "panasonic_103"):
        hr, lr = (x4 / "Test_x4" / f"test_{side}" for side in ("HR", "LR"))
        _write_pair(random, hr / f"{photo}_x4.png", lr / f"{photo}_x1.png", 4)
    return root


def write_ntire20(root: Path) -> Path:
    """NTIRE 2020, real-world, track 1: LR to train on at full size, of other photographs than HR; pairs to validate."""
    random = np.random.default_rng(2)
    folder = root / "NTIRE20"
    for name in _names("{:04}.png", (1, 2, 400, 800)):
        _write(folder / "train-target" / name, _photo(random, 96, 128))
    for name in _names("Flickr2K_{:06}.png", (1, 58, 2650)):
        _write(folder / "track1-train-source" / name, _photo(random, 64, 96))
    for name in _names("{:04}.png", (801, 810, 900)):
        _write_pair(random, folder / "track1-valid-gt" / name, folder / "track1-valid-input" / name, 4)
    return root


def _names(form: str, numbers: tuple[int, ...]) -> Iterator[str]:
    return (form.format(number) for number in numbers)


def _write_pair(random: np.random.Generator, hr: Path, lr: Path, scale: int, same_size: bool = False) -> None:
    image = _photo(random, 96, 128)
    small = image.resize((128 // scale, 96 // scale), Image.Resampling.BICUBIC)
    _write(hr, image)
    _write(lr, small.resize(image.size, Image.Resampling.BICUBIC) if same_size else small)


def _photo(random: np.random.Generator, height: int, width: int) -> Image.Image:
    """Smooth colours with noise."""
    coarse = Image.fromarray(random.integers(0, 256, (height // 16, width // 16, 3), np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    return Image.fromarray((smooth + random.integers(-12, 13, smooth.shape)).clip(0, 255).astype(np.uint8))


def _write(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
