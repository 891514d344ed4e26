"""`cyclesr bench scaling`: one and two ranks on this machine, the bytes that they exchange, and a model of more."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from statistics import median
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from cyclesr_dist.config.schema import Config, load, noise_channels
from cyclesr_dist.config.systems import Phase
from cyclesr_dist.data.batch import Batch
from cyclesr_dist.data.resize import bicubic_down
from cyclesr_dist.distributed.build import build_backend
from cyclesr_dist.distributed.local_ranks import run_ranks
from cyclesr_dist.distributed.world import World
from cyclesr_dist.method.systems.build import build_system
from cyclesr_dist.workflows.bench.many_gpus import ManyGPUs, describe_model, predict
from cyclesr_dist.workflows.bench.plans import CASES

_CALLS = (
    "all_reduce", "all_gather", "broadcast", "reduce_scatter", "all_gather_into_tensor", "reduce_scatter_tensor",
    "all_to_all_single",
)  # fmt: skip


def bench_scaling(case: str, overrides: tuple[str, ...], rounds: int, **known: float) -> dict[str, Any]:
    """Steps of 1 and 2 ranks with the same batch a rank, the bytes of each collective of a step, and the model.

    `known` are fields of ManyGPUs; the others are those measured here, or its assumptions. Raises ConfigError for
    overrides that cannot be used.
    """
    # The same share of the machine for every rank, also for the one that is alone.
    os.environ.setdefault("CYCLESR_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // 2)))
    one = run_ranks(_measure, 1, case, overrides, rounds)[0]
    two = run_ranks(_measure, 2, case, overrides, rounds)
    sent = two[0]["bytes"]
    gradients = one["parameters"] * 4
    batch = one["rank_batch"]
    measured = {
        "step_s": one["seconds"],
        "rank_batch": batch,
        "gradient_bytes": gradients,
        "fakes_bytes": one["fakes_bytes"] // batch,
        "pool_size": one["pool_size"],
    }
    assumed = ManyGPUs(**measured | known)
    seconds = max(rank["seconds"] for rank in two)
    return {
        "case": case,
        "rank_batch": batch,
        "threads_a_rank": two[0]["threads"],
        "seconds": {"1": one["seconds"], "2": seconds},
        "patches_per_second": {"1": batch / one["seconds"], "2": 2 * batch / seconds},
        "efficiency": one["seconds"] / seconds,
        "bytes_by_collective": sent,
        "payload_bytes": sum(sent.values()),
        "theoretical_bytes": gradients,
        "overhead": sum(sent.values()) / gradients - 1,
        "collectives": two[0]["calls"],
        "fakes_bytes": one["fakes_bytes"],
        "model": {"assumptions": asdict(assumed), "rows": predict(assumed)},
    }


class _Counted:
    """Counts the bytes that this rank gives to each collective while it is on."""

    def __init__(self) -> None:
        self.bytes: dict[str, int] = {}
        self.calls: dict[str, int] = {}
        self._real: dict[str, Any] = {}

    def note(self, name: str, num_bytes: int) -> None:
        self.bytes[name] = self.bytes.get(name, 0) + num_bytes
        self.calls[name] = self.calls.get(name, 0) + 1

    def __enter__(self) -> _Counted:
        for name in _CALLS:
            self._real[name] = getattr(dist, name)
            setattr(dist, name, self._counting(name))
        return self

    def __exit__(self, *_: object) -> None:
        for name, real in self._real.items():
            setattr(dist, name, real)

    def _counting(self, name: str) -> Any:
        real = self._real[name]

        def call(*arguments: Any, **options: Any) -> Any:
            given = arguments[1] if "gather" in name or "all_to_all" in name else arguments[0]
            tensors = given if isinstance(given, list) else [given]
            self.note(name, sum(t.numel() * t.element_size() for t in tensors))
            return real(*arguments, **options)

        return call


def _measure(world: World, case: str, overrides: tuple[str, ...], rounds: int) -> dict[str, Any]:
    """Run in each rank."""
    each = load(None, ["perceptual.source=random", "global_batch=1", *CASES[case], *overrides])
    config = load(
        None,
        [
            *("perceptual.source=random", "global_batch=1", *CASES[case], *overrides),
            *("backend=ddp", f"global_batch={each.global_batch * world.num_ranks}"),
        ],
    )
    system = build_system(config, build_backend(config, world), world)
    batch = _batch(config, each.global_batch, world.rank)
    counted = _Counted()
    for player in system.players.values():
        _count_buckets(player, counted)
    times = []
    for number in range(rounds + 2):
        counted.bytes.clear()
        counted.calls.clear()
        world.barrier()
        start = time.perf_counter()
        with counted:
            system.step(batch, Phase.JOINT)
        if world.device.type == "cuda":
            torch.cuda.synchronize(world.device)
        if number >= 2:  # the first two warm up, and let DDP lay its buckets out
            times.append(time.perf_counter() - start)
    return {
        "seconds": median(times),
        "rank_batch": each.global_batch,
        "threads": torch.get_num_threads(),
        "parameters": sum(p.numel() for player in system.players.values() for p in player.module.parameters()),
        "fakes_bytes": 2 * batch.syn.numel() * 4,
        "pool_size": config.pool.size,
        "bytes": dict(counted.bytes),
        "calls": dict(counted.calls),
    }


def _count_buckets(player: Any, counted: _Counted) -> None:
    """DDP's own all-reduces happen in C++; its hook sees every bucket."""
    ddp = player.wrapped
    assert isinstance(ddp, nn.parallel.DistributedDataParallel)
    group = dist.group.WORLD
    num_ranks = dist.get_world_size()

    def reduce(bucket: Any) -> Any:
        buffer = bucket.buffer()
        counted.note("gradient buckets", buffer.numel() * buffer.element_size())
        buffer.div_(num_ranks)
        work = dist.distributed_c10d.all_reduce(buffer, group=group, async_op=True)
        assert work is not None
        return work.get_future().then(lambda done: done.value()[0])

    ddp.register_comm_hook(None, lambda _, bucket: reduce(bucket))  # DDP refuses other annotations than its own


def _batch(config: Config, num: int, seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    size, scale = config.shards.patch, config.scale
    hr = torch.rand(num, 3, size * scale, size * scale, generator=generator)
    real = torch.rand(num, 3, size, size, generator=generator)
    noise = torch.randn(2, num, noise_channels(config), size, size, generator=generator)
    device = World.from_env().device
    return Batch(bicubic_down(hr, scale).to(device), real.to(device), hr.to(device), noise.to(device), 0, (), ())


def describe(result: dict[str, Any]) -> str:
    """The figures as text for the terminal."""
    r = result
    lines = [
        f"{r['case']}, {r['rank_batch']} patches and {r['threads_a_rank']} threads a rank of two, gloo",
        f"1 rank  {r['seconds']['1']:8.3f} s a step  {r['patches_per_second']['1']:8.2f} patches/s",
        f"2 ranks {r['seconds']['2']:8.3f} s a step  {r['patches_per_second']['2']:8.2f} patches/s",
        f"bytes a step that a rank gives: {r['payload_bytes']:,}; gradients alone are {r['theoretical_bytes']:,} "
        f"({r['overhead']:+.2%})",
        *(f"  {name}: {size:,} in {r['collectives'][name]}" for name, size in r["bytes_by_collective"].items()),
        *describe_model(ManyGPUs(**r["model"]["assumptions"]), r["model"]["rows"]),
    ]
    return "\n".join(lines)
