"""Files are enlarged strip by strip, equal in every bit to the whole picture enlarged at once."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cyclesr_dist.config.schema import Speed, SRNet
from cyclesr_dist.data.images import read_picture, to_samples, write_png
from cyclesr_dist.errors import InputError
from cyclesr_dist.models.infer import upscale_file, upscale_picture
from cyclesr_dist.models.strips import strips
from cyclesr_dist.models.upscaler import BicubicUpscaler, NetUpscaler, Upscaler
from cyclesr_dist.nets.build import build_sr
from cyclesr_dist.nets.tune import tune


def network(scale: int) -> NetUpscaler:
    torch.manual_seed(0)
    net = build_sr(SRNet("compact", 4, 1, bicubic_skip=True), scale)
    for parameter in net.parameters():
        torch.nn.init.uniform_(parameter, -0.3, 0.3)
    tune(net, Speed())  # as a model file's is
    return NetUpscaler("compact", net.eval(), scale)


def photo(height: int, width: int, channels: int, bits: int) -> np.ndarray:
    """Noise; with alpha, a part in which nothing can be seen."""
    kind = np.uint8 if bits == 8 else np.uint16
    samples = np.random.default_rng(height).integers(0, 2**bits, (height, width, channels), dtype=kind)
    if channels in (2, 4):
        samples[height // 3 :, : width // 2, -1] = 0
    return samples


def enlarged(upscaler: Upscaler, source: Path, tile: int | None) -> np.ndarray:
    target = source.with_name("large.png")
    upscale_file(upscaler, source, target, tile)
    return to_samples(read_picture(target))


def check(upscaler: Upscaler, folder: Path, samples: np.ndarray, tile: int | None) -> None:
    source = folder / "a.png"
    write_png(source, samples)
    found = enlarged(upscaler, source, tile)
    picture = upscale_picture(upscaler, read_picture(source), tile)
    expected = to_samples(picture)
    assert found.dtype == expected.dtype == samples.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("scale", [3, 4])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_equal_to_the_whole(tmp_path: Path, channels: int, bits: int, scale: int) -> None:
    for size, tile in product([(41, 35), (1, 1), (3, 40)], [None, 0, 16, 37]):
        for upscaler in (BicubicUpscaler(scale), network(scale)):
            check(upscaler, tmp_path, photo(*size, channels, bits), tile)


def test_equal_in_tiles_of_the_default_size(tmp_path: Path) -> None:
    for upscaler in (BicubicUpscaler(2), network(2)):
        check(upscaler, tmp_path, photo(400, 390, 3, 16), None)


@settings(deadline=None, max_examples=30)
@given(
    height=st.integers(1, 100),
    width=st.integers(1, 100),
    channels=st.sampled_from([1, 2, 3, 4]),
    bits=st.sampled_from([8, 16]),
    tile=st.sampled_from([None, 0]) | st.integers(9, 110),
)
def test_of_any_size(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, channels: int, bits: int, tile: int | None
) -> None:
    check(network(2), tmp_path_factory.mktemp("strips"), photo(height, width, channels, bits), tile)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_tiles_change_a_level_at_most(tmp_path: Path, channels: int, scale: int) -> None:
    write_png(tmp_path / "a.png", photo(40, 31, channels, 8))
    for upscaler in (BicubicUpscaler(scale), network(scale)):
        whole = enlarged(upscaler, tmp_path / "a.png", 0).astype(int)
        for tile in (10, 20):
            assert np.abs(enlarged(upscaler, tmp_path / "a.png", tile) - whole).max() <= 1


def test_strips_come_one_by_one() -> None:
    """What follows a strip is not computed before it is asked for."""
    seen: list[int] = []

    class Recording(BicubicUpscaler):
        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x.shape[-2])
            return super().__call__(x)

    rows = strips(Recording(2), photo(100, 20, 3, 8), 30)
    assert next(rows).shape == (60, 40, 3)
    assert len(seen) == 1
    assert [strip.shape[0] for strip in rows] == [60, 60, 20]


def test_a_model_that_gives_nan_far_down_leaves_nothing(tmp_path: Path) -> None:
    class Failing(BicubicUpscaler):
        calls = 0

        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            y = super().__call__(x)
            y[0, 0, 0, 0] = float("nan") if self.calls == 5 else 0
            return y

    write_png(tmp_path / "a.png", photo(100, 20, 3, 8))
    with pytest.raises(InputError, match="not finite"):
        upscale_file(Failing(2), tmp_path / "a.png", tmp_path / "large.png", 20)
