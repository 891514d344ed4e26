"""The lean decoder reads exactly what `encode` writes, and leaves all else to the general one."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cyclesr_dist.data.encoding import decode, encode
from cyclesr_dist.data.own_tiff import Layout, decoded, layout_of


def noise(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def layout(size: int) -> Layout:
    found = layout_of(encode(np.zeros((size, size, 3), np.uint8), "tiff"))
    assert found is not None
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 17, 32, 128, 480])
@pytest.mark.parametrize("step", [1, 64, 255])
def test_what_encode_writes_is_decoded(size: int, step: int) -> None:
    patch = noise(size) // step
    found = decoded(encode(patch, "tiff"), layout(size), size)
    assert found is not None
    assert not found.flags.writeable
    np.testing.assert_array_equal(found, patch)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "zstd"])
def test_files_of_others_are_left_to_the_general_reader(compression: str) -> None:
    patch, buffer = noise(16), io.BytesIO()
    Image.fromarray(patch).save(buffer, format="TIFF", compression=compression)
    assert decoded(buffer.getvalue(), layout(16), 16) is None
    np.testing.assert_array_equal(decode(buffer.getvalue(), "tiff", 16, "x"), patch)


def test_another_size_is_left_to_the_general_reader() -> None:
    assert decoded(encode(noise(16), "tiff"), layout(17), 17) is None


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_damage_is_found_or_left_to_the_general_reader(data: st.DataObject) -> None:
    """Only the compressed samples may differ: Zstandard has no checksum there, for neither reader."""
    original = encode(noise(8), "tiff")
    at = data.draw(st.integers(0, len(original) - 1))
    changed = bytes([*original[:at], data.draw(st.integers(0, 255)), *original[at + 1 :]])
    cut = changed[: data.draw(st.sampled_from([len(original), len(original) // 2, at]))]
    found = decoded(cut, layout(8), 8)
    if found is None:
        return
    assert found.shape == (8, 8, 3)
    with Image.open(io.BytesIO(cut)) as image:
        np.testing.assert_array_equal(found, np.asarray(image))
