"""Follow a job to its end: its states, its log, its exit code."""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cyclesr_dist.errors import InputError
from cyclesr_dist.slurm.client import Job, UnansweredError, look

LOG_SECONDS, STATE_SECONDS = 0.5, 5.0
"""Between two looks at the log, and at the job: the controller serves a whole cluster."""


class Log:
    """The lines of a file that grows, and may not be there yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0
        self._rest = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def lines(self, *, last: bool = False) -> Iterator[str]:
        """Those that are new and whole; with `last` also what has no end."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._read)
                content = file.read()
        except FileNotFoundError:
            content = b""
        self._read += len(content)
        *whole, self._rest = (self._rest + self._decoder.decode(content)).split("\n")
        yield from whole
        if last and self._rest:
            yield self._rest
            self._rest = ""


def follow(number: str, folder: Path, say: Callable[[str], None], write: Callable[[str], None]) -> int:
    """Returns 0 for a job that succeeded, 2 where its ranks ended with that, 1 otherwise.

    `say` is told what happens, `write` the log. While the controller does not answer, it is asked again.
    """
    log = Log(folder / f"{number}.log")
    told = ""
    asked = float("-inf")
    while True:
        for line in log.lines():
            write(line)
        if time.monotonic() - asked >= STATE_SECONDS:
            asked = time.monotonic()
            try:
                job = look(number, folder)
            except UnansweredError as error:
                news, job = f"{error}; asking again", None
            else:
                news = f"job {number}: {job}"
            if news != told and not (job is not None and job.ended):
                say(news)
                told = news
            if job is not None and job.ended:
                for line in log.lines(last=True):
                    write(line)
                return ending(job, say)
        time.sleep(LOG_SECONDS)


def ending(job: Job, say: Callable[[str], None]) -> int:
    """The exit code for a job that has ended, said in words as well."""
    if job.state == "COMPLETED":
        say(f"job {job.number} succeeded")
        return 0
    code = "no exit code" if job.exit_code is None else f"exit code {job.exit_code}"
    say(f"job {job.number} has ended: {job}, {code}")
    return InputError.exit_code if job.exit_code == InputError.exit_code else 1
