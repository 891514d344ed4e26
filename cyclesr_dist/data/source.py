"""Where the files of a shard set lie: what a local folder and a remote URL have in common, and the local folder.

Names are those that the manifest's numbering gives (`shard-000000.tar`); nothing read from a file becomes a path.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Protocol
from urllib.parse import unquote, urlsplit
from weakref import WeakSet

from cyclesr_dist.errors import InputError
from cyclesr_dist.runtime.descriptors import kept_open_by, most_kept_open
from cyclesr_dist.runtime.files import is_file, reading, size_of
from cyclesr_dist.runtime.passing import RETRIES, failed, patiently
from cyclesr_dist.runtime.redact import redact_url


@dataclass(frozen=True)
class Piece:
    """Where one member of one sample lies."""

    name: str
    """Of the tar file."""
    offset: int
    size: int
    number: int
    """Of this member among all members of the tar."""
    num_pieces: int
    """Members of the tar."""
    file_bytes: int
    """Size of the tar."""
    sample: str
    """Key and domain, for messages."""
    url: str
    """Of the set."""
    crc32: int

    def __str__(self) -> str:
        """What errors begin with."""
        return f"{self.url}/{self.name}: sample {self.sample}"


class Source(Protocol):
    """The files of one shard set. Safe to share between threads, to fork and to pickle."""

    url: str

    @property
    def remark(self) -> str:
        """What the user should know of how the storage behaves, in one line; empty: nothing."""

    def get(self, name: str) -> bytes:
        """A whole small file. Raises InputError naming it when it is missing or cannot be read."""

    def read(self, pieces: Sequence[Piece]) -> Iterable[bytes | InputError]:
        """The bytes of every piece, or why not. A remote source fetches what it lacks concurrently; a local one reads
        each when it is asked for, so that it is decoded while it is in the processor's cache."""

    def forget(self, piece: Piece) -> bool:
        """Drop what a cache holds of a piece that proved damaged. False if reading it again cannot help."""

    def exists(self, name: str) -> bool:
        """Whether there is such a file. Raises InputError when that cannot be found out."""

    def whole(self, name: str) -> AbstractContextManager[Path]:
        """The whole file, somewhere on this machine, for the length of a `with` block. Raises InputError."""


class LocalSource:
    """A folder, perhaps of a network disk: what may pass is tried again."""

    remark = ""

    def __init__(self, folder: Path, retries: int = RETRIES) -> None:
        self.folder = folder
        self.url = str(folder)
        self.retries = retries
        self._files = Files(retries)

    def get(self, name: str) -> bytes:
        path = self.folder / name
        with reading(path):
            return patiently(path.read_bytes, self.retries)

    def read(self, pieces: Sequence[Piece]) -> Iterable[bytes | InputError]:
        return map(self._read, pieces)

    def _read(self, piece: Piece) -> bytes | InputError:
        try:
            return self._files.read(self.folder / piece.name, piece.offset, piece.size, piece)
        except InputError as error:
            return error

    def forget(self, piece: Piece) -> bool:
        return False

    def size(self, name: str) -> int:
        """Bytes of a file. Raises InputError when it is missing."""
        size = size_of(self.folder / name, self.retries)
        if size is None:
            raise InputError(f"{self.folder / name}: missing; the manifest beside it lists it")
        return size

    def exists(self, name: str) -> bool:
        return is_file(self.folder / name, self.retries)

    @contextmanager
    def whole(self, name: str) -> Iterator[Path]:
        yield self.folder / name


class Files:
    """Reads pieces of files and keeps the last few open. Threads and forked children may use it at the same time."""

    _all: ClassVar[WeakSet[Files]] = WeakSet()

    def __init__(self, retries: int = RETRIES) -> None:
        self.retries = retries
        self._start()

    def _start(self) -> None:
        self._close()
        Files._all.add(self)

    def _close(self) -> None:
        # lru_cache holds no lock while Python code runs, so a fork cannot inherit one locked; and a handle dropped
        # from it lives on until the thread that reads from it is done.
        self._handle = lru_cache(maxsize=most_kept_open())(_Handle)

    def __getstate__(self) -> dict[str, object]:
        return {"retries": self.retries}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._start()

    def read(self, path: Path, offset: int, size: int, where: object) -> bytes:
        """`size` bytes from `offset`. Raises InputError starting with `where`, made a string only then."""
        try:
            data = patiently(lambda: self._handle(path).read(offset, size), self.retries, Files.close_all)
        except OSError as error:
            raise failed(f"{where} cannot be read ({error.strerror})", error) from error
        if len(data) != size:
            raise InputError(f"{where} is cut short: {len(data)} of {size} bytes")
        return data

    @staticmethod
    def close_all() -> None:
        """Close what is kept open in this process: a handle may be stale, and another may need the descriptor."""
        for files in list(Files._all):
            files._close()


kept_open_by(Files.close_all)


class _Handle:
    """A read-only descriptor, closed when the last user lets go of it."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes. A method, so that `self` stays alive, and the descriptor open, until pread is back."""
        return os.pread(self.fd, size, offset)

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            os.close(self.fd)


def is_remote(url: str) -> bool:
    """Whether `url` is anything but a local path or file:// URL. Raises InputError for what no source takes."""
    if url.startswith("pipe:"):
        raise InputError(f"{url}: pipe: URLs run a shell and are refused; give a folder, or an http, s3 or other URL")
    if not url or "\0" in url:
        raise InputError(f"shard set URL {url!r} is not a folder")
    return "://" in url and not url.startswith("file:")


def below(url: str, name: str) -> str:
    """The URL of a file or folder in `url`; of http, a query, where a signature may be, stays behind the name."""
    place, query = _without_query(url)
    return f"{place.rstrip('/')}/{name}{query}"


def shown(url: str) -> str:
    """What messages call `url`: without the signature that it may have."""
    return redact_url(_without_query(url)[0])


def _without_query(url: str) -> tuple[str, str]:
    if not url.lower().startswith(("http://", "https://")):
        return url, ""
    place, mark, query = url.partition("#")[0].partition("?")
    return place, mark + query


def local_folder(url: str) -> Path:
    """The folder that a local path or file:// URL means. Raises InputError for anything else."""
    if is_remote(url):
        raise InputError(f"{url}: a local folder is needed here (a path or file:///path)")
    if url.startswith("file:"):
        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise InputError(f"{url}: a file URL must be file:///absolute/path")
        return Path(unquote(parts.path))
    return Path(url).expanduser()
