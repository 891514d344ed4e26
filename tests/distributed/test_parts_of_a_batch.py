"""A batch that passes through the networks in parts trains as it does at once, under every backend."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from helpers.parity import BACKENDS
from helpers.parts import Numbers, compare, trained

from cyclesr_dist.distributed.local_ranks import run_ranks

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


@cache
def at_once(dtype: torch.dtype, names: tuple[str, ...]) -> Numbers:
    return run_ranks(trained, 1, ["backend=single"], "all", dtype, of(names))[0]


def of(names: tuple[str, ...]) -> dict[str, list[str]]:
    return {name: SYSTEMS[name] for name in names}


def assert_alike(ranks: int, backend: str, micro: int, dtype: torch.dtype, names: tuple[str, ...]) -> None:
    overrides = ["backend=single"] if backend == "single" else BACKENDS[backend]
    for numbers in run_ranks(trained, ranks, overrides, micro, dtype, of(names)):
        # ZeRO updates in fp32 and states are kept in it, so in float64, too, the last digits of fp32 differ.
        compare(numbers, at_once(dtype, names), *((1e-6, 3e-7) if dtype is torch.float64 else (1e-4, 2e-5)))


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
