"""Disks that fail for a time, or for good: a library that is loaded before the C library makes them fail."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.failing_disk import FailingDisk
from helpers.runs import REPOSITORY, run

ARGUMENTS = ["train.max_steps=4", "train.checkpoint_every_steps=2", "train.validate_every_steps=4"]
SCRIPT = Path(__file__).parents[1] / "helpers/read_from_failing_disk.py"


def process(disk: FailingDisk, *command: str | Path) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests"), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | disk.environment | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    return subprocess.run(
        [sys.executable, *map(str, command)], env=environment, capture_output=True, text=True, timeout=500, check=False
    )


@pytest.fixture(scope="module")
def undisturbed(config_file, tiny_data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    assert run(config_file, folder, *tiny_data.overrides, *ARGUMENTS) == 0
    return folder


def test_every_reader_waits_for_its_disk_and_takes_no_fault_of_it_for_bad_input(tiny_data, undisturbed, tmp_path):
    disk = FailingDisk(tmp_path / "disk")
    done = process(disk, SCRIPT, tiny_data.root, undisturbed)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) > 25
    assert [line for line in lines if not line.endswith(": good")] == ["warnings: []"]


def train(disk: FailingDisk, config: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [REPOSITORY / "launch/train.py", "--config", config, "--run-dir", folder, "--quiet", *arguments]
    return process(disk, *command)


@pytest.mark.slow
def test_a_run_whose_disks_fail_for_a_moment_ends_as_if_they_had_not(config_file, tiny_data, undisturbed, tmp_path):
    disk = FailingDisk(tmp_path / "disk")
    disk.fail(errno.ESTALE, "hr/shard-000000.tar", times=2)
    done = train(disk, config_file, tmp_path / "run", *tiny_data.overrides, *ARGUMENTS, "data.workers=1")
    assert done.returncode == 0, done.stderr
    assert disk.num_failures == 2
    assert (tmp_path / "run/model.safetensors").read_bytes() == (undisturbed / "model.safetensors").read_bytes()


def test_a_disk_that_stays_away_is_no_bad_sample(config_file, tiny_data, tmp_path):
    disk = FailingDisk(tmp_path / "disk")
    disk.fail(errno.EIO, "hr/shard-000000.tar")
    more = ["data.workers=1", "data.max_bad_samples=5", "data.remote.retries=1"]
    done = train(disk, config_file, tmp_path / "run", *tiny_data.overrides, *ARGUMENTS, *more)
    assert done.returncode == 1, done.stderr
    assert "another sample" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("cyclesr: error: ")
    assert "hr/shard-000000.tar" in last
    assert "Input/output error" in last


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_written_for_a_moment_is_written(config_file, tiny_data, undisturbed, tmp_path):
    disk = FailingDisk(tmp_path / "disk")
    disk.fail(errno.EIO, "/.step-00000002.", times=2)
    done = train(disk, config_file, tmp_path / "run", *tiny_data.overrides, *ARGUMENTS)
    assert done.returncode == 0, done.stderr
    assert disk.num_failures == 2
    assert (tmp_path / "run/checkpoints/step-00000002/manifest.json").exists()
