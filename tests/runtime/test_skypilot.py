"""examples/skypilot.yaml: its script on two machines made of network namespaces, taken away and given anew."""

from __future__ import annotations

import subprocess
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import tiny_overrides
from helpers.documents import REPOSITORY
from helpers.hosts import Host, hosts
from helpers.processes import BIN, outcome, started, steps_done
from helpers.waiting import until

from cyclesr_dist.config.reader import dump
from cyclesr_dist.config.schema import load
from cyclesr_dist.errors import Preempted
from cyclesr_dist.training.run_folder import read_summary

STEPS = 150


def task() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((REPOSITORY / "examples/skypilot.yaml").read_text())
    return content


def test_its_scripts_are_shell_and_75_brings_it_back() -> None:
    for name in ("setup", "run"):
        done = subprocess.run(["bash", "-n"], input=task()[name], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), name
    assert task()["resources"]["job_recovery"]["recover_on_exit_codes"] == [Preempted.exit_code]
    assert load(REPOSITORY / task()["envs"]["CONFIG"]).system
    extra = task()["setup"].partition("'.[")[2].partition("]")[0]
    assert f"\n{extra} = [" in (REPOSITORY / "pyproject.toml").read_text()


def machine(
    folder: Path, both: list[Host], rank: int, bucket: Path, config: Path
) -> AbstractContextManager[subprocess.Popen[str]]:
    """As SkyPilot starts one: the checkout as its folder, and variables that say which of them it is."""
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/bin/activate").write_text(f"export PATH={BIN}:$PATH\n")
    (folder / "launch").symlink_to(REPOSITORY / "launch")
    script = folder / "run.sh"
    script.write_text(f"cd {folder}\n{task()['run']}")
    variables = {
        **task()["envs"],
        "BUCKET": f"file://{bucket}",
        "CONFIG": str(config),
        "SKYPILOT_NUM_NODES": "2",
        "SKYPILOT_NODE_RANK": str(rank),
        "SKYPILOT_NODE_IPS": "\n".join(host.address for host in both),
        "SKYPILOT_NUM_GPUS_PER_NODE": "0",
        "GLOO_SOCKET_IFNAME": "eth0",
    }
    return started(both[rank].command("bash", str(script)), **variables)


@pytest.mark.slow
def test_a_run_goes_on_from_the_bucket_on_other_machines(tiny_data: Any, tmp_path: Path) -> None:
    bucket = tmp_path / "bucket"
    bucket.mkdir()
    (bucket / "shards").symlink_to(tiny_data.root / "shards")
    config = tmp_path / "tiny.yaml"
    settings = ["system=cyclesr", "ema_decay=0.9", f"train.steps={STEPS}", "train.pretrain_epochs=0"]
    settings += ["train.epochs=30", "train.constant_epochs=15", "train.log_every_steps=1"]
    config.write_text(dump(load(None, [*tiny_overrides(), *settings])))
    with hosts(2) as both, ExitStack() as stack:
        first = [stack.enter_context(machine(tmp_path / f"first{i}", both, i, bucket, config)) for i in range(2)]
        until(lambda: steps_done(tmp_path / "first0/runs/t2") >= 6)
        first[1].terminate()  # the second machine is taken away, with the warning of a shutdown
        assert [outcome(process)[0] for process in first] == [Preempted.exit_code] * 2
        done = (tmp_path / "first0/runs/t2/metrics.jsonl").read_text().splitlines()
        assert len(done) < STEPS

        again = [stack.enter_context(machine(tmp_path / f"again{i}", both, i, bucket, config)) for i in range(2)]
        ends = [outcome(process) for process in again]
    assert [code for code, _ in ends] == [0, 0], ends
    run = tmp_path / "again0/runs/t2"
    assert steps_done(run) == STEPS
    # With the times that were measured on the first machines: these steps were not done again.
    assert (run / "metrics.jsonl").read_text().splitlines()[: len(done)] == done
    assert read_summary(run)["num_ranks"] == 2
    assert any((bucket / "checkpoints/t2").iterdir())
