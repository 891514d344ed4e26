"""Slurm's own commands: what they are asked, and how their answers are read."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cyclesr_dist.errors import CycleSRError, InputError
from cyclesr_dist.slurm.script import EXIT

_SECONDS = 120
_UNKNOWN_JOB = "Invalid job id"
_LIVING = (
    *("PENDING", "RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING", "STAGE_OUT", "REQUEUED", "RESIZING"),
    *("REQUEUE_HOLD", "REQUEUE_FED", "SIGNALING", "SPECIAL_EXIT", "STOPPED"),
)


@dataclass(frozen=True)
class Queued:
    """A job as squeue lists it."""

    number: str
    state: str
    comment: str


@dataclass(frozen=True)
class Job:
    """A job as it is, or was last."""

    number: str
    state: str
    """PENDING, RUNNING, COMPLETED, FAILED, TIMEOUT and so on; empty where nobody knows it any more."""
    exit_code: int | None
    """Of the script; None while it runs, and where a signal has ended it."""
    reason: str = ""
    nodes: str = ""
    restarts: int = 0

    @property
    def ended(self) -> bool:
        return self.state not in _LIVING

    def __str__(self) -> str:
        where = f" on {self.nodes}" if self.nodes and self.state == "RUNNING" else ""
        why = f" ({self.reason})" if self.reason and self.state == "PENDING" else ""
        again = f", restart {self.restarts}" if self.restarts else ""
        return f"{(self.state or 'no longer known').lower().replace('_', ' ')}{where}{why}{again}"


class UnansweredError(CycleSRError):
    """Slurm's controller does not answer (exit code 1); it may later."""


def queued(name: str) -> list[Queued]:
    """This user's jobs of that name which have not ended. Raises UnansweredError, and InputError without Slurm."""
    form = "--format=%i|%T|%k"
    text = _call("squeue", "--noheader", f"--user={os.getuid()}", f"--name={name}", form)
    fields = [line.split("|", 2) for line in text.splitlines() if line.count("|") >= 2]
    return [Queued(number.strip(), state.strip(), comment.strip()) for number, state, comment in fields]


def submit(script: str) -> str:
    """Give sbatch the script. Returns the job's number; raises InputError with what sbatch refuses."""
    return _call("sbatch", "--parsable", given=script).strip().partition(";")[0]


def look(number: str, folder: Path) -> Job:
    """As the controller knows the job; as the accounting does, where the controller has forgotten it; else by the code
    that its script left in `folder`. Raises UnansweredError."""
    try:
        return job_of(number, _call("scontrol", "--oneliner", "show", "job", number))
    except InputError as error:
        if _UNKNOWN_JOB not in str(error):
            raise
    try:
        text = _call(
            "sacct", "--allocations", "--noheader", "--parsable2", "--format=State,ExitCode", f"--jobs={number}"
        )
    except (InputError, UnansweredError):  # a cluster without accounting
        text = ""
    if text.strip():
        state, _, code = text.strip().splitlines()[-1].partition("|")
        return Job(number, state.split()[0], _exit_code(code))
    left = folder / f"{EXIT}{number}"
    if left.is_file() and (code := left.read_text().strip()).isdecimal():
        return Job(number, "FAILED" if int(code) else "COMPLETED", int(code))
    return Job(number, "", None)


def job_of(number: str, text: str) -> Job:
    """What `scontrol --oneliner show job` says. Values that users choose stand behind those that are read here."""

    def value(name: str) -> str:
        found = re.search(rf"(?:^| ){name}=(\S*)", text)
        return found[1] if found and found[1] not in ("(null)", "None") else ""

    state = value("JobState")
    job = Job(number, state, None, value("Reason"), value("NodeList"), int(value("Restarts") or 0))
    return Job(number, state, _exit_code(value("ExitCode")), job.reason, job.nodes, job.restarts) if job.ended else job


def never_again(number: str) -> None:
    """The job is not requeued any more, by nobody."""
    _call("scontrol", "update", f"JobId={number}", "Requeue=0")


def ask_to_save(number: str) -> None:
    """SIGUSR1 to all steps, not to the script."""
    _call("scancel", "--signal=USR1", number)


def cancel(number: str) -> None:
    _call("scancel", number)


def _exit_code(text: str) -> int | None:
    """Of `2:0`; None behind a signal."""
    code, _, number = text.partition(":")
    return int(code) if code.isdecimal() and number in ("", "0") else None


def _call(program: str, *words: str, given: str = "") -> str:
    """Its standard output. Raises InputError with its last line when it refuses."""
    try:
        done = subprocess.run(
            [program, *words],
            input=given,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        raise InputError(f"there is no {program} here: submit from a machine that has Slurm's commands") from error
    except subprocess.TimeoutExpired as error:
        raise UnansweredError(f"{program} has not answered in {_SECONDS} s") from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        line = next((line for line in said if "error:" in line), said[-1]).strip()
        unanswered = ("Unable to contact", "Connection refused", "Socket timed out", "Zero Bytes", "timed out")
        kind = UnansweredError if any(words in done.stderr for words in unanswered) else InputError
        raise kind(f"{program}: {line.removeprefix(f'{program}: ').removeprefix('error: ')}")
    return done.stdout
