"""Simulated LR of a folder of HR photographs, with a record of all that was drawn.

Killed and called again it goes on where it was. Photographs that fail are named in the record, and tried again.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cyclesr_dist.config.schema import Degrade
from cyclesr_dist.data.folders import check_some, look_into
from cyclesr_dist.data.images import image_size, read_rgb8, write_png
from cyclesr_dist.data.overlap import RECORD
from cyclesr_dist.degradation.simulate import check_settings, draw_parameters, lr_names, lr_of
from cyclesr_dist.degradation.track import BUILT_IN, Draws
from cyclesr_dist.errors import InputError, NothingLeftError
from cyclesr_dist.runtime.bars import each
from cyclesr_dist.runtime.files import new_folder, sha256, write_json
from cyclesr_dist.runtime.passing import unwritable
from cyclesr_dist.runtime.patterns import root_of
from cyclesr_dist.runtime.tally import LIST_FILE, Tally, trying

_VERSION = 1  # of the drawing code and the record; a change of either makes old folders differ
_KNOWN_BEFORE = ("hr", "hr_sha256", "parameters")
"""What the record has of a file before it is made."""

Entries = dict[str, dict[str, Any]]
"""By LR file, below the folder, with `/`."""


@dataclass(frozen=True)
class Scene:
    """An HR photograph and its LR files."""

    name: str
    """Below the folder, with `/`."""
    path: Path
    lr_names: list[str]


def degrade_folder(
    hr_dir: Path,
    out: Path,
    *,
    track: str,
    scale: int,
    seed: int,
    levels: Degrade,
    overwrite: bool = False,
    progress: bool = True,
    recursive: bool | None = None,
    tally: Tally | None = None,
) -> int:
    """Make the LR files of `track` for all images of `hr_dir`, with `degradations.json` beside them; all or nothing.

    With `recursive` of sub-folders, too, whose layout is kept. Returns the number of files in `out`: 0 if it held this
    very result already. The record has the levels, and for every LR file its HR file, the parameters drawn and the
    checksums of both; no times. Raises InputError for a bad image, an unknown track, an `out` that holds anything else
    (without `overwrite`) or contains `hr_dir`; ConfigError for levels out of range. With a `tally`, that hears of bad
    images: the others are made, the record names them as `failed`, and a further call completes it; NothingLeftError
    when all are bad.
    """
    simulated = check_settings(track, scale, levels)
    scenes = _scenes(hr_dir, track, scale, recursive, tally)
    header: dict[str, Any] = {
        "version": _VERSION,
        "track": track,
        "scale": scale,
        "seed": seed,
        "levels": {name: value for name, value in asdict(levels).items() if name in simulated.levels},
        "crop": "top left, to multiples of the scale",
    }
    known: Entries = {}
    for scene in scenes:
        with trying(tally, scene.name, scene.path):
            checksum = sha256(scene.path)
            for i, lr_name in enumerate(scene.lr_names):
                parameters = draw_parameters(track, levels, seed, scene.path.stem, i)
                known[lr_name] = {"hr": scene.name, "hr_sha256": checksum, "parameters": parameters}
    there, had_failed = _made(out, header)
    if there and _known(there) == known and not (tally and tally.failed):
        return 0
    # Of an earlier call in which some photographs failed: what it made is taken over.
    completes = bool(there) and {**known, **_known(there)} == known
    completes = completes and all(known[name]["hr"] in had_failed for name in known.keys() - there.keys())
    request = header | {"files": known} if track in BUILT_IN else None  # the code of a user's own may have changed
    with new_folder(out, overwrite=overwrite or completes, inputs=(root_of(hr_dir),), request=request) as folder:
        if completes:
            _take_over(out, folder, there)
        files: Entries = {}
        for scene in each([s for s in scenes if s.lr_names[0] in known], f"degrade {track}", "image", progress):
            with trying(tally, scene.name, scene.path):
                made = _make(scene, folder, out, track, scale, levels, known, seed)
                files |= {name: known[name] | entry for name, entry in made.items()}
                if tally is not None:
                    tally.done += 1
        if not files:
            raise NothingLeftError(f"{hr_dir}: not one photograph could be used; nothing was written")
        _remove_others(folder, files)
        record = {**header, **simulated.record(levels, seed), "files": files}
        write_json(folder / RECORD, record | ({"failed": tally.failed} if tally and tally.failed else {}))
    return len(files)


def _scenes(hr_dir: Path, track: str, scale: int, recursive: bool | None, tally: Tally | None) -> list[Scene]:
    """The images of `hr_dir`, whose LR names must lead back to exactly one of them."""
    found = look_into(hr_dir, recursive)
    if tally is not None:
        found.note(tally)
    check_some(found)
    by_stem: dict[Path, list[Path]] = {}
    for path in found.images:
        by_stem.setdefault(path.with_suffix(""), []).append(path)
    scenes = []
    for path in found.images:
        root = found.folder
        names = [(path.parent / name).relative_to(root).as_posix() for name in lr_names(path.stem, track, scale)]
        taken = [(name, stem) for name in names if (stem := (root / name).with_suffix("")) in by_stem]
        same = by_stem[path.with_suffix("")]
        problem = ""
        if len(same) > 1:
            problem = f"{same[0].name} and {same[1].name} have the same stem; keep one"
        elif taken:
            name, stem = taken[0]
            problem = f"its LR file {Path(name).name} would be taken for that of {by_stem[stem][0].name}"
        if not problem:
            scenes.append(Scene(found.name_of(path), path, names))
        elif tally is None:
            raise InputError(f"{path}: {problem}")
        else:
            tally.fail(found.name_of(path), problem)
    return scenes


def _make(
    scene: Scene, folder: Path, out: Path, track: str, scale: int, levels: Degrade, known: Entries, seed: int
) -> Entries:
    """Write the LR files of one scene that are not there yet. Returns what the record has of them besides."""
    entries: Entries = {}
    hr: np.ndarray | None = None
    for i, name in enumerate(scene.lr_names):
        target = folder / name
        try:
            if not target.exists():
                if hr is None:
                    hr = read_rgb8(scene.path).astype(np.float32) / np.float32(255)
                draws = Draws(seed, track, scene.path.stem, i)
                lr = lr_of(hr, str(scene.path), track, scale, levels, known[name]["parameters"], draws)
                target.parent.mkdir(parents=True, exist_ok=True)
                write_png(target, lr)
        except OSError as error:
            raise unwritable(out / name, error) from error
        width, height = image_size(target)
        entries[name] = {"hr_used_px": [height * scale, width * scale], "lr_sha256": sha256(target)}
    return entries


def _known(files: Entries) -> Entries:
    return {lr: {key: entry[key] for key in _KNOWN_BEFORE} for lr, entry in files.items()}


def _made(out: Path, header: dict[str, Any]) -> tuple[Entries, set[str]]:
    """The files of the record that `out` holds, if they were made with the same settings and are as they were written,
    and the names of photographs that had failed or of which files are gone; empty: it holds something else."""
    if not (out / RECORD).is_file():
        return {}, set()
    try:
        record = json.loads((out / RECORD).read_bytes())
        files: Entries = record["files"]
        had_failed = set(record.get("failed", ()))
        record = {key: record[key] for key in header}  # the rest follows, but for the last bit of a float elsewhere
        _known(files)
        gone = {lr for lr in files if not os.path.lexists(out / lr)}
        had_failed |= {files[lr]["hr"] for lr in gone}
        files = {lr: entry for lr, entry in files.items() if lr not in gone}
        whole = record == header and all(sha256(out / lr) == entry["lr_sha256"] for lr, entry in files.items())
        return (files, had_failed) if whole and _present(out) <= {RECORD, LIST_FILE, *files} else ({}, set())
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OSError, InputError):  # no record of ours
        return {}, set()


def _present(folder: Path) -> set[str]:
    """All files that are not hidden."""
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    return {name for name in names if not any(part.startswith(".") for part in name.split("/"))}


def _take_over(out: Path, folder: Path, files: Entries) -> None:
    for name in files:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            os.link(out / name, target)
        except OSError:  # not every file system links
            shutil.copyfile(out / name, target)


def _remove_others(folder: Path, files: Entries) -> None:
    """What a killed process left that is not of these files."""
    for name in _present(folder) - set(files):
        (folder / name).unlink()
