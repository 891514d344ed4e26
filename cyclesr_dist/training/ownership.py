"""The main rank's claims on what a run writes: its folder, and the place of its checkpoints where that is another."""

from __future__ import annotations

from pathlib import Path

from cyclesr_dist.config.schema import Config, Remote
from cyclesr_dist.data.connection import open_filesystem
from cyclesr_dist.data.remote import RemoteSource
from cyclesr_dist.data.source import below
from cyclesr_dist.errors import InputError, TrainingError
from cyclesr_dist.runtime.lease import FOLDER, Lease, LeaseLostError, LocalPlace, Place, living_owner
from cyclesr_dist.runtime.lifeline import is_started_by
from cyclesr_dist.training.run_folder import RunFolder


class Ownership:
    """Nothing is claimed before `take`; on the other ranks, and in benchmarks, nothing at all."""

    def __init__(self) -> None:
        self._leases: list[Lease] = []

    def take(self, folder: RunFolder, config: Config, resume: bool) -> None:
        """Claim the run folder, which is made, and the checkpoints' place. Raises InputError when it cannot be had."""
        folder.prepare(resume)
        owner = living_owner(folder.path)
        if owner and not is_started_by(owner.pid):
            raise InputError(f"run folder {folder.path} is in use by {owner}; wait until it has ended, or stop it")
        self._take(LocalPlace(folder.path), f"run folder {folder.path}")
        folder.prepare(resume)  # what was waited for may have left a run
        checkpoints = config.train.checkpoints
        if not checkpoints:
            return
        place = place_of(checkpoints, config.data.remote)
        if not isinstance(place, LocalPlace) or place.folder.resolve() != LocalPlace(folder.path).folder.resolve():
            self._take(place, f"train.checkpoints = {checkpoints}")

    def _take(self, place: Place, what: str) -> None:
        lease = Lease(place, what)
        lease.take()
        self._leases.append(lease)

    def hold(self, *, sure: bool = False) -> None:
        """Raise LeaseLostError when another process has one of them by now; see `Lease.hold`. Raises TrainingError when
        that cannot be found out."""
        for lease in self._leases:
            try:
                lease.hold(sure=sure)
            except InputError as error:
                raise TrainingError(str(error)) from error

    def verify(self) -> None:
        """`hold`, for sure: before checkpoints, networks and the summary are written."""
        self.hold(sure=True)

    def is_lost(self) -> bool:
        try:
            self.hold()
        except LeaseLostError:
            return True
        except TrainingError:  # nothing is known; who writes next is told
            return False
        return False

    def release(self) -> None:
        for lease in self._leases:
            lease.release()


def place_of(checkpoints: str, remote: Remote) -> Place:
    """Where claims on checkpoints lie, the same however the place is written. Raises InputError for a bad URL."""
    if "://" not in checkpoints:
        path = Path(checkpoints)
    elif checkpoints.startswith("file://"):
        path = Path(open_filesystem(checkpoints)[1])
    else:
        return RemotePlace(checkpoints, remote)
    path = path.resolve()
    return LocalPlace(path.parent if path.name == "checkpoints" else path)  # a run folder's own are that run's


class RemotePlace:
    """Claims behind a URL, beside the checkpoints."""

    poll_seconds = 1.0
    local = False

    def __init__(self, url: str, remote: Remote) -> None:
        self._source = RemoteSource(below(url, FOLDER), remote)

    def names(self) -> list[str]:
        return [name for name in self._source.names() if name.endswith(".json")]

    def read(self, name: str) -> str | None:
        try:
            return self._source.get(name).decode(errors="replace")
        except InputError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise

    def write(self, name: str, text: str) -> None:
        self._source.write(name, text.encode())

    def remove(self, name: str) -> None:
        try:
            self._source.remove(name)
        except InputError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
