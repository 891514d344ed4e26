"""A machine that swaps: a swap file for a while, and a control group with a memory limit."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from helpers.waiting import until

_GROUPS = Path("/sys/fs/cgroup")


class MemoryGroup:
    """Of version 1 where its memory controller is mounted, else of version 2."""

    def __init__(self) -> None:
        old = (_GROUPS / "memory/memory.limit_in_bytes").exists()
        self.folder = (_GROUPS / "memory" if old else _GROUPS) / f"cyclesr-test-{uuid.uuid4().hex[:8]}"
        self._limit, self._used = (
            self.folder / name
            for name in (
                ("memory.limit_in_bytes", "memory.usage_in_bytes") if old else ("memory.max", "memory.current")
            )
        )

    def command(self, *command: str) -> list[str]:
        """The same, begun in the group."""
        return ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(self.folder), *command]

    def used(self) -> int:
        return int(self._used.read_text())

    def limit(self, num_bytes: int) -> None:
        """Returns when as much as that has been moved to swap."""
        until(lambda: self._set(num_bytes), 60)

    def _set(self, num_bytes: int) -> bool:
        """Version 1 gives up, as busy, where the pages of a running process are not moved fast enough."""
        try:
            self._limit.write_text(str(num_bytes))
        except OSError as error:
            if error.errno == errno.EBUSY:
                return False
            raise
        return True

    def _ended(self) -> bool:
        found = (self.folder / "cgroup.procs").read_text().split()
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        return not found

    def remove(self) -> None:
        """With the processes that are in it."""
        until(self._ended, 60)
        until(self._removed, 60)

    def _removed(self) -> bool:
        try:
            self.folder.rmdir()
        except OSError:  # busy for a moment behind the last process
            return False
        return True


@contextmanager
def memory_group() -> Iterator[MemoryGroup]:
    """Skips the test where there can be none."""
    group = MemoryGroup()
    try:
        group.folder.mkdir()
    except OSError as error:
        pytest.skip(f"no control groups here: {error}")
    try:
        try:
            group.used()
            group.limit(2**40)
        except OSError as error:
            pytest.skip(f"no limits of memory here: {error}")
        yield group
    finally:
        group.remove()


@contextmanager
def swap(file: Path, mb: int) -> Iterator[None]:
    """Skips the test where there can be none."""
    try:
        with file.open("wb") as zeros:
            file.chmod(0o600)
            for _ in range(mb):  # in full: it must have no holes
                zeros.write(bytes(2**20))
        for command in ("mkswap", "swapon"):
            done = subprocess.run([command, str(file)], check=False, capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"no swap here: {done.stderr.strip()}")
        try:
            yield
        finally:
            subprocess.run(["swapoff", str(file)], check=True)
    except FileNotFoundError as error:
        pytest.skip(f"no swap here: {error}")
    finally:
        file.unlink(missing_ok=True)
