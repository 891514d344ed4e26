"""Stops, failures and bad numbers of real ranks under real launchers."""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from helpers.processes import (
    ENDLESS,
    FAULTY,
    SUPERVISE,
    TRAIN,
    arguments,
    below,
    launcher,
    outcome,
    ranks,
    started,
    steps_done,
    tensors,
    words,
)
from helpers.runs import run_alone, two_ranks
from helpers.waiting import stays, until

from cyclesr_dist.training.main import main as train


@pytest.mark.parametrize(
    "name",
    ["python", pytest.param("torchrun", marks=pytest.mark.slow), pytest.param("deepspeed", marks=pytest.mark.slow)],
)
def test_a_supervised_stop_saves_and_the_resumed_run_is_the_uninterrupted_one(
    name, config_file, tiny_data, tmp_path
) -> None:
    backend = "backend=deepspeed" if name == "deepspeed" else "backend=ddp"
    settings = [*tiny_data.overrides, backend, "train.checkpoint_every_steps=1000"]
    with started(
        [*SUPERVISE, *launcher(name), TRAIN, *arguments(config_file, tmp_path / "a", *settings, *ENDLESS)]
    ) as p:
        until(lambda: steps_done(tmp_path / "a") >= 3)
        p.send_signal(signal.SIGTERM)
        code, stderr = outcome(p, 40)
    assert code == 75, stderr
    (checkpoint,) = (tmp_path / "a/checkpoints").iterdir()
    stopped_at = int(checkpoint.name[-8:])
    assert any(f"stopped: SIGTERM: saved at step {stopped_at} of" in line for line in stderr)

    end = f"train.max_steps={stopped_at + 4}"
    for run_dir in ("a", "whole"):
        if name == "python":
            run_alone(config_file, tmp_path / run_dir, *settings, *ENDLESS, end, "--resume")
            continue
        command = [*launcher(name), TRAIN, *arguments(config_file, tmp_path / run_dir, *settings, *ENDLESS, end)]
        with started([*command, "--resume"]) as p:
            code, stderr = outcome(p, 150)
        assert code == 0, stderr
    resumed, whole = tensors(tmp_path / "a"), tensors(tmp_path / "whole")
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(tensor, resumed[key]) for key, tensor in whole.items())


@pytest.mark.slow
def test_a_signal_to_every_process_at_once_saves(config_file, tiny_data, tmp_path) -> None:
    """As Slurm sends it, and Ctrl-C: also to the launcher, which passes it on, and to loader processes."""
    settings = [*tiny_data.overrides, "backend=ddp", "data.workers=1", *ENDLESS]
    with started([*launcher("torchrun"), TRAIN, *arguments(config_file, tmp_path / "run", *settings)]) as p:
        until(lambda: steps_done(tmp_path / "run") >= 3)
        everybody = [psutil.Process(p.pid), *below(p.pid)]
        sent = time.monotonic()
        for process in everybody:
            process.send_signal(signal.SIGINT)
        code, stderr = outcome(p)
        assert time.monotonic() - sent < 25  # by themselves: torchrun kills after 30 s
        assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in everybody)
    assert code != 0
    # Rank 0 has it from rank 1, or by agreement: whichever was sooner.
    assert any(re.search(r"stopped: SIGINT( on rank 1)?: saved at step", line) for line in stderr), stderr
    assert len(list((tmp_path / "run/checkpoints").iterdir())) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torchrun", "deepspeed"])
def test_a_signal_to_one_rank_stops_all(name, config_file, tiny_data, tmp_path) -> None:
    """Without a supervisor: the launcher's own exit code means nothing, but everything is saved."""
    settings = [*tiny_data.overrides, "backend=ddp", *ENDLESS]
    with started([*launcher(name), TRAIN, *arguments(config_file, tmp_path / "run", *settings)]) as p:
        until(lambda: steps_done(tmp_path / "run") >= 3)
        ranks(p)[1].send_signal(signal.SIGINT)
        code, stderr = outcome(p)
    assert code != 0
    # Rank 0 has it from rank 1, or by agreement: whichever was sooner.
    assert any(re.search(r"stopped: SIGINT( on rank 1)?: saved at step", line) for line in stderr), stderr
    assert len(list((tmp_path / "run/checkpoints").iterdir())) == 1


@pytest.mark.parametrize(
    ("name", "fault", "said"),
    [
        ("torchrun", "exception", "rank 1 failed first: ValueError: a fault for the test"),
        pytest.param("torchrun", "killed", "rank 0 failed first: lost another rank", marks=pytest.mark.slow),
        pytest.param("deepspeed", "exception", "rank 1 failed first: ValueError", marks=pytest.mark.slow),
        pytest.param("deepspeed", "killed", "rank 0 failed first: lost another rank", marks=pytest.mark.slow),
        pytest.param("torchrun", "frozen", "rank 1 failed first: silent for", marks=pytest.mark.slow),
    ],
)
def test_a_failing_rank_ends_all_with_the_first_cause_last(name, fault, said, config_file, tiny_data, tmp_path) -> None:
    settings = [*tiny_data.overrides, "backend=ddp", "train.lost_rank_seconds=10", *ENDLESS]
    command = [*SUPERVISE, *launcher(name), FAULTY, *arguments(config_file, tmp_path / "run", *settings)]
    with started(command, FAULT=f"{fault}:1:4") as p:
        until(lambda: steps_done(tmp_path / "run") >= 3)
        at = time.monotonic()
        code, stderr = outcome(p)
        assert time.monotonic() - at < 300  # torch would wait for ten minutes
        assert not below(p.pid)
    assert code == 1
    assert said in stderr[-1], stderr
    if fault == "frozen":
        logs = tmp_path / "run/logs"
        assert stderr[-1].endswith(f"; where each rank was: {logs}/hang.rank*.txt")
        assert "method/step.py" in (logs / "hang.rank0.txt").read_text()  # of the thread that trains
        recorded = pickle.loads((logs / "collectives.rank0").read_bytes())
        assert recorded["entries"][-1]["profiling_name"] == "gloo:all_reduce"
    if fault == "killed":
        assert any("rank 1 ended without a word" in line for line in stderr)


@pytest.mark.slow
def test_a_collective_that_times_out_says_where_each_rank_was(config_file, tiny_data, tmp_path) -> None:
    """torch gives up before the watch does."""
    settings = [*tiny_data.overrides, "backend=ddp", "train.lost_rank_seconds=600", *ENDLESS]
    command = [*SUPERVISE, *launcher("torchrun"), FAULTY, *arguments(config_file, tmp_path / "run", *settings)]
    with started(command, FAULT="frozen:1:4", COLLECTIVE_SECONDS="30") as p:
        until(lambda: steps_done(tmp_path / "run") >= 3)
        code, stderr = outcome(p)
        assert not below(p.pid)
    assert code == 1
    logs = tmp_path / "run/logs"
    assert "rank 0 failed first: lost another rank (" in stderr[-1], stderr
    assert "Timed out waiting 30000ms" in stderr[-1]
    assert stderr[-1].endswith(f"; where each rank was: {logs}/hang.rank*.txt")
    evidence = (logs / "hang.rank0.txt").read_text()
    assert "method/step.py" in evidence.partition("Threads of this rank")[0]  # the call that torch broke off
    recorded = pickle.loads((logs / "collectives.rank0").read_bytes())
    assert recorded["entries"][-1]["profiling_name"] == "gloo:all_reduce"
    assert not (logs / "hang.rank1.txt").exists()  # it is stopped


@pytest.mark.slow
def test_a_killed_loader_process_ends_all(config_file, tiny_data, tmp_path) -> None:
    settings = [*tiny_data.overrides, "backend=ddp", "data.workers=1", *ENDLESS]
    command = [*SUPERVISE, *launcher("torchrun"), TRAIN, *arguments(config_file, tmp_path / "run", *settings)]
    with started(command) as p:
        until(lambda: steps_done(tmp_path / "run") >= 3)
        servers = [c for c in ranks(p)[1].children() if "forkserver" in " ".join(words(c))]
        (worker,) = servers[0].children()
        worker.kill()
        code, stderr = outcome(p)
    assert code == 1
    assert "rank 1 failed first: RuntimeError: DataLoader worker" in stderr[-1], stderr


@pytest.mark.slow
@pytest.mark.parametrize("at_step", [1, 6])
def test_a_stop_in_each_phase_is_resumed_exactly(at_step, config_file, tiny_data, tmp_path) -> None:
    """In pretraining, and in the joint phase (from step 5 on), each also just before a checkpoint is due."""
    settings = [*tiny_data.overrides, "backend=single", "train.max_steps=12"]
    command = [sys.executable, TRAIN]
    with started([*command, *arguments(config_file, tmp_path / "run", *settings, "train.epochs=1000000")]) as p:
        until(lambda: steps_done(tmp_path / "run") >= at_step)
        p.send_signal(signal.SIGTERM)
        code, stderr = outcome(p)
    assert code in (75, 0), stderr
    for name in ("run", "whole"):
        with started([*command, *arguments(config_file, tmp_path / name, *settings, "--resume-with-changes")]) as p:
            code, stderr = outcome(p)
        assert code == 0, stderr
    whole, resumed = tensors(tmp_path / "whole"), tensors(tmp_path / "run")
    assert all(torch.equal(tensor, resumed[key]) for key, tensor in whole.items())


@pytest.mark.slow
def test_ranks_that_torchrun_restarts_go_on_from_the_checkpoint(config_file, tiny_data, tmp_path) -> None:
    settings = [*tiny_data.overrides, "backend=ddp", "train.checkpoint_every_steps=2", "train.max_steps=8"]
    command = [*SUPERVISE, *launcher("torchrun"), "--max-restarts=1", FAULTY]
    command += arguments(config_file, tmp_path / "run", *settings, "--resume")
    with started(command, FAULT="killed:1:6") as p:
        code, stderr = outcome(p, 180)
    assert code == 0, stderr
    assert any("starting from the beginning" in line for line in stderr)
    assert any("resuming at step 4" in line for line in stderr)
    assert steps_done(tmp_path / "run") == 8


@pytest.mark.slow
def test_ranks_whose_launcher_is_killed_save(config_file, tiny_data, tmp_path) -> None:
    settings = [*tiny_data.overrides, "backend=ddp", *ENDLESS]
    command = [*SUPERVISE, *launcher("deepspeed"), TRAIN, *arguments(config_file, tmp_path / "run", *settings)]
    with started(command) as p:
        until(lambda: steps_done(tmp_path / "run") >= 3)
        launchers = [c for c in below(p.pid) if any("launcher.launch" in word for word in words(c))]
        launchers[0].kill()
        code, stderr = outcome(p)
    assert code == 75, stderr
    assert len(list((tmp_path / "run/checkpoints").iterdir())) == 1


@pytest.mark.parametrize("name", ["deepspeed", pytest.param("torchrun", marks=pytest.mark.slow)])
def test_a_launcher_that_is_killed_before_its_ranks_have_begun_is_no_success(name, tmp_path) -> None:
    """`deepspeed` itself ends with 0 then. Ranks that still import their modules have told nothing."""
    script = tmp_path / "imports.py"
    script.write_text("import time\ntime.sleep(600)\n")
    with started([*SUPERVISE, *launcher(name), str(script), "--quiet"]) as p:
        until(lambda: len(ranks(p, str(script))) == 2)
        word = {"deepspeed": "launcher.launch", "torchrun": "bin/torchrun"}[name]
        found = [c for c in below(p.pid) if any(word in text for text in words(c))]
        found[-1].kill()
        code, stderr = outcome(p)
    assert code == 1, stderr
    assert stderr[-1] == "cyclesr: error: the launcher was gone before the ranks had begun"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deepspeed", "torchrun"])
def test_ranks_that_leave_a_killed_launcher_before_they_have_begun_are_no_success(name, tmp_path) -> None:
    """They notice it while they start. `deepspeed` itself ends with 0 then, too."""
    script = tmp_path / "starts.py"
    script.write_text(f"{LEAVES}end_process(lambda: guarded(lambda: time.sleep(600), debug=False, goes_on=True))\n")
    with started([*SUPERVISE, *launcher(name), str(script), "--quiet"]) as p:
        until(lambda: len(ranks(p, str(script))) == 2)
        word = {"deepspeed": "launcher.launch", "torchrun": "bin/torchrun"}[name]
        [*(c for c in below(p.pid) if any(word in text for text in words(c)))][-1].kill()
        code, stderr = outcome(p)
    assert code in (1, 75), stderr  # 1 if they had not come as far as to notice


LEAVES = "import time\nfrom cyclesr_dist.runtime.command import end_process, guarded\n"


@pytest.mark.parametrize(("launcher_code", "expected"), [(1, 1), (0, 75), (75, 75)])
def test_a_rank_that_is_killed_before_it_said_who_it_is(launcher_code: int, expected: int, tmp_path: Path) -> None:
    """The launcher asks the other one to stop, and notices a failure. Where it noticed none, there is none."""
    rank = tmp_path / "rank.py"
    rank.write_text(
        f"from cyclesr_dist.runtime.exit_codes import started_as\n{LEAVES}started_as(0, 2)\nend_process(lambda: 75)\n"
    )
    script = f'RANK=0 "{sys.executable}" "{rank}"; exit {launcher_code}'
    with started([*SUPERVISE, "sh", "-c", script]) as p:
        code, stderr = outcome(p)
    assert code == expected, stderr
    assert ("a rank ended before it had begun" in "".join(stderr)) == (code == 1)


@pytest.mark.parametrize(
    ("codes", "launcher_code", "expected"),
    [
        ((75, 75), 0, 75),
        ((75, 75), 1, 1),  # a rank was killed, and the launcher asked these to stop
        ((2, 2), 0, 2),
        ((2, 75), 1, 2),
        ((0, 2), 0, 2),
        ((1, 1), 0, 1),
        ((75, 1), 0, 1),
        ((0, 0), 0, 0),
        ((0, 0), 1, 1),
    ],
)
def test_codes_of_ranks_that_never_said_who_they_are(
    codes: tuple[int, int], launcher_code: int, expected: int, tmp_path: Path
) -> None:
    """A launcher that ends with 0 does not hide them."""
    rank = tmp_path / "rank.py"
    rank.write_text(f"import sys\n{LEAVES}end_process(lambda: int(sys.argv[1]))\n")
    one = f'LOCAL_RANK=%s "{sys.executable}" "{rank}" %s'
    script = " & ".join(one % pair for pair in enumerate(codes)) + f" & wait; exit {launcher_code}"
    with started([*SUPERVISE, "sh", "-c", script]) as p:
        code, stderr = outcome(p)
    assert code == expected, stderr


def test_numbers_gone_bad_on_one_rank_are_left_out_by_all(config_file, tiny_data, tmp_path) -> None:
    settings = [*tiny_data.overrides, "backend=ddp", "train.max_steps=6", "data.log_keys=true"]
    codes, stderr = two_ranks(config_file, tmp_path / "run", *settings, FAULT="nan:1:3")
    assert codes == [0, 0], stderr
    (record,) = [json.loads(line) for line in (tmp_path / "run/bad_steps.jsonl").read_text().splitlines()]
    assert record["step"] == 3
    own, faulty = record["ranks"]
    assert "nan" in faulty["losses"].values()
    assert "nan" not in own["losses"].values()
    keys = [json.loads(line) for line in (tmp_path / "run/keys.rank1.jsonl").read_text().splitlines()]
    assert faulty["lr"] == keys[2]["lr"]
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert (summary["bad_steps"], summary["rollbacks"]) == (1, 0)
    assert all(tensor.isfinite().all() for tensor in tensors(tmp_path / "run").values())


def test_a_run_goes_back_when_numbers_stay_bad(config_file, tiny_data, tmp_path, monkeypatch, capfd) -> None:
    """From the checkpoint of step 4: the steps that had come before the bad one are left out as well."""
    from cyclesr_dist.method.systems.joint import JointSystem
    from cyclesr_dist.training import loop

    true_step = JointSystem.step

    def step(self: JointSystem, batch: Any, phase: Any) -> Any:
        if batch.index // 4 in (6, 7):
            batch.hr.fill_(torch.nan)
        return true_step(self, batch, phase)

    monkeypatch.setattr(JointSystem, "step", step)
    monkeypatch.setattr(loop, "LEFT_OUT_BEFORE", 1)
    settings = ["backend=single", "train.max_steps=12", "train.max_bad_steps=1"]
    assert train(arguments(config_file, tmp_path / "run", *tiny_data.overrides, *settings)) == 0
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["rollbacks"] == 1
    state = json.loads((max((tmp_path / "run/checkpoints").iterdir()) / "state.json").read_text())
    assert state["left_out"] == [5, 6, 7]
    logged = [json.loads(line)["step"] for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert logged == [1, 2, 3, 4, 5, 9, 10, 11, 12]
    assert "going back" in capfd.readouterr().err
    assert all(tensor.isfinite().all() for tensor in tensors(tmp_path / "run").values())


def test_a_stop_during_validation_makes_it_due_again(config_file, tiny_data, tmp_path, monkeypatch) -> None:
    from cyclesr_dist.training import validation

    settings = [*tiny_data.overrides, "backend=single", "train.max_steps=6"]
    assert train(arguments(config_file, tmp_path / "whole", *settings)) == 0
    true_score = validation.score_file
    scored = []

    def score(*args: Any, **options: Any) -> Any:
        scored.append(1)
        if len(scored) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
            until(lambda: any(thread.name == "grace" for thread in threading.enumerate()))  # it has been heard
        return true_score(*args, **options)

    monkeypatch.setattr(validation, "score_file", score)
    assert train(arguments(config_file, tmp_path / "run", *settings)) == 75
    assert len(scored) == 1
    assert not any(thread.name == "grace" for thread in threading.enumerate())  # it would end this process later
    assert train(arguments(config_file, tmp_path / "run", *settings, "--resume")) == 0
    for name in ("validation.jsonl", "model.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "run" / name).read_bytes()


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 2", 2), ("exit 3", 1), ("sleep 600 & exit 0", 0)],
)
def test_a_supervised_command_that_is_no_training(script: str, code: int) -> None:
    with started([*SUPERVISE, "sh", "-c", script]) as p:
        assert outcome(p, 30)[0] == code


def test_a_second_signal_ends_a_supervised_command_at_once(tmp_path: Path) -> None:
    with started([*SUPERVISE, "sh", "-c", 'trap "" TERM; touch "$0"; sleep 600', str(tmp_path / "deaf")]) as p:
        until((tmp_path / "deaf").exists)
        p.send_signal(signal.SIGTERM)
        stays(lambda: p.poll() is None, 5)  # sooner, it would be the same request
        p.send_signal(signal.SIGTERM)
        assert outcome(p, 60)[0] == 1


def test_supervise_bad_usage() -> None:
    for command, said in (([], "no command"), (["/nowhere/torchrun"], "/nowhere/torchrun")):
        with started([*SUPERVISE, *command]) as p:
            code, stderr = outcome(p, 30)
        assert code == 2
        assert said in stderr[-1]
