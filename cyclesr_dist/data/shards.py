"""Reading shard sets: the samples of a set of tar files, each reached by a seek or a ranged request.

A shard set is a folder or URL with

- `shard-000000.tar` ...: samples `<key>.hr.tiff` and/or `<key>.lr.tiff` (or .webp, .png, .jpg), as plain WebDataset
  readers and `tar tf` take them;
- `shard-000000.json` beside each: its index, with the place and CRC-32 of every member in the tar;
- `manifest.json`: how the set was cut, from which files, and the size and checksum of every shard.

Opening reads the manifest alone; an index is read when its first sample is. Nothing is ever unpickled, and no name in a
tar or index is used as a path.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cyclesr_dist.config.schema import Data, Remote
from cyclesr_dist.data.encoding import EXTENSIONS, decode
from cyclesr_dist.data.order import Mix
from cyclesr_dist.data.overlap import BOXES
from cyclesr_dist.data.remote import RemoteSource
from cyclesr_dist.data.source import LocalSource, Piece, Source, is_remote, local_folder
from cyclesr_dist.errors import InputError
from cyclesr_dist.runtime.files import is_folder

Kind = Literal["hr", "lr", "pairs"]
Sample = dict[str, NDArray[np.uint8]]

FORMAT = "cyclesr-shards"
VERSION = 2
MANIFEST = "manifest.json"
MAX_SAMPLE_BYTES = 64_000_000
"""A sample that is larger, encoded or decoded, is refused unread: wide of any that training could use."""
DOMAINS: dict[str, tuple[str, ...]] = {"hr": ("hr",), "lr": ("lr",), "pairs": ("hr", "lr")}
"""The members of a sample of each kind, in the order of the tar."""

_KEY = re.compile(r"[A-Za-z0-9_-]{1,90}")


@dataclass(frozen=True)
class Shard:
    """The index of one tar file: `members[domain]` is offset 0, size 0, CRC 0, offset 1, size 1, ..."""

    tar: str
    keys: str
    """One after the other: a million Python strings would take five times the memory."""
    key_ends: array[int]
    members: dict[str, array[int]]
    seen: bytearray
    """1 for a sample whose checksums have been verified."""

    def key(self, j: int) -> str:
        """Key of sample `j` of this shard."""
        return self.keys[self.key_ends[j - 1] if j else 0 : self.key_ends[j]]


@dataclass(frozen=True)
class Manifest:
    """The checked contents of `manifest.json`; `raw` is all of it."""

    kind: Kind
    scale: int
    patch: int
    encoding: str
    shards: list[dict[str, Any]]
    sha256: str
    raw: dict[str, Any]

    def sample_bytes(self) -> int:
        """Size of a decoded sample."""
        return sum(3 * (self.patch * (self.scale if domain == "hr" else 1)) ** 2 for domain in DOMAINS[self.kind])


class ShardSet:
    """Random access to the samples of one shard set. Safe to share between threads, to fork and to pickle."""

    def __init__(self, source: Source, manifest: Manifest) -> None:
        """Use `ShardSet.open`."""
        self.url = source.url
        self.manifest = manifest.raw
        self.kind = manifest.kind
        self.scale = manifest.scale
        self.patch = manifest.patch
        self.checksum = manifest.sha256
        self.domains = DOMAINS[manifest.kind]
        self._source = source
        self._checked = manifest
        self._ends: list[int] = list(accumulate(entry["count"] for entry in manifest.shards))
        self._shards: dict[int, Shard] = {}

    @classmethod
    def open(cls, url: str, kind: str, data: Data | None = None) -> ShardSet:
        """Open a set: check its manifest and, for a local folder, that all files are there and the tars complete.

        `url` is a folder or any URL that fsspec reads. With `data.max_bad_samples` files may be missing. Raises
        InputError naming the file and what is wrong with it.
        """
        data = data or Data()
        source = open_source(url, data.remote)
        manifest = read_manifest(source)
        if manifest.kind != kind:
            raise InputError(
                f"{source.url}: is a shard set of kind {manifest.kind!r}; one of kind {kind!r} is needed here"
            )
        if manifest.sample_bytes() > MAX_SAMPLE_BYTES:
            raise InputError(
                f"{source.url}/{MANIFEST}: patch = {manifest.patch} at scale {manifest.scale} makes samples of "
                f"{manifest.sample_bytes() / 1e6:.1f} MB; allowed: at most {MAX_SAMPLE_BYTES / 1e6:g} MB"
            )
        if isinstance(source, RemoteSource):
            source.use_cache(manifest.sha256)
        elif isinstance(source, LocalSource) and not data.max_bad_samples:
            for number in range(len(manifest.shards)):
                check_sizes(source, manifest, number)
        return cls(source, manifest)

    @property
    def sets(self) -> tuple[ShardSet, ...]:
        """Itself: where there may be several, these are asked for."""
        return (self,)

    @property
    def mix(self) -> Mix:
        """How samples are drawn: all alike."""
        return Mix.alone(len(self))

    @property
    def contents(self) -> str:
        """What is drawn from, for the identity of a run: the SHA-256 of the manifest."""
        return self.checksum

    @property
    def sources(self) -> list[dict[str, Any]]:
        """The photographs it was cut from, as the manifest describes them."""
        described: list[dict[str, Any]] = self.manifest["sources"]
        return described

    @property
    def remark(self) -> str:
        """What the user should know of the set's storage, in one line, as far as this process has met it."""
        return self._source.remark

    def __len__(self) -> int:
        """Number of samples."""
        return self._ends[-1]

    def key(self, i: int) -> str:
        """Name of sample `i`, unique in the set: image, then y and x of the patch in that image.

        Raises IndexError; InputError when the shard's index cannot be read.
        """
        number, j = self._locate(i)
        return self._shard(number).key(j)

    def read(self, i: int) -> Sample:
        """Decode sample `i`: 'lr' is (patch, patch, 3), 'hr' (patch * scale, patch * scale, 3), as the kind has them.

        Arrays are read-only. Raises IndexError; InputError naming shard and key when the sample is missing, corrupt or
        has the wrong size.
        """
        (sample,) = self.read_many([i])
        if isinstance(sample, InputError):
            raise sample
        return sample

    def read_encoded(self, i: int) -> dict[str, bytes]:
        """The members of sample `i` as they are stored, not verified. Raises as `read` does."""
        plan = self._plan(i)
        if isinstance(plan, InputError):
            raise plan
        members = {}
        for domain, data in zip(self.domains, self._source.read(plan), strict=True):
            if isinstance(data, InputError):
                raise data
            members[domain] = data
        return members

    def read_many(self, indices: Sequence[int]) -> Iterator[Sample | InputError]:
        """Each sample in turn, or why it cannot be read. The bytes of all are fetched first, concurrently if remote."""
        plans = [self._plan(i) for i in indices]
        pieces = [piece for plan in plans if isinstance(plan, list) for piece in plan]
        fetched = iter(self._source.read(pieces))
        for i, plan in zip(indices, plans, strict=True):
            if isinstance(plan, InputError):
                yield plan
                continue
            data = [next(fetched) for _ in plan]
            try:
                yield self._decode(i, plan, data)
            except InputError as error:
                yield error

    def _plan(self, i: int) -> list[Piece] | InputError:
        """Where the members of sample `i` lie."""
        number, j = self._locate(i)
        try:
            shard = self._shard(number)
        except InputError as error:
            return type(error)(f"{error} (sample {j} of {shard_name(number)})")
        entry = self._checked.shards[number]
        pieces = []
        for d, domain in enumerate(self.domains):
            offset, size, crc = shard.members[domain][3 * j : 3 * j + 3]
            place, num_pieces = j * len(self.domains) + d, entry["count"] * len(self.domains)
            sample = f"{shard.key(j)}.{domain}"
            piece = Piece(shard.tar, offset, size, place, num_pieces, entry["tar_bytes"], sample, self.url, crc)
            if size > MAX_SAMPLE_BYTES:
                return InputError(f"{piece} has {size} bytes; allowed: at most {MAX_SAMPLE_BYTES}")
            pieces.append(piece)
        return pieces

    def _decode(self, i: int, pieces: list[Piece], fetched: Sequence[bytes | InputError]) -> Sample:
        number, j = self._locate(i)
        shard = self._shards[number]
        sample = {}
        for domain, piece, found in zip(self.domains, pieces, fetched, strict=True):
            data = found
            if isinstance(data, InputError):
                raise data
            if not shard.seen[j]:
                data = self._verified(piece, data)
            size = self.patch * (self.scale if domain == "hr" else 1)
            sample[domain] = decode(data, self._checked.encoding, size, piece)
        shard.seen[j] = 1
        return sample

    def _verified(self, piece: Piece, data: bytes) -> bytes:
        """`data`, or what a second reading gives where the first came damaged from a cache."""
        if zlib.crc32(data) == piece.crc32:
            return data
        if self._source.forget(piece):
            (again,) = self._source.read([piece])
            if isinstance(again, InputError):
                raise again
            if zlib.crc32(again) == piece.crc32:
                return again
        raise InputError(f"{piece} is damaged (it does not have the checksum in the index)")

    def _shard(self, number: int) -> Shard:
        if number not in self._shards:
            self._shards[number] = read_shard(self._source, self._checked, number)
        return self._shards[number]

    def _locate(self, i: int) -> tuple[int, int]:
        if not 0 <= i < len(self):
            raise IndexError(f"sample {i} of a set of {len(self)}")
        s = bisect_right(self._ends, i)
        return s, i - (self._ends[s - 1] if s else 0)


def open_source(url: str, remote: Remote) -> Source:
    """The files at a local path, file:// or other URL. Raises InputError when the URL cannot be used."""
    if is_remote(url):
        return RemoteSource(url, remote)
    return LocalSource(local_folder(url), remote.retries)


def shard_name(number: int) -> str:
    """Name of a shard without suffix."""
    return f"shard-{number:06d}"


def read_manifest(source: Source) -> Manifest:
    """Read and check `manifest.json`. Raises InputError naming the file and the field."""
    if not source.exists(MANIFEST):
        raise InputError(f"{source.url}: {_why_no_set(source)}")
    path = f"{source.url}/{MANIFEST}"
    data = source.get(MANIFEST)
    raw = _parse(path, data)
    if raw.get("format") != FORMAT:
        raise InputError(f"{path}: is not the manifest of a shard set (format is {_short(raw.get('format'))})")
    if raw.get("version") != VERSION or type(raw["version"]) is not int:
        raise InputError(f"{path}: version {_short(raw.get('version'))} is not supported; this program reads {VERSION}")
    kind = next((k for k in get_args(Kind) if k == raw.get("kind")), None)
    if kind is None:
        raise InputError(f"{path}: kind is {_short(raw.get('kind'))}; allowed: {', '.join(get_args(Kind))}")
    if raw.get("encoding") not in list(EXTENSIONS):
        raise InputError(f"{path}: encoding is {_short(raw.get('encoding'))}; allowed: {', '.join(EXTENSIONS)}")
    _check_origins(raw, kind, path)
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
    scale, patch = _natural(raw, "scale", path), _natural(raw, "patch", path)
    return Manifest(kind, scale, patch, raw["encoding"], shards, hashlib.sha256(data).hexdigest(), raw)


def _check_origins(raw: dict[str, Any], kind: Kind, path: str) -> None:
    """The fields that tell which photographs the patches are from, and which part of them."""
    if raw.get("region") not in list(BOXES):
        raise InputError(f"{path}: region is {_short(raw.get('region'))}; allowed: {', '.join(BOXES)}")
    sources = raw.get("sources")
    needed = [f"{domain}{suffix}" for domain in DOMAINS[kind] for suffix in ("", "_sha256")]
    if not isinstance(sources, list) or not all(
        isinstance(source, dict) and all(isinstance(source.get(field), str) for field in needed) for source in sources
    ):
        raise InputError(f"{path}: sources must be a list of mappings with {', '.join(needed)}")


def check_sizes(source: LocalSource, manifest: Manifest, number: int) -> None:
    """That a shard's tar and index are there and the tar complete. Raises InputError naming the file."""
    name = shard_name(number)
    if not source.exists(f"{name}.json"):
        raise InputError(f"{source.url}/{name}.json: missing; the manifest beside it lists it")
    size, expected = source.size(f"{name}.tar"), manifest.shards[number]["tar_bytes"]
    if size != expected:
        raise InputError(
            f"{source.url}/{name}.tar: has {size} bytes, its index says {expected}; it is damaged or incomplete"
        )


def read_shard(source: Source, manifest: Manifest, number: int) -> Shard:
    """Read and check the index of one shard. Raises InputError naming the file."""
    entry = manifest.shards[number]
    index = f"{source.url}/{shard_name(number)}.json"
    data = source.get(f"{shard_name(number)}.json")
    if hashlib.sha256(data).hexdigest() != entry["index_sha256"]:
        raise InputError(f"{index}: does not have the checksum in the manifest; it is damaged or of another set")
    keys, members = parse_index(index, data, manifest, entry)
    return Shard(entry["tar"], "".join(keys), array("q", accumulate(map(len, keys))), members, bytearray(len(keys)))


def parse_index(
    path: str, data: bytes, manifest: Manifest, entry: dict[str, Any]
) -> tuple[list[str], dict[str, array[int]]]:
    """Keys, places and checksums of the members, from the text of an index; `entry` is what the manifest says of it.

    Raises InputError naming `path` for anything that is not an index agreeing with `entry`.
    """
    raw = _parse(path, data)
    for field in ("tar", "count", "tar_bytes", "sha256"):
        if raw.get(field) != entry[field]:
            raise InputError(f"{path}: {field} is {_short(raw.get(field))}, the manifest says {_short(entry[field])}")
    samples = raw.get("samples")
    if not isinstance(samples, list) or len(samples) != entry["count"]:
        raise InputError(f"{path}: samples must be a list of {entry['count']} entries")
    names = {f"{domain}.{EXTENSIONS[manifest.encoding]}": domain for domain in DOMAINS[manifest.kind]}
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
                or [type(value) for value in place] != [int, int, int]
                or not (place[0] >= 0 and place[1] > 0 and place[0] + place[1] <= entry["tar_bytes"])
                or not 0 <= place[2] < 1 << 32
            ):
                raise InputError(
                    f"{where}.members.{name} must be [offset, size, crc32] within {entry['tar_bytes']} bytes, "
                    f"not {_short(place)}"
                )
            members[domain].extend(place)
        keys.append(key)
    return keys, members


def _parse(path: str, data: bytes) -> dict[str, Any]:
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


def _why_no_set(source: Source) -> str:
    if isinstance(source, LocalSource) and not is_folder(source.folder):
        return "no such folder; a shard set is needed (see cyclesr shards build)"
    inside = [name for name in DOMAINS if source.exists(f"{name}/{MANIFEST}")]
    hint = f"; did you mean {source.url}/{inside[0]}?" if inside else " (see cyclesr shards build)"
    return f"is not a shard set: it has no {MANIFEST}{hint}"
