"""A bounded cache of pieces of remote tars on local disk, shared by all processes of a machine.

For each tar there is one sparse file: first a byte for every piece, 1 once its bytes are there (2 where they came with
the whole tar), then the tar's bytes, each at its own place. One file, so that deleting it is atomic; the byte is set
after the bytes are written, so that a process killed in between leaves the piece absent. What another process deletes
meanwhile stays readable in the files that are open.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock

from cyclesr_dist.data.source import Piece
from cyclesr_dist.errors import UnreachableError
from cyclesr_dist.runtime.descriptors import FULL, close_kept, most_kept_open
from cyclesr_dist.runtime.passing import failed

_LOOK_AGAIN_SECONDS = 10.0
_PARTS = 32
_ALONE, _WITH_ALL = b"\1", b"\2"


class PieceCache:
    """The pieces of one shard set in the cache folder `folder`, which all sets share; see the module's text.

    All sets together stay within `max_bytes`, plus at most a 32nd of it for each process that writes.
    """

    def __init__(self, folder: Path, max_bytes: int, set_name: str) -> None:
        """`set_name` is unique for a set's URL and contents. Raises InputError when the folder cannot be made."""
        self.folder = folder
        self.max_bytes = max_bytes
        self.own = folder / hashlib.sha256(set_name.encode()).hexdigest()[:24]
        try:
            self.own.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise failed(f"data.remote.cache_dir: {folder} cannot be written ({error.strerror})", error) from error
        self._start()

    def _start(self) -> None:
        self._open: OrderedDict[str, _SparseFile] = OrderedDict()
        self._lock = Lock()
        self._written = 0
        self.met_whole = False
        """Whether a piece that was read here had come with the whole tar."""

    def __getstate__(self) -> dict[str, object]:
        return {"folder": self.folder, "max_bytes": self.max_bytes, "own": self.own}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._start()

    def read(self, piece: Piece) -> bytes | None:
        """The piece's bytes if they are here. They may be damaged: the caller verifies them."""
        file = self._file(piece)
        try:
            found, whole = file.read(piece) if file else (None, False)
        except OSError:  # of the cache's disk; the bytes are where they came from
            return None
        self.met_whole = self.met_whole or whole
        return found

    def write(self, piece: Piece, data: bytes) -> None:
        """Keep the bytes of a piece. A full disk is no error: the cache then stays as it is."""
        file = self._file(piece)
        if file is None:
            return
        try:
            if file.has(piece):
                return
            file.write(piece, data)
        except OSError:
            return  # the bytes are in the caller's hands; without a cache it is slower, not wrong
        self._count(len(data))

    @contextmanager
    def locked(self, tar: str) -> Iterator[None]:
        """Alone with a tar among all processes that share the folder; the kernel unlocks it when one dies.

        Where nothing can be locked, two may fetch the same.
        """
        descriptor = None
        try:
            descriptor = os.open(self.own / f"{tar}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:  # some network file systems lock not; the bytes are the same
            yield
        else:
            yield
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def sink(self, piece: Piece) -> WholeTar:
        """Takes the whole tar that a piece lies in."""
        return WholeTar(self, piece)

    def took_whole(self, tar: str, num_bytes: int) -> None:
        """Another file may have its name now than the one that is open here."""
        with self._lock:
            self._open.pop(tar, None)
        self._count(num_bytes)

    def _count(self, num_bytes: int) -> None:
        self._written += num_bytes
        if self._written * _PARTS > self.max_bytes:
            self._written = 0
            self._make_room()

    def forget(self, piece: Piece) -> None:
        """Mark a piece as absent."""
        if file := self._file(piece):
            with suppress(OSError):  # as when it is read
                file.forget(piece)

    def num_bytes(self) -> int:
        """Disk space that all sets in the cache folder take."""
        return sum(size for _, size, _ in self._scan())

    def _file(self, piece: Piece) -> _SparseFile | None:
        """The open file of the piece's tar; None if it cannot be opened."""
        with self._lock:
            file = self._open.get(piece.name)
            try:
                if file is None or file.is_deleted():
                    file = self._opened(piece)
            except OSError:
                return None
            self._open[piece.name] = file
            self._open.move_to_end(piece.name)
            if len(self._open) > most_kept_open():
                self._open.popitem(last=False)
            return file

    def _opened(self, piece: Piece) -> _SparseFile:
        try:
            return _SparseFile(self.own / piece.name, piece.num_pieces)
        except OSError as error:
            if error.errno not in FULL:
                raise
            self._open.clear()
            close_kept()
            return _SparseFile(self.own / piece.name, piece.num_pieces)

    def _scan(self) -> list[tuple[float, int, Path]]:
        """Time of last use, disk space, path."""
        found = []
        for path in self.folder.glob("*/shard-*.tar"):
            try:
                status = path.stat()
            except FileNotFoundError:  # another process makes room, too
                continue
            found.append((status.st_mtime, status.st_blocks * 512, path))
        return found

    def _make_room(self) -> None:
        with (self.folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return  # somebody is at it
            files = sorted(self._scan())
            total = sum(size for _, size, _ in files)
            for _, size, path in files:
                if total <= self.max_bytes - self.max_bytes // _PARTS:
                    break
                path.unlink(missing_ok=True)
                total -= size
        with self._lock:
            self._open = OrderedDict((name, f) for name, f in self._open.items() if not f.is_deleted(look=True))


class WholeTar:
    """Writes a whole tar into the cache: its pieces are there once it is `done`."""

    def __init__(self, cache: PieceCache, piece: Piece) -> None:
        self._cache = cache
        self._name = piece.name
        try:
            self._file = _SparseFile(cache.own / piece.name, piece.num_pieces)
        except OSError as error:
            raise self._failed(error) from error
        self._written = 0

    def write(self, offset: int, data: bytes) -> None:
        """Raises UnreachableError when the disk does not take it: unlike a single piece, it cannot be done without."""
        try:
            self._file.write_at(offset, data)
        except OSError as error:
            raise self._failed(error) from error
        self._written += len(data)

    def done(self) -> None:
        try:
            self._file.mark_all()
        except OSError as error:
            raise self._failed(error) from error
        self._cache.took_whole(self._name, self._written)

    def _failed(self, error: OSError) -> UnreachableError:
        return UnreachableError(
            f"data.remote.cache_dir: {self._cache.own / self._name} cannot be written ({error.strerror})"
        )


class _SparseFile:
    """One tar's map and bytes."""

    def __init__(self, path: Path, num_pieces: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self.head = num_pieces
        self.looked = time.monotonic()

    def is_deleted(self, look: bool = False) -> bool:
        """Whether its name is gone; looks every few seconds, and says that the file is in use."""
        now = time.monotonic()
        if not look and now - self.looked < _LOOK_AGAIN_SECONDS:
            return False
        self.looked = now
        if os.fstat(self.fd).st_nlink == 0:
            return True
        if not look:
            os.utime(self.fd)
        return False

    def read(self, piece: Piece) -> tuple[bytes | None, bool]:
        """The bytes, if they are here, and whether they came with the whole tar."""
        mark = os.pread(self.fd, 1, piece.number)
        if mark not in (_ALONE, _WITH_ALL):
            return None, False
        return os.pread(self.fd, piece.size, self.head + piece.offset), mark == _WITH_ALL

    def has(self, piece: Piece) -> bool:
        return os.pread(self.fd, 1, piece.number) in (_ALONE, _WITH_ALL)

    def write(self, piece: Piece, data: bytes) -> None:
        os.pwrite(self.fd, data, self.head + piece.offset)
        os.pwrite(self.fd, _ALONE, piece.number)

    def write_at(self, offset: int, data: bytes) -> None:
        if os.pwrite(self.fd, data, self.head + offset) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def mark_all(self) -> None:
        os.pwrite(self.fd, _WITH_ALL * self.head, 0)

    def forget(self, piece: Piece) -> None:
        os.pwrite(self.fd, b"\0", piece.number)

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            os.close(self.fd)
