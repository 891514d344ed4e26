"""Samples of what Pillow has decoded, without Pillow's own way, which holds them twice more for a while."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cyclesr_dist.data.photo.kinds import in_rows


def of_pillow(image: Image.Image, mode: str = "") -> NDArray[np.uint8]:
    """(H, W, C) of an image of 8 bits, converted to `mode` if there is one. Raises whatever Pillow does on damage."""
    image.load()
    width, height = image.size
    samples = np.empty((height, width, Image.getmodebands(mode or image.mode)), np.uint8)
    for rows in in_rows(height, width):
        part = image.crop((0, rows.start, width, rows.stop))
        samples[rows] = np.asarray(part.convert(mode) if mode else part).reshape(len(samples[rows]), width, -1)
    return samples
