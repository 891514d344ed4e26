"""`cyclesr diagnose` says what limits a run: of recorded folders, and of real runs that are slowed on purpose."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.data import TinyData
from helpers.little_memory import memory_group, swap
from helpers.odd_http_server import OddServer
from helpers.processes import TRAIN, arguments, launcher, outcome, ranks, slowed, started, steps_done
from helpers.waiting import until

from cyclesr_dist.cli.main import main as cyclesr

LARGE = ["nets.translator.channels=32", "nets.translator.blocks=4", "nets.sr.channels=32", "nets.sr.blocks=6"]
LARGE += ["nets.d_lr.channels=32", "global_batch=12"]
"""Steps of a tenth of a second, in which computing is the work."""
LONG = ["train.epochs=100000", "train.pretrain_epochs=0", "train.constant_epochs=1", "data.tail=wrap"]
WIDE = ["nets.sr.channels=256", "nets.sr.blocks=8", "global_batch=1"]
"""Memory is parameters and what Adam keeps of them, and every step goes through all of it."""
PLAIN = ["train.validate_every_steps=0", "train.checkpoint_every_steps=10000", "train.log_every_steps=5"]


def recorded(folder: Path, num_ranks: int = 1, lines: int = 6, **numbers: float) -> Path:
    """A run folder with a logged line each 10 steps; `numbers` by key, `__` for the dot."""
    folder.mkdir()
    config = {"global_batch": 8, "data": {"workers": 2}, "train": {"validate_every_steps": 50}}
    (folder / "config.yaml").write_text(json.dumps(config))
    (folder / "events.jsonl").write_text(json.dumps({"event": "started", "step": 0, "num_ranks": num_ranks}) + "\n")
    named = {name.replace("__", "."): value for name, value in numbers.items()}
    rows = [{"step": 10 * n, "seconds.step": 9.0, "seconds.data_wait": 1.0} | named for n in range(1, lines + 1)]
    rows[0]["seconds.data_wait"] = 1000.0  # everything is set up in the first line: it tells nothing
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def diagnosed(run: Path, tmp_path: Path) -> dict[str, Any]:
    assert cyclesr(["diagnose", str(run), "--json", str(tmp_path / "found.json")]) == 0
    return dict(json.loads((tmp_path / "found.json").read_text()))


@pytest.mark.parametrize(
    ("numbers", "bound", "key"),
    [
        ({}, "computing", ""),
        ({"seconds__data_wait": 4.0}, "storage", "data.workers"),
        ({"seconds__validation": 4.0}, "validation", "train.validate_every_steps"),
        ({"seconds__checkpoint": 4.0}, "checkpoints", "train.checkpoint_every_steps"),
        ({"work__overhead": 0.6}, "overhead", "global_batch"),
        # Of a machine that does not say how long it waits.
        (
            {"host__major_faults": 5000.0, "host__swapped_in_mb": 40.0, "seconds__data_wait": 4.0},
            "memory",
            "micro_batch",
        ),
        (
            {"host__major_faults": 5000.0, "host__io_stall_seconds": 1.0, "host__system_seconds": 2.0},
            "memory",
            "micro_batch",
        ),
        # Pages whose copies are still in memory: many faults that cost next to nothing.
        ({"host__major_faults": 5000.0, "host__io_stall_seconds": 0.1, "host__system_seconds": 0.2}, "computing", ""),
        ({"host__memory_stall_seconds": 3.0}, "memory", "micro_batch"),
        ({"host__throttled_seconds": 6.0}, "throttling", ""),
        ({"host__heat_seconds": 6.0}, "throttling", ""),
        (
            {"ranks__forward_seconds": 0.4, "ranks__forward_seconds_others": 0.2, "ranks__forward_slowest": 1},
            "slow_rank",
            "",
        ),
        (
            {"ranks__forward_seconds": 0.22, "ranks__forward_seconds_others": 0.2, "ranks__forward_slowest": 1},
            "computing",
            "",
        ),
        (
            {"ranks__wait_seconds": 0.5, "ranks__wait_seconds_others": 0.01, "ranks__wait_slowest": 1},
            "starved_rank",
            "data.workers",
        ),
    ],
)
def test_recorded_runs(numbers: dict[str, float], bound: str, key: str, tmp_path: Path) -> None:
    found = diagnosed(recorded(tmp_path / "run", 2, **numbers), tmp_path)
    assert (found["bound"], found["key"]) == (bound, key), found
    assert len(found["sentences"]) == 3
    assert found["steps"] == [11, 60]
    assert cyclesr(["report", str(tmp_path / "run")]) == 0
    assert found["sentences"][1] in (tmp_path / "run/report.html").read_text()


@pytest.mark.parametrize(
    ("hits", "why", "way_out"),
    [(0.0, "the machine has too little of it", "end other programs"), (9.0, "the job's memory limit", "memory_gib")],
)
def test_a_limit_is_told_from_a_full_machine(hits: float, why: str, way_out: str, tmp_path: Path) -> None:
    numbers = {"host__memory_stall_seconds": 3.0, "host__memory_limit_hits": hits}
    found = diagnosed(recorded(tmp_path / "run", **numbers), tmp_path)
    assert why in found["sentences"][0]
    assert way_out in found["sentences"][2]


def test_what_is_suggested_takes_a_tenth_of_the_time(tmp_path: Path) -> None:
    found = diagnosed(recorded(tmp_path / "run", seconds__validation=10.0), tmp_path)  # as long as all the rest
    assert "train.validate_every_steps=450 (50 now)" in found["sentences"][2]


def test_a_run_that_is_too_short_or_has_just_begun_again_cannot_be_told(tmp_path: Path) -> None:
    run = recorded(tmp_path / "run")
    with (run / "events.jsonl").open("a") as events:
        events.write(json.dumps({"event": "started", "step": 40, "num_ranks": 1}) + "\n")
    empty = recorded(tmp_path / "empty")
    (empty / "metrics.jsonl").unlink()
    for folder in (run, empty, recorded(tmp_path / "short", lines=3)):
        found = diagnosed(folder, tmp_path)
        assert found["bound"] == ""
        assert "cannot be told yet" in found["sentences"][0]


def test_a_folder_that_is_no_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cyclesr(["diagnose", str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "bound"),
    [
        ([*LARGE, "train.max_steps=50"], "computing"),
        (["global_batch=1", "train.max_steps=80"], "overhead"),
        (["train.validate_every_steps=1", "train.max_steps=40", "validate.pictures=0"], "validation"),
        (["train.checkpoint_every_steps=1", "train.max_steps=60"], "checkpoints"),
    ],
)
def test_runs_that_are_slowed_by_a_key(
    overrides: list[str], bound: str, config_file: Path, tiny_data: TinyData, tmp_path: Path
) -> None:
    settings = [*tiny_data.overrides, *LONG, *PLAIN, *overrides]
    with started([sys.executable, TRAIN, *arguments(config_file, tmp_path / "run", *settings)]) as process:
        code, stderr = outcome(process)
    assert code == 0, stderr
    found = diagnosed(tmp_path / "run", tmp_path)
    assert found["bound"] == bound, found


@pytest.mark.slow
def test_slow_storage(config_file: Path, tiny_data: TinyData, tmp_path: Path) -> None:
    with OddServer(tiny_data.root, "slow") as server:
        urls = [f"data.{name}={server.url}/shards/{name}" for name in ("hr", "lr", "pairs")]
        settings = [*tiny_data.overrides, *LONG, *PLAIN, *urls, "data.remote.cache_gb=0", "train.max_steps=40"]
        with started([sys.executable, TRAIN, *arguments(config_file, tmp_path / "run", *settings)]) as process:
            code, stderr = outcome(process)
    assert code == 0, stderr
    found = diagnosed(tmp_path / "run", tmp_path)
    assert found["bound"] == "storage", found
    assert "data.remote.cache_gb" in found["sentences"][2]


@pytest.mark.slow
def test_a_rank_whose_processor_is_taken_away(config_file: Path, tiny_data: TinyData, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = [*tiny_data.overrides, *LONG, *PLAIN, *LARGE, "backend=ddp"]
    with started([*launcher("torchrun"), TRAIN, *arguments(config_file, run, *settings)]) as process:
        until(lambda: steps_done(run) >= 1)
        with slowed(ranks(process)[1]):
            until(lambda: steps_done(run) >= 7)
        shutil.copytree(run, tmp_path / "seen")  # while it goes on
    found = diagnosed(tmp_path / "seen", tmp_path)
    assert found["bound"] == "slow_rank", found
    assert found["sentences"][0].startswith("Rank 1 limits this run")


@pytest.mark.slow
def test_a_run_that_swaps(config_file: Path, tiny_data: TinyData, tmp_path: Path) -> None:
    """Its memory is taken away when it has begun: one that has too little at the beginning is refused."""
    run = tmp_path / "run"
    settings = [*tiny_data.overrides, *LONG, *PLAIN, *WIDE, "train.log_every_steps=2"]
    command = [sys.executable, TRAIN, *arguments(config_file, run, *settings)]
    with swap(tmp_path / "swap", 512), memory_group() as group, started(group.command(*command)) as process:
        until(lambda: steps_done(run) >= 11 or process.poll() is not None)
        group.limit(int(0.4 * group.used()))
        slow_from = steps_done(run) + 1
        until(lambda: steps_done(run) >= slow_from + 2 or process.poll() is not None)
        assert process.poll() is None
        shutil.copytree(run, tmp_path / "seen")  # while it goes on
    found = diagnosed(tmp_path / "seen", tmp_path)
    assert found["bound"] == "memory", found
    assert "the job's memory limit is too small" in found["sentences"][0]
    assert "MB from swap" in found["sentences"][0]
    assert "cluster.memory_gib" in found["sentences"][2]
