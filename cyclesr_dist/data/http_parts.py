"""Parts of files over HTTP. A server that sends the whole file instead is noticed by its head, before the body is read.

fsspec's own reading takes the whole body for the part, and only after all of it has come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import fsspec.asyn

from cyclesr_dist.data.source import Piece
from cyclesr_dist.errors import InputError
from cyclesr_dist.runtime.descriptors import most_kept_open

_CHUNK = 1 << 20
_PART, _PAST_THE_END = 206, 416


class WholeFileError(Exception):
    """Instead of the part the server began to send the whole file, which nobody wanted to keep."""

    def __str__(self) -> str:
        return "the server sent the whole file, not the part that was asked for"


class Sink(Protocol):
    """Takes a whole file."""

    def write(self, offset: int, data: bytes) -> None: ...

    def done(self) -> None:
        """All bytes were written."""


def http_part(fs: Any, path: str, piece: Piece, sink: Callable[[], Sink]) -> bytes | None:
    """The piece's bytes; None where the server sent the whole tar, which the sink has then. Raises any exception."""
    answer: bytes | None = fsspec.asyn.sync(fs.loop, lambda: _one(fs, path, piece, sink))
    return answer


def http_parts(fs: Any, paths: Sequence[str], pieces: Sequence[Piece]) -> list[bytes | Exception]:
    """All of them, concurrently, each with its own exception; WholeFileError where no part came."""

    async def together() -> list[bytes | Exception]:
        few = asyncio.Semaphore(most_kept_open())

        async def one(path: str, piece: Piece) -> bytes | Exception:
            async with few:
                try:
                    data = await _one(fs, path, piece, None)
                except Exception as error:
                    return error
                assert data is not None
                return data

        return await asyncio.gather(*map(one, paths, pieces))

    answers: list[bytes | Exception] = fsspec.asyn.sync(fs.loop, together)
    return answers


async def _one(fs: Any, path: str, piece: Piece, sink: Callable[[], Sink] | None) -> bytes | None:
    asked = {"Range": f"bytes={piece.offset}-{piece.offset + piece.size - 1}"}
    session = await fs.set_session()
    async with session.get(fs.encode_url(path), **_with(fs.kwargs, asked)) as response:
        _check(response, path, piece)
        if response.status == _PART and not _is_other(response, piece):
            data = b""
            async for chunk in response.content.iter_chunked(_CHUNK):
                data += chunk
                if len(data) > piece.size:
                    break
            else:
                return data
        elif response.status != _PART and sink is not None:
            await _keep(response, piece, sink())
            return None
        if sink is None:
            raise WholeFileError
    # A part, but another one, or one of the compressed file: the whole, then.
    async with session.get(fs.encode_url(path), **_with(fs.kwargs, {})) as response:
        _check(response, path, piece)
        await _keep(response, piece, sink())
    return None


async def _keep(response: Any, piece: Piece, sink: Sink) -> None:
    offset = 0
    async for chunk in response.content.iter_chunked(_CHUNK):
        if offset + len(chunk) <= piece.file_bytes:
            sink.write(offset, chunk)
        offset += len(chunk)
        if offset > piece.file_bytes:
            break
    if offset != piece.file_bytes:
        # Where the head says how long the body is, one that is broken off has raised an exception already.
        whole = response.content_length is not None or "Transfer-Encoding" in response.headers
        there = f"more than {piece.file_bytes}" if offset > piece.file_bytes else f"{offset} of {piece.file_bytes}"
        text = f"{piece.url}/{piece.name}: the server has {there} bytes"
        raise InputError(text) if whole else OSError(text)
    sink.done()


def _check(response: Any, path: str, piece: Piece) -> None:
    if response.status == 404:
        raise FileNotFoundError(path)
    if response.status == _PAST_THE_END:
        raise InputError(f"{piece} is cut short: the server's file ends before it")
    response.raise_for_status()


def _is_other(response: Any, piece: Piece) -> bool:
    """Whether the head of a partial answer says that it is not what was asked for."""
    place = response.headers.get("Content-Range", "").removeprefix("bytes ").split("-")[0]
    encoded = response.headers.get("Content-Encoding", "identity") != "identity"
    longer = response.content_length is not None and response.content_length > piece.size
    return encoded or longer or (place.isdecimal() and int(place) != piece.offset)


def _with(arguments: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
    return {**arguments, "headers": {**arguments.get("headers", {}), **headers}}
