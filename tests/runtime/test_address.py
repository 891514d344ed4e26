"""An address to meet at that nobody knows: one line within the meeting time, also below a launcher."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from helpers.processes import BIN, SUPERVISE, TRAIN

from cyclesr_dist.errors import ConfigError, CycleSRError
from cyclesr_dist.runtime.meeting import launchers_address, meeting_seconds, wait_for_address

NOWHERE = "nosuch.invalid"  # RFC 6761: this name is never resolved


@pytest.mark.parametrize(
    ("command", "variables", "found"),
    [
        (["torchrun", "--master-addr", "a", "train.py"], {}, ("--master-addr", "a")),
        (["/opt/torchrun", "--master_addr=a", "train.py"], {"PET_MASTER_ADDR": "b"}, ("--master_addr", "a")),
        (["torchrun", "--rdzv-endpoint", "a:29400", "train.py"], {}, ("--rdzv-endpoint", "a")),
        (["torchrun", "--rdzv_endpoint=[fd00::1]:29400", "train.py"], {}, ("--rdzv_endpoint", "fd00::1")),
        (["python", "-m", "torch.distributed.run", "--master-addr", "a", "train.py"], {}, ("--master-addr", "a")),
        (["torchrun", "train.py", "--master-addr", "a"], {}, None),
        (["torchrun", "train.py"], {"PET_MASTER_ADDR": "b"}, ("PET_MASTER_ADDR", "b")),
        (["torchrun", "train.py"], {"PET_RDZV_ENDPOINT": "b:1"}, ("PET_RDZV_ENDPOINT", "b")),
        (["deepspeed", "--master_addr", "a", "train.py"], {}, ("--master_addr", "a")),
        (["python", "train.py"], {"PET_MASTER_ADDR": "b"}, None),
    ],
)
def test_where_a_launcher_will_meet(command, variables, found) -> None:
    assert launchers_address(command, variables) == found


def test_a_known_address_is_not_waited_for() -> None:
    for host in ("localhost", "127.0.0.1", "::1"):
        wait_for_address("MASTER_ADDR", host, 60)


def test_an_unknown_one_is_named_once_and_given_up_in_time(capsys) -> None:
    with pytest.raises(
        CycleSRError, match=rf"MASTER_ADDR = {NOWHERE} cannot be resolved \(.*\), after 1.5 s"
    ) as caught:
        wait_for_address("MASTER_ADDR", NOWHERE, 1.5)
    assert caught.value.exit_code == 1
    assert capsys.readouterr().err.count("trying again") == 1
    for host in ("", "a" * 80 + "." + "b" * 300):
        with pytest.raises(ConfigError, match="MASTER_ADDR"):
            wait_for_address("MASTER_ADDR", host, 60)


@pytest.mark.parametrize("text", ["0", "-3", "soon", "nan", "inf"])
def test_a_meeting_time_is_a_number_of_seconds(text, monkeypatch) -> None:
    monkeypatch.setenv("CYCLESR_MEETING_SECONDS", text)
    with pytest.raises(ConfigError, match="CYCLESR_MEETING_SECONDS"):
        meeting_seconds()


@pytest.mark.parametrize("launcher", ["python", "torchrun", "torchrun, a rank", "deepspeed"])
def test_a_launch_to_nowhere_ends_with_one_line(launcher, config_file, tiny_data, tmp_path) -> None:
    before = {
        "python": [sys.executable],
        "torchrun": [*SUPERVISE, str(BIN / "torchrun"), "--nnodes", "2", "--node-rank", "1", "--master-addr", NOWHERE],
        "torchrun, a rank": [*SUPERVISE, str(BIN / "torchrun"), "--rdzv-endpoint", f"{NOWHERE}:29400"],
        "deepspeed": [*SUPERVISE, str(BIN / "deepspeed"), "--master_addr", NOWHERE, "--num_accelerators", "2"],
    }[launcher]
    variables = {"CYCLESR_MEETING_SECONDS": "2", "OMP_NUM_THREADS": "1"}
    if launcher == "python":
        variables |= {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": NOWHERE, "MASTER_PORT": "29400"}
    command = [*before, TRAIN, "--config", str(config_file), "--run-dir", str(tmp_path / "run"), *tiny_data.overrides]
    began = time.monotonic()
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"= {NOWHERE} cannot be resolved" in done.stderr.strip().splitlines()[-1]
    assert len(done.stderr.strip().splitlines()) == 2
    assert time.monotonic() - began < 100  # torch alone takes longer than that
    assert not (tmp_path / "run").exists()
