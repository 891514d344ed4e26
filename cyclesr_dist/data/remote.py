"""Shard sets behind a URL: http(s), S3 and whatever else fsspec reads, with a local cache and patience.

Credentials and endpoints come from the environment and configuration files of fsspec and of the storage's own client
(AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, FSSPEC_S3_ENDPOINT_URL, ...; of http the file that NETRC names), never from the
project's configuration. The query of an http URL goes to every file below it: it may be a signature for all of them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from cyclesr_dist.config.schema import Remote
from cyclesr_dist.data.cache import PieceCache
from cyclesr_dist.data.connection import Connection, remote_failure
from cyclesr_dist.data.pieces import PieceReader
from cyclesr_dist.data.source import Piece, shown
from cyclesr_dist.errors import InputError
from cyclesr_dist.runtime.passing import may_pass_behind_a_url

T = TypeVar("T")


def cache_folder(remote: Remote) -> Path:
    """Where the cache lies: `data.remote.cache_dir`, or the user's cache folder."""
    if remote.cache_dir:
        return Path(remote.cache_dir).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cyclesr-dist"


class RemoteSource:
    """The files below a URL; see `source.Source`."""

    def __init__(self, url: str, remote: Remote) -> None:
        self._address = url.rstrip("/")
        self.url = shown(self._address)
        self.remote = remote
        self._cache: PieceCache | None = None
        self._start()

    def _start(self) -> None:
        self._connection = Connection(self._address)
        self._pieces = PieceReader(self._connection, self.remote, self._cache)

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url, "_address": self._address, "remote": self.remote, "_cache": self._cache}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    def use_cache(self, contents: str) -> None:
        """Begin caching pieces. `contents` identifies what the files hold (the manifest's checksum)."""
        if self.remote.cache_gb:
            size = int(self.remote.cache_gb * 1e9)
            self._cache = PieceCache(cache_folder(self.remote), size, f"{self.url}\n{contents}")
            self._pieces.cache = self._cache

    @property
    def remark(self) -> str:
        if not (self._cache and self._cache.met_whole):
            return ""
        return (
            f"{self.url}: the server sends whole files where parts are asked for (no HTTP Range); each tar is fetched "
            f"whole, once, into {self._cache.folder}"
        )

    def get(self, name: str) -> bytes:
        data = self._patiently(name, lambda: self._fs.cat_file(self._path(name)))
        assert isinstance(data, bytes)
        return data

    def read(self, pieces: Sequence[Piece]) -> list[bytes | InputError]:
        return self._pieces.read(pieces)

    def forget(self, piece: Piece) -> bool:
        if self._cache:
            self._cache.forget(piece)
        return True

    def exists(self, name: str) -> bool:
        # A byte of it, because fsspec's own `exists` takes an HTTP server's failure for a missing file.
        try:
            self._patiently(name, lambda: self._fs.cat_file(self._path(name), start=0, end=1))
        except InputError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return False
            raise
        return True

    @contextmanager
    def whole(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="cyclesr-") as folder:
            path = Path(folder) / "file"
            self._patiently(name, lambda: self._fs.get_file(self._path(name), str(path)))
            yield path

    def put(self, path: Path, name: str) -> None:
        """Write a local file to the URL. Raises InputError when that does not succeed."""
        self._patiently(name, lambda: self._fs.put_file(str(path), self._path(name)), "written")

    def write(self, name: str, data: bytes) -> None:
        """The same for what is in memory."""
        self._patiently(name, lambda: self._fs.pipe_file(self._path(name), data), "written")

    def remove(self, name: str) -> None:
        """Remove a file. Raises InputError when that does not succeed."""
        self._patiently(name, lambda: self._fs.rm_file(self._path(name)), "removed")

    def names(self) -> list[str]:
        """Names of the files directly below the URL; empty where there is none."""

        def listed() -> list[str]:
            self._fs.invalidate_cache()
            try:
                found = self._fs.ls(self._connection.root, detail=False)
            except FileNotFoundError:
                return []
            return [str(path).rstrip("/").rsplit("/", 1)[-1] for path in found]

        return self._patiently("", listed)

    def _path(self, name: str) -> str:
        return self._connection.path(name)

    @property
    def _fs(self) -> Any:
        return self._connection.fs

    def _patiently(self, name: str, call: Callable[[], T], done: str = "read") -> T:
        for attempt in range(self.remote.retries + 1):
            if attempt:
                self._connection.renew(attempt)
            try:
                return call()
            except FileNotFoundError as error:
                raise InputError(f"{self.url}/{name}: missing") from error
            except Exception as error:  # every file system has its own kinds; all become one line with the file's name
                failure: Exception = error
                if not may_pass_behind_a_url(error):
                    break
        raise remote_failure(f"{self.url}/{name}: cannot be {done}", failure) from failure
