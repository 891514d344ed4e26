"""Training steps of systems, on ranks and in parts of a batch, and whether two ways to take them came to the same."""

from __future__ import annotations

import pytest
import torch

from cyclesr_dist.config.schema import load, noise_channels
from cyclesr_dist.config.systems import Phase, spec_of
from cyclesr_dist.distributed.build import build_backend
from cyclesr_dist.distributed.player import TensorDict
from cyclesr_dist.distributed.world import World
from cyclesr_dist.method.systems.base import System
from cyclesr_dist.method.systems.build import build_system
from helpers import tiny_overrides
from helpers.parity import FEATURES, PLAIN, batch_of, measured

BATCH = 8
STEPS = 2
"""Of each phase: the second one reads Adam's moments and pools that the first has filled."""

Numbers = dict[str, tuple[TensorDict, list[dict[str, float]]]]
"""By system: all that a state holds; losses, drift and gradient norms of every step."""


def build(world: World, overrides: list[str], micro: int | str) -> tuple[System, list[Phase], int]:
    common = [*tiny_overrides(), *PLAIN, *FEATURES, "optim.clip_norm=3.0", "weights.mse=50"]
    config = load(None, [*common, *overrides, f"global_batch={BATCH}", f"micro_batch={micro}"])
    system = build_system(config, build_backend(config, world), world, None, measured())
    phases = [p for one in spec_of(config.system).rounds for p in (one.first, one.phase) if p]
    return system, [phase for phase in phases for _ in range(STEPS)], noise_channels(config)


def trained(
    world: World, backend: list[str], micro: int | str, dtype: torch.dtype, systems: dict[str, list[str]]
) -> Numbers:
    torch.set_default_dtype(dtype)
    found = {}
    for name, own in systems.items():
        system, phases, noise = build(world, [*backend, *own], micro)
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


# Biases without effect, whose gradient is rounding that Adam amplifies: of convolutions before
# InstanceNorm, of the residual network's last one, and d_h's last, since RaGAN sees differences alone.
_CRITICS = ("d_r", "d_r.judge", "d_s", "d_h")
CANCELLED = ("residual.tail.bias", *(f"critics.{d}.body.{i}.bias" for d in _CRITICS for i in (2, 5, 8)))


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
