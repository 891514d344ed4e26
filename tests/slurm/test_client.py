"""What Slurm's commands answer, and what is made of it: programs of the same names that say what a test wants."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from cyclesr_dist.errors import InputError
from cyclesr_dist.kubernetes.submit import main
from cyclesr_dist.slurm.client import UnansweredError, job_of, look, queued
from cyclesr_dist.slurm.follow import Log, follow

CONFIG = Path(__file__).parents[2] / "configs/demo.yaml"
SHOWN = (
    "JobId={number} JobName=demo UserId=me(1000) GroupId=me(1000) Priority=1 Account=(null) JobState={state} "
    "Reason={reason} Dependency=(null) Requeue=1 Restarts={restarts} ExitCode={code} NodeList={nodes} "
    "Comment=JobState=FAILED ExitCode=2:0 WorkDir=/a JobState=PENDING\n"
)
Say = Callable[..., None]


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Say:
    """Let a program of Slurm's say and do what is given; all others are not there."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "desk").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.chdir(tmp_path / "desk")

    def say(program: str, out: str = "", err: str = "", code: int = 0, run: str = "") -> None:
        path = tmp_path / "bin" / program
        text = f"#!/bin/bash\n{run}\nprintf %s {shlex.quote(out)}\nprintf %s {shlex.quote(err)} >&2\nexit {code}\n"
        path.write_text(text)
        path.chmod(0o755)

    return say


def shown(state: str, code: str = "0:0", reason: str = "None", nodes: str = "(null)", restarts: int = 0) -> str:
    return SHOWN.format(number=7, state=state, code=code, reason=reason, nodes=nodes, restarts=restarts)


@pytest.mark.parametrize(
    ("text", "words", "ended", "code"),
    [
        (shown("PENDING", reason="Resources"), "pending (Resources)", False, None),
        (shown("RUNNING", nodes="n[1-2]", restarts=2), "running on n[1-2], restart 2", False, None),
        (shown("COMPLETED"), "completed", True, 0),
        (shown("FAILED", "2:0", "NonZeroExitCode"), "failed", True, 2),
        (shown("CANCELLED", "0:15"), "cancelled", True, None),
        (shown("NODE_FAIL", "1:0"), "node fail", True, 1),
    ],
)
def test_a_job_is_what_its_controller_says(text: str, words: str, ended: bool, code: int | None) -> None:
    job = job_of("7", text)
    assert (str(job), job.ended, job.exit_code) == (words, ended, code)


def test_a_job_that_the_controller_has_forgotten(says: Say, tmp_path: Path) -> None:
    says("scontrol", err="slurm_load_jobs error: Invalid job id specified\n", code=1)
    assert look("7", tmp_path).state == ""
    (tmp_path / "exit-7").write_text("2\n")
    assert (look("7", tmp_path).state, look("7", tmp_path).exit_code) == ("FAILED", 2)
    says("sacct", err="Slurm accounting storage is disabled\n", code=1)
    assert look("7", tmp_path).exit_code == 2
    says("sacct", out="CANCELLED by 1000|0:15\n")
    assert (look("7", tmp_path).state, look("7", tmp_path).exit_code) == ("CANCELLED", None)


def test_a_controller_that_does_not_answer_is_asked_again(says: Say, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("cyclesr_dist.slurm.follow.LOG_SECONDS", 0.01)
    monkeypatch.setattr("cyclesr_dist.slurm.follow.STATE_SECONDS", 0.01)
    away = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    says("squeue", err=away, code=1)
    with pytest.raises(UnansweredError, match=r"squeue: .*Unable to contact"):
        queued("demo")
    times = tmp_path / "times"
    once_away = f'echo >> {times}; [ "$(wc -l < {times})" -gt 2 ] || {{ echo {shlex.quote(away)} >&2; exit 1; }}'
    says("scontrol", out=shown("FAILED", "2:0"), run=f"PATH=/usr/bin:/bin; {once_away}")
    (tmp_path / "7.log").write_bytes("first ümlaut\nlast".encode())
    said: list[str] = []
    written: list[str] = []
    assert follow("7", tmp_path, said.append, written.append) == 2
    assert written == ["first ümlaut", "last"]
    assert len(said) == 2
    assert said[0].endswith("asking again")
    assert said[1] == "job 7 has ended: failed, exit code 2"


def test_lines_of_a_growing_log_come_whole(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    assert list(log.lines()) == []
    content = "ä1\nb2\nc".encode()
    (tmp_path / "log").write_bytes(content[:1])  # half a letter
    assert list(log.lines()) == []
    (tmp_path / "log").write_bytes(content)
    assert list(log.lines()) == ["ä1", "b2"]
    assert list(log.lines(last=True)) == ["c"]


def test_without_slurm_one_line_says_so(says: Say, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(CONFIG), "--target", "slurm"]) == 2
    error = "cyclesr: error: there is no squeue here: submit from a machine that has Slurm's commands\n"
    assert capsys.readouterr().err == error


def test_what_sbatch_refuses_is_one_line(says: Say, capsys: pytest.CaptureFixture[str]) -> None:
    says("squeue")
    says("sbatch", err="sbatch: error: invalid partition specified: gpu\nsbatch: error: Batch job failed\n", code=1)
    assert main(["--config", str(CONFIG), "--target", "slurm", "slurm.partition=gpu"]) == 2
    assert capsys.readouterr().err == "cyclesr: error: sbatch: invalid partition specified: gpu\n"


def test_a_job_of_somebody_elses_making_is_neither_followed_nor_deleted(
    says: Say, capsys: pytest.CaptureFixture[str]
) -> None:
    says("squeue", out="9|RUNNING|(null)\n")
    words = ["--config", str(CONFIG), "--target", "slurm"]
    assert main(words) == 2
    assert "job 9 is called demo and has other settings" in capsys.readouterr().err
    assert main([*words, "--delete"]) == 0
    assert capsys.readouterr().out == "cyclesr submit: deleted: nothing was there\n"
    assert main([*words, "--status"]) == 2
    assert "there is no job demo" in capsys.readouterr().err


def test_a_search_cannot_be_resumed_with_changes(capsys: pytest.CaptureFixture[str]) -> None:
    config = CONFIG.with_name("tune_demo.yaml")
    words = ["--config", str(config), "--target", "slurm-search", "--resume-with-changes", "--dry-run"]
    assert main(words) == 2
    assert "--resume-with-changes is for a training" in capsys.readouterr().err


def test_a_refusal_that_is_no_unknown_job_is_passed_on(says: Say, tmp_path: Path) -> None:
    says("scontrol", err="scontrol: error: Access denied\n", code=1)
    with pytest.raises(InputError, match="scontrol: Access denied"):
        look("7", tmp_path)
