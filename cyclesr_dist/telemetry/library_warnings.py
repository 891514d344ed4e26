"""Warnings of libraries, which nobody who trains can act on, go to log.txt of the run folder instead of the terminal.

Errors that libraries log, and warnings of this package, still reach the terminal.
"""

from __future__ import annotations

import logging
import sys
import warnings
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

from cyclesr_dist.runtime.redact import redact

_OWN = str(Path(__file__).parents[1])
_MOST_BUFFERED = 1000


class LibraryWarnings:
    """A context manager that takes them, and keeps them until `to` says where they belong."""

    def __init__(self) -> None:
        self.kept = MemoryHandler(_MOST_BUFFERED, flushLevel=logging.CRITICAL + 1, flushOnClose=False)
        self.collected = logging.Logger("warnings")
        self.collected.addHandler(self.kept)
        self.file: logging.FileHandler | None = None

    def to(self, path: Path | None) -> None:
        """Append them to this file, which is made with the first of them; None drops them."""
        self.file = logging.FileHandler(path, delay=True, encoding="utf-8") if path else None
        if self.file:
            self.file.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s: %(message)s"))
            self.file.addFilter(_without_credentials)
        self.kept.setTarget(self.file or logging.NullHandler())
        self.kept.flushLevel = logging.NOTSET  # from now on nothing is kept back
        self.kept.flush()

    def __enter__(self) -> LibraryWarnings:
        self.shown = warnings.showwarning
        warnings.showwarning = self._show
        # torch's loggers are many, of which some have handlers that the others' records end in. DeepSpeed's is one, and
        # gets its handler when DeepSpeed is imported, so it is filtered.
        errors = logging.StreamHandler(sys.stderr)
        errors.setLevel(logging.ERROR)
        errors.addFilter(_without_credentials)
        if logging.lastResort:  # of all other libraries
            logging.lastResort.addFilter(_without_credentials)
        self.before = [(logger, logger.handlers, logger.propagate) for logger in _torch_loggers()]
        for logger, _, _ in self.before:
            logger.handlers, logger.propagate = [self.kept, errors], False
        self.deepspeed = logging.getLogger("DeepSpeed")
        self.deepspeed.addFilter(self._take)
        return self

    def __exit__(self, *error: object) -> None:
        warnings.showwarning = self.shown
        for logger, handlers, propagate in self.before:
            logger.handlers, logger.propagate = handlers, propagate
        self.deepspeed.removeFilter(self._take)
        if logging.lastResort:
            logging.lastResort.removeFilter(_without_credentials)
        self.kept.close()
        if self.file:
            self.file.close()

    def _show(
        self, message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: Any, **more: Any
    ) -> None:
        if filename.startswith(_OWN):
            self.shown(message, category, filename, lineno, *rest, **more)
        else:
            self.collected.warning("%s:%s: %s: %s", filename, lineno, category.__name__, message)

    def _take(self, record: logging.LogRecord) -> bool:
        """Whether the logger is to handle it itself."""
        if record.levelno >= logging.ERROR:
            return True
        self.kept.handle(record)
        return False


def _without_credentials(record: logging.LogRecord) -> bool:
    """Libraries name the URLs that they ask for."""
    record.msg, record.args = redact(record.getMessage()), ()
    return True


def _torch_loggers() -> list[logging.Logger]:
    """The root of torch's, and those of its children that have handlers of their own."""
    known = [logging.getLogger(name) for name in logging.root.manager.loggerDict if name.startswith("torch.")]
    return [logging.getLogger("torch"), *(logger for logger in known if logger.handlers)]
