"""Pieces of tars behind a URL: concurrent requests where the storage gives parts of files, whole tars where not.

Some HTTP servers answer a request for a part of a file with all of it. A sample from such a server would cost its whole
tar, each time. So a process asks for one piece at a time until the storage has given a part. Where a whole tar comes
instead, it is kept in the cache, and the next pieces are taken from there. Other processes of the machine meanwhile
wait for the same tar.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext

from cyclesr_dist.config.schema import Remote
from cyclesr_dist.data.cache import PieceCache, WholeTar
from cyclesr_dist.data.connection import Connection, remote_failure
from cyclesr_dist.data.http_parts import WholeFileError, http_part, http_parts
from cyclesr_dist.data.source import Piece
from cyclesr_dist.errors import InputError, StorageError
from cyclesr_dist.runtime.passing import may_pass_behind_a_url

Answer = bytes | Exception
_MOST_WHOLE = 2  # times that a process fetches a tar whole: once more for one that came damaged


class PieceReader:
    """Reads pieces by way of `cache`, where there is one."""

    def __init__(self, connection: Connection, remote: Remote, cache: PieceCache | None) -> None:
        self.connection = connection
        self.remote = remote
        self.cache = cache
        self._gives_parts = False
        """Whether the storage did so the last time that it was asked."""
        self._gave_parts = False
        """Whether it ever did."""
        self._num_whole: Counter[str] = Counter()
        self._damaged: set[tuple[str, int]] = set()

    def read(self, pieces: Sequence[Piece]) -> list[bytes | InputError]:
        """The bytes of every piece, verified if they are not from the cache, or why not, all retries over."""
        results: list[bytes | InputError | None] = [self.cache.read(p) if self.cache else None for p in pieces]
        missing = [i for i, result in enumerate(results) if result is None]
        for attempt in range(self.remote.retries + 1):
            if not missing:
                break
            if attempt:
                self.connection.renew(attempt)
            answers = self._fetch([pieces[i] for i in missing])
            for i, answer in zip(missing, answers, strict=True):
                results[i] = self._accept(pieces[i], answer)
            missing = [i for i, answer in zip(missing, answers, strict=True) if _may_help(results[i], answer)]
        return [result for result in results if result is not None]  # all were asked for at least once

    def _fetch(self, pieces: list[Piece]) -> list[Answer]:
        answers: dict[int, Answer] = {}
        left = list(range(len(pieces)))
        while left:
            if self._gives_parts:
                answers |= zip(left, self._together([pieces[i] for i in left]), strict=True)
                whole = [i for i in left if isinstance(answers[i], WholeFileError)]
                self._gives_parts = not whole
                left = whole if self.cache else []
                continue
            i = left.pop(0)
            answers[i] = self._alone(pieces[i])
            if _is_of_storage(answers[i]):
                answers |= dict.fromkeys(left, answers[i])  # each of the others would wait as long for the same
                break
        return [answers[i] for i in range(len(pieces))]

    def _together(self, pieces: Sequence[Piece]) -> Sequence[Answer]:
        fs, paths = self.connection.fs, [self.connection.path(piece.name) for piece in pieces]
        if self.connection.is_http:
            return http_parts(fs, paths, pieces)
        starts, ends = [p.offset for p in pieces], [p.offset + p.size for p in pieces]
        found = fs.cat_ranges(paths, starts, ends, on_error="return")
        return [
            WholeFileError() if isinstance(data, bytes) and len(data) > piece.size else data
            for piece, data in zip(pieces, found, strict=True)
        ]

    def _alone(self, piece: Piece) -> Answer:
        """The bytes of a piece, perhaps by way of the whole tar."""
        with self.cache.locked(piece.name) if self.cache else nullcontext():
            if self.cache and (data := self.cache.read(piece)) is not None:
                return data  # another process has just fetched it, or this one, for the piece before
            try:
                found = self._part(piece)
            except Exception as error:  # every file system has its own kinds
                return error
            if found is not None:
                self._gives_parts = self._gave_parts = True
                return found
            self._num_whole[piece.name] += 1
            kept = self.cache.read(piece) if self.cache else None
        return self._too_small(piece) if kept is None else kept

    def _part(self, piece: Piece) -> bytes | None:
        """None where the whole tar came; it is in the cache then."""
        path = self.connection.path(piece.name)
        if self.connection.is_http:
            return http_part(self.connection.fs, path, piece, lambda: self._sink(piece))
        data: bytes = self.connection.fs.cat_file(path, start=piece.offset, end=piece.offset + piece.size)
        if len(data) <= piece.size:
            return data
        if len(data) != piece.file_bytes:
            raise InputError(f"{piece.url}/{piece.name}: has {len(data)} bytes, its index says {piece.file_bytes}")
        sink = self._sink(piece)
        sink.write(0, data)
        sink.done()
        return None

    def _sink(self, piece: Piece) -> WholeTar:
        """For the whole tar that has begun to come. Raises StorageError where it cannot be kept."""
        if not self.cache or piece.file_bytes > self.cache.max_bytes:
            if self._gave_parts:
                raise WholeFileError  # and may give one the next time
            raise self._too_small(piece)
        if self._num_whole[piece.name] >= _MOST_WHOLE:
            if (piece.name, piece.number) in self._damaged:
                raise _damaged(piece)
            if not self._gave_parts:
                raise self._too_small(piece)
        return self.cache.sink(piece)

    def _too_small(self, piece: Piece) -> StorageError:
        return StorageError(
            f"{piece.url}: the server sends whole files where parts are asked for (no HTTP Range), and the cache does "
            f"not hold {piece.name}, {piece.file_bytes / 1e9:.2g} GB: data.remote.cache_gb = {self.remote.cache_gb:g}; "
            "allowed here: at least the size of all shard sets"
        )

    def _accept(self, piece: Piece, answer: Answer) -> bytes | InputError:
        if isinstance(answer, InputError):
            return answer
        if isinstance(answer, BaseException):
            return remote_failure(f"{piece} cannot be read", answer)
        if len(answer) != piece.size:
            return InputError(f"{piece} is cut short: {len(answer)} of {piece.size} bytes")
        if zlib.crc32(answer) != piece.crc32:  # here, too, since a sample that left the cache is fetched again
            self._damaged.add((piece.name, piece.number))
            if self.cache:
                self.cache.forget(piece)
            return _damaged(piece)
        if self.cache:
            self.cache.write(piece, answer)
        return answer


def _is_of_storage(answer: Answer) -> bool:
    """Whether the answer would be the same for any other piece."""
    if isinstance(answer, bytes | WholeFileError):
        return False
    return isinstance(answer, StorageError) or (not isinstance(answer, InputError) and may_pass_behind_a_url(answer))


def _may_help(result: bytes | InputError | None, answer: Answer) -> bool:
    """Whether asking again may give another answer."""
    if not isinstance(result, InputError) or isinstance(answer, InputError):
        return False
    return isinstance(answer, bytes) or may_pass_behind_a_url(answer)


def _damaged(piece: Piece) -> InputError:
    return InputError(f"{piece} is damaged (it does not have the checksum in the index)")
