"""Ray's processes of a search in a Slurm job: their ports, and a head that does not start."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from helpers.ports import free_port

from cyclesr_dist.slurm.ray_node import head_port


@pytest.mark.parametrize("port", ["10000", "10001", "10002", "17629", "19999", "20000", "29999", "52365", "65535"])
def test_the_heads_port_is_none_that_ray_uses_itself(port: str) -> None:
    assert 20000 <= int(head_port(port)) <= 29999  # 8265, 10001 to 19999 and 52365 are Ray's


def test_a_head_that_does_not_start_is_said_at_once() -> None:
    pytest.importorskip("ray")
    step = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_STEPID": "0", "SLURM_PROCID": "0", "SLURM_NTASKS": "2"}
    step |= {"SLURM_LOCALID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_NODEID": "0"}
    step |= {"SLURM_STEP_NODELIST": "localhost", "SLURM_CPUS_PER_TASK": "no number"}
    step |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = [sys.executable, "-m", "cyclesr_dist.slurm.ray_node", "--config", "none.yaml", "--run-dir", "none"]
    done = subprocess.run(command, env=os.environ | step, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stderr
    assert "Ray did not start on the first node (exit code 2)" in done.stderr.splitlines()[-1]
