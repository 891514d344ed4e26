"""JPEG as a part of the degradation, against the library that writes the files."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from cyclesr_dist.degradation.apply import degraded
from cyclesr_dist.degradation.jpeg_blocks import through_jpeg
from cyclesr_dist.degradation.record import NAMES, Degradation, checked
from cyclesr_dist.errors import InputError
from cyclesr_dist.nets.measured import DegradationTranslator, MeasuredDegradation


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    """(1, 3, h, w), smooth and on the 8-bit grid."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 6 + 1, width // 6 + 1, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    return torch.from_numpy(smooth.astype(np.float32) / 255).permute(2, 0, 1)[None]


def by_pillow(x: Tensor, quality: int) -> Tensor:
    file = io.BytesIO()
    Image.fromarray((x[0].permute(1, 2, 0) * 255).round().byte().numpy()).save(file, "JPEG", quality=quality)
    read = np.asarray(Image.open(file)).astype(np.float32) / 255
    return torch.from_numpy(read).permute(2, 0, 1)[None]


def identity() -> Degradation:
    white = torch.eye(3)[..., None, None]
    return Degradation(torch.ones(1, 1, 1), torch.zeros(3), torch.ones(1), white, torch.zeros(0, 3, 1, 1), {})


@pytest.mark.parametrize("quality", [10, 40, 75, 92])
@pytest.mark.parametrize("size", [(64, 64), (41, 27), (8, 120), (5, 5)])
def test_it_is_what_the_library_does(quality: int, size: tuple[int, int]) -> None:
    x = picture(*size)
    expected, made = by_pillow(x, quality), through_jpeg(x, quality)
    damage, difference = ((other - expected).square().mean().sqrt() for other in (x, made))
    assert made.shape == x.shape
    assert float(made.min()) >= 0
    assert float(made.max()) <= 1
    assert torch.equal(made, (made * 255).round() / 255)
    assert float(difference) < max(0.5 * float(damage), 2.5 / 255)


def test_a_batch_is_its_images_and_grey_stays_grey() -> None:
    x = torch.cat([picture(32, 48, seed) for seed in range(3)])
    assert torch.equal(through_jpeg(x, 50), torch.cat([through_jpeg(one[None], 50) for one in x]))
    grey = x.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    assert float((through_jpeg(grey, 50) - through_jpeg(grey, 50).mean(1, keepdim=True)).abs().max()) < 0.01


def test_it_ends_the_degradation_and_lets_gradients_pass() -> None:
    x = picture(24, 24)
    with_jpeg = replace(identity(), jpeg=torch.tensor([40.0]))
    assert torch.allclose(degraded(with_jpeg, x, 0), through_jpeg(x, 40), atol=1e-6)
    assert torch.allclose(degraded(identity(), x, 0), x, atol=1e-6)
    lr = x.clone().requires_grad_()
    MeasuredDegradation(with_jpeg)(torch.cat([lr, torch.zeros_like(lr)], 1)).sum().backward()
    assert lr.grad is not None
    assert float(lr.grad.abs().sum()) > 0


@pytest.mark.parametrize("build", [MeasuredDegradation, lambda d=None: DegradationTranslator(4, 1, d)])
def test_states_of_before_have_none_and_load(build: type[MeasuredDegradation]) -> None:
    state = {name: value for name, value in build(identity()).state_dict().items() if not name.endswith("jpeg")}
    net = build(replace(identity(), jpeg=torch.tensor([40.0])))
    net.load_state_dict(state)
    assert all(len(value) == 0 for name, value in net.state_dict().items() if name.endswith("jpeg"))
    again = build()
    again.load_state_dict(build(replace(identity(), jpeg=torch.tensor([40.0]))).state_dict())
    assert [value.tolist() for name, value in again.state_dict().items() if name.endswith("jpeg")] == [[40.0]]


def test_estimates_of_before_load_and_bad_ones_do_not() -> None:
    tensors = identity().tensors()
    assert set(tensors) == set(NAMES)
    old = checked({name: value for name, value in tensors.items() if name != "jpeg"}, {}, "here")
    assert len(old.jpeg) == 0
    for bad in ([0.0], [101.0], [50.0, 60.0], [float("nan")]):
        with pytest.raises(InputError, match="here: jpeg"):
            checked(tensors | {"jpeg": torch.tensor(bad)}, {}, "here")
