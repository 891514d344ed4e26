"""One training at a time in a run folder and at a place of checkpoints: real ones, killed, stopped and begun again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import pytest
from helpers.processes import ENDLESS, SUPERVISE, TRAIN, arguments, outcome, started, steps_done
from helpers.runs import two_ranks
from helpers.waiting import until
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from cyclesr_dist.runtime.lease import SECONDS, held
from cyclesr_dist.runtime.process_identity import began, machine
from cyclesr_dist.training.main import main as train

PYTHON = [sys.executable, TRAIN]
OFTEN = [*ENDLESS, "train.checkpoint_every_steps=2"]
CLAIMANT = [sys.executable, str(Path(__file__).parents[1] / "helpers/claimant.py")]
LONG = "100000"
"""Seconds: who waits for these, waits for ever."""


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """On a real S3 server, which lists all that was written before, as S3 does."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    settings = {"AWS_ENDPOINT_URL": endpoint, "AWS_DEFAULT_REGION": "us-east-1", "no_proxy": "*"}
    for name, value in (settings | dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "test")).items():
        monkeypatch.setenv(name, value)
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket="runs")
    yield "s3://runs"
    server.stop()


def steps(run: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def newest_step(run: Path) -> int:
    return int(max(path.name for path in (run / "checkpoints").glob("step-*"))[-8:])


@contextmanager
def holding(run: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the folder as `cyclesr fit` has."""
    program = "import sys; from pathlib import Path; from cyclesr_dist.runtime.lease import held\n"
    program += "with held(Path(sys.argv[1]), 'run folder'): print('has it', flush=True); sys.stdin.read()"
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", program, str(run)], text=True, **pipes) as process:
        got_it(process)
        yield process
        _, stderr = process.communicate()
    assert process.returncode == 0, stderr


@contextmanager
def claiming(*arguments: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has what it is told to."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen([*CLAIMANT, *arguments], env=os.environ | variables, text=True, **pipes)
    try:
        got_it(process)
        yield process
    finally:
        process.kill()
        process.communicate()


def got_it(process: subprocess.Popen[str]) -> None:
    assert process.stdout.readline() == "has it\n", process.communicate()[1]


def test_a_second_training_is_refused_and_a_killed_one_is_followed_at_once(
    config_file, tiny_data, tmp_path, monkeypatch
) -> None:
    """Ranks, too: the failure of the main one reaches the other."""
    run = tmp_path / "run"
    settings = [*tiny_data.overrides, "backend=ddp", *OFTEN]
    with started([*PYTHON, *arguments(config_file, run, *settings, "--resume")], **{SECONDS: "24"}) as first:
        until(lambda: (run / "checkpoints/step-00000002").is_dir())
        codes, stderr = two_ranks(config_file, run, *settings, "--resume", **{SECONDS: "24"})
        assert codes == [2, 2]
        said = f"cyclesr: error: run folder {run} is in use by process {first.pid} on"
        assert [line for line in stderr.splitlines() if line.startswith(said)], stderr
        assert first.poll() is None
        first.kill()
        first.wait()
    monkeypatch.setenv(SECONDS, LONG)
    end = newest_step(run) + 3
    settings = [*tiny_data.overrides, "backend=ddp", *OFTEN, f"train.max_steps={end}"]
    assert train(arguments(config_file, run, *settings, "--resume")) == 0
    assert steps(run) == list(range(1, end + 1))
    assert not (run / ".lease").exists()
    assert train(arguments(config_file, run, *settings)) == 2


def test_the_folder_of_a_command_that_trains_is_its_own_trainings(
    config_file, tiny_data, tmp_path, monkeypatch, capsys
):
    """`cyclesr fit` packs, measures and enlarges in it besides."""
    run = tmp_path / "run"
    given = arguments(config_file, run, *tiny_data.overrides, "backend=single", "train.max_steps=1")
    with holding(run) as owner:
        assert train(given) == 2
        assert f"run folder {run} is in use by process {owner.pid} on" in capsys.readouterr().err
        assert [path.name for path in run.iterdir()] == [".job"]
        monkeypatch.setenv("CYCLESR_STARTED_BY", f"{machine()} {owner.pid} {began(owner.pid)} cyclesr fit")
        assert train(given) == 0
    monkeypatch.delenv("CYCLESR_STARTED_BY")
    with held(run, "run folder"):
        assert train([*given, "--resume"]) == 0  # in this process
        with started([*SUPERVISE, *PYTHON, *given, "--resume"]) as own:  # below it
            code, stderr = outcome(own)
        assert code == 0, stderr


def test_a_url_is_no_run_folder(config_file, tiny_data, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["--config", str(config_file), "--run-dir", "s3://bucket/run", "--quiet", *tiny_data.overrides]
    assert train(given) == 2
    assert "a URL is no folder" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_folder_of_a_search_is_no_run_folder(config_file, tiny_data, tmp_path, capsys) -> None:
    (tmp_path / "search.yaml").touch()
    for flags in ([], ["--resume"]):
        assert train(arguments(config_file, tmp_path, *tiny_data.overrides, *flags)) == 2
        assert f"run folder {tmp_path} holds a search" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["search.yaml"]


@pytest.mark.slow
def test_a_training_that_was_stopped_for_long_writes_nothing_when_it_wakes_up(config_file, tiny_data, tmp_path) -> None:
    run = tmp_path / "run"
    command = [*PYTHON, *arguments(config_file, run, *tiny_data.overrides, "backend=single", *OFTEN, "--resume")]
    with started(command, **{SECONDS: "2"}) as first:
        until(lambda: (run / "checkpoints/step-00000002").is_dir())
        first.send_signal(signal.SIGSTOP)
        with started(command, **{SECONDS: "2"}) as second:
            until(lambda: steps_done(run) > newest_step(run) >= 6)
            first.send_signal(signal.SIGCONT)
            code, stderr = outcome(first)
            assert code == 1
            assert f"lost run folder {run}: process {second.pid} on" in stderr[-1]
            second.send_signal(signal.SIGTERM)
            code, stderr = outcome(second)
            assert code == 75, stderr
    assert steps(run) == list(range(1, newest_step(run) + 1))
    events = [json.loads(line)["event"] for line in (run / "events.jsonl").read_text().splitlines()]
    assert events == ["started", "started", "stopped"]
    assert not (run / ".lease").exists()


@pytest.mark.parametrize("spelling", ["{}", "file://{}", "{}/checkpoints"])
def test_a_place_of_checkpoints_is_one_runs_however_it_is_written(
    spelling, config_file, tiny_data, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setenv(SECONDS, "24")
    place = tmp_path / "kept"
    settings = [*tiny_data.overrides, "backend=single", f"train.checkpoints={spelling.format(place)}"]
    with claiming(str(tmp_path / "other"), str(place)) as first:
        assert train(arguments(config_file, tmp_path / "run", *settings, "--resume")) == 2
    assert f"train.checkpoints = {spelling.format(place)} is in use by process {first.pid}" in capsys.readouterr().err
    assert not list((tmp_path / "run").iterdir())


def test_behind_a_url(bucket, config_file, tiny_data, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv(SECONDS, "24")
    url = f"{bucket}/kept"
    settings = [*tiny_data.overrides, "backend=single", f"train.checkpoints={url}", "train.max_steps=4"]
    with claiming(str(tmp_path), url) as first:
        assert train(arguments(config_file, tmp_path / "run", *settings, "--resume")) == 2
        assert f"train.checkpoints = {url} is in use by process {first.pid}" in capsys.readouterr().err
        first.kill()
        first.wait()
    monkeypatch.setenv(SECONDS, LONG)
    assert train(arguments(config_file, tmp_path / "run", *settings, "--resume")) == 0
    found = boto3.client("s3").list_objects_v2(Bucket="runs")["Contents"]
    assert not [entry["Key"] for entry in found if ".lease" in entry["Key"]]


@pytest.mark.slow
def test_behind_a_url_a_stopped_owner_loses_it(bucket, tmp_path) -> None:
    with claiming(str(tmp_path), f"{bucket}/kept", **{SECONDS: "3"}) as first:
        first.send_signal(signal.SIGSTOP)
        with claiming(str(tmp_path), f"{bucket}/kept", **{SECONDS: "3"}):
            first.stdin.write("late\n")
            first.stdin.flush()
            first.send_signal(signal.SIGCONT)
            _, stderr = first.communicate(timeout=240)
        assert first.returncode == 1
        assert "lost run folder" in stderr
        assert not (tmp_path / "written").exists()
