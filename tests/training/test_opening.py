"""The first lines of a training, and that one which cannot fit into memory is refused before it takes any."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import write_photos
from helpers.runs import lines

from cyclesr_dist.cli.main import main as cyclesr
from cyclesr_dist.training import memory_need, opening
from cyclesr_dist.training.main import main as train

# A run of one step in a process of its own: what it counted, and by how much its memory grew from when it counted.
MEASURE = """
import json, resource, sys
from pathlib import Path
from cyclesr_dist.training import main, opening, setup

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

def first_lines(config, world, system, patch, num_steps, start):
    need = opening.step_bytes(config, system, patch, config.global_batch)
    lines = true(config, world, system, patch, num_steps, start)
    before.extend([need, resident()])
    return lines

true, before = setup.first_lines, []
setup.first_lines = first_lines
assert main.main(sys.argv[1:]) == 0
status = Path("/proc/self/status").read_text()  # getrusage's peak may be that of the process that started this one
peak = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))) * 1024
print(json.dumps({"need": before[0], "taken": peak - before[1]}))
"""


def run(config: Path, folder: Path, *arguments: str) -> int:
    return train(["--config", str(config), "--run-dir", str(folder), *arguments])


def test_a_run_begins_with_device_memory_and_time(config_file: Path, tiny_data: Any, tmp_path: Path, capsys) -> None:
    arguments = [*tiny_data.overrides, "system=sr_syn", "train.max_steps=12", "train.validate_every_steps=0"]
    assert run(config_file, tmp_path / "run", *arguments) == 0
    told = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"sr_syn on (CPU with \d+ cores?|.+): 1 rank, fp32, 12 steps of 4 samples", told[0])
    assert re.fullmatch(r"memory: about [\d.]+ [GM]B a rank, [\d.]+ [GM]B free", told[1])
    (time,) = (line for line in told if line.startswith("time: "))
    assert re.search(r" s a step, so about \S.* for the 9 steps to come$", time)
    assert [line.partition(":")[0] for line in told[-4:]] == ["verdict", "model", "report", "next"]


def test_a_resumed_run_says_which_steps_are_left(config_file: Path, tiny_data: Any, tmp_path: Path, capsys) -> None:
    arguments = [*tiny_data.overrides, "system=sr_syn", "train.validate_every_steps=0"]
    assert run(config_file, tmp_path / "run", *arguments, "train.max_steps=4") == 0
    capsys.readouterr()
    assert run(config_file, tmp_path / "run", *arguments, "train.max_steps=6", "--resume") == 0
    told = capsys.readouterr().err.splitlines()
    assert any(line.endswith("fp32, steps 5 to 6 of 4 samples") for line in told)
    assert not any(line.startswith("time: ") for line in told)  # over before that is known
    assert run(config_file, tmp_path / "run", *arguments, "train.max_steps=6", "--resume") == 0
    told = capsys.readouterr().err.splitlines()
    assert any(line.endswith("fp32, 6 steps of 4 samples, all done already") for line in told)


def test_a_quiet_run_says_nothing_but_warnings_and_json_lines_are_whole(
    config_file: Path, tiny_data: Any, tmp_path: Path, capsys
) -> None:
    arguments = [*tiny_data.overrides, "system=sr_syn", "train.max_steps=5", "telemetry.log=json"]
    assert run(config_file, tmp_path / "quiet", *arguments, "--quiet") == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if not line.startswith("cyclesr: warning: step ")] == []
    assert run(config_file, tmp_path / "json", *arguments) == 0
    records = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    messages = [record["message"] for record in records if record["event"] == "message"]
    assert [m.partition(":")[0] for m in messages[-4:]] == ["verdict", "model", "report", "next"]
    assert messages[1].startswith("memory: ")


def test_a_network_that_cannot_be_counted_trains_all_the_same(
    config_file: Path, tiny_data: Any, tmp_path: Path, capsys, monkeypatch
) -> None:
    """It looks at values, which there are none of when memory is counted."""
    (tmp_path / "looks_at_values.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.body = nn.Sequential(nn.Conv2d(3, 48, 3, padding=1), nn.PixelShuffle(4))\n"
        "    def forward(self, x):\n"
        "        return self.body(x) + (0.0 if float(x.mean()) > 0.5 else 1e-6)\n"
    )
    monkeypatch.chdir(tmp_path)
    arguments = [*tiny_data.overrides, "system=sr_syn", "nets.sr.kind=module", "nets.sr.module=looks_at_values:Net"]
    assert run(config_file, tmp_path / "run", *arguments, "train.max_steps=2") == 0
    assert capsys.readouterr().err.splitlines()[1].startswith("memory: unknown for this network a rank, ")


FREE_BYTES = 105 * 2**20
RIVALS = [
    pytest.param(name, marks=pytest.mark.slow)
    for name in ("high_to_low", "dsgan", "cincgan", "pseudo_supervision", "pdm")
]


@pytest.mark.parametrize("system", ["sr_syn", "cyclesr", "cyclesrgan", "cyclegan", "cycle_sr_separate", *RIVALS])
def test_what_cannot_fit_is_refused_with_a_setting_that_fits(
    system: str, config_file: Path, tiny_data: Any, tmp_path: Path, capsys, monkeypatch
) -> None:
    needs = []

    def step_bytes(*arguments: Any) -> int | None:
        needs.append(memory_need.step_bytes(*arguments))
        return needs[-1]

    monkeypatch.setattr(opening, "step_bytes", step_bytes)
    monkeypatch.setattr(opening, "free_bytes", lambda _: FREE_BYTES)
    folder = tmp_path / "run"
    arguments = [*tiny_data.overrides, f"system={system}", "data.tail=wrap", "train.max_steps=1"]
    arguments += ["train.validate_every_steps=0"]
    assert run(config_file, folder, *arguments, "global_batch=16384") == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert "global_batch = 16384 needs about " in text
    assert "0.1 GB are free" in text
    assert needs[-1] > FREE_BYTES
    named = re.search(r"(global_batch=(\d+)) fits \(about", text)
    assert named
    # The same command with it, in the same folder, which is no run's yet, passes the same check.
    assert run(config_file, folder, *arguments, named[1]) == 0
    assert needs[-1] < FREE_BYTES
    assert lines(folder / "metrics.jsonl")[0]["step"] == 1


def test_a_network_that_fits_with_no_batch_is_refused_with_what_to_make_smaller(
    config_file: Path, tiny_data: Any, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(opening, "free_bytes", lambda _: 40 * 2**20)
    assert run(config_file, tmp_path / "run", *tiny_data.overrides, "nets.sr.channels=64", "nets.sr.blocks=16") == 2
    text = capsys.readouterr().err
    assert "global_batch = 4 needs about" in text
    assert "nets.sr.channels" in text
    assert "fits" not in text


# Photographs of their own, of patches as large as those of real runs.
@pytest.fixture(scope="module")
def large_patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("large")
    write_photos(root / "hr", 8, 384, 384, seed=0)
    write_photos(root / "lr", 8, 96, 96, seed=1)
    for path in (root / "lr").iterdir():
        path.rename(path.with_name(f"camera_{path.name}"))
    (root / "shards.yaml").write_text("shards: {patch: 48, stride: 48, samples_per_shard: 40}\n")
    command = ["shards", "build", "--hr", str(root / "hr"), "--lr", str(root / "lr"), "--out", str(root / "shards")]
    assert cyclesr([*command, "--config", str(root / "shards.yaml"), "--quiet"]) == 0
    return root


MID_SIZE = ["nets.sr.kind=compact", "nets.sr.channels=64", "nets.sr.blocks=16", "global_batch=16"]
JOINT = ["nets.sr.kind=compact", "nets.sr.channels=32", "nets.sr.blocks=8", "global_batch=4"]
JOINT += ["nets.translator.channels=32", "nets.translator.blocks=4", "nets.d_lr.channels=32"]


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(["system=estimated", *MID_SIZE], marks=pytest.mark.slow, id="sr"),
        pytest.param(["system=cyclesr", *JOINT], id="joint"),
    ],
)
def test_what_is_counted_is_what_a_step_takes(
    settings: list[str], config_file: Path, large_patches: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", MEASURE, "--config", str(config_file), "--run-dir", str(tmp_path / "run")]
    command += ["--quiet", *settings, "train.max_steps=1", "train.validate_every_steps=0", "data.workers=0"]
    command += [f"data.{name}={large_patches / 'shards' / name}" for name in ("hr", "lr")]
    command += ["shards.patch=48", "train.pretrain_epochs=0"]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["taken"] > 100 * 2**20
    assert found["need"] / 2 < found["taken"] < found["need"] * 2, found
