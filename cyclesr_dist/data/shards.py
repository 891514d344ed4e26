"""Reading shard sets: the samples of a folder of tar files, each reached by a seek.

A shard set is a folder with

- `shard-000000.tar` ...: samples `<key>.hr.webp` and/or `<key>.lr.webp` (or .png), as plain WebDataset readers and
  `tar tf` take them;
- `shard-000000.json` beside each: its index, with the place of every member in the tar;
- `manifest.json`: how the set was cut, from which files, and the size and checksum of every shard.

Nothing is ever unpickled, and no name in a tar or index is used as a path.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import struct
import zlib
from array import array
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cyclesr_dist.errors import InputError

Kind = Literal["hr", "lr", "pairs"]

FORMAT = "cyclesr-shards"
VERSION = 1
MANIFEST = "manifest.json"
DOMAINS: dict[str, tuple[str, ...]] = {"hr": ("hr",), "lr": ("lr",), "pairs": ("hr", "lr")}
"""The members of a sample of each kind, in the order of the tar."""

_KEY = re.compile(r"[A-Za-z0-9_-]{1,90}")
_ENCODINGS = ("webp", "png")
_OPEN_FILES = 64  # a set; a process has a few sets and the usual limit is 1024
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, struct.error, zlib.error)


@dataclass(frozen=True)
class Shard:
    """One tar file and its index: `members[domain]` is offset 0, size 0, offset 1, size 1, ..."""

    tar: Path
    tar_bytes: int
    sha256: str
    keys: str
    """Joined by newlines: a million Python strings would take five times the memory."""
    members: dict[str, array[int]]

    def key(self, j: int) -> str:
        """Key of sample `j` of this shard."""
        return self.keys.split("\n")[j]


@dataclass(frozen=True)
class Manifest:
    """The checked contents of `manifest.json`; `raw` is all of it."""

    kind: Kind
    scale: int
    patch: int
    encoding: str
    shards: list[dict[str, Any]]
    raw: dict[str, Any]


class ShardSet:
    """Random access to the samples of one shard set. Safe to share between threads, to fork and to pickle."""

    def __init__(self, folder: Path, manifest: Manifest, shards: list[Shard]) -> None:
        """Use `ShardSet.open`."""
        self.folder = folder
        self.manifest = manifest.raw
        self.kind = manifest.kind
        self.scale = manifest.scale
        self.patch = manifest.patch
        self._checked = manifest
        self._shards = shards
        self._ends: list[int] = list(accumulate(entry["count"] for entry in manifest.shards))
        self._files = Files()

    @classmethod
    def open(cls, url: str, kind: str) -> ShardSet:
        """Open a set and check its manifest, all indexes and the sizes of all tars, but not their contents.

        `url` is a local folder or file:// URL. Raises InputError naming the file and what is wrong with it.
        """
        folder = local_folder(url)
        manifest = read_manifest(folder)
        if manifest.kind != kind:
            raise InputError(f"{folder}: is a shard set of kind {manifest.kind!r}; one of kind {kind!r} is needed here")
        return cls(folder, manifest, [read_shard(folder, manifest, i) for i in range(len(manifest.shards))])

    def __len__(self) -> int:
        """Number of samples."""
        return self._ends[-1]

    def key(self, i: int) -> str:
        """Name of sample `i`, unique in the set: image, then y and x of the patch in that image. Raises IndexError."""
        shard, j = self._locate(i)
        return shard.key(j)

    def read(self, i: int) -> dict[str, NDArray[np.uint8]]:
        """Decode sample `i`: 'lr' is (patch, patch, 3), 'hr' (patch * scale, patch * scale, 3), as the kind has them.

        Raises IndexError; InputError naming shard and key when the sample is corrupt or has the wrong size.
        """
        shard, j = self._locate(i)
        return read_sample(self._files, self._checked, shard, j)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._files = Files()

    def _locate(self, i: int) -> tuple[Shard, int]:
        if not 0 <= i < len(self):
            raise IndexError(f"sample {i} of a set of {len(self)}")
        s = bisect_right(self._ends, i)
        return self._shards[s], i - (self._ends[s - 1] if s else 0)


def local_folder(url: str) -> Path:
    """The folder that `url` means: a local path or file:// URL. Raises InputError for anything else."""
    if url.startswith("pipe:"):
        raise InputError(f"{url}: pipe: URLs run a shell and are refused; give a local folder")
    if not url or "\0" in url:
        raise InputError(f"shard set URL {url!r} is not a folder")
    if url.startswith("file:"):
        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise InputError(f"{url}: a file URL must be file:///absolute/path")
        return Path(unquote(parts.path))
    if "://" in url:
        raise InputError(f"{url}: only local folders (a path or file:///path) are supported in this version")
    return Path(url).expanduser()


def shard_name(number: int) -> str:
    """Name of a shard without suffix."""
    return f"shard-{number:06d}"


def read_manifest(folder: Path) -> Manifest:
    """Read and check `manifest.json`. Raises InputError naming the file and the field."""
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(f"{folder}: {_why_no_set(folder)}")
    raw = _parse(path, _read_bytes(path))
    if raw.get("format") != FORMAT:
        raise InputError(f"{path}: is not the manifest of a shard set (format is {_short(raw.get('format'))})")
    if raw.get("version") != VERSION or type(raw["version"]) is not int:
        raise InputError(f"{path}: version {_short(raw.get('version'))} is not supported; this program reads {VERSION}")
    kind = next((k for k in get_args(Kind) if k == raw.get("kind")), None)
    if kind is None:
        raise InputError(f"{path}: kind is {_short(raw.get('kind'))}; allowed: {', '.join(get_args(Kind))}")
    if raw.get("encoding") not in _ENCODINGS:
        raise InputError(f"{path}: encoding is {_short(raw.get('encoding'))}; allowed: {', '.join(_ENCODINGS)}")
    shards = raw.get("shards")
    if not isinstance(shards, list) or not shards:
        raise InputError(f"{path}: shards must be a list with at least one entry")
    for i, entry in enumerate(shards):
        where = f"{path}: shards[{i}]"
        if not isinstance(entry, dict) or entry.get("tar") != f"{shard_name(i)}.tar":
            raise InputError(f"{where} must be a mapping with tar: {shard_name(i)}.tar")
        for field in ("count", "tar_bytes"):
            _natural(entry, field, where)
        for field in ("sha256", "index_sha256"):
            if not isinstance(entry.get(field), str):
                raise InputError(f"{where}.{field} must be a string, not {_short(entry.get(field))}")
    if raw.get("count") != sum(entry["count"] for entry in shards):
        raise InputError(f"{path}: count is {_short(raw.get('count'))}, which is not the sum over the shards")
    scale, patch = _natural(raw, "scale", str(path)), _natural(raw, "patch", str(path))
    return Manifest(kind, scale, patch, raw["encoding"], shards, raw)


def read_shard(folder: Path, manifest: Manifest, number: int) -> Shard:
    """Read and check the index of one shard, and the size of its tar. Raises InputError naming the file."""
    entry = manifest.shards[number]
    tar, index = folder / f"{shard_name(number)}.tar", folder / f"{shard_name(number)}.json"
    for path in (tar, index):
        if not path.is_file():
            raise InputError(f"{path}: missing; the manifest beside it lists it")
    data = _read_bytes(index)
    if hashlib.sha256(data).hexdigest() != entry["index_sha256"]:
        raise InputError(f"{index}: does not have the checksum in the manifest; it is damaged or of another set")
    keys, members = parse_index(index, data, manifest, entry)
    size = tar.stat().st_size
    if size != entry["tar_bytes"]:
        raise InputError(f"{tar}: has {size} bytes, its index says {entry['tar_bytes']}; it is damaged or incomplete")
    return Shard(tar, size, entry["sha256"], "\n".join(keys), members)


def parse_index(
    path: Path, data: bytes, manifest: Manifest, entry: dict[str, Any]
) -> tuple[list[str], dict[str, array[int]]]:
    """Keys and places of the members, from the text of an index; `entry` is the manifest's line about this shard.

    Raises InputError naming `path` for anything that is not an index agreeing with `entry`.
    """
    raw = _parse(path, data)
    for field in ("tar", "count", "tar_bytes", "sha256"):
        if raw.get(field) != entry[field]:
            raise InputError(f"{path}: {field} is {_short(raw.get(field))}, the manifest says {_short(entry[field])}")
    samples = raw.get("samples")
    if not isinstance(samples, list) or len(samples) != entry["count"]:
        raise InputError(f"{path}: samples must be a list of {entry['count']} entries")
    names = {f"{domain}.{manifest.encoding}": domain for domain in DOMAINS[manifest.kind]}
    keys: list[str] = []
    members = {domain: array("q") for domain in names.values()}
    for i, sample in enumerate(samples):
        where = f"{path}: samples[{i}]"
        key = sample.get("key") if isinstance(sample, dict) else None
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise InputError(f"{where}.key must be 1 to 90 of A-Z a-z 0-9 _ -, not {_short(key)}")
        places = sample.get("members")
        if not isinstance(places, dict) or places.keys() != names.keys():
            raise InputError(f"{where}.members must have exactly {', '.join(names)}")
        for name, domain in names.items():
            place = places[name]
            if (
                not isinstance(place, list)
                or [type(value) for value in place] != [int, int]
                or not (place[0] >= 0 and place[1] > 0 and sum(place) <= entry["tar_bytes"])
            ):
                raise InputError(
                    f"{where}.members.{name} must be [offset, size] within {entry['tar_bytes']} bytes, "
                    f"not {_short(place)}"
                )
            members[domain].extend(place)
        keys.append(key)
    return keys, members


def read_sample(files: Files, manifest: Manifest, shard: Shard, j: int) -> dict[str, NDArray[np.uint8]]:
    """Decode sample `j` of `shard`; see `ShardSet.read`."""
    sample = {}
    for domain, places in shard.members.items():
        where = f"{shard.tar}: sample {shard.key(j)}.{domain}"
        size = manifest.patch * (manifest.scale if domain == "hr" else 1)
        data = files.read(shard.tar, places[2 * j], places[2 * j + 1], where)
        sample[domain] = _decode(data, manifest.encoding, size, where)
    return sample


class Files:
    """Reads pieces of files and keeps the last few open. Threads and forked children may use it at the same time."""

    def __init__(self) -> None:
        # lru_cache holds no lock while Python code runs, so a fork cannot inherit one locked; and a handle dropped
        # from it lives on until the thread that reads from it is done.
        self._handle = lru_cache(maxsize=_OPEN_FILES)(_Handle)

    def read(self, path: Path, offset: int, size: int, where: str) -> bytes:
        """`size` bytes from `offset`. Raises InputError starting with `where`."""
        try:
            data = self._handle(path).read(offset, size)
        except OSError as error:
            raise InputError(f"{where} cannot be read ({error.strerror})") from error
        if len(data) != size:
            raise InputError(f"{where} is cut short: {len(data)} of {size} bytes")
        return data


def _decode(data: bytes, encoding: str, size: int, where: str) -> NDArray[np.uint8]:
    """An encoded patch as (size, size, 3) uint8. Raises InputError starting with `where` if it is anything else."""
    try:
        with Image.open(io.BytesIO(data), formats=[encoding.upper()]) as image:
            found = (*image.size, image.mode)
            if found == (size, size, "RGB"):
                return np.array(image)
    except _UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{where} is damaged ({reason})") from error
    raise InputError(f"{where} is {found[0]} x {found[1]} {found[2]}; the manifest says {size} x {size} RGB")


class _Handle:
    """A read-only descriptor, closed when the last user lets go of it."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes. A method, so that `self` stays alive, and the descriptor open, until pread is back."""
        return os.pread(self.fd, size, offset)

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            os.close(self.fd)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def _parse(path: Path, data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: must be a JSON mapping, not {_short(value)}")
    return value


def _natural(raw: dict[str, Any], field: str, where: str) -> int:
    value = raw.get(field)
    if type(value) is not int or not 0 < value < 1 << 63:
        raise InputError(f"{where}: {field} must be a positive integer, not {_short(value)}")
    return value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _why_no_set(folder: Path) -> str:
    if not folder.exists():
        return "no such folder; a shard set is needed (see cyclesr shards build)"
    inside = [name for name in DOMAINS if (folder / name / MANIFEST).is_file()]
    hint = f"; did you mean {folder / inside[0]}?" if inside else " (see cyclesr shards build)"
    return f"is not a shard set: it has no {MANIFEST}{hint}"
