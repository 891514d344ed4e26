"""The systems of other papers: the same training with more ranks, in parts of a batch, and taken up again."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from helpers.parity import BACKENDS, batch_of
from helpers.parts import BATCH, Numbers, build, compare, trained

from cyclesr_dist.distributed.local_ranks import run_ranks
from cyclesr_dist.distributed.world import World

RIVALS = {
    name: [f"system={name}", "weights.content=2", "weights.advsr=0.5"]
    for name in ("high_to_low", "dsgan", "cincgan", "pseudo_supervision", "pdm")
}
ROUNDED = RIVALS | {"dsgan": [*RIVALS["dsgan"], "weights.content=0"]}
"""In fp32: where a translator starts as the identity, rounding chooses the signs of L1's gradient. Without that term
nothing sees dsgan's brightness, its last bias."""
UNSEEN = "g.g_s2r.tail.bias"
FLOAT64 = (1e-6, 3e-7)
"""As in test_parts_of_a_batch.py: states are kept in fp32."""
FLOAT32 = (1e-4, 2e-5)


@cache
def at_once(dtype: torch.dtype) -> Numbers:
    systems = RIVALS if dtype is torch.float64 else ROUNDED
    return run_ranks(trained, 1, ["backend=single"], "all", dtype, systems)[0]


@pytest.mark.slow
@pytest.mark.parametrize("micro", [3, 1])
def test_in_parts_it_is_the_step_at_once(micro: int) -> None:
    found = run_ranks(trained, 1, ["backend=single"], micro, torch.float64, RIVALS)[0]
    compare(found, at_once(torch.float64), *FLOAT64)


@pytest.mark.parametrize(
    "backend", ["ddp", pytest.param("zero1", marks=pytest.mark.slow), pytest.param("zero2", marks=pytest.mark.slow)]
)
def test_two_ranks_with_parts_are_one_process(backend: str) -> None:
    for numbers in run_ranks(trained, 2, BACKENDS[backend], 3, torch.float64, RIVALS):
        compare(numbers, at_once(torch.float64), *FLOAT64)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["zero0", "zero3"])  # DeepSpeed refuses float64 in them
def test_two_ranks_in_fp32(backend: str) -> None:
    for numbers in run_ranks(trained, 2, BACKENDS[backend], 3, torch.float32, ROUNDED):
        numbers["dsgan"][0].update({UNSEEN: at_once(torch.float32)["dsgan"][0][UNSEEN]})
        compare(numbers, at_once(torch.float32), *FLOAT32)


@pytest.mark.parametrize("name", RIVALS)
def test_a_state_goes_on_to_the_bit(name: str) -> None:
    whole, phases, noise = build(World(), ["backend=single", *RIVALS[name]], "all")
    again = build(World(), ["backend=single", *RIVALS[name]], "all")[0]
    for step, phase in enumerate(phases):
        again.step(batch_of(99 + step, World(), noise, BATCH), phase)  # what a load must undo
        again.load(whole.state())
        batch = batch_of(step, World(), noise, BATCH)
        for system in (whole, again):
            system.step(batch, phase)
        own, other = whole.state(), again.state()
        for player, state in own.players.items():
            for kind in ("params", "buffers", "exp_avg", "exp_avg_sq"):
                for key, tensor in getattr(state, kind).items():
                    assert torch.equal(tensor, getattr(other.players[player], kind)[key]), f"{player} {kind} {key}"
        assert own.pools.keys() == other.pools.keys()
        assert all(torch.equal(images, other.pools[key]) for key, images in own.pools.items())
    assert whole.players["g"].state().num_updates
