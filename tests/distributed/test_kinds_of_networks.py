"""Networks that merge kernels, normalise by the image or attend within windows: a step is the same under every backend,
and in parts of the batch."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from helpers import tiny_overrides
from helpers.parity import BACKENDS, batch_of

from cyclesr_dist.config.schema import load
from cyclesr_dist.config.systems import Phase
from cyclesr_dist.distributed.build import build_backend
from cyclesr_dist.distributed.local_ranks import run_ranks
from cyclesr_dist.distributed.player import TensorDict
from cyclesr_dist.distributed.world import World
from cyclesr_dist.method.systems.build import build_system

KINDS = {
    "span": ["nets.sr.channels=6", "nets.sr.blocks=2", "nets.sr.mean_shift=true"],
    "realplksr": ["nets.sr.channels=16", "nets.sr.blocks=1"],
    "swinir": ["nets.sr.channels=6", "nets.sr.blocks=1"],
}
Steps = dict[str, tuple[TensorDict, list[float]]]
"""By kind: Adam's first moments after one step, which are its gradients times 1 - beta1; the norms of two."""


def two_steps(world: World, overrides: list[str]) -> Steps:
    found = {}
    for kind, own in KINDS.items():
        common = [*tiny_overrides(), "system=sr_syn", "weights.mse=50", f"nets.sr.kind={kind}", *own]
        config = load(None, [*common, *overrides])
        system = build_system(config, build_backend(config, world), world)
        norms = [system.step(batch_of(0, world), Phase.PRETRAIN).grad_norm["g"]]
        moments = system.state().players["g"].exp_avg
        norms.append(system.step(batch_of(1, world), Phase.PRETRAIN).grad_norm["g"])
        found[kind] = moments, norms
    return found


@cache
def reference() -> Steps:
    return run_ranks(two_steps, 1, ["backend=single"])[0]


def assert_as_one_process(found: Steps) -> None:
    for kind, (moments, norms) in reference().items():
        assert found[kind][0].keys() == moments.keys()
        for name, expected in moments.items():
            apart = float((found[kind][0][name] - expected).norm())
            assert apart <= 1e-4 * float(expected.norm()) + 1e-9, f"{kind} {name}: {apart}"
        assert found[kind][1] == pytest.approx(norms, rel=1e-3), kind


@pytest.mark.parametrize(
    "backend",
    [name if name == "zero3" else pytest.param(name, marks=pytest.mark.slow) for name in BACKENDS],
)
def test_two_ranks_step_as_one_process(backend: str) -> None:
    for found in run_ranks(two_steps, 2, BACKENDS[backend]):
        assert_as_one_process(found)


def test_a_step_in_parts_is_the_step_at_once() -> None:
    assert_as_one_process(run_ranks(two_steps, 1, ["backend=single", "micro_batch=3"])[0])


def test_every_part_of_the_network_learns() -> None:
    for kind, (moments, _) in reference().items():
        assert all(float(moment.abs().max()) > 0 for moment in moments.values()), kind
        assert torch.isfinite(torch.tensor(reference()[kind][1])).all()
