"""`cyclesr bench train`: the joint step against a plain loop of the same mathematics, in turns."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from tqdm import tqdm

from cyclesr_dist.config.schema import Config
from cyclesr_dist.data.batch import Batch
from cyclesr_dist.data.loader import Sources, batches
from cyclesr_dist.distributed.world import World
from cyclesr_dist.telemetry.flops import OperationCount, measure_ceiling
from cyclesr_dist.workflows.bench.contender import Contender, Stepper
from cyclesr_dist.workflows.bench.data import make_sets
from cyclesr_dist.workflows.bench.gradients import first_gradients_apart
from cyclesr_dist.workflows.bench.plans import CASES, Settings, StepBench
from cyclesr_dist.workflows.bench.project_step import ProjectStep
from cyclesr_dist.workflows.bench.reference import ReferenceLoop
from cyclesr_dist.workflows.bench.step_parts import Scopes, seconds_by_part

_ROUND_SECONDS = 0.5


def default_cases() -> tuple[str, ...]:
    """On a CPU the small ones: minutes, and less than 2 GB."""
    return tuple(case for case in CASES if torch.cuda.is_available() or case.endswith("small"))


def bench_train(
    plan: StepBench, photos: list[Path], folder: Path, progress: bool, so_far: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Measure all cases of the plan with patches of the photographs, packed in `folder`.

    `ratio` of a case is the speed of the project's step over that of the reference loop, `ratio` of the whole the
    smallest of them. `so_far` is called with what there is after each case was timed, and again after it was looked
    into, which can take longer: a run that is broken off loses little. Raises ConfigError for overrides that cannot be
    used, CycleSRError where a process of the measurement fails.
    """
    world = World()
    configs = {(case, v): plan.config(case, world.device, v) for case in plan.cases for v in ("", *plan.variants)}
    world.join()
    try:
        ceilings: dict[str, dict[str, float]] = {config.precision: {} for config in configs.values()}
        result: dict[str, Any] = {
            "cases": [],
            "flops_per_second": ceilings,
            "device": _device_name(world.device),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }
        for case in plan.cases:
            config = configs[case, ""]
            of_case = Settings(
                config.shards.patch, config.scale, max(64, 4 * config.global_batch), config.global_batch, 1
            )
            sets = make_sets(photos, folder / case.replace(" ", "_"), of_case)
            some = [batch for batch, _ in batches(sets.sources, config, world, 0, 4)]
            _raise_ceilings(ceilings, world.device)
            row = _timed_case(case, config, plan, some, progress)
            _raise_ceilings(ceilings, world.device)  # other programs may have slowed the first measurement
            result["cases"].append(row)
            result["ratio"] = min(one["ratio"] for one in result["cases"])
            so_far(result)
            row |= _looked_at(config, sets.sources, some, world.device)
            for one in (row, *row["variants"]):
                one["mfu"] = row["flops"] / one["seconds"] / max(ceilings[one["precision"]].values())
            so_far(result)
    finally:
        world.leave()
    return result


def _timed_case(case: str, config: Config, plan: StepBench, some: list[Batch], progress: bool) -> dict[str, Any]:
    device = World().device
    others = {variant: plan.config(case, device, variant) for variant in plan.variants}
    make: dict[str, Callable[[], Stepper]] = {
        "ours": partial(ProjectStep, config),
        "reference": partial(ReferenceLoop, config, device),
        "one_backward": partial(ReferenceLoop, config, device, one_backward=True),
    }
    make |= {variant: partial(ProjectStep, other) for variant, other in others.items()}
    with ExitStack() as stack:
        contenders = {name: stack.enter_context(Contender(f"{case}: {name}", of, some)) for name, of in make.items()}
        seconds = _in_turns(contenders, plan.rounds, tqdm(total=plan.rounds, desc=case, disable=not progress))
        memory = {name: one.peak_mb() for name, one in contenders.items()}
    medians = {name: median(values) for name, values in seconds.items()}
    return {
        "name": case,
        "batch": config.global_batch,
        "precision": config.precision,
        "seconds": medians["ours"],
        "reference_s": medians["reference"],
        "one_backward_s": medians["one_backward"],
        "ratio": medians["reference"] / medians["ours"],
        "one_backward_ratio": medians["one_backward"] / medians["ours"],
        "patches_per_second": config.global_batch / medians["ours"],
        "peak_memory_mb": memory,
        "variants": [
            {
                "name": variant,
                "precision": other.precision,
                "seconds": medians[variant],
                "ratio": medians["reference"] / medians[variant],
                "of_ours": medians[variant] / medians["ours"],
            }
            for variant, other in others.items()
        ],
        "rounds": seconds,
    }


def _looked_at(config: Config, sources: Sources, some: list[Batch], device: torch.device) -> dict[str, Any]:
    """What is found out in this process, away from what is timed."""
    apart = first_gradients_apart(config, some[0], device)
    lean = ReferenceLoop(config, device, one_backward=True)
    with OperationCount() as counter:
        lean.step(some[1])
    ours = ProjectStep(config)
    ours.step(some[0])
    return {
        "flops": counter.flops,
        "data_wait_s": _data_wait(config, sources, ours, 8),
        "parts": seconds_by_part(lambda: ours.step(some[2]), Scopes(ours.parts()), device),
        "first_gradients_apart": apart,
    }


def _raise_ceilings(ceilings: dict[str, dict[str, float]], device: torch.device) -> None:
    """Measure again, and keep the faster."""
    for precision, known in ceilings.items():
        for name, rate in measure_ceiling(precision, device).items():
            known[name] = max(rate, known.get(name, 0.0))


def _in_turns(contenders: Mapping[str, Contender], rounds: int, bar: tqdm[Any]) -> dict[str, list[float]]:
    """Seconds a step by name and round; in each round every one takes its turn on the same batches."""
    repeats = {name: max(1, round(_ROUND_SECONDS / one.turn(1))) for name, one in contenders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    with bar:
        for number in range(rounds):
            order = list(contenders) if number % 2 == 0 else list(contenders)[::-1]
            for name in order:
                seconds[name].append(contenders[name].turn(repeats[name]))
            bar.update()
    return seconds


def _data_wait(config: Config, sources: Sources, ours: ProjectStep, num_steps: int) -> float:
    """Median seconds that a step waits for its batch on the device while loader processes read ahead: one, or beside
    a GPU one a core, 8 at most."""
    world = World()
    workers = min(8, max(1, (os.cpu_count() or 1) - 1)) if world.device.type == "cuda" else 1
    ahead = replace(config, data=replace(config.data, workers=workers, tail="wrap"))
    stream = batches(sources, ahead, world, 0, num_steps)
    waits = []
    for _ in range(num_steps):
        start = time.perf_counter()
        batch, _ = next(stream)
        waits.append(time.perf_counter() - start)
        ours.step(batch)
    return median(waits[2:])


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "CPU")


def describe(result: dict[str, Any]) -> str:
    """The figures as text for the terminal."""
    ceilings = "; ".join(
        f"{p}: " + ", ".join(f"{name} {f / 1e9:.0f} GFLOP/s" for name, f in of.items())
        for p, of in result["flops_per_second"].items()
    )
    lines = [
        f"{result['device']}, {result['threads']} threads, torch {result['torch']}; {ceilings}",
        f"{'':18}{'batch':>6}{'step s':>9}{'patches/s':>11}{'ratio':>8}{'one bw':>8}{'GFLOP':>9}{'MFU':>7}"
        f"{'wait':>7}{'MB':>7}{'ref MB':>8}{'grad 64':>9}{'grad':>7}{'ref':>7}",
    ]
    for c in result["cases"]:
        memory, apart = c["peak_memory_mb"], c["first_gradients_apart"]
        lines.append(
            f"{c['name']:18}{c['batch']:6}{c['seconds']:9.3f}{c['patches_per_second']:11.2f}{c['ratio']:7.2f}x"
            f"{c['one_backward_ratio']:7.2f}x{c['flops'] / 1e9:9.1f}{c['mfu']:7.0%}"
            f"{c['data_wait_s'] / c['seconds']:7.1%}{memory['ours']:7.0f}{memory['reference']:8.0f}"
            f"{apart['float64']:9.0e}{apart['ours']:7.0e}{apart['reference']:7.0e}"
        )
    lines += [
        "ratio: to the reference loop; one bw: to it with one backward for all generators; MFU: of the faster of",
        "matrix product and convolution; wait: for data; grad: the first gradients' largest relative distance to the",
        "reference's in float64, of ours in float64, of ours, and of the reference itself",
    ]
    names = sorted({part for c in result["cases"] for part in c["parts"]})
    lines.append(f"{'share of the step':18}" + "".join(f"{name:>15}" for name in names))
    for c in result["cases"]:
        total = sum(c["parts"].values())
        lines.append(f"{c['name']:18}" + "".join(f"{c['parts'].get(name, 0.0) / total:15.1%}" for name in names))
    for c in result["cases"]:
        for v in c["variants"]:
            lines.append(
                f"{c['name']:18}with {v['name']}: {v['seconds']:.3f} s, ratio {v['ratio']:.2f}x, MFU {v['mfu']:.0%}, "
                f"{c['peak_memory_mb'][v['name']]:.0f} MB; {v['of_ours']:.2f} of the step's time"
            )
    return "\n".join(lines)
