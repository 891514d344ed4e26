"""What is asked of every file of the corpus: exact samples, or a refusal with the true reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cyclesr_dist.data.images import Picture, image_size, read_picture, read_rgb8, to_samples, write_png
from cyclesr_dist.errors import InputError


def written(folder: Path, file: bytes, name: str = "photo.bin") -> Path:
    """By a suffix that says nothing: the first bytes must."""
    path = folder / name
    path.write_bytes(file)
    return path


def write_picture(path: Path, picture: Picture) -> None:
    """As PNG in its own depth, with all that belongs to it."""
    write_png(path, to_samples(picture), picture.icc, picture.kept)


def check_exact(path: Path, expected: NDArray[Any], within: int = 0) -> Picture:
    """The file's samples are `expected`, (H, W, 1|2|3|4), in their depth; all readers agree on the size."""
    picture = read_picture(path)
    found = to_samples(picture)
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    difference = int(np.abs(found.astype(int) - expected).max())
    assert difference <= within
    height, width = expected.shape[:2]
    assert image_size(path) == (width, height)
    eight = read_rgb8(path)
    assert eight.shape == (height, width, 3)
    if picture.alpha is None and picture.icc is None:
        np.testing.assert_array_equal(eight, np.floor(picture.rgb.astype(np.float64) * 255 + 0.5))
    return picture


def check_refused(path: Path, reason: str) -> None:
    """All readers refuse the file, in one line that names it and the reason."""
    for read in (read_picture, read_rgb8):
        with pytest.raises(InputError, match=reason) as caught:
            read(path)
        assert path.name in str(caught.value)
        assert "\n" not in str(caught.value)
