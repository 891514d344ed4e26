"""Two hosts, made of network namespaces with a cable that can be cut; no disk in common."""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from helpers.hosts import Host, hosts
from helpers.processes import BIN, ENDLESS, SUPERVISE, TRAIN, arguments, below, outcome, started, steps_done
from helpers.waiting import until

pytestmark = pytest.mark.slow


def torchrun(host: Host, first: Host, rank: int, folder: Path) -> list[str]:
    where = ["--master-addr", first.address, "--master-port", "29500"]
    return [str(BIN / "torchrun"), "--nnodes", "2", "--node-rank", str(rank), "--nproc-per-node", "1", *where]


def deepspeed(host: Host, first: Host, rank: int, folder: Path) -> list[str]:
    file = folder / "hostfile"
    file.write_text("host0 slots=1\nhost1 slots=1\n")
    where = ["--master_addr", first.address, "--master_port", "29500"]
    return [str(BIN / "deepspeed"), "--hostfile", str(file), "--no_ssh", "--node_rank", str(rank), *where]


@pytest.mark.parametrize("launcher", [torchrun, deepspeed])
def test_a_cut_cable_stops_both_hosts_and_one_goes_on_alone(launcher, config_file, tiny_data, tmp_path) -> None:
    backend = "backend=deepspeed" if launcher is deepspeed else "backend=ddp"
    settings = [*tiny_data.overrides, *ENDLESS, backend, "train.checkpoint_every_steps=4"]
    settings += ["train.lost_rank_seconds=10", "data.log_keys=true"]
    network = {"GLOO_SOCKET_IFNAME": "eth0", "CYCLESR_JOB": "both"}
    with hosts(2) as both, ExitStack() as stack:
        running = []
        for rank, host in enumerate(both):
            job = [*launcher(host, both[0], rank, tmp_path), TRAIN]
            job += arguments(config_file, tmp_path / f"run{rank}", *settings)
            running.append(stack.enter_context(started(host.command(*SUPERVISE, *job), **network)))
        until(lambda: steps_done(tmp_path / "run0") >= 6)
        both[1].cut()
        at = time.monotonic()
        ends = [outcome(process) for process in running]
        assert time.monotonic() - at < 300  # torch would wait for ten minutes
        assert [code for code, _ in ends] == [1, 1], ends
        assert not any(below(process.pid) for process in running)
        assert "rank 1 failed first: silent for" in ends[0][1][-1]
        assert "cut off: no answer from rank 0's host" in ends[1][1][-1]

        done = steps_done(tmp_path / "run0")
        alone = [sys.executable, TRAIN, *arguments(config_file, tmp_path / "run0", *settings, "--resume")]
        alone.append(f"train.max_steps={done + 4}")
        with started(both[0].command(*alone), **network) as process:
            code, stderr = outcome(process, 120)
        assert code == 0, stderr
        keys = [json.loads(line) for line in (tmp_path / "run0/keys.rank0.jsonl").read_text().splitlines()]
        assert [line["step"] for line in keys] == list(range(1, done + 5))
        assert len(keys[0]["hr"]) == 2
        assert len(keys[-1]["hr"]) == 4
