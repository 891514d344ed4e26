"""Encodings of patches: exact where they say so, and safe to decode."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cyclesr_dist.data.encoding import EXTENSIONS, decode, encode
from cyclesr_dist.errors import InputError

PATCH = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)


@pytest.mark.parametrize("encoding", ["tiff", "webp", "png"])
@pytest.mark.parametrize("patch", [PATCH, PATCH * 0, np.full_like(PATCH, 255), PATCH // 64 * 64])
def test_lossless_ones_are(encoding: str, patch: np.ndarray) -> None:
    assert np.array_equal(decode(encode(patch, encoding), encoding, 16, "x"), patch)


def test_jpeg_loses_little() -> None:
    smooth = np.asarray(Image.fromarray(PATCH[:4, :4]).resize((64, 64), Image.Resampling.BICUBIC))
    back = decode(encode(smooth, "jpeg"), "jpeg", 64, "x")
    assert 0 < float(np.abs(back.astype(int) - smooth).mean()) < 2


@pytest.mark.parametrize("encoding", EXTENSIONS)
def test_other_sizes_modes_and_formats_are_refused(encoding: str) -> None:
    data = encode(PATCH, encoding)
    with pytest.raises(InputError, match="x is 16 x 16 RGB; the manifest says 8 x 8 RGB"):
        decode(data, encoding, 8, "x")
    buffer = io.BytesIO()
    Image.fromarray(PATCH).save(buffer, format="BMP")
    with pytest.raises(InputError, match="x is damaged"):
        decode(buffer.getvalue(), encoding, 16, "x")


def test_a_decompression_bomb_is_refused_by_its_header() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (6000, 6000)).save(buffer, format="TIFF", compression="zstd")
    assert len(buffer.getvalue()) < 1_000_000
    with pytest.raises(InputError, match="x is 6000 x 6000 RGB; the manifest says 16 x 16"):
        decode(buffer.getvalue(), "tiff", 16, "x")


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow also warns of what it then raises
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_bytes_give_pixels_or_an_input_error(data: st.DataObject) -> None:
    encoding = data.draw(st.sampled_from(sorted(EXTENSIONS)))
    original = bytearray(encode(PATCH, encoding))
    for _ in range(data.draw(st.integers(1, 4))):
        original[data.draw(st.integers(0, len(original) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(original[: data.draw(st.integers(0, len(original)))])
    try:
        pixels = decode(cut, encoding, 16, "x")
    except InputError as error:
        message = str(error)
    else:
        message = "x is fine" if pixels.shape == (16, 16, 3) else "wrong shape"
    assert message.startswith("x is ")
    assert "\n" not in message
