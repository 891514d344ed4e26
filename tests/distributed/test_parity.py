"""The training step gives the same gradients, parameters and resumable state under every backend."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny_overrides
from helpers.parity import BACKENDS, FEATURES, PLAIN, batch_of

from cyclesr_dist.config.schema import Config, load
from cyclesr_dist.config.systems import Phase
from cyclesr_dist.distributed.build import build_backend
from cyclesr_dist.distributed.local_ranks import run_ranks
from cyclesr_dist.distributed.player import TensorDict
from cyclesr_dist.distributed.world import World
from cyclesr_dist.method.step import frozen
from cyclesr_dist.method.systems.base import System, SystemState
from cyclesr_dist.method.systems.build import build_system

PHASES = (*[Phase.PRETRAIN] * 3, *[Phase.JOINT] * 3)
# cycle_sr_separate changes its player half-way.
PHASES_OF = {"cycle_sr_separate": (*[Phase.TRANSLATE] * 3, *[Phase.SEPARATE] * 3), "cyclegan": (Phase.CYCLEGAN,) * 6}
SYSTEMS = ("sr_syn", "cyclegan", "cycle_sr_separate", "cyclesr", "cyclesrgan")
# AdamW where there are both learning rates and three kinds of networks. So strong that a parameter that decays under
# one backend alone would differ by a thousandth of its size in every step.
ADAMW = {"cyclesrgan": ["optim.weight_decay=10"]}


def config_of(system: str, overrides: list[str]) -> Config:
    # A clip norm that bites: the clipping itself must agree too.
    # The plain step: translators that start as the identity have L1 terms at their kink, where rounding that depends on
    # the batch's size, as with joined passes, chooses the sign of a gradient. `precise_run` takes the rounding away.
    common = [*tiny_overrides(), *PLAIN, *FEATURES, f"system={system}", "optim.clip_norm=3.0", "weights.mse=50"]
    common += ADAMW.get(system, [])
    return load(None, [*common, *overrides])


def run_steps(name: str, system: System, world: World, first: int, last: int) -> list[dict[str, float]]:
    norms = []
    for step in range(first, last):
        norms.append(system.step(batch_of(step, world), PHASES_OF.get(name, PHASES)[step]).grad_norm)
    return norms


def whole_run(world: World, overrides: list[str], elsewhere: Path | None) -> dict[str, dict[str, Any]]:
    """All systems: states after 1, 3 and 6 steps and gradient norms.

    With `elsewhere`, the states after 3 steps of another backend, also those resumed here, at 6 steps.
    """
    saved = torch.load(elsewhere, weights_only=False) if elsewhere else {}
    results = {}
    for name in SYSTEMS:
        config = config_of(name, overrides)
        system = build_system(config, build_backend(config, world), world)
        norms = run_steps(config.system, system, world, 0, 1)
        after_1 = system.state()
        norms += run_steps(config.system, system, world, 1, 3)
        after_3 = system.state()
        norms += run_steps(config.system, system, world, 3, 6)
        results[name] = {"after_1": after_1, "after_3": after_3, "after_6": system.state(), "norms": norms}
        if saved:
            system.load(saved[name])  # into networks that have been trained on, as a run does that goes back
            run_steps(config.system, system, world, 3, 6)
            results[name]["resumed"] = system.state()
    return results


def precise_run(world: World, overrides: list[str]) -> dict[str, tuple[SystemState, list[dict[str, float]]]]:
    """All systems in float64, six steps."""
    torch.set_default_dtype(torch.float64)
    results = {}
    for name in SYSTEMS:
        common = [*tiny_overrides(), *FEATURES, f"system={name}", "optim.clip_norm=3.0", "weights.mse=50"]
        config = load(None, [*common, *ADAMW.get(name, []), *overrides])
        system = build_system(config, build_backend(config, world), world)
        norms = run_steps(name, system, world, 0, 6)
        results[name] = system.state(), norms
    return results


def resume(world: World, config: Config, saved: SystemState) -> SystemState:
    """Continue a state after 3 steps to 6."""
    system = build_system(config, build_backend(config, world), world, saved)
    run_steps(config.system, system, world, 3, 6)
    return system.state()


def resume_all(world: World, path: Path) -> dict[str, dict[str, SystemState]]:
    """Continue the states of all backends in this one process."""
    saved = torch.load(path, weights_only=False)
    return {
        backend: {name: resume(world, config_of(name, ["backend=single"]), state) for name, state in states.items()}
        for backend, states in saved.items()
    }


@cache
def reference() -> dict[str, dict[str, Any]]:
    """One process with the whole global batch, plain PyTorch."""
    return run_ranks(whole_run, 1, ["backend=single"], None)[0]


@cache
def outcome(backend: str) -> list[dict[str, dict[str, Any]]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.pt"
        torch.save({name: run["after_3"] for name, run in reference().items()}, path)
        return run_ranks(whole_run, 2, BACKENDS[backend], path)


@cache
def resumed_in_one_process() -> dict[str, dict[str, SystemState]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.pt"
        torch.save({b: {name: run["after_3"] for name, run in outcome(b)[0].items()} for b in BACKENDS}, path)
        return run_ranks(resume_all, 1, path)[0]


# Biases without effect, whose gradient is rounding that Adam amplifies: those of convolutions before InstanceNorm, and
# d_h's last, since relativistic losses see differences of d_h's outputs alone.
CANCELLED = {f"critics.{d}.body.{i}.bias" for d, i in (("d_r", 2), ("d_s", 2), ("d_h", 2), ("d_h", 5), ("d_h", 8))}
CANCELLED_WIDE = CANCELLED | {f"critics.{d}.body.5.bias" for d in ("d_r", "d_s")}  # cyclegan's discriminators


# What parameters may differ by in all: half a thousandth of what one Adam step moves one weight (lr 2e-4). A layer that
# starts at zero has not moved far enough after six steps for a share of its norm to cover how processors round.
PARAMETER_FLOOR = 1e-7


def assert_close(actual: TensorDict, expected: TensorDict, what: str, floor: float = 1e-12) -> None:
    assert actual.keys() == expected.keys()
    cancelled = CANCELLED_WIDE if "critics.d_r.body.8.bias" in expected else CANCELLED
    for name in expected.keys() - cancelled:
        difference = float((actual[name] - expected[name]).norm())
        assert difference <= 1e-5 * float(expected[name].norm()) + floor, f"{what} {name}: {difference}"


def assert_same_state(actual: SystemState, expected: SystemState, what: str) -> None:
    for player, state in expected.players.items():
        assert actual.players[player].num_updates == state.num_updates
        assert_close(actual.players[player].params, state.params, f"{what} {player} parameter", PARAMETER_FLOOR)
    assert actual.pools.keys() == expected.pools.keys()
    for pool, images in expected.pools.items():
        torch.testing.assert_close(actual.pools[pool], images, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_first_gradients_equal_those_of_one_process(backend: str, system: str) -> None:
    # After one update from zero, Adam's first moment is (1 - beta1) times the clipped gradient.
    expected = reference()[system]["after_1"].players
    actual = outcome(backend)[0][system]["after_1"].players
    for player in expected:
        assert_close(actual[player].exp_avg, expected[player].exp_avg, f"{player} gradient")
        if expected[player].num_updates:
            assert any(float(m.abs().max()) > 0 for m in expected[player].exp_avg.values())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_parameters_and_norms_after_three_steps_of_each_phase(backend: str, system: str) -> None:
    expected, actual = reference()[system], outcome(backend)[0][system]
    assert_same_state(actual["after_3"], expected["after_3"], "pretraining")
    assert_same_state(actual["after_6"], expected["after_6"], "joint")
    for own, other in zip(actual["norms"], expected["norms"], strict=True):
        assert own == pytest.approx(other, rel=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_all_ranks_report_the_same_state(backend: str) -> None:
    first, second = outcome(backend)
    for system in SYSTEMS:
        for player, state in first[system]["after_6"].players.items():
            other = second[system]["after_6"].players[player]
            for name, tensor in state.params.items():
                assert torch.equal(tensor, other.params[name])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_state_of_one_process_resumes_under_every_backend(backend: str, system: str) -> None:
    resumed = outcome(backend)[0][system]["resumed"]
    assert_same_state(resumed, reference()[system]["after_6"], f"{system} resumed under {backend}")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_state_of_every_backend_resumes_in_one_process(backend: str, system: str) -> None:
    resumed = resumed_in_one_process()[backend][system]
    assert_same_state(resumed, reference()[system]["after_6"], f"{system} resumed from {backend}")


@cache
def precise_reference() -> dict[str, tuple[SystemState, list[dict[str, float]]]]:
    return run_ranks(precise_run, 1, ["backend=single", *PLAIN])[0]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["single", "ddp", "zero1", "zero2"])  # DeepSpeed refuses float64 in the others
def test_the_tuned_step_is_the_plain_one_without_rounding(backend: str) -> None:
    plain = precise_reference()
    if backend == "single":
        tuned = run_ranks(precise_run, 1, ["backend=single"])[0]
    else:
        tuned = run_ranks(precise_run, 2, BACKENDS[backend])[0]
    for name, (expected, expected_norms) in plain.items():
        state, norms = tuned[name]
        assert_same_state(state, expected, name)
        for own, other in zip(norms, expected_norms, strict=True):
            assert own == pytest.approx(other, rel=1e-6)


def test_pools_are_in_use() -> None:
    pools = reference()["cyclesr"]["after_6"].pools
    assert {name: len(images) for name, images in pools.items()} == {"d_r": 6, "d_s": 6}


def unfrozen_norm(world: World) -> tuple[float, float]:
    """d's first gradient norm with the discriminators frozen in the generators' update, and without."""
    norms = []
    for freeze in (True, False):
        config = config_of("cyclesr", ["backend=deepspeed", "zero_stage=1"])
        system = build_system(config, build_backend(config, world), world)
        g, d = system.players["g"], system.players["d"]
        batch = batch_of(0, world)
        inputs = (batch.syn, batch.real, batch.hr, batch.noise, Phase.JOINT, d.module.critics)
        if freeze:
            with frozen(d.module):
                losses, fakes = g(*inputs)
                g.update(losses["total"])
        else:
            losses, fakes = g(*inputs)
            g.update(losses["total"])
        norms.append(d.update(d(batch.syn, batch.real, batch.hr, fakes)["total"]))
    return norms[0], norms[1]


def test_freezing_the_discriminators_is_needed_under_zero() -> None:
    """Why `joint_step` freezes them: ZeRO-1 adds what leaks from the generators' backward to D's own gradient."""
    frozen_norm, leaked_norm = run_ranks(unfrozen_norm, 2)[0]
    expected = reference()["cyclesr"]["norms"][0]["d"]
    assert frozen_norm == pytest.approx(expected, rel=1e-4)
    assert abs(leaked_norm - expected) > 0.01 * expected
