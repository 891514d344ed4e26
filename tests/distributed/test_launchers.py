"""What new users meet under real launchers: `cyclesr train`, the cause in torchrun's last lines, launches refused."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import tiny_overrides

REPOSITORY = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
TORCHRUN = [str(BIN / "torchrun"), "--standalone", "--nproc-per-node", "2"]
NETWORK = """
from torch import nn


class MySR(nn.Sequential):
    def __init__(self, scale=4):
        super().__init__(nn.Conv2d(3, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale))
"""


def deepspeed() -> list[str]:
    port = 20000 + (os.getpid() * 7 + time.monotonic_ns() // 1000) % 10000
    return [str(BIN / "deepspeed"), "--num_accelerators", "2", "--master_port", str(port)]


def launch(command: list[str], folder: Path, **more: object) -> subprocess.CompletedProcess[str]:
    """From another folder than the checkout, whose package is found all the same."""
    search = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": search}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=400, check=False, **more
    )


def block(stderr: str) -> list[str]:
    """The lines of torchrun's last block."""
    return stderr[stderr.rindex("Root Cause") :].strip().splitlines()


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(["-m", "cyclesr_dist.cli.main", "train"], marks=pytest.mark.slow),
        [str(REPOSITORY / "launch/train.py")],
    ],
)
def test_torchruns_last_lines_say_what_is_wrong(how, config_file, tmp_path) -> None:
    settings = ["backend=ddp", "data.hr=/nowhere", "data.lr=/nowhere", *tiny_overrides()]
    done = launch([*TORCHRUN, *how, "--config", str(config_file), *settings], tmp_path)
    assert done.returncode == 1
    said = "cyclesr: error: data.hr: /nowhere: no such folder; a shard set is needed (see cyclesr shards build)"
    last = block(done.stderr)
    assert last[-2].strip() == f"traceback : {said}"
    assert "rank      : 0" in " ".join(last)
    assert done.stderr.count(said) == 2  # by the rank, and there
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "deepspeed", "deepspeed without python"])
def test_cyclesr_train_beneath_launchers_with_a_network_of_the_users_own(
    launcher, config_file, tiny_data, tmp_path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/nets.py").write_text(NETWORK)
    (tmp_path / "cyclesr").write_text(f"#!{sys.executable}\nfrom cyclesr_dist.cli.main import main\nmain()\n")
    (tmp_path / "cyclesr").chmod(0o755)
    how, backend = {
        "torchrun": ([*TORCHRUN, "-m", "cyclesr_dist.cli.main"], "ddp"),
        "deepspeed": ([*deepspeed(), "--module", "cyclesr_dist.cli.main"], "deepspeed"),
        "deepspeed without python": ([*deepspeed(), "--no_python", str(tmp_path / "cyclesr")], "deepspeed"),
    }[launcher]
    network = ["nets.sr.kind=module", "nets.sr.module=mine.nets:MySR"]
    settings = [*tiny_data.overrides, *network, f"backend={backend}", "train.max_steps=2"]
    done = launch([*how, "train", "--config", str(config_file), "--run-dir", "run", "--quiet", *settings], tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/report.html").is_file()
    command = [sys.executable, "-m", "cyclesr_dist.cli.main", "upscale", str(tiny_data.root / "lr"), "--out", "large"]
    done = launch([*command, "--model", "run", "--allow-module", "--quiet"], tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_launcher_without_its_hostfile_trains_nothing(config_file, tiny_data, tmp_path) -> None:
    command = [*deepspeed(), "--hostfile", "hosts", str(REPOSITORY / "launch/train.py"), "--config", str(config_file)]
    command += ["--run-dir", "run", *tiny_data.overrides, "backend=deepspeed"]
    done = launch(command, tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("cyclesr: error:") == 1
    assert f"--hostfile hosts: no such file; looked for {tmp_path / 'hosts'}" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow  # test_launch.py has the warning and that it is given once
@pytest.mark.parametrize("launcher", ["torchrun", "deepspeed"])
def test_ranks_that_share_a_core_are_warned_of_once_and_train(launcher, config_file, tiny_data, tmp_path) -> None:
    how = {"torchrun": TORCHRUN, "deepspeed": deepspeed()}[launcher]
    command = [*how, str(REPOSITORY / "launch/train.py"), "--config", str(config_file), "--run-dir", "run", "--quiet"]
    core = min(os.sched_getaffinity(0))
    settings = [*tiny_data.overrides, "backend=ddp", "train.max_steps=2"]
    done = launch([*command, *settings], tmp_path, preexec_fn=lambda: os.sched_setaffinity(0, [core]))
    assert done.returncode == 0, done.stderr
    # A network of two steps is warned of too; that is another test's matter.
    warnings = [line for line in done.stderr.splitlines() if "CPU core" in line]
    assert warnings == [
        "cyclesr: warning: 2 ranks share 1 CPU core; start at most 1 "
        "(deepspeed --num_accelerators 1, torchrun --nproc-per-node 1)"
    ]
