"""`cyclesr bench search`: what Ray and Tune cost, trials against the same training runs without them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from cyclesr_dist.config.reader import write_resolved
from cyclesr_dist.distributed.launchers import ALONE
from cyclesr_dist.errors import CycleSRError
from cyclesr_dist.runtime.bars import each
from cyclesr_dist.runtime.lifeline import started_by_this
from cyclesr_dist.search.config import Search, absolute
from cyclesr_dist.search.run import require_ray, run_search
from cyclesr_dist.search.space import with_values


def bench_search(search: Search, folder: Path, trials: int, steps: int, progress: bool) -> dict[str, Any]:
    """`trials` whole trials of `steps` steps, one at a time, and then the same values as plain runs.

    Seconds: `search` from the first trial's begin to the last one's end, `startup` before and after that (the cluster,
    the checks, the page), `plain` all plain runs. Raises CycleSRError when a trial or run fails, InputError
    without Ray.
    """
    require_ray()
    search = replace(
        search,
        scheduler="none",
        searcher="random",
        second_metric=None,
        num_samples=trials,
        steps=steps,
        shared_steps=0,
        report_every_steps=0,
        max_concurrent=1,
        storage="",
    )
    began = time.perf_counter()
    run_search(search, folder / "search", "local", quiet=True)
    whole = time.perf_counter() - began
    log = folder / "search/results.jsonl"
    records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    values = {record["trial"]: record["values"] for record in records}
    within = max(record["at"] for record in records) - min(record["at"] for record in records)
    began = time.perf_counter()
    for number, chosen in enumerate(each(values.values(), "plain runs", "run", progress)):
        config = folder / f"plain{number}.yaml"
        write_resolved(absolute(with_values(Path(search.base), search.overrides, chosen)), config)
        _train(search, config, folder / f"plain{number}")
    plain = time.perf_counter() - began
    num = len(values)
    return {
        "trials": num,
        "steps": steps,
        "seconds": {"plain": plain, "search": within, "startup": whole - within},
        "overhead_per_trial_seconds": (within - plain) / num,
        "ratio": within / plain,
    }


def _train(search: Search, config: Path, run_dir: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "cyclesr_dist.training",
        "--config",
        str(config),
        "--run-dir",
        str(run_dir),
        "--quiet",
    ]
    threads = str(search.workers.cpus)
    environment = os.environ | ALONE | {"CYCLESR_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
    environment |= started_by_this("cyclesr bench")
    done = subprocess.run(
        [*command, *search.trial_overrides()], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CycleSRError(f"a plain run failed: {done.stderr.strip().splitlines()[-1]}")


def describe(result: dict[str, Any]) -> str:
    """The figures as text for the terminal."""
    s = result["seconds"]
    return (
        f"{result['trials']} runs of {result['steps']} steps, one at a time\n"
        f"plain runs        {s['plain']:8.1f} s\n"
        f"trials            {s['search']:8.1f} s, {result['ratio']:.2f}x, "
        f"{result['overhead_per_trial_seconds']:+.1f} s a trial\n"
        f"once a search     {s['startup']:8.1f} s: the cluster, the checks, the page"
    )
