"""What tests share: a tiny configuration, photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def tiny_overrides() -> list[str]:
    """Config overrides for networks and batches that train in milliseconds; no BatchNorm in them."""
    return [
        "global_batch=4",
        "nets.translator.kind=residual",
        "nets.translator.channels=4",
        "nets.translator.blocks=1",
        "nets.translator.noise_channels=1",
        "nets.d_lr.channels=4",
        "nets.d_lr.layers=1",
        "nets.d_h.channels=4",
        "nets.d_h.layers=2",
        "nets.sr.kind=compact",
        "nets.sr.channels=4",
        "nets.sr.blocks=1",
        "pool.size=6",
        "shards.patch=8",
        "shards.stride=8",
        "perceptual.source=random",
        "perceptual.layer=2",
    ]


def write_photos(folder: Path, count: int, height: int, width: int, seed: int) -> Path:
    """Smooth coloured noise, which compresses and blurs somewhat like photographs. Returns the folder."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        coarse = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.int16)
        noisy = smooth + rng.integers(-12, 13, smooth.shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"photo{i}.png")
    return folder
