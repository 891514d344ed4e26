"""AlexNet and VGG16 with weights that are drawn once and for all, in place of those that would have to be fetched."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

ALEXNET = {0: (3, 64, 11), 3: (64, 192, 5), 6: (192, 384, 3), 8: (384, 256, 3), 10: (256, 256, 3)}
_WIDTHS = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
VGG16 = {
    index: (_WIDTHS[i], _WIDTHS[i + 1], 3) for i, index in enumerate((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28))
}
"""Of each convolution, by its number in torchvision's `features`: channels in and out, and the side of its kernel."""
LAYOUTS = {"alexnet": ALEXNET, "vgg16": VGG16}


@cache
def drawn_weights(name: str) -> dict[str, Tensor]:
    """He's initialisation from NumPy's legacy generator, whose stream is frozen; biases are 0.1."""
    draws = np.random.RandomState(7)
    tensors = {}
    for index, (width_in, width, side) in LAYOUTS[name].items():
        values = draws.standard_normal((width, width_in, side, side)) * (2 / (width_in * side * side)) ** 0.5
        tensors[f"features.{index}.weight"] = torch.from_numpy(values.astype(np.float32))
        tensors[f"features.{index}.bias"] = torch.full((width,), 0.1)
    return tensors


def write_backbones(folder: Path) -> Path:
    """As CYCLESR_WEIGHTS wants it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in LAYOUTS:
        save_file(drawn_weights(name), folder / f"{name}.safetensors")
    return folder


def waves(
    height: int, width: int, noise: float = 0.0, blur: int = 0
) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """Coloured, not periodic; with noise of this standard deviation, under a box of 2 * blur + 1 px."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [128 + 60 * np.sin(x / (5 + c) + y**2 / 900) + 50 * np.cos(y / 7 - c + x**2 / 1500) for c in range(3)]
    image = np.stack(planes, axis=2) + np.random.RandomState(1).standard_normal((height, width, 3)) * 4
    for axis in (0, 1):
        image = sum(np.roll(image, shift, axis) for shift in range(-blur, blur + 1)) / (2 * blur + 1)
    image = image + noise * np.random.RandomState(2).standard_normal((height, width, 3))
    return np.rint(image.clip(0, 255)).astype(np.uint8)
