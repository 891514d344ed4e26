"""Verifying a shard set: every checksum, the tars' structure, every sample."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cyclesr_dist.config.schema import Remote
from cyclesr_dist.data.encoding import EXTENSIONS, decode
from cyclesr_dist.data.shards import (
    DOMAINS,
    MANIFEST,
    Manifest,
    Shard,
    check_sizes,
    open_source,
    read_manifest,
    read_shard,
)
from cyclesr_dist.data.source import Files, LocalSource, below, is_remote
from cyclesr_dist.errors import InputError, StorageError, UnreachableError
from cyclesr_dist.runtime.bars import Bar
from cyclesr_dist.runtime.files import sha256
from cyclesr_dist.runtime.passing import may_pass


@dataclass(frozen=True)
class Report:
    """What `check_set` found. The set is sound if `problems` is empty; each is one line naming the file."""

    url: str
    kind: str
    num_shards: int
    num_samples: int
    """Samples that were decoded, sound or not."""
    problems: tuple[str, ...]


def find_sets(url: str, remote: Remote | None = None) -> list[str]:
    """The shard set at `url`, or those in it called hr, lr and pairs; `url` itself when there is none."""
    source = open_source(url, remote or Remote())
    place = url if is_remote(url) else source.url
    if source.exists(MANIFEST):
        return [place]
    return [below(place, name) for name in DOMAINS if source.exists(f"{name}/{MANIFEST}")] or [place]


def check_set(url: str, progress: bool = True, remote: Remote | None = None) -> Report:
    """Verify the checksums of all indexes and tars of a set, that a tar holds what its index says, and every sample.

    Does not stop at the first problem. A remote set is downloaded, one shard at a time. Raises InputError only when the
    manifest itself cannot be used, or the storage fails.
    """
    source = open_source(url, remote or Remote())
    manifest = read_manifest(source)
    problems: list[str] = []
    seen: set[str] = set()
    num_samples = 0
    name = source.url.rsplit("/", 1)[-1]
    with (
        Bar(manifest.raw["count"], f"check {name}", "patch", progress) as bar,
        ThreadPoolExecutor() as pool,
    ):
        for number, entry in enumerate(manifest.shards):
            try:
                if isinstance(source, LocalSource):
                    check_sizes(source, manifest, number)
                shard = read_shard(source, manifest, number)
                with source.whole(shard.tar) as path:
                    where = f"{source.url}/{shard.tar}"
                    problems += _tar_problems(path, where, entry["sha256"], shard, manifest)
                    files = Files()
                    keys = [shard.key(j) for j in range(entry["count"])]
                    problems += [f"{where}: key {key} occurs twice in the set" for key in _repeated(keys, seen)]
                    check = partial(_problem, files, path, where, manifest, shard)
                    for problem in pool.map(check, range(len(keys))):
                        num_samples += 1
                        bar.update()
                        if problem:
                            problems.append(problem)
            except StorageError:
                raise
            except InputError as error:
                problems.append(str(error))
    return Report(source.url, manifest.kind, len(manifest.shards), num_samples, tuple(problems))


def _tar_problems(path: Path, where: str, checksum: str, shard: Shard, manifest: Manifest) -> Iterator[str]:
    """What is wrong with a tar as a whole; what other readers would meet who do not use the index."""
    if sha256(path) != checksum:
        yield f"{where}: does not have the checksum in the manifest; it is damaged"
    expected = {
        f"{shard.key(j)}.{domain}.{EXTENSIONS[manifest.encoding]}": (places[3 * j], places[3 * j + 1])
        for domain, places in shard.members.items()
        for j in range(len(shard.seen))
    }
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if not member.isreg():
                    yield f"{where}: {member.name!r} is no plain file"
                elif expected.pop(member.name, None) != (member.offset_data, member.size):
                    yield f"{where}: {member.name!r} is not where the index says, or not in it"
    except (tarfile.TarError, OSError, EOFError) as error:
        if may_pass(error):
            raise UnreachableError(f"{where}: cannot be read ({error})") from error
        yield f"{where}: is not a readable tar ({error})"
        return
    for name in list(expected)[:3]:
        yield f"{where}: {name} is in the index and not in the tar"


def _problem(files: Files, path: Path, where: str, manifest: Manifest, shard: Shard, j: int) -> str | None:
    try:
        for domain, places in shard.members.items():
            offset, length, crc = places[3 * j : 3 * j + 3]
            sample = f"{where}: sample {shard.key(j)}.{domain}"
            data = files.read(path, offset, length, sample)
            decode(data, manifest.encoding, manifest.patch * (manifest.scale if domain == "hr" else 1), sample)
            if zlib.crc32(data) != crc:
                return f"{sample} is damaged (it does not have the checksum in the index)"
    except StorageError:
        raise
    except InputError as error:
        return str(error)
    return None


def _repeated(keys: list[str], seen: set[str]) -> Iterator[str]:
    for key in keys:
        if key in seen:
            yield key
        seen.add(key)
