"""Two folders as a person has them, with hidden originals: of one folder of photographs every second one becomes sharp
HR, the others LR, shrunk to a quarter and damaged in five ways.

    python examples/damage.py PHOTOS OUT     # writes OUT/hr, OUT/originals, OUT/{noise,blur,jpeg,all,none}/lr

`--most N` takes at most N photographs a side, `--crops N` takes N crops of 512 px out of each photograph (many small
files), `--mixed` cuts each photograph to a size of its own, some of them too small to use.

docs/guide.md and docs/estimate.md have figures from it. Blur: a Gaussian of 4 px of the original, with `all` 2.5 px.
Noise: 12 of 255, with `all` 7. JPEG: quality 40, with `all` 70.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
NUM_HR, NUM_LR, SCALE = 20, 15, 4
BLUR_PX = {"blur": 4.0, "all": 2.5}
NOISE = {"noise": 12.0, "all": 7.0}
QUALITY = {"jpeg": 40, "all": 70}
KINDS = ("noise", "blur", "jpeg", "all", "none")
CROP_PX, LEAST_PX = 512, 96


def make(photos: Path, out: Path, most: int | None = None, crops: int = 0, mixed: bool = False) -> None:
    """See the top of this file. Raises FileExistsError where `out` has been made before."""
    paths = sorted(path for path in photos.iterdir() if path.suffix.lower() in SUFFIXES)
    for name in ("hr", "originals", *(f"{kind}/lr" for kind in KINDS)):
        (out / name).mkdir(parents=True)
    random = np.random.default_rng(0)
    for path in paths[0::2][: most or (None if crops else NUM_HR)]:
        for name, image in _pieces(path, crops, mixed, random):
            image.save(out / "hr" / f"{name}.png")
    for path in paths[1::2][: most or (None if crops else NUM_LR)]:
        for name, image in _pieces(path, crops, mixed, random):
            image.crop((0, 0, image.width // SCALE * SCALE, image.height // SCALE * SCALE)).save(
                out / "originals" / f"{name}.png"
            )
    random = np.random.default_rng(1)
    for kind in KINDS:
        for path in sorted((out / "originals").iterdir()):
            damaged(Image.open(path), kind, random, out / kind / "lr" / path.stem)


def _pieces(path: Path, crops: int, mixed: bool, random: np.random.Generator) -> Iterator[tuple[str, Image.Image]]:
    image = Image.open(path).convert("RGB")
    if not crops and not mixed:
        yield path.stem, image
    for index in range(crops or (1 if mixed else 0)):
        if mixed:
            width, height = (int(random.integers(LEAST_PX, size + 1)) for size in image.size)
        else:
            width, height = (min(CROP_PX, size) for size in image.size)
        left, top = (
            int(random.integers(0, size - part + 1)) for size, part in zip(image.size, (width, height), strict=True)
        )
        yield f"{path.stem}-{index}", image.crop((left, top, left + width, top + height))


def damaged(image: Image.Image, kind: str, random: np.random.Generator, target: Path) -> None:
    """Writes the LR of an original, as PNG or JPEG: `target` without a suffix."""
    if kind in BLUR_PX:
        image = image.filter(ImageFilter.GaussianBlur(BLUR_PX[kind]))
    small = image.resize((image.width // SCALE, image.height // SCALE), Image.Resampling.BICUBIC)
    pixels = np.asarray(small).astype(float)
    if kind in NOISE:
        pixels = pixels + random.normal(0, NOISE[kind], pixels.shape)
    result = Image.fromarray(np.rint(pixels.clip(0, 255)).astype(np.uint8))
    if kind in QUALITY:
        result.save(target.with_name(f"{target.name}.jpg"), quality=QUALITY[kind])
    else:
        result.save(target.with_name(f"{target.name}.png"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--most", type=int)
    parser.add_argument("--crops", type=int, default=0)
    parser.add_argument("--mixed", action="store_true")
    make(**vars(parser.parse_args()))
