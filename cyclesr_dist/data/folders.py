"""Which files of a folder are photographs, and which of two folders belong together.

Wherever a folder is taken it may be a pattern, see runtime/patterns.py. Names are compared in Unicode's composed form:
the same é is one character on one system and two on another.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import unicodedata
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from cyclesr_dist.data.formats import SUFFIXES, UNREAD_SUFFIXES
from cyclesr_dist.errors import InputError
from cyclesr_dist.runtime.files import is_file, is_folder, reading
from cyclesr_dist.runtime.passing import may_pass, patiently
from cyclesr_dist.runtime.patterns import Pattern, is_pattern, pattern_of, root_of
from cyclesr_dist.runtime.tally import Tally

_DIV2K_SUFFIX = re.compile(r"x\d+(?:[a-z]\d*)?$")
_NAMED = 3
_AS_PATTERNS = "'hr/*_HR.png' and 'lr/*_LR4.png'"


@dataclass(frozen=True)
class Pair:
    """An LR file and the HR file of the same scene; `name` is the LR stem, below its folder."""

    name: str
    hr: Path
    lr: Path


@dataclass
class Found:
    """What a folder holds. Hidden files, and files that no image is named like, are not mentioned."""

    folder: Path
    """Of a pattern its root."""
    images: list[Path] = field(default_factory=list)
    """Sorted; `folder` leads their paths."""
    skipped: dict[Path, str] = field(default_factory=dict)
    """Known not to be readable, with the reason."""
    failed: dict[Path, str] = field(default_factory=dict)
    """Sub-folders that cannot be looked into, and links that lead nowhere, with the reason."""
    not_entered: list[Path] = field(default_factory=list)
    """Sub-folders that hold photographs, where they were not asked for."""
    remedy: str = "not entered; give a pattern such as 'FOLDER/*/*', or move their photographs up"
    """What is to be done about these."""
    pattern: Pattern | None = None
    unmatched: str = ""
    """Of a pattern that nothing fits: what is there instead."""

    def name_of(self, path: Path) -> str:
        """The path below the folder, with `/`."""
        return path.relative_to(self.folder).as_posix()

    def note(self, tally: Tally, whole_paths: bool = False) -> None:
        """Hand on what is not in `images`."""
        name_of = str if whole_paths else self.name_of
        for path, reason in self.skipped.items():
            tally.skip(name_of(path), reason)
        for path, reason in self.failed.items():
            tally.fail(name_of(path), reason)
        if self.not_entered:
            names = ", ".join(name_of(path) for path in self.not_entered[:_NAMED])
            more = f" and {len(self.not_entered) - _NAMED:,} more" if len(self.not_entered) > _NAMED else ""
            tally.skip(f"{names}{more}", f"sub-folders with photographs, {self.remedy}")


def look_into(folder: Path, recursive: bool | None = None, without: Path | None = None) -> Found:
    """List a folder; with `recursive` its sub-folders, too, also behind links, each folder once. `without` is left out.
    Of a pattern all files that fit it. `recursive` is None where the command has no such option.

    Raises InputError when `folder` is missing, is not a folder or cannot be read, or for a pattern with `recursive`.
    """
    pattern = pattern_of(folder)
    if pattern is not None:
        return _look_for(pattern, recursive)
    if not is_folder(folder):
        there = is_file(folder)
        raise InputError(f"{folder}: {'is a file; a folder of images is needed' if there else 'no such folder'}")
    found = Found(folder)
    if recursive is not None:
        found.remedy = "which --recursive enters"
    seen = set() if without is None or not without.exists() else {_identity(without)}
    seen.add(_identity(folder))
    # Links last, so that a folder is found in its own place where it has one.
    waiting, linked = deque([folder]), deque[Path]()
    while waiting or linked:
        here = waiting.popleft() if waiting else linked.popleft()
        if here != folder and here.is_symlink() and not _is_new(here, seen):
            continue
        for path in _entries(here, found):
            if os.path.isdir(path):  # which answers also where nothing may be looked at
                if not recursive:
                    found.not_entered += [path] if _holds_photographs(path, seen) else []
                elif path.is_symlink():
                    linked.append(path)
                elif _is_new(path, seen):
                    waiting.append(path)
            else:
                _sort_in(path, found)
    found.images.sort()
    return found


def _look_for(pattern: Pattern, recursive: bool | None) -> Found:
    if recursive:
        raise InputError(f"{pattern}: a pattern says itself which sub-folders are entered; leave --recursive out")
    if not is_folder(pattern.root):
        raise InputError(f"{pattern}: no such folder: {pattern.root}")
    found = Found(pattern.root, pattern=pattern)
    folders = [pattern.root]
    for depth, part in enumerate(pattern.parts[:-1]):
        inner = [
            path
            for here in folders
            for path in (_entries(here, found) if is_pattern(part) else [here / part])
            if pattern.matches(depth, path.name) and os.path.isdir(path)
        ]
        if not inner:
            found.unmatched = f"{folders[0]} has no folder {part}"
            return found
        folders = inner
    for here in folders:
        entries = _entries(here, found)
        for path in entries:
            if pattern.matches(len(pattern.parts) - 1, path.name) and not os.path.isdir(path):
                _sort_in(path, found)
        names = [path.name for path in entries if is_image_name(path.name)][:_NAMED]
        found.unmatched = found.unmatched or f"{here} holds {', '.join(names) or 'no image'}"
    found.images.sort()
    return found


def _entries(here: Path, found: Found) -> list[Path]:
    """What a folder holds, sorted, but for what is hidden. Of a sub-folder that cannot be looked into, nothing."""
    try:
        entries = patiently(lambda: list(here.iterdir()))
    except OSError as error:
        if here == found.folder or may_pass(error):
            with reading(here):
                raise
        found.failed[here] = f"cannot be read ({error.strerror or error})"
        return []
    return sorted(path for path in entries if not path.name.startswith("."))


def list_images(folder: Path, tally: Tally | None = None, recursive: bool | None = None) -> list[Path]:
    """The image files in `folder` (by suffix, any case), sorted; hidden files are left out. `tally` hears of others, by
    their whole paths.

    Raises InputError when `folder` is missing, is not a folder, or holds no image.
    """
    found = look_into(folder, recursive)
    if tally is not None:
        found.note(tally, whole_paths=True)
    check_some(found)
    return found.images


def check_some(found: Found) -> None:
    """Raise InputError where a folder holds no image."""
    if found.images:
        return
    reasons = [f"{found.name_of(path)}: {reason}" for path, reason in (found.skipped | found.failed).items()]
    if found.pattern is not None:
        why = "; ".join([*reasons, found.unmatched][:_NAMED])
        raise InputError(f"{found.pattern}: no image fits this pattern ({why})")
    deeper = [f"{path.name} is a sub-folder with photographs" for path in found.not_entered]
    why = "; ".join([*reasons, *deeper][:_NAMED]) or f"looked for {', '.join(sorted(SUFFIXES))}"
    raise InputError(f"{found.folder}: holds no image ({why})")


def images_folder(folder: Path, scale: int) -> Path:
    """`folder`, or its `X<scale>` where it has no image itself, as in DIV2K's `DIV2K_train_LR_unknown/X4`."""
    inner = folder / f"X{scale}"
    if not is_folder(inner):
        return folder
    with reading(folder):
        names = patiently(lambda: os.listdir(folder))
    return folder if any(is_image_name(name) and is_file(folder / name) for name in names) else inner


def is_image_name(name: str) -> bool:
    """Whether a file of that name is taken for an image: by its suffix, unless it is hidden."""
    return Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")


def stem_of(path: Path) -> str:
    """The stem in composed form, by which files are matched."""
    return unicodedata.normalize("NFC", path.stem)


def hr_stem(lr_stem: str) -> str:
    """The HR stem that a DIV2K LR stem belongs to (`0801x4m`: `0801`); other stems as they are."""
    return _DIV2K_SUFFIX.sub("", lr_stem)


def scene_of(folder: Path, path: Path) -> str:
    """What a file of `folder` is matched by: the path below it without the suffix, or of a pattern its `scene`."""
    return _scene(pattern_of(folder) or folder, path)


def match_pairs(hr_dir: Path, lr_dir: Path, tally: Tally | None = None, recursive: bool | None = None) -> list[Pair]:
    """Match each LR file with its HR file: the same stem, or DIV2K's (`0801x4.png`, `0801x4m.png`, `0801x4w1.png`).
    Of patterns the same scene (`Pattern.scene`).

    Several LR files may belong to one HR file; HR files without an LR file are left out. Sorted by LR name. With
    `recursive` those in sub-folders, too, which must be named alike on both sides.
    Raises InputError when no file has a partner, and without a `tally`, which otherwise hears of them, when two files
    of a folder share a stem, or an LR file has no HR file.
    """
    hr_by_scene, lr_by_scene = (_by_scene(folder, tally, recursive) for folder in (hr_dir, lr_dir))
    root = root_of(lr_dir)
    pairs: list[Pair] = []
    lonely: list[Path] = []
    for scene, lrs in lr_by_scene.items():
        hrs = hr_by_scene.get(scene) or hr_by_scene.get(hr_stem(scene))
        if hrs is None:
            lonely += lrs
        elif tally is not None and (len(lrs) > 1 or len(hrs) > 1):
            twice = " and ".join(path.name for path in (hrs if len(hrs) > 1 else lrs))
            for path in lrs:
                tally.fail(str(path), f"{twice} have the same stem; keep one")
        else:
            pairs.append(Pair(_scene(root, lrs[0]), hrs[0], lrs[0]))
    if lonely and not pairs:
        raise InputError(
            f"{lr_dir}: no file matches one in {hr_dir} by name, e.g. {lonely[0].relative_to(root)} "
            f"(needed: the same stem, 0801x4.png for 0801.png, or patterns that say how names end, as {_AS_PATTERNS})"
        )
    if tally is not None:
        for path in lonely:
            tally.fail(str(path), f"no HR file in {hr_dir} has its name")
    elif lonely:
        names = ", ".join(str(path.relative_to(root)) for path in lonely[:_NAMED])
        more = f" and {len(lonely) - _NAMED} more" if len(lonely) > _NAMED else ""
        raise InputError(f"{lr_dir}: no HR file in {hr_dir} for {names}{more}")
    return pairs


def pairs_if_any(hr_dir: Path, lr_dir: Path) -> list[Pair]:
    """`match_pairs`, but none where no name matches. Raises InputError where only some do."""
    hr, lr = (_scenes(folder) for folder in (hr_dir, lr_dir))
    return match_pairs(hr_dir, lr_dir) if any(scene in hr or hr_stem(scene) in hr for scene in lr) else []


def _scenes(folder: Path) -> set[str]:
    place = pattern_of(folder) or folder
    return {_scene(place, path) for path in list_images(folder)}


def _by_scene(folder: Path, tally: Tally | None, recursive: bool | None) -> dict[str, list[Path]]:
    """By scene. Without a tally two of one scene are refused."""
    place = pattern_of(folder) or folder
    found: dict[str, list[Path]] = {}
    for path in list_images(folder, tally, recursive):
        same = found.setdefault(_scene(place, path), [])
        if same and tally is None:
            raise InputError(f"{folder}: {same[0].name} and {path.name} have the same stem; keep one")
        same.append(path)
    return found


def _scene(place: Pattern | Path, path: Path) -> str:
    if isinstance(place, Pattern):
        return place.scene(path)
    return unicodedata.normalize("NFC", path.relative_to(place).with_suffix("").as_posix())


def _sort_in(path: Path, found: Found) -> None:
    """Tell a file that is named like an image from what is none."""
    suffix = path.suffix.lower()
    if suffix in UNREAD_SUFFIXES:
        found.skipped[path] = UNREAD_SUFFIXES[suffix]
        return
    if suffix not in SUFFIXES:
        return
    try:
        mode = patiently(path.stat).st_mode
    except FileNotFoundError:
        found.failed[path] = "a link to nothing"
    except OSError as error:
        if path.is_symlink() and error.errno == errno.ELOOP:
            found.failed[path] = "a link in a circle"
        else:  # its reading will say why it fails
            found.images.append(path)
    else:
        if stat.S_ISREG(mode):
            found.images.append(path)
        else:
            found.skipped[path] = "no file, but a pipe, socket or device"


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _is_new(folder: Path, seen: set[tuple[int, int]]) -> bool:
    """Whether the folder was not seen before; from now on it was."""
    try:
        identity = _identity(folder)
    except OSError:  # listing it says why
        return True
    new = identity not in seen
    seen.add(identity)
    return new


def _holds_photographs(folder: Path, seen: set[tuple[int, int]]) -> bool:
    """At any depth, links aside; stops at the first."""
    if folder.is_symlink() or not _is_new(folder, seen):
        return False
    for _, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if any(is_image_name(name) for name in names):
            return True
    return False
