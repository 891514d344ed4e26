"""Packing patches into a shard set (see `shards.py` for the format, `cut.py` for the patches).

Work done is kept: what a kill leaves in the hidden folder beside the target, the same command goes on with.
"""

from __future__ import annotations

import json
import os
import tarfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import webdataset

from cyclesr_dist.config.reader import check_range
from cyclesr_dist.config.schema import Shards
from cyclesr_dist.data.choose import Choice, choose, say, shortened, too_small
from cyclesr_dist.data.cut import Photograph, cut_photograph, region_of
from cyclesr_dist.data.encoding import EXTENSIONS, JPEG_QUALITY
from cyclesr_dist.data.overlap import RECORD
from cyclesr_dist.data.shards import DOMAINS, FORMAT, MANIFEST, VERSION, Kind, ShardSet, shard_name
from cyclesr_dist.data.source import Files
from cyclesr_dist.errors import InputError, NothingLeftError, StorageError
from cyclesr_dist.runtime.bars import Bar, each
from cyclesr_dist.runtime.files import is_file, new_folder, reading, replacing, sha256, write_json, write_text
from cyclesr_dist.runtime.passing import patiently
from cyclesr_dist.runtime.tally import reason_of

T = TypeVar("T")
R = TypeVar("R")

_ORDER_SEED = 0  # fixed: the order within a set is no setting; training shuffles by its own seed
_CUTS = ".cuts"


@dataclass(frozen=True)
class Place:
    """A sample in the file of the patches cut from one source."""

    key: str
    file: Path
    offset: int
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class CutFile:
    """What one source has become (see `cut.Cut`)."""

    places: list[Place]
    shift_px: list[int]
    num_flat: int
    too_small: tuple[int, int] | None
    failed: str = ""
    """Why it cannot be cut."""


def build_set(
    kind: Kind,
    out: Path,
    shards: Shards,
    *,
    scale: int,
    hr_dir: Path | None = None,
    lr_dir: Path | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    progress: bool = True,
    request: dict[str, Any] | None = None,
    leave_out: bool = False,
) -> int:
    """Cut the images of `hr_dir` and/or `lr_dir`, as `kind` needs, and write a shard set to `out`; all or nothing.

    HR patches are `shards.patch * scale` px square, LR patches `shards.patch`; the last of a row or column is aligned
    to the edge of the image. `pairs` matches the folders by name and, with `shards.align`, first moves each HR image by
    the global shift found by `estimate_shift`. Images smaller than a patch are left out and named on standard error;
    with `leave_out` those that cannot be read, too, which the manifest names as `failed` with the reason of each. The
    bytes written depend on the images and the settings alone, not on `workers` (threads; None: one a core). `request`
    is what `describe_set` gave, where the caller has it already: it reads every image. Killed and called again, it goes
    on where it was. Returns the number of samples, 0 if `out` held this very result already. Raises InputError for a
    bad image, an `out` that holds anything else (without `overwrite`), or if no patch is left; ConfigError for settings
    out of range.
    """
    if request is None:
        request = describe_set(kind, shards, scale=scale, hr_dir=hr_dir, lr_dir=lr_dir, workers=workers)
    if _holds(out, kind, request):
        return 0
    folders = {domain: folder for domain, folder in (("hr", hr_dir), ("lr", lr_dir)) if folder is not None}
    sources = [_source(entry, folders, kind) for entry in request["sources"]]
    workers = workers or _num_cores()
    with new_folder(out, overwrite=overwrite, inputs=tuple(folders.values()), request=request) as folder:
        (folder / _CUTS).mkdir(exist_ok=True)
        job = partial(_cut_to_file, folder / _CUTS, kind=kind, shards=shards, scale=scale, leave_out=leave_out)
        done = _in_order(job, list(enumerate(sources)), workers)
        cuts = list(each(done, f"cut {kind}", "image", progress, len(sources)))
        places = [place for cut in cuts for place in cut.places]
        num_flat = sum(cut.num_flat for cut in cuts)
        named = DOMAINS[kind][-1]
        names = [entry[named] for entry in request["sources"]]
        left_out = _too_small(sources, names, cuts, kind, shards, scale)
        failed = {name: cut.failed for name, cut in zip(names, cuts, strict=True) if cut.failed}
        if not places:
            where = folders[named]
            if failed:
                raise NothingLeftError(
                    f"{where}: nothing to cut from; {next(iter(failed))}: {failed[next(iter(failed))]}"
                )
            flat = f"no patch has a standard deviation of {shards.min_std} or more (min_std)"
            raise InputError(f"{where}: {flat if num_flat else f'holds not one patch; {left_out[0][1]}'}")
        say(shortened([line for _, line in left_out]))
        # A fixed random order, so that no shard is one image.
        order = np.random.RandomState(_ORDER_SEED).permutation(len(places)).tolist()
        size = shards.samples_per_shard
        parts = [[places[i] for i in order[start : start + size]] for start in range(0, len(order), size)]
        with Bar(len(places), f"pack {kind}", "patch", progress) as bar:
            pack = partial(pack_shard, folder, Files(), kind=kind, encoding=shards.encoding)
            entries = []
            for entry in _in_order(pack, list(enumerate(parts)), workers):
                entries.append(entry)
                bar.update(entry["count"])
        manifest = request | {"count": len(places), "flat": num_flat, "shards": entries}
        manifest["left_out"] = [*request["left_out"], *(name for name, _ in left_out), *failed]
        if failed:
            manifest["failed"] = failed
        if kind == "pairs":
            manifest["shifts_px"] = {
                source.stem: cut.shift_px for source, cut in zip(sources, cuts, strict=True) if not cut.failed
            }
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
    workers: int | None = None,
    choice: Choice | None = None,
) -> dict[str, Any]:
    """What a set is made from and how: the part of its manifest that is known before it is built.

    `choice` is what `choose` gave, where the caller has it already and has told of what is left out; otherwise standard
    error has it. Raises InputError when a folder has no images that can be used or images whose samples would share
    names; ConfigError for settings out of range.
    """
    _check_settings(shards, scale)
    if choice is None:
        choice = choose(kind, shards, scale=scale, hr_dir=hr_dir, lr_dir=lr_dir)
        choice.check()
        say(choice.notices)
    folders = {domain: folder for domain, folder in (("hr", hr_dir), ("lr", lr_dir)) if folder is not None}
    origins = _origins(folders["lr"]) if kind == "lr" else {}
    sources = list(_in_order(partial(_describe, origins, folders), choice.sources, workers or _num_cores()))
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
        "align": shards.align and kind == "pairs",
        "sources": sources,
        "left_out": choice.left_out,
    }
    return request | ({"jpeg_quality": JPEG_QUALITY} if shards.encoding == "jpeg" else {})


def _num_cores() -> int:
    return min(32, len(os.sched_getaffinity(0)))


def _check_settings(shards: Shards, scale: int) -> None:
    check_range("scale", scale, minimum=1)
    for key in ("patch", "stride", "samples_per_shard"):
        check_range(f"shards.{key}", getattr(shards, key), minimum=1)
    check_range("shards.min_std", shards.min_std, minimum=0, maximum=1)


def _source(entry: dict[str, str], folders: dict[str, Path], kind: Kind) -> Photograph:
    """Back from an entry of the manifest to files."""
    return Photograph(entry["stem"], {domain: folders[domain] / entry[domain] for domain in DOMAINS[kind]})


def _too_small(
    sources: list[Photograph], names: list[str], cuts: list[CutFile], kind: Kind, shards: Shards, scale: int
) -> list[tuple[str, str]]:
    """Names and lines of those that turned out too small when they were cut: pairs, most of all, once aligned."""
    named = DOMAINS[kind][-1]
    part = "the part that it shares with its HR file" if kind == "pairs" else ""
    return [
        (name, too_small(kind, source.files, named, cut.too_small, part, shards, scale))
        for source, name, cut in zip(sources, names, cuts, strict=True)
        if cut.too_small
    ]


def _origins(lr_dir: Path) -> dict[str, dict[str, Any]]:
    """What `cyclesr degrade` recorded beside LR files that it made: by name, the checksums of LR and HR file."""
    path = lr_dir / RECORD
    if not is_file(path):
        return {}
    with reading(path):
        text = patiently(path.read_bytes)
    try:
        files = json.loads(text)["files"]
        return {name: {"hr": of["hr_sha256"], "lr": of["lr_sha256"]} for name, of in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: is not the record of cyclesr degrade ({error!r}); remove it") from error


def _describe(origins: dict[str, dict[str, Any]], folders: dict[str, Path], source: Photograph) -> dict[str, str]:
    names = {domain: path.relative_to(folders[domain]).as_posix() for domain, path in source.files.items()}
    described = {"stem": source.stem} | names | {f"{d}_sha256": sha256(path) for d, path in source.files.items()}
    origin = origins.get(names.get("lr", ""))
    if origin and origin["lr"] == described["lr_sha256"]:
        described["lr_origin_sha256"] = str(origin["hr"])
    return described


def _cut_to_file(
    folder: Path, item: tuple[int, Photograph], *, kind: Kind, shards: Shards, scale: int, leave_out: bool
) -> CutFile:
    """Cut one source into a file of patches and a list of them, unless they are there."""
    number, source = item
    patches, record = folder / f"{number:06d}.patches", folder / f"{number:06d}.json"
    if not record.exists():
        try:
            cut = cut_photograph(source, kind=kind, shards=shards, scale=scale)
        except InputError as error:
            if not leave_out or isinstance(error, StorageError):  # a set must not lack what can be read later
                raise
            return CutFile([], [0, 0], 0, None, reason_of(error, *source.files.values()))
        with replacing(patches) as temporary:
            temporary.write_bytes(b"".join(member for members in cut.patches for member in members))
        samples = [[key, [len(m) for m in members]] for key, members in zip(cut.keys, cut.patches, strict=True)]
        rest = {"shift_px": cut.shift_px, "num_flat": cut.num_flat, "too_small": cut.too_small}
        write_text(record, json.dumps({"samples": samples} | rest))
    found = json.loads(record.read_text(encoding="utf-8"))
    places = []
    offset = 0
    for key, sizes in found["samples"]:
        places.append(Place(key, patches, offset, tuple(sizes)))
        offset += sum(sizes)
    small = found["too_small"] and (found["too_small"][0], found["too_small"][1])
    return CutFile(places, found["shift_px"], found["num_flat"], small)


def pack_shard(
    folder: Path, files: Files, item: tuple[int, list[Place]], *, kind: Kind, encoding: str
) -> dict[str, Any]:
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
    except StorageError:
        raise
    except InputError:
        return False
    return answers(manifest, request)


def answers(manifest: dict[str, Any], request: dict[str, Any]) -> bool:
    """Whether the set of that manifest was made from the same images with the same settings.

    What was left out made no difference to it.
    """
    return all(manifest.get(key) == value for key, value in request.items() if key != "left_out")


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
