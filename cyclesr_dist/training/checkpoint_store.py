"""Where a run's checkpoints are kept: a local folder, or a URL of any file system that fsspec knows.

A checkpoint is there whole or not at all: locally its folder is renamed into place, behind a URL its manifest is
uploaded last and removed first. What a killed process left half-written is never listed.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from cyclesr_dist.config.schema import Remote
from cyclesr_dist.data.remote import RemoteSource
from cyclesr_dist.data.source import below, shown
from cyclesr_dist.errors import InputError, StorageError
from cyclesr_dist.models.checkpoint import FILES, MANIFEST, Checkpoint, fsync, read, verify
from cyclesr_dist.runtime.files import is_folder
from cyclesr_dist.runtime.passing import failed, patiently
from cyclesr_dist.training.run_folder import checkpoint_name

_NAME = re.compile(r"step-(\d{8})")


class CheckpointStore(Protocol):
    def names(self) -> list[str]:
        """Of all checkpoints, oldest first. Raises InputError when the place cannot be listed."""

    def put(self, name: str, write: Callable[[Path], None]) -> None:
        """Keep what `write` puts into the folder it is given. Raises InputError; what was there before stays."""

    def remove(self, name: str) -> None: ...

    def opened(self, name: str) -> Any:
        """Context manager: a local folder with the checkpoint's files. Raises InputError."""


def open_store(place: str, remote: Remote, check: Callable[[], None] = lambda: None) -> CheckpointStore:
    """The checkpoints at a path or URL. `check` is called before anything there is changed, and raises where it must
    not be. Raises InputError for a URL that cannot be used."""
    return RemoteStore(place, remote, check) if "://" in place else LocalStore(Path(place), check)


def prune(
    checkpoints: CheckpointStore, keep: int, best_step: int | None, is_good: Callable[[int], bool] = lambda step: True
) -> None:
    """Remove all but the newest `keep`, the newest `keep` of those that `is_good` says yes to, and the best one."""
    names = checkpoints.names()
    good = [name for name in names if is_good(step_of(name))]
    kept = {*names[-keep:], *good[-keep:], None if best_step is None else checkpoint_name(best_step)}
    for name in names:
        if name not in kept:
            checkpoints.remove(name)


def remove_after(checkpoints: CheckpointStore, step: int) -> None:
    """Remove those of later steps, the newest first. Raises InputError."""
    for name in reversed(checkpoints.names()):
        if step_of(name) > step:
            checkpoints.remove(name)


def step_of(name: str) -> int:
    """Of a checkpoint's name."""
    return int(name.removeprefix("step-"))


def newest(
    checkpoints: CheckpointStore, warn: Callable[[str], None], is_good: Callable[[int], bool] = lambda step: True
) -> tuple[str, Checkpoint, dict[str, Any]] | None:
    """The newest checkpoint that is whole, after its name and with its run's identity; None when there is none at all.
    Looked for among those whose step `is_good` says yes to.

    Each damaged one is told through `warn`. Raises InputError when all are damaged, StorageError when one cannot be
    read for what may pass: it may be whole, and an older one would lose steps.
    """
    failure: InputError | None = None
    names = [name for name in checkpoints.names() if is_good(step_of(name))]
    for name in reversed(names):
        try:
            with checkpoints.opened(name) as folder:
                return name, *read(folder)
        except StorageError:
            raise
        except InputError as error:
            failure = failure or error
            if name != names[0]:
                warn(f"{error}; trying the one before")
    if failure:
        raise InputError(f"no checkpoint can be read; of the newest: {failure}")
    return None


class LocalStore:
    def __init__(self, path: Path, check: Callable[[], None] = lambda: None) -> None:
        self.path = path
        self.check = check

    def names(self) -> list[str]:
        try:
            return patiently(lambda: sorted(p.name for p in self.path.iterdir() if _NAME.fullmatch(p.name)))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise failed(f"checkpoints {self.path} cannot be listed: {error}", error) from error

    def put(self, name: str, write: Callable[[Path], None]) -> None:
        # A name of its own: a process that was stopped, and has lost the place, may wake up and write on.
        target, temporary = self.path / name, self.path / f".{name}.{uuid.uuid4().hex[:8]}.tmp"
        self.check()
        try:
            patiently(lambda: self._put(target, temporary, write))
        except OSError as error:
            raise failed(f"checkpoint {target} cannot be written: {error}", error) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)  # nothing is left of it where all went well

    def _put(self, target: Path, temporary: Path, write: Callable[[Path], None]) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        for left in self.path.glob(".step-*.tmp"):  # of a process that was killed, or an attempt that failed
            shutil.rmtree(left)
        temporary.mkdir()
        write(temporary)
        self.check()
        if is_folder(target):
            if _is_whole(target):  # written before this run resumed from an older one, or by the attempt before
                return
            shutil.rmtree(target)
        os.replace(temporary, target)
        fsync(self.path)

    def remove(self, name: str) -> None:
        # Out of sight first: a removal that is interrupted must not leave half a checkpoint.
        hidden = self.path / f".{name}.tmp"
        self.check()
        try:
            shutil.rmtree(hidden, ignore_errors=True)
            patiently(lambda: os.replace(self.path / name, hidden))
            patiently(lambda: shutil.rmtree(hidden))
        except OSError as error:
            raise failed(f"checkpoint {self.path / name} cannot be removed: {error}", error) from error

    @contextmanager
    def opened(self, name: str) -> Iterator[Path]:
        yield self.path / name


class RemoteStore:
    def __init__(self, url: str, remote: Remote, check: Callable[[], None] = lambda: None) -> None:
        self._address = url
        self.url = shown(url).rstrip("/")
        self.remote = remote
        self.check = check
        self._all = RemoteSource(url, remote)

    def names(self) -> list[str]:
        found = sorted(name for name in self._all.names() if _NAME.fullmatch(name))
        return [name for name in found if MANIFEST in self._one(name).names()]

    def put(self, name: str, write: Callable[[Path], None]) -> None:
        with tempfile.TemporaryDirectory(prefix="cyclesr-checkpoint-") as folder:
            try:
                write(Path(folder))
            except OSError as error:
                raise failed(f"checkpoint {self.url}/{name} cannot be written to {folder}: {error}", error) from error
            one = self._one(name)
            self.check()
            if MANIFEST in one.names():
                one.remove(MANIFEST)
            for file in (*FILES, MANIFEST):
                self.check()
                one.put(Path(folder) / file, file)

    def remove(self, name: str) -> None:
        one = self._one(name)
        self.check()
        present = one.names()
        for file in (MANIFEST, *FILES):
            if file in present:
                one.remove(file)

    @contextmanager
    def opened(self, name: str) -> Iterator[Path]:
        one = self._one(name)
        with tempfile.TemporaryDirectory(prefix="cyclesr-checkpoint-") as folder:
            for file in (MANIFEST, *FILES):
                with one.whole(file) as path:
                    shutil.move(path, Path(folder) / file)
            yield Path(folder)

    def _one(self, name: str) -> RemoteSource:
        return RemoteSource(below(self._address, name), self.remote)


def _is_whole(folder: Path) -> bool:
    try:
        verify(folder)
    except StorageError:
        raise
    except InputError:
        return False
    return True
