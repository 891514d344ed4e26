"""The few ways this software fails on purpose, each with its exit code.

Everything a user can cause raises a `CycleSRError`; the command line prints its message as one line and exits with
`exit_code`. Any other exception is a bug of ours and exits 1 with a traceback.
"""

from __future__ import annotations

from cyclesr_dist.runtime.redact import redact


class CycleSRError(Exception):
    """Base of all expected failures. The message is one line: what is wrong, the value, and what is allowed.

    Without credentials, whatever it was made of: a library's text may hold the URL that it asked for.
    """

    exit_code = 1
    began_here = True
    """False on a rank that prints the failure of another one."""

    def __init__(self, message: str) -> None:
        super().__init__(redact(message))


class ConfigError(CycleSRError):
    """A configuration key or value that cannot be used (exit code 2)."""

    exit_code = 2


class InputError(CycleSRError):
    """A file, folder or argument given by the user that cannot be used (exit code 2)."""

    exit_code = 2


class StorageError(InputError):
    """Storage that cannot be used as it is set up (exit code 2). Nothing is known of the file that was asked for."""


class UnreachableError(StorageError):
    """Storage that does not answer, all retries over: it may later (exit code 1, which Kubernetes begins again)."""

    exit_code = 1


class UnwritableError(InputError):
    """Nothing can be written: a full disk, a read-only target (exit code 1)."""

    exit_code = 1


class MemoryShortError(InputError):
    """A file that needs more memory than is free (exit code 1): it may fit on another machine, or later."""

    exit_code = 1


class NotFiniteError(InputError):
    """A network that gives values that are not finite (exit code 2)."""


class NothingLeftError(InputError):
    """Of many files not one could be used (exit code 1); a line for each has said why."""

    exit_code = 1


class TrainingError(CycleSRError):
    """Training cannot go on, for instance because a loss is not finite (exit code 1)."""

    exit_code = 1


class Preempted(CycleSRError):
    """The run was asked to stop and has saved its state (exit code 75, EX_TEMPFAIL: start me again)."""

    exit_code = 75


class FailedElsewhere(CycleSRError):
    """Another rank has the same failure and prints it; this one only leaves, with the same exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
