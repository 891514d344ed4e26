"""`launch/submit.py --target slurm`: render, submit once, look, delete, follow."""

from __future__ import annotations

import argparse
import fcntl
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cyclesr_dist.errors import CycleSRError, InputError
from cyclesr_dist.runtime.command import checked_overrides
from cyclesr_dist.runtime.files import write_text
from cyclesr_dist.runtime.interrupts import Interrupted, uninterrupted
from cyclesr_dist.slurm import client
from cyclesr_dist.slurm.client import Queued
from cyclesr_dist.slurm.follow import ending, follow
from cyclesr_dist.slurm.plan import Plan, plan_of
from cyclesr_dist.slurm.script import MARK, comment_of, render

PAUSE_SECONDS = 1.0
_SECONDS_BEYOND = 60.0
"""For Slurm to take a job apart whose processes have left."""


def run(args: argparse.Namespace) -> int:
    """What the arguments of launch/submit.py ask for. Returns the exit code; raises CycleSRError."""
    plan = plan_of(args.target, args.config, checked_overrides(args.overrides), with_changes=args.resume_with_changes)
    script = render(plan)
    if args.dry_run:
        print(script, end="")
        return 0
    news = (lambda line: None) if args.quiet else _say
    try:
        if args.status:
            return status(plan)
        if args.delete:
            return delete(plan, news)
        number, said = submit(plan, script)
        print(f"cyclesr submit: {said}", flush=True)
        return 0 if args.detach else follow(number, plan.own_folder, news, _write)
    except KeyboardInterrupt as interrupt:
        print("\ncyclesr submit: left; the run goes on (--status, --delete)", file=sys.stderr)
        return 128 + (interrupt.number if isinstance(interrupt, Interrupted) else signal.SIGINT)


def submit(plan: Plan, script: str) -> tuple[str, str]:
    """The number of the job that runs this script, and what was done for it. Called again it changes nothing.

    Raises InputError when a job of that name has other settings, or Slurm refuses this one.
    """
    try:
        plan.own_folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{plan.own_folder} cannot be made: {error.strerror}") from error
    with _alone(plan.own_folder):
        there = client.queued(plan.name)
        if there:
            if there[0].comment != comment_of(script) or len(there) > 1:
                raise InputError(
                    f"job {there[0].number} is called {plan.name} and has other settings; --delete it first, or choose "
                    "another cluster.name"
                )
            return there[0].number, f"job {there[0].number} is there already: following it"
        write_text(plan.own_folder / "job.sh", script)
        with uninterrupted():  # else it may be there and not be known to be
            number = client.submit(script)
    return number, f"job {number} submitted: {plan.name}"


def status(plan: Plan) -> int:
    """Print the job's state. Returns 0, or 1 when it has failed. Raises InputError when there never was one."""
    there = _ours(client.queued(plan.name))
    number = there[-1].number if there else _last(plan.own_folder)
    if not number:
        raise InputError(f"there is no job {plan.name}, and {plan.own_folder} has no log of an earlier one")
    job = client.look(number, plan.own_folder)
    if not job.ended:
        print(f"job {number} ({plan.name}): {job}")
        return 0
    return int(ending(job, print) != 0)


def delete(plan: Plan, say: Callable[[str], None]) -> int:
    """Have the ranks save, and take the job away; waits for both. Returns 0, also when nothing is there.

    Slurm's own `scancel` gives processes KillWait seconds; here they have the time that they were promised.
    """
    there = _ours(client.queued(plan.name))
    for job in there:
        _end(job, plan, say)
    names = ", ".join(f"job {job.number}" for job in there)
    print(f"cyclesr submit: deleted: {names or 'nothing was there'}")
    return 0


def _end(job: Queued, plan: Plan, say: Callable[[str], None]) -> None:
    with suppress(InputError):  # it has ended meanwhile
        client.never_again(job.number)
        if job.state == "RUNNING":
            say(f"job {job.number}: waiting until its ranks have saved, {plan.leaving_seconds} s at most")
            client.ask_to_save(job.number)
            _wait(job, plan, plan.leaving_seconds)
        client.cancel(job.number)
    if not _wait(job, plan, plan.leaving_seconds + _SECONDS_BEYOND):
        raise CycleSRError(f"job {job.number} is still there; call --delete again")


def _wait(job: Queued, plan: Plan, seconds: float) -> bool:
    """Until it has gone: whether it has, in so many seconds."""
    deadline = time.monotonic() + seconds
    while any(other.number == job.number for other in client.queued(plan.name)):
        if time.monotonic() > deadline:
            return False
        time.sleep(PAUSE_SECONDS)
    return True


def _ours(jobs: list[Queued]) -> list[Queued]:
    return [job for job in jobs if job.comment.startswith(MARK)]


def _last(folder: Path) -> str:
    """The number of the newest job that has left something."""
    names = [path.stem for path in folder.glob("*.log")] if folder.is_dir() else []
    return max((name for name in names if name.isdecimal()), key=int, default="")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Of two submissions at a time the second sees the first one's job. On storage without locks they may not."""
    with (folder / "lock").open("w") as file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _say(line: str) -> None:
    print(f"cyclesr submit: {line}", file=sys.stderr, flush=True)


def _write(line: str) -> None:
    print(line, flush=True)
