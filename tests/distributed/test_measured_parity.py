"""A translator that starts from a measured degradation trains alike under every backend."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from helpers import tiny_overrides
from helpers.parity import BACKENDS, PLAIN, batch_of, measured

from cyclesr_dist.config.schema import load
from cyclesr_dist.config.systems import Phase
from cyclesr_dist.distributed.build import build_backend
from cyclesr_dist.distributed.local_ranks import run_ranks
from cyclesr_dist.distributed.world import World
from cyclesr_dist.method.systems.base import SystemState
from cyclesr_dist.method.systems.build import build_system

STEPS = 4


def whole_run(world: World, overrides: list[str]) -> dict[str, SystemState]:
    """States after some joint steps, and the same resumed half-way by a system that was built without an estimate."""
    found = {}
    for system in ("cyclesr", "estimated"):
        own = ["nets.translator.kind=degradation", f"system={system}", "weights.adv=1", "weights.sr_to_s2r=0.5"]
        config = load(None, [*tiny_overrides(), *PLAIN, *own, "weights.cyc=1", *overrides])
        make = build_backend(config, world)
        phase = Phase.JOINT if system == "cyclesr" else Phase.SR
        running = build_system(config, make, world, None, measured())
        for step in range(STEPS // 2):
            running.step(batch_of(step, world, 3), phase)
        half = running.state()
        for step in range(STEPS // 2, STEPS):
            running.step(batch_of(step, world, 3), phase)
        resumed = build_system(config, make, world, half)
        for step in range(STEPS // 2, STEPS):
            resumed.step(batch_of(step, world, 3), phase)
        found |= {system: running.state(), f"{system} resumed": resumed.state()}
    return found


@cache
def reference() -> dict[str, SystemState]:
    return run_ranks(whole_run, 1, ["backend=single"])[0]


# Biases without effect, whose gradient is rounding that Adam amplifies: of convolutions before InstanceNorm, and of the
# residual network's last one, since what it adds has no mean.
CANCELLED = ("critics.d_r.body.2.bias", "critics.d_s.body.2.bias", "residual.tail.bias")


def flat(state: SystemState) -> dict[str, torch.Tensor]:
    found = {}
    for name, player in state.players.items():
        found |= {f"{name}.{key}": t for key, t in (player.params | player.buffers).items()}
    return found


@pytest.mark.parametrize("backend", BACKENDS)
def test_parameters_running_means_and_the_estimate_agree(backend: str) -> None:
    for rank in run_ranks(whole_run, 2, BACKENDS[backend]):
        for name, state in rank.items():
            own, other = flat(state), flat(reference()[name])
            assert own.keys() == other.keys()
            for key in own:
                if key.endswith(CANCELLED):
                    continue
                assert torch.allclose(own[key], other[key], atol=2e-5, rtol=1e-4), f"{name}: {key}"
                if "measured." in key or key.endswith(("kernels", "noise", "variance")):
                    assert torch.equal(own[key], other[key]), f"{name}: {key}"


def test_a_resumed_state_goes_on_to_the_bit() -> None:
    state = reference()
    for name in ("cyclesr", "estimated"):
        own, resumed = flat(state[name]), flat(state[f"{name} resumed"])
        assert all(torch.equal(own[key], resumed[key]) for key in own)
        assert any(key.endswith("noise") and len(own[key]) == 6 for key in own)
