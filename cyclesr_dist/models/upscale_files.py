"""Enlarging many photographs: results that are there already are kept, those of another origin are left alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cyclesr_dist.errors import InputError
from cyclesr_dist.models.infer import upscale_file
from cyclesr_dist.models.origin import Origin
from cyclesr_dist.models.upscaler import Upscaler
from cyclesr_dist.runtime.bars import each
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

    def file(self, source: Path, target: Path) -> bool:
        """Enlarge one photograph, unless that is done: whether it had to be.

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
                self._enlarge(source, target, temporary)
                origin.stamp(temporary)
        except OSError as error:
            raise unwritable(target, error) from error
        return True

    def _enlarge(self, source: Path, target: Path, temporary: Path) -> None:
        try:
            upscale_file(self.upscaler, source, temporary, self.tile)
        except InputError as error:  # nobody knows the temporary name
            raise type(error)(str(error).replace(str(temporary), str(target))) from error


def upscale_files(how: Enlarging, tasks: Sequence[Task], tally: Tally, progress: bool) -> None:
    """Enlarge all; `tally` hears of those that fail. Raises UnwritableError, and UnreachableError, when there is no
    use in going on."""
    for task in each(tasks, f"x{how.upscaler.scale}", "image", progress):
        with tally.file(task.name, task.source, task.target):
            task.target.parent.mkdir(parents=True, exist_ok=True)
            if how.file(task.source, task.target):
                tally.done += 1
            else:
                tally.kept += 1
