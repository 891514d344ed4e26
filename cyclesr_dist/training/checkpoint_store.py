"""Where a run's checkpoints are kept: a local folder, or a URL of any file system that fsspec knows.

A checkpoint is there whole or not at all: locally its folder is renamed into place, behind a URL its manifest is
uploaded last and removed first. What a killed process left half-written is never listed.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from cyclesr_dist.config.schema import Remote
from cyclesr_dist.data.remote import RemoteSource
from cyclesr_dist.errors import InputError
from cyclesr_dist.models.checkpoint import FILES, MANIFEST, Checkpoint, fsync, read, verify
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


def open_store(place: str, remote: Remote) -> CheckpointStore:
    """The checkpoints at a path or URL. Raises InputError for a URL that cannot be used."""
    return RemoteStore(place, remote) if "://" in place else LocalStore(Path(place))


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
    checkpoints: CheckpointStore,
    identity: dict[str, Any],
    warn: Callable[[str], None],
    is_good: Callable[[int], bool] = lambda step: True,
) -> tuple[str, Checkpoint] | None:
    """The newest checkpoint that is whole, and its name; None when there is none at all. Looked for among those whose
    step `is_good` says yes to.

    Each damaged one is told through `warn`. Raises InputError when all are damaged, ConfigError when the run does not
    fit.
    """
    failure: InputError | None = None
    names = [name for name in checkpoints.names() if is_good(step_of(name))]
    for name in reversed(names):
        try:
            with checkpoints.opened(name) as folder:
                return name, read(folder, identity)
        except InputError as error:
            failure = failure or error
            if name != names[0]:
                warn(f"{error}; trying the one before")
    if failure:
        raise InputError(f"no checkpoint can be read; of the newest: {failure}")
    return None


class LocalStore:
    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        if not self.path.exists():
            return []
        try:
            return sorted(p.name for p in self.path.iterdir() if _NAME.fullmatch(p.name))
        except OSError as error:
            raise InputError(f"checkpoints {self.path} cannot be listed: {error}") from error

    def put(self, name: str, write: Callable[[Path], None]) -> None:
        target, temporary = self.path / name, self.path / f".{name}.tmp"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for left in self.path.glob(".step-*.tmp"):  # of a process that was killed
                shutil.rmtree(left)
            temporary.mkdir()
            write(temporary)
            if target.exists():
                if _is_whole(target):  # written before this run resumed from an older one
                    shutil.rmtree(temporary)
                    return
                shutil.rmtree(target)
            os.replace(temporary, target)
            fsync(self.path)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise InputError(f"checkpoint {target} cannot be written: {error}") from error

    def remove(self, name: str) -> None:
        # Out of sight first: a removal that is interrupted must not leave half a checkpoint.
        hidden = self.path / f".{name}.tmp"
        try:
            shutil.rmtree(hidden, ignore_errors=True)
            os.replace(self.path / name, hidden)
            shutil.rmtree(hidden)
        except OSError as error:
            raise InputError(f"checkpoint {self.path / name} cannot be removed: {error}") from error

    @contextmanager
    def opened(self, name: str) -> Iterator[Path]:
        yield self.path / name


class RemoteStore:
    def __init__(self, url: str, remote: Remote) -> None:
        self.url = url.rstrip("/")
        self.remote = remote
        self._all = RemoteSource(self.url, remote)

    def names(self) -> list[str]:
        found = sorted(name for name in self._all.names() if _NAME.fullmatch(name))
        return [name for name in found if MANIFEST in self._one(name).names()]

    def put(self, name: str, write: Callable[[Path], None]) -> None:
        with tempfile.TemporaryDirectory(prefix="cyclesr-checkpoint-") as folder:
            try:
                write(Path(folder))
            except OSError as error:
                raise InputError(f"checkpoint {self.url}/{name} cannot be written to {folder}: {error}") from error
            one = self._one(name)
            if MANIFEST in one.names():
                one.remove(MANIFEST)
            for file in (*FILES, MANIFEST):
                one.put(Path(folder) / file, file)

    def remove(self, name: str) -> None:
        one = self._one(name)
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
        return RemoteSource(f"{self.url}/{name}", self.remote)


def _is_whole(folder: Path) -> bool:
    try:
        verify(folder)
    except InputError:
        return False
    return True
