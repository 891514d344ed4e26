"""A batch that passes through the networks in parts trains as it does at once, under every backend."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from helpers import tiny_overrides
from helpers.parity import BACKENDS, PLAIN, batch_of, measured

from cyclesr_dist.config.schema import load, noise_channels
from cyclesr_dist.config.systems import Phase, spec_of
from cyclesr_dist.distributed.build import build_backend
from cyclesr_dist.distributed.local_ranks import run_ranks
from cyclesr_dist.distributed.player import TensorDict
from cyclesr_dist.distributed.world import World
from cyclesr_dist.method.systems.base import System
from cyclesr_dist.method.systems.build import build_system

BATCH = 8
GAN = ["system=cyclesrgan", "weights.l1=0.3", "weights.advsr=0.5", "weights.spectrum=0.3"]
DEGRADATION = ["nets.translator.kind=degradation", "weights.adv=1", "weights.cyc=1", "weights.sr_to_s2r=0.5"]
SYSTEMS = {
    **{name: [f"system={name}"] for name in ("sr_syn", "sr_paired", "estimated", "cyclegan", "cyclesr")},
    "cycle_sr_separate": ["system=cycle_sr_separate", "weights.spectrum=0.3"],
    "cyclesrgan": GAN,
    "measured": ["system=cyclesr", *DEGRADATION],  # with the spectral term, and a second g_l2h beside
}
ROUNDED = ("estimated", "measured")
"""Measured degradations compute in fp32; the others are compared in float64."""
PRECISE = tuple(name for name in SYSTEMS if name not in ROUNDED)
STEPS = 2
"""Of each phase: the second one reads Adam's moments and pools that the first has filled."""

Numbers = dict[str, tuple[TensorDict, list[dict[str, float]]]]
"""By system: all that a state holds; losses, drift and gradient norms of every step."""


def build(world: World, overrides: list[str], micro: int | str) -> tuple[System, list[Phase], int]:
    common = [*tiny_overrides(), *PLAIN, "optim.clip_norm=3.0", "weights.mse=50"]
    config = load(None, [*common, *overrides, f"global_batch={BATCH}", f"micro_batch={micro}"])
    system = build_system(config, build_backend(config, world), world, None, measured())
    phases = [p for one in spec_of(config.system).rounds for p in (one.first, one.phase) if p]
    return system, [phase for phase in phases for _ in range(STEPS)], noise_channels(config)


def trained(world: World, backend: list[str], micro: int | str, dtype: torch.dtype, names: tuple[str, ...]) -> Numbers:
    torch.set_default_dtype(dtype)
    found = {}
    for name in names:
        system, phases, noise = build(world, [*backend, *SYSTEMS[name]], micro)
        told = []
        for step, phase in enumerate(phases):
            result = system.step(batch_of(step, world, noise, BATCH), phase)
            values = world.mean([float(value) for value in [*result.losses.values(), *result.drift.values()]])
            told.append(dict(zip([*result.losses, *result.drift], values, strict=True)) | result.grad_norm)
        state = system.state()
        tensors = {
            f"{player}.{name}": tensor
            for player, one in state.players.items()
            for name, tensor in (one.params | one.buffers).items()
        }
        found[name] = tensors | {f"pool.{name}": images for name, images in state.pools.items()}, told
    return found


@cache
def at_once(dtype: torch.dtype, names: tuple[str, ...]) -> Numbers:
    return run_ranks(trained, 1, ["backend=single"], "all", dtype, names)[0]


def assert_alike(ranks: int, backend: str, micro: int, dtype: torch.dtype, names: tuple[str, ...]) -> None:
    overrides = ["backend=single"] if backend == "single" else BACKENDS[backend]
    for numbers in run_ranks(trained, ranks, overrides, micro, dtype, names):
        # ZeRO updates in fp32 and states are kept in it, so in float64, too, the last digits of fp32 differ.
        compare(numbers, at_once(dtype, names), *((1e-6, 3e-7) if dtype is torch.float64 else (1e-4, 2e-5)))


# Biases without effect, whose gradient is rounding that Adam amplifies: of convolutions before
# InstanceNorm, of the residual network's last one, and d_h's last, since RaGAN sees differences alone.
CANCELLED = ("residual.tail.bias", *(f"critics.{d}.body.{i}.bias" for d in ("d_r", "d_s", "d_h") for i in (2, 5, 8)))


def compare(actual: Numbers, expected: Numbers, rel: float, floor: float) -> None:
    for name in actual:
        (tensors, told), (other_tensors, other_told) = actual[name], expected[name]
        assert tensors.keys() == other_tensors.keys()
        for key, tensor in tensors.items():
            if not key.endswith(CANCELLED):
                assert torch.allclose(tensor, other_tensors[key], rtol=rel, atol=floor), f"{name} {key}"
        for step, (own, other) in enumerate(zip(told, other_told, strict=True)):
            # The standard deviation of what a rank sees is no mean: with more ranks it is another number.
            skipped = {"std", "colour"}
            own, other = ({k: v for k, v in one.items() if k not in skipped} for one in (own, other))
            assert own == pytest.approx(other, rel=rel * 10, abs=floor), f"{name} step {step}"


@pytest.mark.parametrize("micro", [4, 1, 3])
def test_eight_samples_at_once_in_parts_of_four_one_and_three(micro: int) -> None:
    assert_alike(1, "single", micro, torch.float64, PRECISE)
    assert_alike(1, "single", micro, torch.float32, ROUNDED)


EACH = [2, pytest.param(3, marks=pytest.mark.slow)]
"""Of a rank's four samples; 3: 3 + 1."""


@pytest.mark.parametrize("micro", EACH)
@pytest.mark.parametrize("backend", ["ddp", "zero1", "zero2"])
def test_two_ranks_with_parts_are_one_process_at_once(backend: str, micro: int) -> None:
    assert_alike(2, backend, micro, torch.float64, PRECISE)


@pytest.mark.parametrize("micro", EACH)
@pytest.mark.parametrize("backend", BACKENDS)
def test_measured_degradations_and_fp32(backend: str, micro: int) -> None:
    # DeepSpeed refuses float64 in stages 0 and 3.
    assert_alike(2, backend, micro, torch.float32, (*ROUNDED, "sr_syn"))
