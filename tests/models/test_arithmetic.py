"""Samples become numbers and numbers samples, bit by bit the same with NumPy as with torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cyclesr_dist.models.arithmetic import Arithmetic, NumpyArithmetic
from cyclesr_dist.models.torch_arithmetic import TorchArithmetic

NUMPY, TORCH = NumpyArithmetic(), TorchArithmetic(torch.device("cpu"))


def test_both_are_whole() -> None:
    both: list[Arithmetic] = [NUMPY, TORCH]
    assert [one.gpu_free() for one in both] == [None, None]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_every_sample_becomes_the_same_number(kind: type, channels: int) -> None:
    most = 1 if kind is np.float32 else np.iinfo(kind).max
    samples = np.linspace(0, most, 256 * 257).astype(kind).reshape(256, 257)
    wide = np.repeat(np.stack([samples, samples[::-1]], axis=2), 2, axis=2)[:, ::2, :channels]  # not in one piece
    found, expected = NUMPY.taken(wide), TORCH.taken(wide)
    assert found.shape == tuple(expected.shape) == (1, channels, 256, 129)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected.numpy())


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), channels=st.sampled_from([(1, 1), (3, 3), (3, 1)]), eight=st.booleans())
def test_numbers_become_the_same_samples(seed: int, channels: tuple[int, int], eight: bool) -> None:
    kind = np.uint8 if eight else np.uint16
    rng = np.random.default_rng(seed)
    y = rng.uniform(-0.1, 1.1, (1, channels[0], 40, 31)).astype(np.float32)
    half = (rng.integers(0, np.iinfo(kind).max, (1, channels[0], 9, 31)) + 0.5) / np.iinfo(kind).max
    y[:, :, :9] = half  # between two samples
    found, expected = (np.zeros((40, 70, channels[1]), kind) for _ in range(2))
    NUMPY.give_samples(y, found[:, 20:51])
    TORCH.give_samples(torch.from_numpy(y), expected[:, 20:51])
    np.testing.assert_array_equal(found, expected)
    assert not found[:, :20].any()
    assert not found[:, 51:].any()
    floats = [np.zeros((40, 70, channels[0]), np.float32) for _ in range(2)]
    NUMPY.give(y, floats[0][:, 20:51])
    TORCH.give(torch.from_numpy(y), floats[1][:, 20:51])
    np.testing.assert_array_equal(*floats)
    np.testing.assert_array_equal(floats[0][:, 20:51], y[0].transpose(1, 2, 0))


def test_the_rim_is_repeated() -> None:
    x = np.random.default_rng(0).random((1, 3, 2, 5), dtype=np.float32)
    expected = TORCH.padded(torch.from_numpy(x), 6, 3).numpy()
    assert expected.shape == (1, 3, 8, 8)
    np.testing.assert_array_equal(NUMPY.padded(x, 6, 3), expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_found(bad: float) -> None:
    y = np.zeros((1, 3, 9, 9), np.float32)
    assert NUMPY.is_finite(y)
    assert TORCH.is_finite(torch.from_numpy(y))
    y[0, 1, 8, 3] = bad
    assert not NUMPY.is_finite(y)
    assert not TORCH.is_finite(torch.from_numpy(y))


def test_what_torch_keeps_of_a_gpu_for_itself_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1000, 5000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 300)
    assert TorchArithmetic(torch.device("cuda")).gpu_free() == 1400
    assert TorchArithmetic(torch.device("cpu")).gpu_free() is None
