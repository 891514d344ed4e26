"""Enlarging many photographs: results that are there already are kept, those of another origin are left alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cyclesr_dist.errors import InputError
from cyclesr_dist.models.in_flight import InFlight
from cyclesr_dist.models.infer import upscale_file
from cyclesr_dist.models.origin import Origin
from cyclesr_dist.models.upscaler import Upscaler
from cyclesr_dist.runtime.bars import each
from cyclesr_dist.runtime.cores import compute_threads
from cyclesr_dist.runtime.files import is_file, is_folder, replacing, sha256
from cyclesr_dist.runtime.passing import unwritable
from cyclesr_dist.runtime.tally import Tally


@dataclass(frozen=True)
class Task:
    """One photograph."""

    name: str
    """As a person looks for it."""
    source: Path
    target: Path
    """The PNG file to write."""


@dataclass(frozen=True)
class Enlarging:
    """How all of them are enlarged."""

    upscaler: Upscaler
    model: str
    """Of `fingerprint`."""
    tile: int | None
    overwrite: bool
    """Replace results of another origin."""
    one_by_one: bool = False
    """The network is somebody else's code, which two threads might not call at once."""

    def file(self, source: Path, target: Path, flight: InFlight | None = None) -> bool:
        """Enlarge one photograph, unless that is done: whether it had to be. `flight`: see `upscale_file`.

        Raises InputError when it cannot be read, or something else is where the result belongs; UnwritableError when
        nothing can be written there.
        """
        if not is_file(source):  # a pipe would be waited for
            what = "is a folder; an image file is needed" if is_folder(source) else "no such file"
            raise InputError(f"{source}: {what}")
        origin = Origin(sha256(source), self.model)
        try:
            if target.is_dir():
                raise InputError(f"{target}: is a folder; the result {source.name} belongs there")
            if target.exists():
                difference = origin.difference(target)
                if not difference:
                    return False
                if not self.overwrite:
                    raise InputError(f"{target}: is there and {difference}; --overwrite replaces it")
            with replacing(target) as temporary:
                self._enlarge(source, target, temporary, flight)
                origin.stamp(temporary)
        except OSError as error:
            raise unwritable(target, error) from error
        return True

    def _enlarge(self, source: Path, target: Path, temporary: Path, flight: InFlight | None) -> None:
        try:
            upscale_file(self.upscaler, source, temporary, self.tile, flight)
        except InputError as error:  # nobody knows the temporary name
            raise type(error)(str(error).replace(str(temporary), str(target))) from error


def upscale_files(how: Enlarging, tasks: Sequence[Task], tally: Tally, progress: bool) -> None:
    """Enlarge all; `tally` hears of those that fail. Raises UnwritableError, and UnreachableError, when there is no
    use in going on."""

    def enlarge(task: Task) -> bool:
        task.target.parent.mkdir(parents=True, exist_ok=True)
        return how.file(task.source, task.target, flight)

    # With one thread to compute on, a second photograph would only take memory.
    one_thread = compute_threads() == 1 and how.upscaler.arithmetic.gpu_free() is None
    alone = how.one_by_one or len(tasks) == 1 or one_thread
    with InFlight(alone) as flight:
        label = f"x{how.upscaler.scale}"
        for task, result in each(flight.each(tasks, enlarge), label, "image", progress, len(tasks)):
            with tally.file(task.name, task.source, task.target):
                if result():
                    tally.done += 1
                else:
                    tally.kept += 1
