"""Files and folders that are there whole or not at all, and the checksums that prove it."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cyclesr_dist.errors import CycleSRError, InputError
from cyclesr_dist.runtime.lease import FOLDER, held
from cyclesr_dist.runtime.passing import RETRIES, failed, may_pass, patiently, unwritable
from cyclesr_dist.runtime.process_identity import began, machine

_REQUEST = ".request.json"
_TEMPORARY = re.compile(r"\.([0-9a-f]{8})-([0-9]+)\.tmp$")
_LONGEST_NAME = 150
"""Bytes of a file name that a prefix and an ending are still added to."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`, renamed to `path` on success and removed on failure: all or nothing."""
    temporary = _temporary(path)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def clear_abandoned(folder: Path) -> None:
    """Remove what `replacing` left in a folder when its process was killed outright, on this machine."""
    for path in folder.glob(".*.tmp"):
        found = _TEMPORARY.search(path.name)
        if found and found[1] == _here() and not began(int(found[2])):
            path.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{_short(path.name)}.{_here()}-{os.getpid()}.tmp")


def _here() -> str:
    """Of where process numbers can be compared, 8 hexadecimal digits."""
    return f"{zlib.crc32(machine().encode()):08x}"


def _short(name: str) -> str:
    """The name, or where an addition could make it longer than file systems allow (255 bytes) its checksum."""
    data = os.fsencode(name)
    return name if len(data) <= _LONGEST_NAME else hashlib.sha256(data).hexdigest()[:32]


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text`, UTF-8, all or nothing. Bytes of file names that are not UTF-8 stand as `\\udcXX`."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data`, all or nothing. What may pass is tried again. Raises OSError.

    Behind a link it is the file there that is replaced; a pipe or a device (/dev/stdout) is written to.
    """
    if _is_special(path):
        path.write_bytes(data)
        return
    target = Path(os.path.realpath(path)) if path.is_symlink() else path

    def write() -> None:
        with replacing(target) as temporary:
            temporary.write_bytes(data)

    patiently(write)


def _is_special(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def check_writable(path: Path, option: str) -> None:
    """Ahead of the work, whether a file can be written. Raises InputError where `option` names no place for a file,
    UnwritableError where nothing can be written there."""
    if not path.parent.is_dir():
        raise InputError(f"{option} {path}: no such folder {path.parent}")
    if path.is_dir():
        raise InputError(f"{option} {path}: is a folder; a file is needed")
    if _is_special(path):
        return
    temporary = _temporary(path)
    try:
        temporary.touch()
        temporary.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(f"{option} {path}", error) from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns an OSError of the block into an InputError that names `path`; UnreachableError where it may pass."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{path}: missing") from error
    except OSError as error:
        raise failed(f"{path}: cannot be read ({error.strerror or error})", error) from error


def is_file(path: Path, retries: int = RETRIES) -> bool:
    """Whether there is such a file, or one behind the link. Raises InputError when that cannot be found out: a disk
    that is away is no answer."""
    found = _status(path, retries)
    return found is not None and stat.S_ISREG(found.st_mode)


def is_folder(path: Path, retries: int = RETRIES) -> bool:
    """The same of a folder."""
    found = _status(path, retries)
    return found is not None and stat.S_ISDIR(found.st_mode)


def bytes_if_there(path: Path) -> bytes | None:
    """What is in a file; None when it is missing. What may pass is tried again. Raises InputError."""
    if not is_file(path):
        return None
    with reading(path):
        return patiently(path.read_bytes)


def size_of(path: Path, retries: int = RETRIES) -> int | None:
    """Bytes of a file; None when it is missing. Raises InputError when that cannot be found out."""
    found = _status(path, retries)
    return None if found is None else found.st_size


def _status(path: Path, retries: int) -> os.stat_result | None:
    try:
        return patiently(path.stat, retries)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None
        raise failed(f"{path}: cannot be read ({error.strerror})", error) from error
    except ValueError:  # a NUL in the name
        return None


@contextmanager
def new_folder(
    out: Path, *, overwrite: bool, inputs: tuple[Path, ...] = (), request: dict[str, Any] | None = None
) -> Iterator[Path]:
    """Yield an empty folder beside `out` that becomes `out` when the block succeeds and vanishes when it fails.

    What an earlier kill left behind is removed; with `request`, a description of the work, it is kept if it is of an
    equal request, and a CycleSRError or a full disk alone removes it. `inputs` must not lie in `out`, which `overwrite`
    would delete. Raises InputError when `out` is a file, is a non-empty folder (without `overwrite`), is being written
    by another command, or cannot be written.
    """
    out = out.expanduser().resolve()
    try:
        there = out.exists()
        filled = out.is_dir() and any(out.iterdir())
    except OSError as error:  # a name that is too long, a folder that may not be looked into
        raise unwritable(out, error) from error
    if there and not out.is_dir():
        raise InputError(f"{out}: is a file; a folder is needed")
    if filled:
        if not overwrite:
            raise InputError(
                f"{out}: is not empty and holds something else; --overwrite (in Python overwrite=True) replaces it"
            )
        for path in inputs:
            if path.resolve().is_relative_to(out):
                raise InputError(f"{out}: contains the input {path}, which would be deleted with what it holds")
    temporary = out.with_name(f".{_short(out.name)}.building")
    replaced = out.with_name(f".{_short(out.name)}.replaced")
    try:
        made = [parent for parent in out.parents if not parent.exists()]
        temporary.mkdir(parents=True, exist_ok=True)
        with _locked(temporary / ".lock", out), held(temporary, str(out), FOLDER) as lease:
            try:
                _clear(temporary, request)
                yield temporary
                lease.hold(sure=True)
                lease.release()
                shutil.rmtree(temporary / FOLDER, ignore_errors=True)  # what a killed process left in it
                (temporary / _REQUEST).unlink(missing_ok=True)
                shutil.rmtree(replaced, ignore_errors=True)
                if out.exists():
                    out.rename(replaced)
                (temporary / ".lock").unlink()
                temporary.rename(out)
                shutil.rmtree(replaced, ignore_errors=True)
            except BaseException as error:
                if lease.lost:
                    raise  # all there is another command's
                full = isinstance(error, OSError) and not may_pass(error)  # the half must not stay on a full disk
                if request is not None and not isinstance(error, CycleSRError) and not full:
                    raise  # interrupted: the same command goes on from here
                shutil.rmtree(temporary, ignore_errors=True)
                for parent in made:
                    with suppress(OSError):  # somebody else uses it by now
                        parent.rmdir()
                raise
    except OSError as error:
        raise unwritable(out, error) from error
    except InputError as error:
        if str(temporary) not in str(error):
            raise
        raise type(error)(str(error).replace(str(temporary), str(out))) from error  # nobody knows the temporary name


def sha256(path: Path) -> str:
    """Checksum of a file, hexadecimal. Raises InputError when it cannot be read."""

    def digest() -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    with reading(path):
        return patiently(digest)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write sorted JSON with a final newline: equal values give equal bytes."""
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")


@contextmanager
def _locked(path: Path, out: Path) -> Iterator[None]:
    """Hold a lock that the kernel drops when this process dies. Some network file systems have none: there the lease
    alone tells a stale folder from one in use."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{out}: another command is writing it now") from error
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):  # some network file systems lock not
                raise
        if not path.exists():
            raise InputError(f"{out}: another command has just written it")
        yield


def _clear(folder: Path, request: dict[str, Any] | None) -> None:
    """Empty the folder, unless it is of an equal request; then note the request in it."""
    note = folder / _REQUEST
    wanted = None if request is None else json.dumps(request, sort_keys=True)
    if wanted is not None and note.exists() and note.read_text(encoding="utf-8") == wanted:
        for path in folder.rglob(".*.tmp"):  # of `replacing`, in a process killed while it wrote
            path.unlink()
        return
    for path in folder.iterdir():
        if path.name == FOLDER:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != ".lock":
            path.unlink()
    if wanted is not None:
        write_text(note, wanted)
