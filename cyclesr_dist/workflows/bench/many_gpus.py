"""What would bound a training on many GPUs, computed from what was measured on few."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

_WAYS = {
    "gradients": "a larger batch a GPU: as many bytes for more samples",
    "pools of fakes": "a smaller pool.size",
    "data": "more cores a GPU",
    "validation": "a larger train.validate_every_steps, or fewer photographs in data.valid_lr",
    "checkpoints": "a larger train.checkpoint_every_steps",
}


@dataclass(frozen=True)
class ManyGPUs:
    """One GPU as it was measured, and what is assumed of the rest."""

    step_s: float
    """A step of one GPU without communication, at its share of the batch."""
    rank_batch: int
    """Samples of that step."""
    gradient_bytes: int
    fakes_bytes: int
    """Of one sample, for all pools."""
    pool_size: int = 50
    gpus_a_node: int = 8
    node_gb_s: float = 300.0
    """Of one GPU within a node, one direction (NVLink)."""
    network_gb_s: float = 25.0
    """Of one GPU between nodes, one direction (200 Gbit/s each)."""
    latency_us: float = 15.0
    """Of one hop of a collective."""
    hidden: float = 0.5
    """Share of the step that gradients can travel beside: the backward passes."""
    cores_a_gpu: float = 8.0
    pairs_a_core: float = 282.0
    """A second, at HR 480: `cyclesr bench data`."""
    validation_s: float = 20.0
    """Of all photographs on one GPU."""
    photographs: int = 100
    validate_every: int = 2500
    checkpoint_s: float = 0.1
    """That the step is stopped: `cyclesr bench checkpoint`."""
    checkpoint_every: int = 1000


def predict(gpus: ManyGPUs) -> list[dict[str, Any]]:
    """Seconds a step, efficiency and what costs most with 1, 8, 64 and 512 GPUs, with the same batch each.

    Ring all-reduce of the gradients, 2 (n - 1) / n of their bytes past each GPU, at the slowest link on the ring; what
    fits beside the backward passes costs nothing. Each GPU is sent what the pools hold anew and half of what it shows.
    Validation photographs are shared out whole. Data costs what it takes beyond the step.
    """
    rows: list[dict[str, Any]] = []
    for n in (1, 8, 64, 512):
        speed = (gpus.node_gb_s if n <= gpus.gpus_a_node else gpus.network_gb_s) * 1e9
        hops = 2 * (n - 1)
        if n > gpus.gpus_a_node:  # a ring within each node, and one over the nodes
            hops = 2 * (gpus.gpus_a_node - 1) + 2 * (n // gpus.gpus_a_node - 1)
        reduce_s = 2 * (n - 1) / n * gpus.gradient_bytes / speed + hops * gpus.latency_us * 1e-6
        swapped = gpus.rank_batch / 2 * (gpus.pool_size > 0 and n > 1)
        fakes_s = (min(gpus.pool_size, n * swapped) + swapped) * gpus.fakes_bytes / speed
        share = math.ceil(gpus.photographs / n) / gpus.photographs
        data_s = gpus.rank_batch / (gpus.pairs_a_core * gpus.cores_a_gpu)
        costs = {
            "gradients": max(0.0, reduce_s - gpus.hidden * gpus.step_s),
            "pools of fakes": fakes_s,
            "data": max(0.0, data_s - gpus.step_s),
            "validation": gpus.validation_s * share / gpus.validate_every,
            "checkpoints": gpus.checkpoint_s / gpus.checkpoint_every,
        }
        seconds = gpus.step_s + sum(costs.values())
        rows.append(
            {
                "gpus": n,
                "reduce_s": reduce_s,
                "costs_s": costs,
                "step_s": seconds,
                "efficiency": gpus.step_s / seconds,
                "patches_per_second": n * gpus.rank_batch / seconds,
                "most": max(costs, key=costs.__getitem__),
            }
        )
    return rows


def describe_model(gpus: ManyGPUs, rows: list[dict[str, Any]]) -> list[str]:
    """The model as lines for the terminal: milliseconds that each part adds to a step."""
    lines = [
        f"model: {gpus.rank_batch} samples and {gpus.step_s:g} s a step on each GPU; {gpus.gpus_a_node} GPUs a node, "
        f"{gpus.node_gb_s:.0f} GB/s within it, {gpus.network_gb_s:.0f} GB/s a GPU between,",
        f"  {gpus.latency_us:.0f} us a hop, {gpus.hidden:.0%} of the step hides gradients; {gpus.cores_a_gpu:g} "
        f"cores a GPU, {gpus.pairs_a_core:g} pairs a core and second;",
        f"  {gpus.photographs} photographs in {gpus.validation_s:g} s of one GPU each {gpus.validate_every} steps; "
        f"{gpus.checkpoint_s:g} s for a checkpoint each {gpus.checkpoint_every}",
        "ms".rjust(6) + "".join(name.rjust(16) for name in _WAYS) + "step".rjust(10) + "efficiency".rjust(12),
    ]
    for row in rows:
        costs = "".join(f"{1e3 * row['costs_s'][name]:16.2f}" for name in _WAYS)
        lines.append(f"{row['gpus']:6}{costs}{1e3 * row['step_s']:10.1f}{row['efficiency']:12.1%}")
    for row in rows[1:]:
        lines.append(f"{row['gpus']} GPUs: {row['most']} cost most. What helps: {_WAYS[row['most']]}")
    return lines
