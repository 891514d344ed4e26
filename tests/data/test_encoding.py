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


@pytest.mark.parametrize("encoding", ["tiff", "webp", "png", "npy"])
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


NPY = encode(PATCH, "npy")


class TestNumpyFiles:
    def written(self, array: np.ndarray, version: tuple[int, int] = (1, 0)) -> bytes:
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, array, version, allow_pickle=True)
        return buffer.getvalue()

    def test_any_reader_reads_them(self) -> None:
        back = np.load(io.BytesIO(NPY), allow_pickle=False)
        assert back.dtype == np.uint8
        assert np.array_equal(back, PATCH)

    def test_those_of_other_writers_are_read(self) -> None:
        """Another version of the format, or another NumPy's blanks in the header."""
        own = self.written(PATCH)
        assert own == NPY
        longer = own.replace(b"v\0", b"\xb6\0", 1).replace(b"}", b"}" + b" " * 64, 1)
        for data in (self.written(PATCH, (2, 0)), longer):
            assert data != own
            assert np.array_equal(decode(data, "npy", 16, "x"), PATCH)

    @pytest.mark.parametrize(
        ("array", "found"),
        [
            (np.asfortranarray(PATCH), "an array (16, 16, 3) of uint8 by columns"),
            (PATCH.astype(np.float32), "an array (16, 16, 3) of float32"),
            (PATCH.astype(np.int8), "an array (16, 16, 3) of int8"),
            (PATCH[:, :, 0], "an array (16, 16) of uint8"),
            (PATCH[:8], "16 x 8 RGB"),
            (np.array([{}], object), "an array (1,) of object"),
        ],
    )
    def test_other_arrays_are_refused(self, array: np.ndarray, found: str) -> None:
        with pytest.raises(InputError) as caught:
            decode(self.written(array), "npy", 16, "x")
        assert str(caught.value) == f"x is {found}; the manifest says 16 x 16 RGB"

    @pytest.mark.parametrize("data", [b"", NPY[:3], NPY[:100], NPY[:-768], NPY[:-1], NPY + b"\0"])
    def test_samples_too_few_or_too_many(self, data: bytes) -> None:
        with pytest.raises(InputError, match="x is damaged"):
            decode(data, "npy", 16, "x")

    def test_a_header_that_claims_terabytes_takes_no_memory(self) -> None:
        data = NPY.replace(b"(16, 16, 3)", b"(9**9,9, 3)")
        with pytest.raises(InputError, match="x is damaged"):
            decode(data, "npy", 16, "x")
        huge = b"\x93NUMPY\1\0" + (4000).to_bytes(2, "little") + b"(" * 4000
        with pytest.raises(InputError, match="x is damaged"):
            decode(huge, "npy", 16, "x")


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
