"""What looks on while a run trains: traces, counted FLOPs, the pace of ranks, logs. None of it changes a number."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.data import TinyData
from helpers.processes import tensors
from helpers.runs import launch, lines, run
from torch.utils.flop_counter import FlopCounterMode

from cyclesr_dist.distributed.hang import record_collectives
from cyclesr_dist.distributed.world import World
from cyclesr_dist.telemetry.flops import OperationCount, SmallOperations, measure_ceiling
from cyclesr_dist.training.pace import Pace
from cyclesr_dist.training.work import Work

PROFILE = "telemetry.profile.steps=[6,8]"


def trace_of(path: Path) -> list[dict[str, Any]]:
    """Its events, each of the form that the Chrome trace event format describes."""
    trace = json.loads(gzip.decompress(path.read_bytes()))
    assert trace["displayTimeUnit"] in ("ms", "ns")
    begun: dict[tuple[Any, Any], int] = {}
    for event in trace["traceEvents"]:
        assert event["ph"] in "XBEiIMCsftbneP", event
        assert isinstance(event["name"], str)
        if event["ph"] != "M":
            assert isinstance(event["ts"], int | float)
        if event["ph"] == "X":  # a slice: complete, on a thread of a process
            assert event["dur"] >= 0
            assert {"pid", "tid"} <= event.keys()
        if event["ph"] in "sft":  # the ends of an arrow
            begun[event["id"], event["cat"]] = begun.get((event["id"], event["cat"]), 0) + 1
    assert all(ends >= 1 for ends in begun.values())
    return list(trace["traceEvents"])


def test_looking_on_changes_no_number(
    config_file: Path, tiny_data: TinyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [*tiny_data.overrides, "train.max_steps=10"]
    assert run(config_file, tmp_path / "watched", *settings, PROFILE) == 0
    monkeypatch.setattr(Work, "counted", lambda *_: nullcontext())
    true_pace = Pace.__init__

    def without_hooks(self: Pace, *arguments: Any) -> None:
        true_pace(self, *arguments)
        self.close()

    monkeypatch.setattr(Pace, "__init__", without_hooks)
    assert run(config_file, tmp_path / "alone", *settings) == 0
    watched, alone = tensors(tmp_path / "watched"), tensors(tmp_path / "alone")
    assert watched.keys() == alone.keys()
    assert all(torch.equal(tensor, watched[key]) for key, tensor in alone.items())

    events = trace_of(tmp_path / "watched/profile/steps6-8.rank0.trace.json.gz")
    steps = [event for event in events if event["name"].startswith("step ") and event.get("cat") == "user_annotation"]
    assert [event["name"] for event in sorted(steps, key=lambda event: event["ts"])] == ["step 6", "step 7", "step 8"]
    assert any("convolution_backward" in event["name"] for event in events)
    for name in ("waiting for a batch", "ranks agree", "generators: forward", "discriminators: backward and update"):
        assert sum(event["name"] == name for event in events) == 3, name
    assert sum(event["name"] == "validation" for event in events) == 1  # behind step 8
    assert {event["args"]["name"] for event in events if event["name"] == "process_name"} == {"rank 0"}

    logged = lines(tmp_path / "watched/metrics.jsonl")
    by_phase = {row["phase"]: row["work.step_flops"] for row in logged if "work.step_flops" in row}
    assert by_phase["joint"] > by_phase["pretrain"] > 0
    assert all(row["work.flops_per_second"] > 0 for row in logged if "work.step_flops" in row)
    assert all(0 < row["ranks.forward_seconds"] < row["seconds.step"] for row in logged)
    assert not any("work.step_flops" in row for row in lines(tmp_path / "alone/metrics.jsonl"))


def test_a_run_that_resumes_past_the_steps_traces_none_and_one_among_them_the_rest(
    config_file: Path, tiny_data: TinyData, tmp_path: Path
) -> None:
    settings = [*tiny_data.overrides, "train.epochs=100"]
    assert run(config_file, tmp_path / "run", *settings, "train.max_steps=4") == 0
    shutil.copytree(tmp_path / "run", tmp_path / "past")
    assert (
        run(config_file, tmp_path / "past", *settings, "train.max_steps=6", "telemetry.profile.steps=[2,3]", "--resume")
        == 0
    )
    assert not (tmp_path / "past/profile").exists()
    assert (
        run(config_file, tmp_path / "run", *settings, "train.max_steps=8", "telemetry.profile.steps=[3,6]", "--resume")
        == 0
    )
    assert [path.name for path in (tmp_path / "run/profile").iterdir()] == ["steps5-6.rank0.trace.json.gz"]
    log = (tmp_path / "run/logs/rank0.log").read_text().splitlines()
    assert [line.split(" as ")[0].split("--- ")[1] for line in log if "started at" in line] == [
        "started at step 0 of 4",
        "started at step 4 of 8",
    ]
    assert log[-1].endswith("--- finished")


def test_what_cannot_be_written_costs_a_warning_alone(
    config_file: Path, tiny_data: TinyData, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A file is in the place of the folders: nobody may write below it, whoever it is."""
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("profile", "logs"):
        (folder / name).write_text("")
    assert run(config_file, folder, *tiny_data.overrides, "train.max_steps=4", "telemetry.profile.steps=[2,3]") == 0
    stderr = capfd.readouterr().err
    assert "cyclesr: warning: telemetry.profile: " in stderr
    assert f"cyclesr: warning: {folder}/logs/rank0.log cannot be written" in stderr


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("steps=[5]", "telemetry.profile.steps = [5]; allowed: the first and the last step, 50 at most"),
        ("steps=[9,5]", "telemetry.profile.steps = [9, 5]; allowed"),
        ("steps=[1,500]", "telemetry.profile.steps = [1, 500]; allowed"),
        ("ranks=[1]", "telemetry.profile.ranks has 1; allowed: 0 to 0, the ranks of this run"),
    ],
)
def test_bad_values_are_refused(
    value: str, said: str, config_file: Path, tiny_data: TinyData, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(config_file, tmp_path / "run", *tiny_data.overrides, f"telemetry.profile.{value}") == 2
    assert said in capfd.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "deepspeed"])
def test_each_chosen_rank_writes_its_own(launcher: str, config_file: Path, tiny_data: TinyData, tmp_path: Path) -> None:
    settings = [*tiny_data.overrides, "train.max_steps=8", PROFILE, "telemetry.profile.ranks=[]"]
    settings += ["backend=deepspeed", "zero_stage=2"] if launcher == "deepspeed" else ["backend=ddp"]
    done = launch(launcher, config_file, tmp_path / "run", *settings)
    assert done.returncode == 0, done.stderr
    for rank in range(2):
        events = trace_of(tmp_path / f"run/profile/steps6-8.rank{rank}.trace.json.gz")
        assert any(event["name"].startswith("gloo:") for event in events)
        assert {event["args"]["name"] for event in events if event["name"] == "process_name"} == {f"rank {rank}"}
        assert f"as rank {rank} of 2" in (tmp_path / f"run/logs/rank{rank}.log").read_text()
    logged = lines(tmp_path / "run/metrics.jsonl")[-1]
    assert logged["ranks.forward_slowest"] in (0, 1)
    assert logged["ranks.forward_seconds"] >= logged["ranks.forward_seconds_others"] > 0
    assert logged["work.flops_per_second"] > 0


def test_flops_are_those_of_torchs_own_counter() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(8 * 36, 5))
    x = torch.ones(2, 3, 8, 8)
    with OperationCount() as count:
        net(x).sum().backward()
    with FlopCounterMode(display=False) as true:
        net(x).sum().backward()
    assert count.flops == true.get_total_flops() > 0


def test_measuring_draws_no_random_numbers() -> None:
    before = torch.random.get_rng_state()
    assert min(measure_ceiling("fp32", torch.device("cpu"), brief=True).values()) > 1e8
    assert 0 < SmallOperations(torch.device("cpu")).seconds() < 0.1
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_user_who_sets_the_flight_recorder_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"TORCH_NCCL_TRACE_BUFFER_SIZE": "7"})
    for run_dir in ("one", "two"):
        record_collectives(tmp_path / run_dir)
    assert os.environ == {
        "TORCH_NCCL_TRACE_BUFFER_SIZE": "7",
        "TORCH_FR_DUMP_TEMP_FILE": str(tmp_path / "two/collectives.rank"),
        "TORCH_NCCL_DUMP_ON_TIMEOUT": "1",
    }


def test_numbers_of_ranks_are_gathered_alone() -> None:
    assert World().gather_numbers([1.0, 2.0]) == [[1.0, 2.0]]
