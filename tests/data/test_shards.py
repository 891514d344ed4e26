"""Shard sets: what is cut, what is written, what a reader takes."""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import re
import sys
import tarfile
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from helpers.shard_sets import CUT, SCALE, build, build_pairs, contents, save, texture
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from cyclesr_dist.data.build import build_set
from cyclesr_dist.data.cut import positions
from cyclesr_dist.data.shards import ShardSet, read_manifest
from cyclesr_dist.data.source import LocalSource
from cyclesr_dist.errors import InputError

# --- which patches


@given(patch=st.integers(1, 40), extra=st.integers(0, 200), data=st.data())
def test_positions_cover_every_pixel(patch: int, extra: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, patch))
    length = patch + extra
    starts = positions(length, patch, stride)
    covered = np.zeros(length, dtype=bool)
    for start in starts:
        assert 0 <= start <= length - patch
        covered[start : start + patch] = True
    assert covered.all()
    assert starts == sorted(set(starts))
    assert starts[:-1] == [i * stride for i in range(len(starts) - 1)]


@pytest.mark.parametrize("kind", ["hr", "lr"])
@pytest.mark.parametrize("encoding", ["tiff", "webp", "png", "npy"])
def test_round_trip_of_exactly_the_expected_patches(
    tmp_path: Path, photos: dict[str, NDArray[np.uint8]], kind: str, encoding: Any
) -> None:
    out = build(tmp_path, kind=kind, shards=replace(CUT, encoding=encoding, stride=6))
    unit = SCALE if kind == "hr" else 1
    size = 8 * unit
    expected = {
        f"{name}_{y}_{x}": image[y : y + size, x : x + size]
        for name, image in photos.items()
        for y in positions(image.shape[0], size, 6 * unit)
        for x in positions(image.shape[1], size, 6 * unit)
    }
    found = ShardSet.open(str(out), kind)
    assert (found.scale, found.patch, len(found)) == (SCALE, 8, len(expected))
    assert sorted(found.key(i) for i in range(len(found))) == sorted(expected)
    for i in range(len(found)):
        sample = found.read(i)
        assert list(sample) == [kind]
        assert sample[kind].dtype == np.uint8
        np.testing.assert_array_equal(sample[kind], expected[found.key(i)])


def test_shards_are_full_but_the_last_and_mix_the_images(tmp_path: Path, photos: Any) -> None:
    out = build(tmp_path, kind="lr")
    counts = [entry["count"] for entry in read_manifest(LocalSource(out)).shards]
    found = ShardSet.open(str(out), "lr")
    assert counts[:-1] == [7] * (len(counts) - 1)
    assert 0 < counts[-1] <= 7
    assert sum(counts) == len(found)
    first_shard = Counter(found.key(i)[0] for i in range(7))
    assert len(first_shard) > 1


def test_min_std_leaves_out_flat_patches_even_coloured_ones(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    half = np.empty((16, 32, 3), dtype=np.uint8)
    half[:, :16] = (40, 90, 200)
    half[:, 16:] = texture(16, 16, 0)
    save(tmp_path / "photos/a.png", half)
    out = build(tmp_path, shards=replace(CUT, min_std=0.05))
    found = ShardSet.open(str(out), "hr")
    assert [found.key(i) for i in range(len(found))] == ["a_0_16"]
    with pytest.raises(InputError, match=r"no patch .* 0\.9"):
        build(tmp_path, "none", shards=replace(CUT, min_std=0.9))
    assert not (tmp_path / "none").exists()


def test_names_become_tar_safe_and_stay_unique(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in (
        "a.b.png",
        "a_b.png",
        "a b.png",
        "日本.png",
        "写真.png",
        "x.png",
        "x.bmp",
        "X.png",
        "y" * 150 + ".png",
    ):
        save(folder / name, texture(16, 16, 0))
    found = ShardSet.open(str(build(tmp_path)), "hr")
    keys = {found.key(i) for i in range(len(found))}
    assert len(keys) == len({key.lower() for key in keys}) == 9
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,90}", key) for key in keys)
    for tar in (tmp_path / "set").glob("*.tar"):
        with tarfile.open(tar) as archive:
            assert all(len(name) < 100 and name.count(".") == 2 for name in archive.getnames())


# --- determinism


def test_bytes_depend_neither_on_workers_nor_on_the_run(tmp_path: Path, photos: Any) -> None:
    for i in range(6):
        save(tmp_path / f"photos/more{i}.png", texture(20 + i, 40 - i, i))
    one = contents(build(tmp_path, "one", workers=1))
    assert one == contents(build(tmp_path, "five", workers=5))
    assert one == contents(build(tmp_path, "again", workers=1))
    assert len([name for name in one if name.endswith(".tar")]) > 1


# --- other readers


def test_tarfile_and_webdataset_read_the_same(tmp_path: Path, pairs: Any) -> None:
    found = build_pairs(tmp_path)
    tars = sorted((tmp_path / "pairs").glob("*.tar"))
    names: list[str] = []
    for tar in tars:
        with tarfile.open(tar) as archive:
            assert {(m.mtime, m.uid, m.gid, m.uname) for m in archive} == {(0, 0, 0, "cyclesr")}
            names += archive.getnames()
    assert names == [f"{found.key(i)}.{d}.tiff" for i in range(len(found)) for d in ("hr", "lr")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # webdataset leaves its streams to the collector
        samples = list(webdataset.WebDataset([str(tar) for tar in tars], shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [found.key(i) for i in range(len(found))]
    for i in (0, 7, len(found) - 1):
        for domain, pixels in found.read(i).items():
            with Image.open(io.BytesIO(samples[i][f"{domain}.tiff"])) as image:
                np.testing.assert_array_equal(np.asarray(image), pixels)


# --- same, other, overwrite


def test_the_same_result_is_left_alone(tmp_path: Path, photos: Any) -> None:
    out = build(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert build_set("hr", out, CUT, scale=SCALE, hr_dir=tmp_path / "photos", progress=False) == 0
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


@pytest.mark.parametrize("change", ["settings", "scale", "photo", "tar", "foreign"])
def test_anything_else_is_refused_and_replaced_only_on_request(tmp_path: Path, photos: Any, change: str) -> None:
    out = build(tmp_path)
    changes: dict[str, Any] = {}
    match change:
        case "settings":
            changes = {"shards": replace(CUT, stride=4)}
        case "scale":
            changes = {"scale": 1}
        case "photo":
            save(tmp_path / "photos/a.png", texture(40, 32, 77))
        case "tar":
            (out / "shard-000000.tar").write_bytes(b"short")
        case "foreign":
            (out / "manifest.json").unlink()
    before = contents(out)
    with pytest.raises(InputError, match="--overwrite"):
        build(tmp_path, **changes)
    assert contents(out) == before
    build(tmp_path, overwrite=True, **changes)
    assert contents(out) == contents(build(tmp_path, "fresh", **changes))


def test_an_open_set_keeps_reading_what_it_opened_after_an_overwrite(tmp_path: Path, photos: Any) -> None:
    out = build(tmp_path)
    old = ShardSet.open(str(out), "hr")
    before = old.read(0)["hr"]
    save(tmp_path / "photos/a.png", texture(40, 32, 5))
    build(tmp_path, shards=replace(CUT, stride=5), overwrite=True)
    np.testing.assert_array_equal(old.read(0)["hr"], before)
    new = ShardSet.open(str(out), "hr")
    image = {"a": texture(40, 32, 5), "b": photos["b"], "c": photos["c"]}
    for i in range(len(new)):
        name, y, x = new.key(i).split("_")
        np.testing.assert_array_equal(new.read(i)["hr"], image[name][int(y) : int(y) + 16, int(x) : int(x) + 16])


# --- reading


@pytest.fixture
def many_shards(tmp_path: Path, photos: Any) -> ShardSet:
    """More shards than files may be open at a time, so that files are closed while others read."""
    return ShardSet.open(str(build(tmp_path, kind="lr", shards=replace(CUT, stride=2, samples_per_shard=1))), "lr")


def test_a_set_is_shared_by_threads_forks_and_pickles(many_shards: ShardSet) -> None:
    expected = [many_shards.read(i)["lr"] for i in range(len(many_shards))]
    copy = pickle.loads(pickle.dumps(many_shards))

    def wrong(shards: ShardSet, order: NDArray[np.int64]) -> list[int]:
        return [i for i in order.tolist() if not np.array_equal(shards.read(i)["lr"], expected[i])]

    orders = [np.random.default_rng(i).permutation(len(expected)) for i in range(9)]
    with ThreadPoolExecutor(9) as pool:
        results = list(pool.map(wrong, [many_shards, many_shards, copy] * 3, orders))
    assert results == [[]] * 9

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of fork in a process that had threads
        child = multiprocessing.get_context("fork").Process(target=lambda: sys.exit(len(wrong(many_shards, orders[0]))))
        child.start()
    assert wrong(many_shards, orders[1]) == []
    child.join()
    assert child.exitcode == 0


def test_few_files_stay_open(many_shards: ShardSet) -> None:
    found = pickle.loads(pickle.dumps(many_shards))
    assert len(found) > 150
    before = len(os.listdir("/proc/self/fd"))
    for i in range(len(found)):
        found.read(i)
    assert 0 < len(os.listdir("/proc/self/fd")) - before < 100
    del found
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.parametrize("i", [-1, 10**9])
def test_samples_out_of_range(tmp_path: Path, photos: Any, i: int) -> None:
    found = ShardSet.open(str(build(tmp_path)), "hr")
    with pytest.raises(IndexError):
        found.read(i)
    with pytest.raises(IndexError):
        found.key(i)
