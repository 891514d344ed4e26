"""Two folders as a person has them, with hidden originals: of one folder of photographs every second one becomes sharp
HR, the others LR, shrunk to a quarter and damaged in five ways.

    python examples/damage.py PHOTOS OUT     # writes OUT/hr, OUT/originals, OUT/{noise,blur,jpeg,all,none}/lr

docs/guide.md and docs/estimate.md have figures from it. Blur: a Gaussian of 4 px of the original, with `all` 2.5 px.
Noise: 12 of 255, with `all` 7. JPEG: quality 40, with `all` 70.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
NUM_HR, NUM_LR, SCALE = 20, 15, 4
BLUR_PX = {"blur": 4.0, "all": 2.5}
NOISE = {"noise": 12.0, "all": 7.0}
QUALITY = {"jpeg": 40, "all": 70}
KINDS = ("noise", "blur", "jpeg", "all", "none")


def main(photos: Path, out: Path) -> None:
    paths = sorted(path for path in photos.iterdir() if path.suffix.lower() in SUFFIXES)
    for name in ("hr", "originals", *(f"{kind}/lr" for kind in KINDS)):
        (out / name).mkdir(parents=True)
    for path in paths[0::2][:NUM_HR]:
        Image.open(path).convert("RGB").save(out / "hr" / f"{path.stem}.png")
    random = np.random.default_rng(1)
    for kind in KINDS:
        for path in paths[1::2][:NUM_LR]:
            image = Image.open(path).convert("RGB")
            image = image.crop((0, 0, image.width // SCALE * SCALE, image.height // SCALE * SCALE))
            image.save(out / "originals" / f"{path.stem}.png")
            damaged(image, kind, random, out / kind / "lr" / path.stem)


def damaged(image: Image.Image, kind: str, random: np.random.Generator, target: Path) -> None:
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
    if len(sys.argv) != 3:
        raise SystemExit("usage: python examples/damage.py PHOTOS OUT")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
