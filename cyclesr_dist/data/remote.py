"""Shard sets behind a URL: http(s), S3 and whatever else fsspec reads, with a local cache and patience.

Credentials and endpoints come from the environment and configuration files of fsspec and of the storage's own client
(AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, FSSPEC_S3_ENDPOINT_URL, ...), never from the project's configuration.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import fsspec

from cyclesr_dist.config.schema import Remote
from cyclesr_dist.data.cache import PieceCache
from cyclesr_dist.data.source import Piece
from cyclesr_dist.errors import InputError, UnreachableError
from cyclesr_dist.runtime.extras import install_hint

T = TypeVar("T")
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.2, 10.0
_STALL_SECONDS = 30.0  # a server that sends nothing for so long has failed
_FOR_GOOD = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError, NotImplementedError)
_EXTRAS = {"s3": "s3", "s3a": "s3"}


def cache_folder(remote: Remote) -> Path:
    """Where the cache lies: `data.remote.cache_dir`, or the user's cache folder."""
    if remote.cache_dir:
        return Path(remote.cache_dir).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cyclesr-dist"


class RemoteSource:
    """The files below a URL; see `source.Source`."""

    def __init__(self, url: str, remote: Remote) -> None:
        self.url = url.rstrip("/")
        self.remote = remote
        self._cache: PieceCache | None = None
        self._connect()

    def _connect(self) -> None:
        self._fs, self._root = open_filesystem(self.url)

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url, "remote": self.remote, "_cache": self._cache}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._connect()

    def use_cache(self, contents: str) -> None:
        """Begin caching pieces. `contents` identifies what the files hold (the manifest's checksum)."""
        if self.remote.cache_gb:
            size = int(self.remote.cache_gb * 1e9)
            self._cache = PieceCache(cache_folder(self.remote), size, f"{self.url}\n{contents}")

    def get(self, name: str) -> bytes:
        data = self._patiently(name, lambda: self._fs.cat_file(self._path(name)))
        assert isinstance(data, bytes)
        return data

    def read(self, pieces: Sequence[Piece]) -> list[bytes | InputError]:
        results: list[bytes | InputError | None] = [self._cache.read(p) if self._cache else None for p in pieces]
        missing = [i for i, result in enumerate(results) if result is None]
        for attempt in range(self.remote.retries + 1):
            if not missing:
                break
            if attempt:
                time.sleep(wait_seconds(attempt))
            fetched = self._fs.cat_ranges(
                [self._path(pieces[i].name) for i in missing],
                [pieces[i].offset for i in missing],
                [pieces[i].offset + pieces[i].size for i in missing],
                on_error="return",
            )
            for i, data in zip(missing, fetched, strict=True):
                results[i] = self._accept(pieces[i], data)
            missing = [i for i, data in zip(missing, fetched, strict=True) if self._may_help(results[i], data)]
        return [result for result in results if result is not None]  # all were asked for at least once

    def _accept(self, piece: Piece, data: bytes | BaseException) -> bytes | InputError:
        if isinstance(data, BaseException):
            return _failure(data)(f"{piece} cannot be read ({_reason(data)})")
        if len(data) == piece.file_bytes != piece.size:  # a server that ignores the Range header sends the whole file
            data = data[piece.offset : piece.offset + piece.size]
        if len(data) != piece.size:
            return InputError(f"{piece} is cut short: {len(data)} of {piece.size} bytes")
        if zlib.crc32(data) != piece.crc32:  # here, too, since a sample that left the cache is fetched again
            return InputError(f"{piece} is damaged (it does not have the checksum in the index)")
        if self._cache:
            self._cache.write(piece, data)
        return data

    @staticmethod
    def _may_help(result: bytes | InputError | None, data: bytes | BaseException) -> bool:
        """Whether asking again may give another answer."""
        return isinstance(result, InputError) and not isinstance(data, _FOR_GOOD)

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
                found = self._fs.ls(self._root, detail=False)
            except FileNotFoundError:
                return []
            return [str(path).rstrip("/").rsplit("/", 1)[-1] for path in found]

        return self._patiently("", listed)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _patiently(self, name: str, call: Callable[[], T], done: str = "read") -> T:
        for attempt in range(self.remote.retries + 1):
            if attempt:
                time.sleep(wait_seconds(attempt))
            try:
                return call()
            except FileNotFoundError as error:
                raise InputError(f"{self.url}/{name}: missing") from error
            except Exception as error:  # every file system has its own kinds; all become one line with the file's name
                failure: Exception = error
                if isinstance(error, _FOR_GOOD):
                    break
        raise _failure(failure)(f"{self.url}/{name}: cannot be {done} ({_reason(failure)})") from failure


def open_filesystem(url: str) -> tuple[Any, str]:
    """fsspec's file system of `url` and the path in it. Raises InputError for an unknown or uninstalled protocol."""
    protocol = url.split("://", 1)[0]
    options: dict[str, Any] = {}
    if protocol in ("http", "https"):
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_STALL_SECONDS, sock_read=_STALL_SECONDS)
        options["client_kwargs"] = {"timeout": timeout}
    if protocol == "file":
        options["auto_mkdir"] = True  # as every other place of files does by itself
    try:
        fs, root = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        hint = install_hint(extra) if extra else str(error)
        raise InputError(f"{url}: reading {protocol}:// needs a package that is not installed: {hint}") from error
    except ValueError as error:
        raise InputError(f"{url}: is not a URL that can be read ({error})") from error
    return fs, str(root).rstrip("/")


def wait_seconds(attempt: int) -> float:
    """Before attempt 1, 2, ...: doubled each time, with jitter, so that ranks do not ask in step."""
    longest = min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2 ** (attempt - 1))
    return random.uniform(longest / 2, longest)


def _failure(error: BaseException) -> type[InputError]:
    """Of what kind a failure is: for good, or as long as the storage is away."""
    return InputError if isinstance(error, _FOR_GOOD) else UnreachableError


def _reason(error: BaseException) -> str:
    text = str(error).splitlines()[0] if str(error) else ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
