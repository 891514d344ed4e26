"""A Ray cluster on this machine for the time of a search, begun by a process of its own in a session of its own.

What a terminal sends to the search, or a scheduler to its process group, so never reaches Ray's processes: they go on
while the trials save. What goes wrong as they start is one line for the search, whatever Ray prints and however its
processes end. `python -m cyclesr_dist.search.own_cluster` is that process: it writes the address to standard output and
holds the cluster until standard input ends.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from cyclesr_dist.errors import CycleSRError, InputError
from cyclesr_dist.runtime.guard import guarded_children

_START_SECONDS = 180.0
"""For the start; Ray itself gives up earlier."""
_END_SECONDS = 20.0


@contextmanager
def own_cluster() -> Iterator[str]:
    """The address of a cluster that lives while the block runs, and no longer than this process.

    Raises InputError where Ray cannot start in this place, CycleSRError when it does not in time, or dies.
    """
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray's default for a cluster that it begins, not for one it finds
    words = [sys.executable, "-m", "cyclesr_dist.search.own_cluster"]
    pipe = subprocess.PIPE
    with guarded_children(), tempfile.TemporaryFile("w+", errors="replace") as said:
        holder = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=said, start_new_session=True)
        try:
            yield _address(holder, said)
        finally:
            _end(holder)


def _address(holder: subprocess.Popen[bytes], said: IO[str]) -> str:
    answer = _line(holder, time.monotonic() + _START_SECONDS)
    if answer is None:
        raise CycleSRError(f"Ray did not start on this machine in {_START_SECONDS:.0f} s")
    try:
        told: dict[str, Any] = json.loads(answer)
    except ValueError:
        holder.kill()
        holder.wait()
        said.seek(0)
        lines = said.read().strip().splitlines() or ["it said nothing"]
        raise CycleSRError(f"Ray ended while it started on this machine: {lines[-1][-300:]}") from None
    if "address" in told:
        return str(told["address"])
    kind = InputError if told["exit_code"] == InputError.exit_code else CycleSRError
    raise kind(f"Ray cannot start on this machine: {told['error']}")


def _line(holder: subprocess.Popen[bytes], deadline: float) -> bytes | None:
    """What it writes first, up to the line's or the output's end; None when that takes too long."""
    assert holder.stdout is not None
    text = b""
    with selectors.DefaultSelector() as selector:
        selector.register(holder.stdout, selectors.EVENT_READ)
        while not text.endswith(b"\n"):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                return None
            piece = os.read(holder.stdout.fileno(), 65536)
            if not piece:
                break
            text += piece
    return text


def _end(holder: subprocess.Popen[bytes]) -> None:
    """In order, if that is quick; the guard ends what is left."""
    assert holder.stdin is not None
    assert holder.stdout is not None
    holder.stdin.close()
    try:
        holder.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        holder.kill()
        holder.wait()
    holder.stdout.close()


def main() -> int:
    """Start the cluster, tell its address or what is wrong, and hold it."""
    import ray

    try:
        begun = ray.init(address="local", include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    except Exception as error:  # Ray raises all kinds, plain Exception too
        # OSError: a temporary folder of too long a name, for instance
        code = InputError.exit_code if isinstance(error, OSError) else CycleSRError.exit_code
        print(json.dumps({"error": " ".join(str(error).split())[:300], "exit_code": code}), flush=True)
        return code
    print(json.dumps({"address": begun.address_info["address"]}), flush=True)
    sys.stdin.buffer.read()
    ray.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
