"""Faults of storage that may pass, told from bad input in this one place, and the patience that they need."""

from __future__ import annotations

import errno
import random
import re
import time
from collections.abc import Callable
from socket import gaierror
from typing import TypeVar
from urllib.error import HTTPError, URLError

from cyclesr_dist.errors import InputError, UnreachableError, UnwritableError
from cyclesr_dist.runtime.descriptors import FULL, close_kept

T = TypeVar("T")
RETRIES = 6
"""Attempts after a failed one, where no configuration says another number: 6 to 13 seconds in all."""
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.2, 10.0

_PASSING = frozenset(
    getattr(errno, name)
    for name in (
        *("EIO", "ESTALE", "EREMOTEIO", "ENXIO", "ENODEV", "ENOMEDIUM"),  # a disk, or the network one behind a mount
        *("EAGAIN", "EINTR", "EBUSY", "ETIME", "ETIMEDOUT", "EPROTO", "EBADMSG", "ENOLCK"),
        *("ENOTCONN", "ECONNABORTED", "ECONNREFUSED", "ECONNRESET", "ECOMM", "ENOLINK", "EPIPE", "ESHUTDOWN"),
        *("EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "ENETRESET"),
        *("ENOKEY", "EKEYEXPIRED", "EKEYREVOKED", "EKEYREJECTED"),  # a ticket of Kerberos that is being renewed
        *("EMFILE", "ENFILE", "ENOMEM", "ENOBUFS"),
    )
    if hasattr(errno, name)
)
_OF_ONE_NAME = frozenset(
    (
        *(errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY),
        errno.ENOENT,  # no such folder
        errno.EFBIG,  # a file system's largest file: others are smaller
    )
)
"""Faults of writing that another file need not have."""
_FOR_GOOD_BEHIND_A_URL = (FileNotFoundError, NotADirectoryError, IsADirectoryError, NotImplementedError)
_PASSING_STATUS = (401, 403, 408, 425, 429)
_REFUSED = re.compile(r"\b40[13]\b|access ?denied|forbidden|unauthori[sz]ed|credential|token|signature", re.IGNORECASE)


def may_pass(error: BaseException) -> bool:
    """Whether a file of this machine, or of a mounted one, may be read or written later although it failed now; or a
    download with urllib."""
    if isinstance(error, HTTPError):
        return error.code in _PASSING_STATUS or error.code >= 500
    if isinstance(error, URLError) and isinstance(error.reason, OSError):
        return may_pass(error.reason)
    return isinstance(error, TimeoutError | ConnectionError | gaierror) or _errno(error) in _PASSING


def may_pass_behind_a_url(error: BaseException) -> bool:
    """The same of storage behind a URL. A refusal, too: credentials expire and are rotated, and a wrong one cannot be
    told from an old one."""
    return not isinstance(error, _FOR_GOOD_BEHIND_A_URL)


def refused(error: BaseException) -> bool:
    """Whether storage behind a URL does not accept the credentials, or there are none."""
    return isinstance(error, PermissionError) or bool(_REFUSED.search(f"{type(error).__name__} {error}"))


def failed(text: str, error: BaseException) -> InputError:
    """What to raise for a failed reading or writing of a file: UnreachableError (exit code 1) where the fault may pass,
    InputError (2) otherwise."""
    return (UnreachableError if may_pass(error) else InputError)(text)


def unwritable(where: object, error: OSError) -> InputError:
    """What to raise where a file or folder cannot be written: UnreachableError where the fault may pass, InputError (2)
    where it lies in the name, UnwritableError (1) otherwise: then other files cannot be written either."""
    text = f"{where}: cannot be written ({error.strerror or error})"
    if may_pass(error):
        return UnreachableError(text)
    return (InputError if error.errno in _OF_ONE_NAME else UnwritableError)(text)


def patiently(call: Callable[[], T], retries: int = RETRIES, before: Callable[[], None] = lambda: None) -> T:
    """`call`, tried again while its exceptions are of faults that may pass; the last of them is raised.

    `before` is called ahead of each further attempt.
    """
    for attempt in range(1, retries + 1):
        try:
            return call()
        except Exception as error:  # of every library that reads files
            if not may_pass(error):
                raise
            if _errno(error) in FULL:
                close_kept()
        before()
        time.sleep(wait_seconds(attempt))
    return call()


def wait_seconds(attempt: int) -> float:
    """Before attempt 1, 2, ...: doubled each time, with jitter, so that ranks do not ask in step."""
    longest = min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2 ** (attempt - 1))
    return random.uniform(longest / 2, longest)


def _errno(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))  # safetensors, which is written in Rust
    return int(found[1]) if found else None
