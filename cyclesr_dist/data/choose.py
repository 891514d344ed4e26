"""Which photographs a shard set is cut from: those of the scenes asked for that hold at least one patch."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cyclesr_dist.config.schema import Region, Shards
from cyclesr_dist.data.cut import Photograph, region_of, region_size
from cyclesr_dist.data.folders import hr_stem, list_images, match_pairs, stem_of
from cyclesr_dist.data.images import image_size
from cyclesr_dist.data.shards import DOMAINS, Kind
from cyclesr_dist.errors import ConfigError, InputError, NothingLeftError, StorageError
from cyclesr_dist.runtime.patterns import root_of
from cyclesr_dist.runtime.tally import Tally, reason_of

Files = dict[str, Path]
"""Of one photograph, or pair of photographs, by domain: 'hr', 'lr'."""

Sizes = dict[str, tuple[int, int]]
"""Widths and heights of them."""

MOST_LINES = 20
"""So many photographs that are too small are named; of the others there is a count."""

_STEM_CHARS = 60  # with a checksum and two positions a key stays below the 100 bytes of a tar name
_SIZE_THREADS = 8


@dataclass(frozen=True)
class Choice:
    """What a set is cut from."""

    sources: list[Photograph]
    """Where none holds a patch, all of the scenes asked for."""
    num_there: int
    """Photographs in the folder, or pairs in the two."""
    left_out: list[str]
    """Names of those that are smaller than one patch; of pairs the LR file's."""
    notices: list[str]
    """What people are told of those that are left out, one line each."""
    nothing_fits: str
    """Why none holds a patch, and what would help; empty: some do."""

    def check(self) -> None:
        """Raises InputError where nothing is left."""
        if self.nothing_fits:
            raise InputError(self.nothing_fits)


def choose(
    kind: Kind,
    shards: Shards,
    *,
    scale: int,
    hr_dir: Path | None = None,
    lr_dir: Path | None = None,
    recursive: bool | None = None,
    tally: Tally | None = None,
) -> Choice:
    """Look at the names and sizes in `hr_dir` and/or `lr_dir`, as `kind` needs; no photograph is decoded.

    `recursive`: in their sub-folders, too. With a `tally` photographs that cannot be read are left out, and it hears of
    them. Raises InputError when a folder has no images or none of the scenes asked for, a photograph cannot be read, or
    the samples of two would share names; NothingLeftError when none can be read; ConfigError when `shards.hr_scenes` or
    `shards.lr_scenes` is not a range.
    """
    there = _files(kind, hr_dir, lr_dir, recursive, tally)
    named = DOMAINS[kind][-1]
    folder = hr_dir if named == "hr" else lr_dir
    assert folder is not None  # else there were no files
    in_scenes, notices = _of_scenes(kind, there, shards)
    found, sizes = _readable(in_scenes, tally)
    if not found:
        raise NothingLeftError(f"{folder}: not one photograph can be read")
    root = root_of(folder)
    large_enough, small, nothing_fits = _by_size(kind, found, sizes, root, shards, scale)
    chosen = large_enough or found
    stems = _safe_stems([files[named].relative_to(root) for files in chosen])
    return Choice(
        [Photograph(stem, files) for stem, files in zip(stems, chosen, strict=True)],
        len(there),
        [name for name, _ in small],
        notices + shortened([line for _, line in small]),
        nothing_fits,
    )


def shortened(lines: Sequence[str]) -> list[str]:
    """The first MOST_LINES and, of the others, a count."""
    more = len(lines) - MOST_LINES
    return [*lines[:MOST_LINES], *([f"{more} more are smaller than one patch; left out"] if more > 0 else [])]


def say(notices: Sequence[str]) -> None:
    """Also with `--quiet`: what is missing from a set is no progress."""
    for line in notices:
        print(line, file=sys.stderr, flush=True)


def too_small(
    kind: Kind, files: Files, domain: str, size: tuple[int, int], what: str, shards: Shards, scale: int
) -> str:
    """The line for a photograph of which `what`, of (width, height) `size`, holds no patch; empty: all of it."""
    side, setting = patch_side(domain, shards, scale)
    width, height = size
    end = "the pair is left out" if kind == "pairs" else "left out"
    return (
        f"{files[domain].name}: {what and f'{what}, '}{width}x{height} px{what and ','} is smaller than one patch of "
        f"{side}x{side} px ({setting}); {end}"
    )


def patch_side(domain: str, shards: Shards, scale: int) -> tuple[int, str]:
    """Side of a patch in px, and the settings that say so."""
    return (shards.patch * scale, "shards.patch x scale") if domain == "hr" else (shards.patch, "shards.patch")


def _files(
    kind: Kind, hr_dir: Path | None, lr_dir: Path | None, recursive: bool | None, tally: Tally | None
) -> list[Files]:
    if kind == "pairs":
        if hr_dir is None or lr_dir is None:
            raise ValueError("pairs need hr_dir and lr_dir")
        return [{"hr": pair.hr, "lr": pair.lr} for pair in match_pairs(hr_dir, lr_dir, tally, recursive)]
    folder = hr_dir if kind == "hr" else lr_dir
    if folder is None:
        raise ValueError(f"{kind} needs {kind}_dir")
    return [{kind: path} for path in list_images(folder, tally, recursive)]


def _of_scenes(kind: Kind, there: list[Files], shards: Shards) -> tuple[list[Files], list[str]]:
    """Those whose scene number is in the range of `shards.hr_scenes` or `lr_scenes`; all where it is empty."""
    key, scenes = ("hr_scenes", shards.hr_scenes) if kind == "hr" else ("lr_scenes", shards.lr_scenes)
    if not scenes:
        return there, []
    match = re.fullmatch(r"([0-9]{1,9})-([0-9]{1,9})", scenes)
    if match is None or int(match[1]) > int(match[2]):
        raise ConfigError(f"shards.{key} = {scenes!r}; allowed: a range of scene numbers, as 0001-0400, or empty")
    named = DOMAINS[kind][-1]
    found = [files for files in there if int(match[1]) <= _scene(files[named]) <= int(match[2])]
    if not found:
        raise InputError(
            f"{there[0][named].parent}: no image has a scene number in shards.{key} = {scenes}; to take all "
            "photographs give shards.hr_scenes= and shards.lr_scenes= on the command line"
        )
    if len(found) == len(there):
        return there, []
    what, verb = "pairs" if kind == "pairs" else "photographs", "is" if len(found) == 1 else "are"
    return found, [
        f"{kind}: {len(found)} of {len(there)} {what} {verb} in shards.{key} = {scenes}; the others are left out; "
        f"all: shards.{key}="
    ]


def _scene(path: Path) -> int:
    """DIV2K's number of the scene; -1 where the file is not named as DIV2K's are."""
    stem = hr_stem(stem_of(path))
    return int(stem) if re.fullmatch(r"[0-9]{4}", stem) else -1


def _readable(found: list[Files], tally: Tally | None) -> tuple[list[Files], list[Sizes]]:
    """Those whose head can be read, and the sizes that it states."""
    readable: list[Files] = []
    sizes: list[Sizes] = []
    with ThreadPoolExecutor(_SIZE_THREADS) as pool:
        for files, size in zip(found, pool.map(_sizes, found), strict=True):
            if isinstance(size, dict):
                readable.append(files)
                sizes.append(size)
            elif tally is None or isinstance(size[1], StorageError):  # a set must not lack what can be read later
                raise size[1]
            else:
                tally.fail(str(size[0]), reason_of(size[1], size[0]))
    return readable, sizes


def _sizes(files: Files) -> Sizes | tuple[Path, InputError]:
    """Or the first file that cannot be read."""
    sizes: Sizes = {}
    for domain, path in files.items():
        try:
            sizes[domain] = image_size(path)
        except InputError as error:
            return path, error
    return sizes


def _by_size(
    kind: Kind, found: list[Files], sizes: list[Sizes], folder: Path, shards: Shards, scale: int
) -> tuple[list[Files], list[tuple[str, str]], str]:
    """Those that hold a patch; of the others names, below `folder`, and lines; where none does, why."""
    named, region = DOMAINS[kind][-1], region_of(kind, shards)
    part = "" if region == "all" else f"its {region} half"
    kept: list[Files] = []
    small: list[tuple[str, str]] = []
    largest: list[int] = []
    for files, size in zip(found, sizes, strict=True):
        usable = {domain: _usable(kind, domain, size[domain], region, scale) for domain in files}
        fits = {domain: min(usable[domain]) // (scale if domain == "hr" else 1) for domain in files}
        largest.append(min(fits.values()))
        # Of a pair the LR file is named, unless only the HR file is too small.
        narrow = [domain for domain in reversed(DOMAINS[kind]) if fits[domain] < shards.patch]
        if narrow:
            line = too_small(kind, files, narrow[0], usable[narrow[0]], part, shards, scale)
            small.append((files[named].relative_to(folder).as_posix(), line))
        else:
            kept.append(files)
    best = max(range(len(found)), key=largest.__getitem__)
    none_fits = "" if kept else _none_fits(kind, found[best], sizes[best], part, largest, shards, scale)
    return kept, small, none_fits


def _usable(kind: Kind, domain: str, size: tuple[int, int], region: Region, scale: int) -> tuple[int, int]:
    """Width and height of the part that patches are cut from. Of pairs the region is one of the LR image."""
    if kind != "pairs" or domain == "lr" or region == "all":
        return region_size(*size, region)
    width, height = region_size(size[0] // scale, size[1] // scale, region)
    return width * scale, height * scale


def _none_fits(
    kind: Kind,
    files: Files,
    sizes: dict[str, tuple[int, int]],
    part: str,
    largest: list[int],
    shards: Shards,
    scale: int,
) -> str:
    named = DOMAINS[kind][-1]
    side, setting = patch_side(named, shards, scale)
    largest_one = " with ".join(f"{files[d].name}, {sizes[d][0]}x{sizes[d][1]} px" for d in reversed(DOMAINS[kind]))
    counted = f" (only {part} counts)" if part else ""
    patches = sorted({min(largest), max(largest)} - {0})
    ways_out = [f"shards.patch={patch} would fit {'all' if patch == min(largest) else 'it'}" for patch in patches]
    return (
        f"{files[named].parent}: no {'pair' if kind == 'pairs' else 'photograph'} is as large as one patch of "
        f"{side}x{side} px ({setting}); the largest is {largest_one}{counted}; "
        f"{', '.join(reversed(ways_out)) or f'no patch fits at scale = {scale}'}"
    )


def _safe_stems(paths: Sequence[Path]) -> list[str]:
    """Stems of A-Z a-z 0-9 _ - alone, unique even where case is ignored; a changed or shared one gets a checksum. Of
    paths below a folder: the sub-folders are in it."""
    safe = [re.sub(r"[^A-Za-z0-9_-]", "_", str(path.with_suffix("")))[:_STEM_CHARS] for path in paths]
    uses = Counter(stem.lower() for stem in safe)
    stems = [
        stem
        if stem == str(path.with_suffix("")) and uses[stem.lower()] == 1
        else f"{stem}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}"
        for stem, path in zip(safe, paths, strict=True)
    ]
    taken: dict[str, Path] = {}
    for stem, path in zip(stems, paths, strict=True):
        if stem in taken:
            raise InputError(f"{path}: its samples would be named like those of {taken[stem].name}; rename one of them")
        taken[stem] = path
    return stems
