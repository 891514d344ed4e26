"""Which photographs are trained on and which are held back, as folders of links inside the run folder."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from cyclesr_dist.data.folders import hr_stem, images_folder, is_image_name, list_images, scene_of, stem_of
from cyclesr_dist.data.images import image_size, read_rgb8, write_png
from cyclesr_dist.errors import InputError, NothingLeftError, StorageError
from cyclesr_dist.runtime.files import is_folder, sha256, write_json
from cyclesr_dist.runtime.tally import Tally

RECORD = "photos.json"
_HELD_BACK_OF = 5
"""One of so many is held back."""
_MOST_HELD_BACK = 8
_FEWEST_TO_HOLD_BACK = 5
"""With fewer photographs none is: all are needed."""
_SMALLEST_PX = 16
_LARGEST_SHOWN_PX = 1024
"""Of the held-back LR photographs that are larger, so much of the centre is enlarged: the whole would take minutes."""
_ALIKE_PX, _ALIKE = 16, 0.95  # side of the pictures that are compared, and their correlation


@dataclass(frozen=True)
class Photo:
    path: Path
    width: int
    height: int
    scene: str = ""
    """By which it is told from the others of its folder or pattern."""

    @property
    def side(self) -> int:
        """The smaller one, in px."""
        return min(self.width, self.height)


@dataclass(frozen=True)
class Split:
    """Photographs of both sides. Where too few are there, those held back are also trained on."""

    train_hr: list[Photo]
    train_lr: list[Photo]
    valid_hr: list[Photo]
    valid_lr: list[Photo]

    @property
    def held_back(self) -> bool:
        """Whether the LR photographs that are enlarged at the end were kept from training."""
        return not {p.path for p in self.valid_lr} & {p.path for p in self.train_lr}


@dataclass(frozen=True)
class Folders:
    """Where they lie below the run folder."""

    root: Path

    def of(self, part: str) -> Path:
        return self.root / "photos" / part


def look(
    folder: Path, scale: int, what: str, tally: Tally | None = None, known: Collection[tuple[str | int, ...]] = ()
) -> list[Photo]:
    """All photographs of a folder that can be used; the others are named on standard error, and `tally` has them.

    Each is decoded once, before hours go into the training: those of `known` (`recorded`) were. Raises InputError.
    """
    photos: list[Photo] = []
    tally = Tally() if tally is None else tally
    try:
        place = images_folder(folder, scale)
        paths = list_images(place, tally)
    except InputError as error:
        raise type(error)(f"--{what} {error}") from error
    _check_names(paths, what, place)
    smallest = _SMALLEST_PX * (scale if what == "hr" else 1)
    copies = _copies(paths)
    with ThreadPoolExecutor(min(8, len(os.sched_getaffinity(0)))) as pool:
        for path, found in zip(paths, pool.map(partial(_photo, known=known), paths), strict=True):
            with tally.file(str(path), path):
                if isinstance(found, InputError):
                    raise found
                if path in copies:
                    # Else one may be trained on and the other be held back.
                    tally.skip(str(path), f"is a copy of {copies[path].name}")
                elif found.side < smallest:
                    size = f"{found.width}x{found.height} px is too small"
                    tally.skip(str(path), f"{size}; at least {smallest}x{smallest} px are needed")
                else:
                    photos.append(replace(found, scene=scene_of(place, path)))
    tally.done = len(photos)
    tally.tell("photograph", None)
    if not photos:
        raise NothingLeftError(f"--{what} {folder}: holds no photograph that can be used")
    return photos


def _copies(paths: Sequence[Path]) -> dict[Path, Path]:
    """Files that are equal in every byte to an earlier one, which comes with them. Unreadable ones are no copies."""
    by_size: dict[int, list[Path]] = {}
    for path in paths:
        with suppress(OSError):  # its decoding will say why
            by_size.setdefault(path.stat().st_size, []).append(path)
    first: dict[str, Path] = {}
    copies = {}
    for path in (path for same in by_size.values() if len(same) > 1 for path in same):
        with suppress(OSError, InputError):
            original = first.setdefault(sha256(path), path)
            if original != path:
                copies[path] = original
    return copies


def _check_names(paths: Sequence[Path], what: str, place: Path) -> None:
    """Raise InputError where a pattern has two files of one name: they are linked into one folder."""
    by_name = {path.name: path for path in paths}
    for path in paths:
        if by_name[path.name] != path:
            raise InputError(f"--{what} {place}: {path} and {by_name[path.name]} have the same name; keep one")


def recorded(folders: Folders) -> set[tuple[str | int, ...]]:
    """What `lay_out` has noted of the photographs of an earlier call."""
    record = folders.of(RECORD)
    if not record.is_file():
        return set()
    return {tuple(fact) for facts in json.loads(record.read_text(encoding="utf-8")).values() for fact in facts}


def _photo(path: Path, known: Collection[tuple[str | int, ...]]) -> Photo | InputError:
    """Or why it cannot be used. Raises StorageError."""
    try:
        photo = Photo(path, *image_size(path))
        if tuple(_fact(photo)) not in known:
            read_rgb8(path)
    except StorageError:
        raise
    except InputError as error:
        return error
    return photo


def check_run_folder(run: Path, hr: Path, lr: Path) -> None:
    """Raise InputError where `run` is a folder of photographs: what is made would lie between them."""
    for name, folder in (("hr", hr), ("lr", lr)):
        if folder.resolve() == run.resolve():
            raise InputError(f"--run-dir {run}: is the folder of --{name}; give a new folder")
    if is_folder(run) and any(is_image_name(name) for name in os.listdir(run)):
        raise InputError(f"--run-dir {run}: holds photographs; give a new folder")


def exchanged(chosen: Split) -> str:
    """A warning where the two folders seem to be the wrong way round; empty where they do not."""
    hr, lr = (sorted(photo.side for photo in of)[len(of) // 2] for of in (chosen.train_hr, chosen.train_lr))
    if lr <= hr:
        return ""
    return (
        f"the photographs of --lr are larger than those of --hr (median of the smaller side: {lr} and {hr} px). --hr "
        "takes the sharp ones, --lr the low-resolution ones: if they are exchanged, stop and exchange them"
    )


def split(hr: Sequence[Photo], lr: Sequence[Photo]) -> Split:
    """Hold back every fifth photograph, at most eight a side, evenly over the names."""
    train_hr, valid_hr = _split(hr)
    train_lr, valid_lr = _split(lr)
    return Split(train_hr, train_lr, valid_hr, valid_lr)


def _split(photos: Sequence[Photo]) -> tuple[list[Photo], list[Photo]]:
    if len(photos) < _FEWEST_TO_HOLD_BACK:
        return list(photos), list(photos)
    count = min(_MOST_HELD_BACK, len(photos) // _HELD_BACK_OF)
    chosen = {round((i + 0.5) * len(photos) / count - 0.5) for i in range(count)}
    return (
        [photo for i, photo in enumerate(photos) if i not in chosen],
        [photo for i, photo in enumerate(photos) if i in chosen],
    )


def check_apart(hr: Sequence[Photo], lr: Sequence[Photo]) -> None:
    """Raise InputError where both sides are one folder, or an LR photograph has the name and content of a sharp one.
    Cameras give equal names to different photographs, too: these are told apart by what they show."""
    sharp = {photo.scene: photo for photo in hr}
    files = {photo.path.resolve() for photo in hr}
    if all(photo.path.resolve() in files for photo in lr):
        raise InputError(
            f"--hr and --lr have the same photographs ({lr[0].path.parent}); --hr takes sharp photographs, --lr "
            "low-resolution ones of other scenes"
        )
    same = [
        (sharp[scene].path, photo.path)
        for photo in lr
        if (scene := hr_stem(photo.scene)) in sharp and _alike(sharp[scene].path, photo.path)
    ]
    if same:
        more = f", and so do {len(same) - 1} more" if len(same) > 1 else ""
        raise InputError(
            f"{same[0][0]} and {same[0][1]} show the same{more}; --hr needs other photographs than --lr. If you have "
            "pairs, system=sr_paired learns more from them (cyclesr shards build --pairs-hr)"
        )


def _alike(first: Path, second: Path) -> bool:
    small = [
        np.asarray(Image.fromarray(read_rgb8(path)).convert("L").resize((_ALIKE_PX, _ALIKE_PX), Image.Resampling.BOX))
        for path in (first, second)
    ]
    a, b = (image.astype(np.float64) - image.mean() for image in small)
    norm = np.sqrt((a * a).sum() * (b * b).sum())
    return bool(norm > 0 and (a * b).sum() / norm > _ALIKE)


def lay_out(split: Split, folders: Folders) -> None:
    """Make the four folders; nothing to do when they are there. Raises InputError when they show other photographs."""
    record = folders.of(RECORD)
    wanted = {part: [_fact(photo) for photo in getattr(split, part)] for part in vars(split)}
    if record.is_file():
        if json.loads(record.read_text(encoding="utf-8")) != wanted:
            raise InputError(
                f"--run-dir {folders.root}: was begun with other photographs; give the same folders as they were then, "
                "or another --run-dir"
            )
        return
    temporary = folders.root / ".photos.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    # An LR photograph that has the name of a sharp one would be taken for the same.
    sharp = {stem_of(photo.path) for photo in (*split.train_hr, *split.valid_hr)}
    for part in ("train_hr", "train_lr"):
        (temporary / part).mkdir(parents=True)
        for photo in getattr(split, part):
            shared = part == "train_lr" and hr_stem(stem_of(photo.path)) in sharp
            (temporary / part / f"{'lr-' * shared}{photo.path.name}").symlink_to(photo.path.resolve())
    (temporary / "valid_hr").mkdir()
    for number, photo in enumerate(split.valid_hr, 1):
        # Not by their names, for the same reason.
        (temporary / "valid_hr" / f"sharp{number}{photo.path.suffix}").symlink_to(photo.path.resolve())
    (temporary / "valid_lr").mkdir()
    for photo in split.valid_lr:
        if max(photo.width, photo.height) <= _LARGEST_SHOWN_PX:
            (temporary / "valid_lr" / photo.path.name).symlink_to(photo.path.resolve())
        else:
            write_png(temporary / "valid_lr" / f"{photo.path.stem}.png", _centre(photo))
    write_json(temporary / RECORD, wanted)
    temporary.rename(folders.of(""))


def _centre(photo: Photo) -> np.ndarray:
    image = read_rgb8(photo.path)
    height, width = (min(n, _LARGEST_SHOWN_PX) for n in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return np.ascontiguousarray(image[top : top + height, left : left + width])


def _fact(photo: Photo) -> list[str | int]:
    return [str(photo.path.resolve()), photo.width, photo.height, photo.path.stat().st_size]
