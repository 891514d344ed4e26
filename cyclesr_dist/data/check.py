"""Verifying a shard set: every checksum, every sample."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from cyclesr_dist.data.shards import (
    DOMAINS,
    MANIFEST,
    Files,
    Manifest,
    Shard,
    local_folder,
    read_manifest,
    read_sample,
    read_shard,
)
from cyclesr_dist.errors import InputError
from cyclesr_dist.files import sha256


@dataclass(frozen=True)
class Report:
    """What `check_set` found. The set is sound if `problems` is empty; each is one line naming the file."""

    folder: Path
    kind: str
    num_shards: int
    num_samples: int
    """Samples that were decoded, sound or not."""
    problems: tuple[str, ...]


def find_sets(url: str) -> list[Path]:
    """The shard set at `url`, or those in it called hr, lr and pairs. Raises InputError when there is none."""
    folder = local_folder(url)
    inside = [folder / name for name in DOMAINS if (folder / name / MANIFEST).is_file()]
    if (folder / MANIFEST).is_file() or not inside:
        return [folder]
    return inside


def check_set(url: str, progress: bool = True) -> Report:
    """Verify the checksums of all indexes and tars of a set, and decode every sample.

    Does not stop at the first problem. Raises InputError only when the manifest itself cannot be used.
    """
    folder = local_folder(url)
    manifest = read_manifest(folder)
    problems: list[str] = []
    shards: list[Shard] = []
    for number in range(len(manifest.shards)):
        try:
            shards.append(read_shard(folder, manifest, number))
        except InputError as error:
            problems.append(str(error))
    seen: set[str] = set()
    num_samples = 0
    files = Files()
    with (
        tqdm(total=manifest.raw["count"], desc=f"check {folder.name}", unit="patch", disable=not progress) as bar,
        ThreadPoolExecutor() as pool,
    ):
        for shard in shards:
            if sha256(shard.tar) != shard.sha256:
                problems.append(f"{shard.tar}: does not have the checksum in the manifest; it is damaged")
            keys = shard.keys.split("\n")
            problems += [f"{shard.tar}: key {key} occurs twice in the set" for key in _repeated(keys, seen)]
            for problem in pool.map(partial(_problem, files, manifest, shard), range(len(keys))):
                num_samples += 1
                bar.update()
                if problem:
                    problems.append(problem)
    return Report(folder, manifest.kind, len(manifest.shards), num_samples, tuple(problems))


def _problem(files: Files, manifest: Manifest, shard: Shard, j: int) -> str | None:
    try:
        read_sample(files, manifest, shard, j)
    except InputError as error:
        return str(error)
    return None


def _repeated(keys: list[str], seen: set[str]) -> Iterator[str]:
    for key in keys:
        if key in seen:
            yield key
        seen.add(key)
