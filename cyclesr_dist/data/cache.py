"""A bounded cache of pieces of remote tars on local disk, shared by all processes of a machine.

For each tar there is one sparse file: first a byte for every piece, 1 once its bytes are there, then the tar's bytes,
each at its own place. One file, so that deleting it is atomic; the byte is set after the bytes are written, so that a
process killed in between leaves the piece absent. What another process deletes meanwhile stays readable in the files
that are open.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections import OrderedDict
from pathlib import Path
from threading import Lock

from cyclesr_dist.data.source import Piece
from cyclesr_dist.errors import InputError

_OPEN_FILES = 64
_LOOK_AGAIN_SECONDS = 10.0
_PARTS = 32


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
            raise InputError(f"data.remote.cache_dir: {folder} cannot be written ({error.strerror})") from error
        self._start()

    def _start(self) -> None:
        self._open: OrderedDict[str, _SparseFile] = OrderedDict()
        self._lock = Lock()
        self._written = 0

    def __getstate__(self) -> dict[str, object]:
        return {"folder": self.folder, "max_bytes": self.max_bytes, "own": self.own}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._start()

    def read(self, piece: Piece) -> bytes | None:
        """The piece's bytes if they are here. They may be damaged: the caller verifies them."""
        file = self._file(piece)
        return file.read(piece) if file else None

    def write(self, piece: Piece, data: bytes) -> None:
        """Keep the bytes of a piece. A full disk is no error: the cache then stays as it is."""
        file = self._file(piece)
        if file is None:
            return
        try:
            file.write(piece, data)
        except OSError:
            return  # the bytes are in the caller's hands; without a cache it is slower, not wrong
        self._written += len(data)
        if self._written * _PARTS > self.max_bytes:
            self._written = 0
            self._make_room()

    def forget(self, piece: Piece) -> None:
        """Mark a piece as absent."""
        if file := self._file(piece):
            file.forget(piece)

    def num_bytes(self) -> int:
        """Disk space that all sets in the cache folder take."""
        return sum(size for _, size, _ in self._scan())

    def _file(self, piece: Piece) -> _SparseFile | None:
        """The open file of the piece's tar; None if it cannot be opened."""
        with self._lock:
            file = self._open.get(piece.name)
            if file is None or file.is_deleted():
                try:
                    file = _SparseFile(self.own / piece.name, piece.num_pieces)
                except OSError:
                    return None
                self._open[piece.name] = file
            self._open.move_to_end(piece.name)
            if len(self._open) > _OPEN_FILES:
                self._open.popitem(last=False)
            return file

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

    def read(self, piece: Piece) -> bytes | None:
        if os.pread(self.fd, 1, piece.number) != b"\1":
            return None
        return os.pread(self.fd, piece.size, self.head + piece.offset)

    def write(self, piece: Piece, data: bytes) -> None:
        os.pwrite(self.fd, data, self.head + piece.offset)
        os.pwrite(self.fd, b"\1", piece.number)

    def forget(self, piece: Piece) -> None:
        os.pwrite(self.fd, b"\0", piece.number)

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            os.close(self.fd)
