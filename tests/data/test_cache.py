"""The cache of remote pieces: bounded, shared between processes, never wrong."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from cyclesr_dist.data.cache import PieceCache
from cyclesr_dist.data.source import Piece
from cyclesr_dist.errors import InputError

SIZE = 40_000


def piece(shard: int, number: int) -> Piece:
    return Piece(f"shard-{shard:06d}.tar", 512 + number * SIZE, SIZE, number, 10, 512 + 10 * SIZE, "key.hr", "url", 0)


def content(shard: int, number: int) -> bytes:
    return np.random.default_rng([shard, number]).bytes(SIZE)


def test_what_was_written_is_read_and_nothing_else(tmp_path: Path) -> None:
    cache = PieceCache(tmp_path, 10**9, "set")
    assert cache.read(piece(0, 3)) is None
    cache.write(piece(0, 3), content(0, 3))
    for other in (cache, PieceCache(tmp_path, 10**9, "set")):
        assert other.read(piece(0, 3)) == content(0, 3)
        assert other.read(piece(0, 2)) is None
    assert PieceCache(tmp_path, 10**9, "another set").read(piece(0, 3)) is None
    cache.forget(piece(0, 3))
    assert cache.read(piece(0, 3)) is None


def test_it_stays_bounded_and_forgets_what_was_used_longest_ago(tmp_path: Path) -> None:
    limit = 20 * SIZE
    cache = PieceCache(tmp_path, limit, "set")
    for shard in range(12):
        for number in range(10):
            cache.write(piece(shard, number), content(shard, number))
            os.utime(cache.own / piece(shard, 0).name, (shard, shard))
        assert cache.num_bytes() <= limit * 33 / 32 + 8192 * 12
    found = [shard for shard in range(12) if cache.read(piece(shard, 9)) is not None]
    assert found
    assert found == list(range(found[0], 12))
    assert all(cache.read(piece(shard, 0)) in (None, content(shard, 0)) for shard in range(12))


def _use(folder: Path, seed: int) -> None:
    cache = PieceCache(folder, 15 * SIZE, "set")
    random = np.random.default_rng(seed)
    for _ in range(300):
        shard, number = int(random.integers(6)), int(random.integers(10))
        found = cache.read(piece(shard, number))
        assert found is None or found == content(shard, number)
        cache.write(piece(shard, number), content(shard, number))


def test_processes_share_it_while_it_overflows(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    users = [context.Process(target=_use, args=(tmp_path, seed)) for seed in range(3)]
    for user in users:
        user.start()
    for user in users:
        user.join(120)
    assert [user.exitcode for user in users] == [0, 0, 0]
    assert PieceCache(tmp_path, 15 * SIZE, "set").num_bytes() <= 15 * SIZE * (1 + 3 / 32) + 6 * 8192


def test_a_full_disk_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = PieceCache(tmp_path, 10**9, "set")

    def full(*args: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    cache.write(piece(0, 0), content(0, 0))
    assert cache.read(piece(0, 0)) is None


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"data\.remote\.cache_dir: .*file"):
        PieceCache(tmp_path / "file", 10**9, "set")
