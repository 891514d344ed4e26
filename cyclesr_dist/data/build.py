"""Packing patches into a shard set (see `shards.py` for the format, `cut.py` for the patches).

Work done is kept: what a kill leaves in the hidden folder beside the target, the same command goes on with.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tarfile
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import webdataset

from cyclesr_dist.config import Shards
from cyclesr_dist.configfile import check_range
from cyclesr_dist.data.cut import Source, cut_source, region_of
from cyclesr_dist.data.encoding import EXTENSIONS
from cyclesr_dist.data.shards import DOMAINS, FORMAT, MANIFEST, VERSION, Kind, ShardSet, shard_name
from cyclesr_dist.data.source import Files
from cyclesr_dist.degrade import RECORD
from cyclesr_dist.errors import ConfigError, InputError
from cyclesr_dist.files import new_folder, replacing, sha256, write_json, write_text
from cyclesr_dist.images import hr_stem, list_images, match_pairs
from cyclesr_dist.telemetry.bars import Bar, each

T = TypeVar("T")
R = TypeVar("R")

_ORDER_SEED = 0  # fixed: the order within a set is no setting; training shuffles by its own seed
_STEM_CHARS = 60  # with a checksum and two positions a key stays below the 100 bytes of a tar name
_CUTS = ".cuts"


@dataclass(frozen=True)
class Place:
    """A sample in the file of the patches cut from one source."""

    key: str
    file: Path
    offset: int
    sizes: tuple[int, ...]


def build_set(
    kind: Kind,
    out: Path,
    shards: Shards,
    *,
    scale: int,
    hr_dir: Path | None = None,
    lr_dir: Path | None = None,
    align: bool = True,
    overwrite: bool = False,
    workers: int | None = None,
    progress: bool = True,
    request: dict[str, Any] | None = None,
) -> int:
    """Cut the images of `hr_dir` and/or `lr_dir`, as `kind` needs, and write a shard set to `out`; all or nothing.

    HR patches are `shards.patch * scale` px square, LR patches `shards.patch`; the last of a row or column is aligned
    to the edge of the image. `pairs` matches the folders by name and, with `align`, first moves each HR image by the
    global shift found by `estimate_shift`. The bytes written depend on the images and the settings alone, not on
    `workers` (threads; None: one a core). `request` is what `describe_set` gave, where the caller has it already: it
    reads every image. Killed and called again, it goes on where it was. Returns the number of
    samples, 0 if `out` held this very result already. Raises InputError for a bad or too small image, an `out` that
    holds anything else (without `overwrite`), or if no patch is left; ConfigError for settings out of range.
    """
    if request is None:
        request = describe_set(kind, shards, scale=scale, hr_dir=hr_dir, lr_dir=lr_dir, align=align, workers=workers)
    if _holds(out, kind, request):
        return 0
    sources = _sources(kind, hr_dir, lr_dir, shards)
    workers = workers or _num_cores()
    folders = tuple(folder for folder in (hr_dir, lr_dir) if folder is not None)
    with new_folder(out, overwrite=overwrite, inputs=folders, request=request) as folder:
        (folder / _CUTS).mkdir(exist_ok=True)
        job = partial(_cut_to_file, folder / _CUTS, kind=kind, shards=shards, scale=scale, align=align)
        done = _in_order(job, list(enumerate(sources)), workers)
        cuts = list(each(done, f"cut {kind}", "image", progress, len(sources)))
        places = [place for found, _ in cuts for place in found]
        if not places:
            raise InputError(f"{folders[-1]}: no patch has a standard deviation of {shards.min_std} or more (min_std)")
        # A fixed random order, so that no shard is one image.
        order = np.random.RandomState(_ORDER_SEED).permutation(len(places)).tolist()
        size = shards.samples_per_shard
        parts = [[places[i] for i in order[start : start + size]] for start in range(0, len(order), size)]
        with Bar(len(places), f"pack {kind}", "patch", progress) as bar:
            pack = partial(_pack, folder, Files(), kind=kind, encoding=shards.encoding)
            entries = []
            for entry in _in_order(pack, list(enumerate(parts)), workers):
                entries.append(entry)
                bar.update(entry["count"])
        manifest = request | {"count": len(places), "shards": entries}
        if kind == "pairs":
            shifts = (shift for _, shift in cuts)
            manifest["shifts_px"] = {source.stem: list(s) for source, s in zip(sources, shifts, strict=True)}
        for path in (folder / _CUTS).iterdir():
            path.unlink()
        (folder / _CUTS).rmdir()
        write_json(folder / MANIFEST, manifest)
    return len(places)


def describe_set(
    kind: Kind,
    shards: Shards,
    *,
    scale: int,
    hr_dir: Path | None = None,
    lr_dir: Path | None = None,
    align: bool = True,
    workers: int | None = None,
) -> dict[str, Any]:
    """What a set is made from and how: the part of its manifest that is known before it is built.

    Raises InputError when a folder has no images or images whose samples would share names; ConfigError for settings
    out of range.
    """
    _check_settings(shards, scale)
    origins = _origins(lr_dir) if kind == "lr" else {}
    sources = list(
        _in_order(partial(_describe, origins), _sources(kind, hr_dir, lr_dir, shards), workers or _num_cores())
    )
    request: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "kind": kind,
        "scale": scale,
        "patch": shards.patch,
        "stride": shards.stride,
        "region": region_of(kind, shards),
        "min_std": shards.min_std,
        "encoding": shards.encoding,
        "samples_per_shard": shards.samples_per_shard,
        "align": align and kind == "pairs",
        "sources": sources,
    }
    return request | ({"jpeg_quality": shards.jpeg_quality} if shards.encoding == "jpeg" else {})


def _num_cores() -> int:
    return min(32, len(os.sched_getaffinity(0)))


def _check_settings(shards: Shards, scale: int) -> None:
    check_range("scale", scale, minimum=1)
    for key in ("patch", "stride", "samples_per_shard"):
        check_range(f"shards.{key}", getattr(shards, key), minimum=1)
    check_range("shards.min_std", shards.min_std, minimum=0, maximum=1)


def _sources(kind: Kind, hr_dir: Path | None, lr_dir: Path | None, shards: Shards) -> list[Source]:
    if kind == "pairs":
        if hr_dir is None or lr_dir is None:
            raise ValueError("pairs need hr_dir and lr_dir")
        matched = match_pairs(hr_dir, lr_dir)
        chosen = set(_of_scenes([pair.lr for pair in matched], "lr_scenes", shards.lr_scenes))
        pairs = [pair for pair in matched if pair.lr in chosen]
        stems = _safe_stems([pair.lr for pair in pairs])
        return [Source(stem, {"hr": pair.hr, "lr": pair.lr}) for stem, pair in zip(stems, pairs, strict=True)]
    folder = hr_dir if kind == "hr" else lr_dir
    if folder is None:
        raise ValueError(f"{kind} needs {kind}_dir")
    key, scenes = ("hr_scenes", shards.hr_scenes) if kind == "hr" else ("lr_scenes", shards.lr_scenes)
    paths = _of_scenes(list_images(folder), key, scenes)
    return [Source(stem, {kind: path}) for stem, path in zip(_safe_stems(paths), paths, strict=True)]


def _of_scenes(paths: list[Path], key: str, scenes: str) -> list[Path]:
    """The images whose scene number is in the range of `shards.<key>`; all where it is empty."""
    if not scenes:
        return paths
    match = re.fullmatch(r"(\d{1,9})-(\d{1,9})", scenes)
    if match is None or int(match[1]) > int(match[2]):
        raise ConfigError(f"shards.{key} = {scenes!r}; allowed: a range of scene numbers, as 0001-0400, or empty")
    first, last = int(match[1]), int(match[2])
    found = [p for p in paths if hr_stem(p.stem).isdecimal() and first <= int(hr_stem(p.stem)) <= last]
    if not found:
        raise InputError(f"{paths[0].parent}: no image has a scene number in shards.{key} = {scenes}")
    return found


def _safe_stems(paths: Sequence[Path]) -> list[str]:
    """Stems of A-Z a-z 0-9 _ - alone, unique even where case is ignored; a changed or shared one gets a checksum."""
    safe = [re.sub(r"[^A-Za-z0-9_-]", "_", path.stem)[:_STEM_CHARS] for path in paths]
    uses = Counter(stem.lower() for stem in safe)
    stems = [
        stem
        if stem == path.stem and uses[stem.lower()] == 1
        else f"{stem}-{hashlib.sha256(path.name.encode()).hexdigest()[:8]}"
        for stem, path in zip(safe, paths, strict=True)
    ]
    taken: dict[str, Path] = {}
    for stem, path in zip(stems, paths, strict=True):
        if stem in taken:
            raise InputError(f"{path}: its samples would be named like those of {taken[stem].name}; rename one of them")
        taken[stem] = path
    return stems


def _origins(lr_dir: Path | None) -> dict[str, dict[str, Any]]:
    """What `cyclesr degrade` recorded beside LR files that it made: by name, the checksums of LR and HR file."""
    path = (lr_dir or Path()) / RECORD
    if not path.is_file():
        return {}
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        return {name: {"hr": of["hr_sha256"], "lr": of["lr_sha256"]} for name, of in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: is not the record of cyclesr degrade ({error!r}); remove it") from error


def _describe(origins: dict[str, dict[str, Any]], source: Source) -> dict[str, str]:
    names = {domain: path.name for domain, path in source.files.items()}
    described = {"stem": source.stem} | names | {f"{d}_sha256": sha256(path) for d, path in source.files.items()}
    origin = origins.get(names.get("lr", ""))
    if origin and origin["lr"] == described["lr_sha256"]:
        described["lr_origin_sha256"] = str(origin["hr"])
    return described


def _cut_to_file(
    folder: Path, item: tuple[int, Source], *, kind: Kind, shards: Shards, scale: int, align: bool
) -> tuple[list[Place], list[int]]:
    """Cut one source into a file of patches and a list of them, unless they are there. Places, and the shift of LR."""
    number, source = item
    patches, record = folder / f"{number:06d}.patches", folder / f"{number:06d}.json"
    if not record.exists():
        cut = cut_source(source, kind=kind, shards=shards, scale=scale, align=align)
        with replacing(patches) as temporary:
            temporary.write_bytes(b"".join(member for members in cut.patches for member in members))
        samples = [[key, [len(m) for m in members]] for key, members in zip(cut.keys, cut.patches, strict=True)]
        write_text(record, json.dumps({"samples": samples, "shift_px": cut.shift_px}))
    found = json.loads(record.read_text(encoding="utf-8"))
    places = []
    offset = 0
    for key, sizes in found["samples"]:
        places.append(Place(key, patches, offset, tuple(sizes)))
        offset += sum(sizes)
    return places, found["shift_px"]


def _pack(folder: Path, files: Files, item: tuple[int, list[Place]], *, kind: Kind, encoding: str) -> dict[str, Any]:
    """Write one shard and its index, unless they are there. Returns the manifest's entry."""
    number, places = item
    names = [f"{domain}.{EXTENSIONS[encoding]}" for domain in DOMAINS[kind]]
    tar, index = (folder / f"{shard_name(number)}.{suffix}" for suffix in ("tar", "json"))
    if not index.exists():
        crcs = {}
        with (
            replacing(tar) as temporary,
            temporary.open("wb") as file,
            # Fixed owner and time: equal patches give equal bytes.
            webdataset.TarWriter(file, user="cyclesr", group="cyclesr", mtime=0) as writer,
        ):
            for place in places:
                data = files.read(place.file, place.offset, sum(place.sizes), place.file)
                members = {}
                for name, size in zip(names, place.sizes, strict=True):
                    members[name], data = data[:size], data[size:]
                    crcs[f"{place.key}.{name}"] = zlib.crc32(members[name])
                writer.write({"__key__": place.key} | members)
        with tarfile.open(tar) as archive:
            found = {m.name: [m.offset_data, m.size, crcs[m.name]] for m in archive}
        samples = [{"key": p.key, "members": {name: found[f"{p.key}.{name}"] for name in names}} for p in places]
        entry = {"tar": tar.name, "count": len(places), "tar_bytes": tar.stat().st_size, "sha256": sha256(tar)}
        write_text(index, json.dumps(entry | {"samples": samples}) + "\n")
    raw = json.loads(index.read_text(encoding="utf-8"))
    return {key: raw[key] for key in ("tar", "count", "tar_bytes", "sha256")} | {"index_sha256": sha256(index)}


def _holds(out: Path, kind: Kind, request: dict[str, Any]) -> bool:
    """Whether `out` is a complete set made from the same images with the same settings."""
    try:
        manifest = ShardSet.open(str(out.resolve()), kind).manifest
    except InputError:
        return False
    return answers(manifest, request)


def answers(manifest: dict[str, Any], request: dict[str, Any]) -> bool:
    """Whether the set of that manifest was made from the same images with the same settings."""
    return {key: manifest.get(key) for key in request} == request


def _in_order(function: Callable[[T], R], items: Sequence[T], workers: int) -> Iterator[R]:
    """Map over threads (Pillow, hashing and torch release the GIL), in order, few results waiting at a time."""
    if workers == 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
