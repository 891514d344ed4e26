"""The run folder's files beside remote checkpoints, for machines whose disks do not outlive the run.

With `train.checkpoints` at a URL, `<url>/run/` holds what the run folder does, as of the newest checkpoint and the end.
A run that resumes on an empty disk takes its logs from there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cyclesr_dist.config.schema import Remote
from cyclesr_dist.data.remote import RemoteSource
from cyclesr_dist.data.source import below
from cyclesr_dist.runtime.files import is_file, write_text
from cyclesr_dist.training.checkpoint_store import CheckpointStore
from cyclesr_dist.training.run_folder import RunFolder


class Mirror:
    """The main rank's. Raises InputError where the URL cannot be read or written."""

    def __init__(self, folder: RunFolder, checkpoints: str, remote: Remote) -> None:
        self.folder = folder
        self.there = RemoteSource(below(checkpoints, "run"), remote)

    def send(self) -> None:
        """Put every file there, the logs among them as long as they are now."""
        folder = self.folder
        others = (folder.config, folder.model, folder.last, folder.summary, folder.path / "report.html")
        for path in (*self._logs(), *others):
            if is_file(path):
                self.there.put(path, path.name)

    def fetch(self) -> None:
        """Take those logs that are not here. What a checkpoint does not know of is cut off later, as always."""
        there = self.there.names()
        for path in self._logs():
            if path.name in there and not is_file(path):
                write_text(path, self.there.get(path.name).decode())

    def _logs(self) -> tuple[Path, ...]:
        folder = self.folder
        return (folder.metrics, folder.validation, folder.bad_steps, folder.events, folder.trackers)


class MirroredStore:
    """A checkpoints that sends the run folder after each checkpoint."""

    def __init__(self, checkpoints: CheckpointStore, mirror: Mirror) -> None:
        self.checkpoints = checkpoints
        self.mirror = mirror

    def names(self) -> list[str]:
        return self.checkpoints.names()

    def put(self, name: str, write: Callable[[Path], None]) -> None:
        self.checkpoints.put(name, write)
        self.mirror.send()

    def remove(self, name: str) -> None:
        self.checkpoints.remove(name)

    def opened(self, name: str) -> Any:
        return self.checkpoints.opened(name)
