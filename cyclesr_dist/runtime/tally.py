"""Working through many files: one that fails does not end the work, and at the end each is named with its reason."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from cyclesr_dist.errors import ConfigError, InputError, UnreachableError, UnwritableError
from cyclesr_dist.runtime.command import show_traceback
from cyclesr_dist.runtime.redact import redact

LIST_FILE = "failed.txt"
"""In the folder of the results, where there are too many failures for the terminal."""
MOST_LINES, FIRST_LINES = 50, 10
"""Up to MOST_LINES failures are all printed; of more the first ones, and the whole list is written to a file."""
_IN_A_ROW = 3
"""After so many files in a row whose disk does not answer, the others are not waited for."""


@dataclass
class Tally:
    """What became of the files of one command. Names are as a person looks for them, reasons one line each."""

    debug: bool = False
    """Show the traceback of each failure."""
    done: int = 0
    kept: int = 0
    """Done by an earlier call."""
    failed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    """What was never tried: known not to be readable. No failure."""
    _unreachable: int = 0

    @contextmanager
    def file(self, name: str, *paths: Path) -> Iterator[None]:
        """Work on the file `name` in the block: its failure is noted, with the reason, and does not go further.

        `paths` need not stand before the reason, too. What ends the work goes on: a full disk (UnwritableError), a
        setting (ConfigError), the third file in a row whose disk does not answer (UnreachableError), an interrupt.
        """
        try:
            yield
        except (ConfigError, UnwritableError):
            raise
        except Exception as error:
            if self.debug:
                show_traceback()
            self._unreachable = self._unreachable + 1 if isinstance(error, UnreachableError) else 0
            self.fail(name, reason_of(error, *paths))
            if self._unreachable == _IN_A_ROW:
                raise
        else:
            self._unreachable = 0

    def fail(self, name: str, reason: str) -> None:
        self.failed[name] = reason

    def skip(self, name: str, reason: str) -> None:
        self.skipped[name] = reason

    def tell(self, what: str, folder: Path | None) -> int:
        """Name all that was skipped and what failed on standard error. Returns the exit code: 1 if something failed.

        `what` is what the files are ("image"). `folder` takes the list where it is long; None: all is printed.
        """
        _tell_by_reason(self.skipped)
        lines = [f"{printable(name)}: {printable(reason)}" for name, reason in self.failed.items()]
        listed = folder and self._listed(folder, lines)
        for line in lines[:FIRST_LINES] if listed else lines:
            _say(line)
        if lines:
            total = len(lines) + self.done + self.kept
            many = f"{what}s" if total != 1 else what
            skipped = f", {len(self.skipped):,} skipped" if self.skipped else ""
            where = f"; the whole list: {printable(str(listed))}" if listed else ""
            _say(f"{len(lines):,} of {total:,} {many} failed{skipped}{where}")
        return self.exit_code

    @property
    def exit_code(self) -> int:
        """1 if something failed."""
        return 1 if self.failed else 0

    def _listed(self, folder: Path, lines: list[str]) -> Path | None:
        """The file with all lines, if they are too many for the terminal and it can be written."""
        path = folder / LIST_FILE
        with suppress(OSError):  # a full disk, for one: then all lines are printed
            if len(lines) <= MOST_LINES:
                path.unlink(missing_ok=True)  # of an earlier call
                return None
            path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", errors="surrogateescape")
            return path
        return None


@contextmanager
def telling(what: str, folder: Path | None, debug: bool) -> Iterator[Tally]:
    """A new tally, which tells when the block ends, whatever ends it: see `Tally.tell`."""
    tally = Tally(debug=debug)
    try:
        yield tally
    finally:
        tally.tell(what, folder)


def trying(tally: Tally | None, name: str, *paths: Path) -> AbstractContextManager[None, bool]:
    """`tally.file`; without a tally the first failure goes on to the caller."""
    block: Any = nullcontext() if tally is None else tally.file(name, *paths)
    return cast("AbstractContextManager[None, bool]", block)


def reason_of(error: BaseException, *paths: Path) -> str:
    """Without the path that leads it."""
    if isinstance(error, InputError):
        text = str(error)
    elif isinstance(error, OSError):
        text = f"{error.filename}: {error.strerror or error}" if error.filename else str(error)
    elif isinstance(error, MemoryError):
        text = "not enough memory"
    else:
        text = f"{type(error).__name__}: {error} (a fault of cyclesr; --debug shows where)"
    for path in paths:
        text = text.removeprefix(f"{path}: ")
    return text


def printable(text: str) -> str:
    """One line that any terminal takes as text: control characters are spelt out, a name's odd bytes stay."""
    return "".join(
        c if c.isprintable() or "\udc80" <= c <= "\udcff" else c.encode("unicode_escape").decode() for c in text
    )


def _tell_by_reason(skipped: dict[str, str]) -> None:
    """A line for each kind, with some names."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in skipped.items():
        by_reason.setdefault(reason, []).append(printable(name))
    if len(by_reason) > FIRST_LINES:
        _say(f"{len(skipped):,} skipped, of these:")
    for reason, names in list(by_reason.items())[:FIRST_LINES]:
        more = f" and {len(names) - FIRST_LINES:,} more" if len(names) > FIRST_LINES else ""
        _say(f"{len(names):,} skipped: {', '.join(names[:FIRST_LINES])}{more}: {reason}")


def _say(line: str) -> None:
    """Also with `--quiet`: what is missing is no progress."""
    print(redact(line), file=sys.stderr, flush=True)
