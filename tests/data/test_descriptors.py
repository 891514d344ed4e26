"""Few descriptors: training from more tars than a process may open."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import tiny_overrides, write_photos
from helpers.runs import REPOSITORY, lines

from cyclesr_dist.config.schema import Shards
from cyclesr_dist.data.build import build_set
from cyclesr_dist.data.shards import ShardSet

FEW = 128


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets of hundreds of tars, a sample in each."""
    root = tmp_path_factory.mktemp("many")
    write_photos(root / "hr", 1, 160, 160, seed=0)
    write_photos(root / "lr", 1, 40, 48, seed=1)
    shards = Shards(patch=8, stride=2, samples_per_shard=1)
    for kind in ("hr", "lr"):
        build_set(kind, root / "sets" / kind, shards, scale=4, progress=False, **{f"{kind}_dir": root / kind})
        assert len(list((root / "sets" / kind).glob("*.tar"))) > 2 * FEW
    return root / "sets"


def test_a_process_keeps_few_tars_open(sets: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(FEW, num_open() + 40), hard))
    try:
        shards = ShardSet.open(str(sets / "hr"), "hr")
        before = num_open()
        for i in range(len(shards)):
            shards.read(i)
        assert num_open() - before <= 40
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def num_open() -> int:
    return len(os.listdir("/proc/self/fd"))


def take_all(taken: list[int]) -> None:
    while True:
        taken.append(os.open(os.devnull, os.O_RDONLY))


def test_a_process_without_a_free_descriptor_closes_what_it_kept(sets: Path) -> None:
    shards = ShardSet.open(str(sets / "hr"), "hr")
    for i in range(20):
        shards.read(i)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (num_open() + 10, hard))
    taken = []
    try:
        with pytest.raises(OSError, match="Too many open files"):
            take_all(taken)
        shards.read(len(shards) - 1)
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
def test_training_with_loader_processes_needs_few_descriptors(sets: Path, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("system: cyclesr\n")
    command = [sys.executable, str(REPOSITORY / "launch/train.py"), "--config", str(tmp_path / "c.yaml"), "--quiet"]
    command += ["--run-dir", str(tmp_path / "run"), *tiny_overrides(), "data.workers=2", "data.allow_overlap=true"]
    command += ["global_batch=16", "train.max_steps=16", "train.log_every_steps=1"]
    command += [f"data.{kind}={sets / kind}" for kind in ("hr", "lr")]
    few = ["bash", "-c", f'ulimit -n {FEW}; exec "$@"', "-", *command]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(few, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    assert "Too many open files" not in done.stderr
    assert [line["step"] for line in lines(tmp_path / "run/metrics.jsonl")] == list(range(1, 17))
