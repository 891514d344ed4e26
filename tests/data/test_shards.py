"""Shard sets: what is cut, what is written, what a reader takes and refuses."""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import multiprocessing
import os
import pickle
import re
import shutil
import sys
import tarfile
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
import webdataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from cyclesr_dist.cli import shards as command
from cyclesr_dist.cli.main import main
from cyclesr_dist.config.schema import Degrade, Shards
from cyclesr_dist.data.build import build_set
from cyclesr_dist.data.check import check_set
from cyclesr_dist.data.cut import MAX_SHIFT_PX, estimate_shift, positions
from cyclesr_dist.data.images import image_size, read_rgb8
from cyclesr_dist.data.shards import ShardSet, parse_index, read_manifest
from cyclesr_dist.data.source import LocalSource, local_folder
from cyclesr_dist.degradation.simulate import degrade, degrade_folder
from cyclesr_dist.errors import ConfigError, InputError
from cyclesr_dist.runtime.command import guarded

CUT = Shards(patch=8, stride=8, samples_per_shard=7)
SCALE = 2


def texture(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def scene(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """Blobs of several sizes, as photographs have them: a shift can still be seen after blur."""
    random = np.random.default_rng(seed)
    levels = sum(
        np.array(
            Image.fromarray(random.random((n, n), dtype=np.float32)).resize((width, height), Image.Resampling.BICUBIC)
        )
        for n in (4, 16, 48)
    )
    grey = np.clip(levels / 3 * 255, 0, 255).astype(np.uint8)
    return np.stack([grey, 255 - grey // 2, grey // 2 + 20], axis=2)


def save(path: Path, array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    Image.fromarray(array).save(path)
    return array


@pytest.fixture
def photos(tmp_path: Path) -> dict[str, NDArray[np.uint8]]:
    """Three images in tmp_path/photos. 40 x 32 is a whole number of HR patches, the others are not."""
    folder = tmp_path / "photos"
    folder.mkdir()
    sizes = {"a": (40, 32), "b": (33, 50), "c": (16, 16)}
    return {name: save(folder / f"{name}.png", texture(*size, seed=ord(name))) for name, size in sizes.items()}


def build(tmp_path: Path, name: str = "set", kind: Any = "hr", **changes: Any) -> Path:
    out = tmp_path / name
    settings: dict[str, Any] = {"scale": SCALE, "progress": False, f"{kind}_dir": tmp_path / "photos"}
    settings |= changes
    build_set(kind, out, settings.pop("shards", CUT), **settings)
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def rewrite_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    raw = json.loads((folder / "manifest.json").read_text())
    change(raw)
    (folder / "manifest.json").write_text(json.dumps(raw))


def run_command(*argv: str | Path) -> int:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    args = parser.parse_args(["shards", *map(str, argv)])
    return guarded(lambda: args.run(args), debug=args.debug)


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
@pytest.mark.parametrize("encoding", ["tiff", "webp", "png"])
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


# --- pairs


@pytest.fixture
def pairs(tmp_path: Path) -> dict[str, tuple[int, int]]:
    """Two scenes and their mild LR files; returns the shifts that were drawn, by LR stem."""
    (tmp_path / "hr").mkdir()
    for i, size in enumerate([(96, 120), (98, 101)]):
        save(tmp_path / f"hr/s{i}.png", scene(*size, seed=i))
    levels = Degrade(blur_px=4, noise=0.02, shift_px=6)
    degrade_folder(tmp_path / "hr", tmp_path / "lr", track="mild", scale=SCALE, seed=0, levels=levels, progress=False)
    record = json.loads((tmp_path / "lr/degradations.json").read_text())
    return {Path(name).stem: tuple(entry["parameters"]["shift_px"]) for name, entry in record["files"].items()}


def build_pairs(tmp_path: Path, name: str = "pairs", shards: Shards = CUT, **changes: Any) -> ShardSet:
    settings: dict[str, Any] = {"scale": SCALE, "progress": False} | changes
    build_set("pairs", tmp_path / name, shards, hr_dir=tmp_path / "hr", lr_dir=tmp_path / "lr", **settings)
    return ShardSet.open(str(tmp_path / name), "pairs")


def test_pairs_are_cut_where_the_shift_says(tmp_path: Path, pairs: dict[str, tuple[int, int]]) -> None:
    found = build_pairs(tmp_path)
    drawn = {d for shift in pairs.values() for d in shift}
    assert any(d > 0 and d % SCALE for d in drawn), "the case that rounds"
    assert any(d < 0 and d % SCALE for d in drawn)
    assert found.manifest["shifts_px"] == {stem: list(shift) for stem, shift in pairs.items()}
    rows = set()
    for i in range(len(found)):
        stem, y, x = found.key(i).rsplit("_", 2)
        row, column = int(y), int(x)
        rows.add((stem, row))
        dy, dx = pairs[stem]
        lr = np.array(Image.open(tmp_path / f"lr/{stem}.png"))
        hr = np.array(Image.open(tmp_path / f"hr/{stem[:2]}.png"))
        top, left = SCALE * row - dy, SCALE * column - dx
        sample = found.read(i)
        np.testing.assert_array_equal(sample["lr"], lr[row : row + 8, column : column + 8])
        np.testing.assert_array_equal(sample["hr"], hr[top : top + 16, left : left + 16])
    for stem, (dy, _) in pairs.items():  # nothing of the region that both images have is lost
        height = Image.open(tmp_path / f"hr/{stem[:2]}.png").height
        valid = [y for y in range(height // SCALE) if SCALE * y >= dy and SCALE * (y + 1) - dy <= height]
        mine = sorted(row for name, row in rows if name == stem)
        assert (mine[0], mine[-1] + 8) == (valid[0], valid[-1] + 1)


def test_without_align_pairs_are_cut_as_they_lie(tmp_path: Path, pairs: dict[str, tuple[int, int]]) -> None:
    found = build_pairs(tmp_path, align=False)
    stem, y, x = found.key(0).rsplit("_", 2)
    row, column = int(y) * SCALE, int(x) * SCALE
    hr = np.array(Image.open(tmp_path / f"hr/{stem[:2]}.png"))
    np.testing.assert_array_equal(found.read(0)["hr"], hr[row : row + 16, column : column + 16])
    with pytest.raises(InputError, match="--overwrite"):
        build_pairs(tmp_path, align=True)


@given(
    dy=st.integers(-MAX_SHIFT_PX, MAX_SHIFT_PX),
    dx=st.integers(-MAX_SHIFT_PX, MAX_SHIFT_PX),
    gain=st.sampled_from([0.6, 1.0]),
)
@settings(max_examples=25, deadline=None)
def test_the_shift_is_found_up_to_its_limit_whatever_the_brightness(dy: int, dx: int, gain: float) -> None:
    wide = scene(176, 200, seed=3)
    hr = wide[20:156, 20:180]
    moved = torch.from_numpy(wide[20 - dy : 156 - dy, 20 - dx : 180 - dx].astype(np.float32) / 255 * gain)
    lr, _ = degrade(moved.permute(2, 0, 1)[None], "mild", 4, Degrade(blur_px=5, noise=0.02, shift_px=0), 0, "a")
    assert estimate_shift(hr, (lr[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8), 4) == (dy, dx)


def test_flat_pairs_have_no_shift() -> None:
    assert estimate_shift(np.full((64, 64, 3), 99, np.uint8), np.full((16, 16, 3), 80, np.uint8), 4) == (0, 0)


def test_pairs_of_the_wrong_scale_are_refused(tmp_path: Path, pairs: Any) -> None:
    with pytest.raises(InputError, match=r"s0x2m\.png: 60 x 48 px is not 1/4 of s0\.png, 120 x 96 px"):
        build_pairs(tmp_path, scale=4)
    assert not (tmp_path / "pairs").exists()


@pytest.mark.parametrize("region", ["all", "right"])
@pytest.mark.parametrize("small", ["hr", "lr"])
def test_a_pair_is_left_out_when_either_is_too_small(
    tmp_path: Path, pairs: Any, capsys: pytest.CaptureFixture[str], region: Any, small: str
) -> None:
    shards = replace(CUT, lr_region=region)
    whole = build_pairs(tmp_path, "whole", shards=shards)
    short, enough = (7, 8) if region == "all" else (14, 16)
    save(tmp_path / "lr/tiny.png", scene(20, short if small == "lr" else enough, seed=9))
    save(tmp_path / "hr/tiny.png", scene(40, 2 * (short if small == "hr" else enough), seed=9))
    found = build_pairs(tmp_path, "set", shards=shards)
    assert found.manifest["left_out"] == ["tiny.png"]
    assert len(found) == len(whole)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tiny.png: " + ("its right half, " if region != "all" else ""))
    assert line.endswith("the pair is left out")
    assert ("16x16" in line) == (small == "hr")


def test_a_pair_that_is_too_small_once_aligned_is_left_out(
    tmp_path: Path, pairs: dict[str, tuple[int, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    shards = replace(CUT, patch=min(96 // SCALE - 1, 47), stride=8)
    assert min(abs(dy) for dy, _ in pairs.values()) > 0
    (tmp_path / "hr/flat.png").write_bytes((tmp_path / "hr/s0.png").read_bytes())
    Image.open(tmp_path / "hr/s0.png").resize((60, 48)).save(tmp_path / "lr/flat.png")  # no shift
    (stem,) = (stem for stem in pairs if stem.startswith("s0"))
    found = build_pairs(tmp_path, shards=shards)
    assert f"{stem}.png" in found.manifest["left_out"]
    assert "flat.png" not in found.manifest["left_out"]
    assert all(not found.key(i).startswith(stem) for i in range(len(found)))
    assert "the part that it shares with its HR file" in capsys.readouterr().err


# --- determinism


def test_bytes_depend_neither_on_workers_nor_on_the_run(tmp_path: Path, photos: Any) -> None:
    for i in range(6):
        save(tmp_path / f"photos/more{i}.png", texture(20 + i, 40 - i, i))
    one = contents(build(tmp_path, "one", workers=1))
    assert one == contents(build(tmp_path, "five", workers=5))
    assert one == contents(build(tmp_path, "again", workers=1))
    assert len([name for name in one if name.endswith(".tar")]) > 1


def test_pairs_do_not_depend_on_workers(tmp_path: Path, pairs: Any) -> None:
    build_pairs(tmp_path, "one", workers=1)
    build_pairs(tmp_path, "two", workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


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


# --- bad input


def test_an_image_smaller_than_a_patch_is_named_with_sizes_and_left_out(
    tmp_path: Path, photos: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = contents(build(tmp_path, "whole"))
    save(tmp_path / "photos/small.png", texture(15, 40, 0))
    out = build(tmp_path)
    line = "small.png: 40x15 px is smaller than one patch of 16x16 px (shards.patch x scale); left out"
    assert capsys.readouterr().err.splitlines() == [line]
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["left_out"] == ["small.png"]
    assert [source["hr"] for source in manifest["sources"]] == ["a.png", "b.png", "c.png"]
    found = contents(out)
    found.pop("manifest.json")
    assert found == {name: data for name, data in whole.items() if name != "manifest.json"}
    assert build_set("hr", out, CUT, scale=SCALE, hr_dir=tmp_path / "photos", progress=False) == 0
    (tmp_path / "photos/small.png").unlink()  # it made no difference
    assert build_set("hr", out, CUT, scale=SCALE, hr_dir=tmp_path / "photos", progress=False) == 0


def test_what_was_left_out_is_cut_once_it_is_large_enough(tmp_path: Path, photos: Any) -> None:
    save(tmp_path / "photos/small.png", texture(15, 40, 0))
    build(tmp_path)
    save(tmp_path / "photos/small.png", texture(16, 40, 0))
    with pytest.raises(InputError, match="--overwrite"):
        build(tmp_path)
    out = build(tmp_path, overwrite=True)
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["left_out"], len(manifest["sources"])) == ([], 4)


def test_many_small_images_are_counted(tmp_path: Path, photos: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(33):
        save(tmp_path / f"photos/small{i:02}.png", texture(7, 7, 0))
    build(tmp_path, kind="lr")
    *named, count = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in named] == [f"small{i:02}.png" for i in range(20)]
    assert count == "13 more are smaller than one patch; left out"


@pytest.mark.parametrize(
    ("sizes", "region", "advice"),
    [
        (
            [(14, 40), (12, 90)],
            "all",
            r"largest is s0\.png, 40x14 px; shards\.patch=7 would fit it, shards\.patch=6 would",
        ),
        ([(14, 40), (14, 15)], "all", r"largest is s0\.png, 40x14 px; shards\.patch=7 would fit all$"),
        ([(40, 30), (40, 21)], "left", r"30x40 px \(only its left half counts\); shards\.patch=7 .* shards\.patch=5 "),
        ([(30, 40), (21, 40)], "top", r"40x30 px \(only its top half counts\); shards\.patch=7 .* shards\.patch=5 "),
        ([(1, 40), (9, 9)], "all", r"9x9 px; shards\.patch=4 would fit it$"),
        ([(1, 1)], "all", r"1x1 px; no patch fits at scale = 2$"),
    ],
)
def test_where_all_are_too_small_a_patch_that_fits_is_told(
    tmp_path: Path, sizes: list[tuple[int, int]], region: Any, advice: str
) -> None:
    (tmp_path / "photos").mkdir()
    for i, size in enumerate(sizes):
        save(tmp_path / f"photos/s{i}.png", texture(*size, seed=i))
    shards = replace(CUT, hr_region=region)
    with pytest.raises(InputError, match=rf"photos: no photograph .* 16x16 px.*{advice}") as error:
        build(tmp_path, shards=shards)
    assert sorted(os.listdir(tmp_path)) == ["photos"]
    for number, whom in re.findall(r"shards\.patch=(\d+) would fit (it|all)", str(error.value)):
        patch = int(number)
        out = build(tmp_path, f"for_{whom}", shards=replace(shards, patch=patch))
        assert bool(read_manifest(LocalSource(out)).raw["left_out"]) == (whom == "it")
        larger = outcome(lambda patch=patch: build(tmp_path, f"{patch}", shards=replace(shards, patch=patch + 1)))
        assert isinstance(larger, InputError) or (whom == "all" and len(sizes) > 1)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_side_on_which_a_photograph_lies_counts(tmp_path: Path, suffix: str, orientation: int) -> None:
    """30 x 17 px as stored: its left half holds a patch of 9 x 9 px unless it is to be turned by a quarter."""
    (tmp_path / "photos").mkdir()
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"photos/a.{suffix}"
    Image.fromarray(texture(17, 30, 0)).save(path, exif=exif)
    height, width = read_rgb8(path).shape[:2]
    assert image_size(path) == (width, height)
    outcome_ = outcome(lambda: build(tmp_path, kind="lr", shards=Shards(patch=9, stride=9, lr_region="left")))
    assert isinstance(outcome_, InputError) == (orientation >= 5)


def test_a_side_that_only_the_end_of_the_file_tells_ends_no_build(
    tmp_path: Path, photos: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """PNG may have EXIF behind the pixels, where the size is not looked for."""
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "photos/late.png"
    Image.fromarray(texture(17, 30, 0)).save(path, exif=exif)
    data = path.read_bytes()
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    path.write_bytes(data[:start] + data[end:-12] + data[start:end] + data[-12:])
    out = build(tmp_path, kind="lr", shards=Shards(patch=9, stride=9, lr_region="left"))
    late, c = capsys.readouterr().err.splitlines()[::-1]
    assert late == "late.png: 8x30 px is smaller than one patch of 9x9 px (shards.patch); left out"
    assert c.startswith("c.png: its left half, 8x16 px, is smaller than one patch of 9x9 px")
    assert read_manifest(LocalSource(out)).raw["left_out"] == ["c.png", "late.png"]


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tif"])
def test_sizes_are_read_without_the_pixels(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(texture(300, 400, 0)).save(path)
    head = path.read_bytes()
    if suffix != "tif":  # whose list of fields may lie at the end
        path.write_bytes(head[: len(head) // 10])
        with pytest.raises(InputError):
            read_rgb8(path)
    assert image_size(path) == (400, 300)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_text_file_named_jpg_is_named_and_nothing_is_left(tmp_path: Path, photos: Any, workers: int) -> None:
    (tmp_path / "photos/b2.jpg").write_text("not an image at all")
    with pytest.raises(InputError, match=r"b2\.jpg"):
        build(tmp_path, "deep/set", workers=workers)
    assert sorted(os.listdir(tmp_path)) == ["photos"]


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(InputError, match="photos"):
        build(tmp_path)


@pytest.mark.parametrize("key", ["patch", "stride", "samples_per_shard"])
def test_settings_out_of_range_are_named(tmp_path: Path, photos: Any, key: str) -> None:
    with pytest.raises(ConfigError, match=f"shards.{key}"):
        build(tmp_path, shards=replace(CUT, **{key: 0}))


@pytest.mark.parametrize("url", ["s3://bucket/x", "http://host/x", "pipe:cat /etc/passwd", "", "file://host/x"])
def test_urls_that_are_not_local_folders_are_refused(url: str) -> None:
    with pytest.raises(InputError, match=re.escape(url) or "''"):
        local_folder(url)


def test_local_urls(tmp_path: Path) -> None:
    assert local_folder("a/b c") == Path("a/b c")
    assert local_folder("file:///a/b%20c") == Path("/a/b c")


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


# --- damage


def test_what_open_refuses(tmp_path: Path, photos: Any) -> None:
    out = build(tmp_path)
    with pytest.raises(InputError, match=r"of kind 'hr'; one of kind 'lr'"):
        ShardSet.open(str(out), "lr")
    with pytest.raises(InputError, match="no such folder"):
        ShardSet.open(str(tmp_path / "nowhere"), "hr")
    (tmp_path / "sets").mkdir()
    out.rename(tmp_path / "sets/hr")
    with pytest.raises(InputError, match=r"did you mean .*sets/hr\?"):
        ShardSet.open(str(tmp_path / "sets"), "hr")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("version", 1, "version 1 is not supported"),
        ("format", "zip", "not the manifest of a shard set"),
        ("kind", "video", "allowed: hr, lr, pairs"),
        ("encoding", "jpg", "allowed: tiff, webp, png, jpeg"),
        ("region", "middle", "allowed: all, left"),
        ("sources", [{"hr": "a.png"}], "sources must be a list of mappings with hr, hr_sha256"),
        ("count", 3, "count is 3"),
        ("scale", 0, "scale must be a positive integer"),
        ("patch", "big", "patch must be a positive integer"),
        ("shards", [], "at least one"),
        ("shards", [{"tar": "../../etc/passwd"}], r"tar: shard-000000\.tar"),
    ],
)
def test_bad_manifest_fields_are_named(tmp_path: Path, photos: Any, field: str, value: Any, message: str) -> None:
    out = build(tmp_path)
    rewrite_manifest(out, lambda raw: raw.update({field: value}))
    with pytest.raises(InputError, match=rf"manifest\.json.*{message}"):
        ShardSet.open(str(out), "hr")


@pytest.mark.parametrize("text", ["", "{", "[1]", '"x"', "\xff", "[" * 100_000])
def test_a_malformed_manifest_is_named(tmp_path: Path, photos: Any, text: str) -> None:
    out = build(tmp_path)
    (out / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"manifest\.json"):
        ShardSet.open(str(out), "hr")


@pytest.mark.parametrize("name", ["shard-000001.tar", "shard-000001.json"])
def test_a_missing_shard_is_named(tmp_path: Path, photos: Any, name: str) -> None:
    out = build(tmp_path, kind="lr")
    (out / name).unlink()
    with pytest.raises(InputError, match=rf"{name}: missing"):
        ShardSet.open(str(out), "lr")
    assert [name in problem for problem in check_set(str(out), progress=False).problems] == [True]


def test_a_truncated_tar_is_named(tmp_path: Path, photos: Any) -> None:
    out = build(tmp_path, kind="lr")
    found = ShardSet.open(str(out), "lr")
    tar = out / "shard-000001.tar"
    size = tar.stat().st_size
    os.truncate(tar, 600)
    with pytest.raises(InputError, match=rf"shard-000001\.tar: has 600 bytes, its index says {size}"):
        ShardSet.open(str(out), "lr")
    with pytest.raises(InputError, match=rf"shard-000001\.tar: sample {found.key(8)}\.lr is cut short"):
        found.read(8)


def first_place(out: Path) -> tuple[str, int, int]:
    sample = json.loads((out / "shard-000000.json").read_text())["samples"][0]
    (offset, size, _) = next(iter(sample["members"].values()))
    return sample["key"], offset, size


def overwrite_bytes(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def test_a_corrupt_sample_is_named_and_the_others_still_read(tmp_path: Path, photos: Any) -> None:
    out = build(tmp_path)
    key, offset, size = first_place(out)
    overwrite_bytes(out / "shard-000000.tar", offset, b"\0" * size)
    found = ShardSet.open(str(out), "hr")
    with pytest.raises(InputError, match=rf"shard-000000\.tar: sample {key}\.hr is damaged"):
        found.read(0)
    assert found.read(1)["hr"].shape == (16, 16, 3)
    problems = check_set(str(out), progress=False).problems
    assert len(problems) == 2
    assert "checksum" in problems[0]
    assert key in problems[1]


@given(data=st.data())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_check_finds_any_flipped_bit(tmp_path: Path, photos: Any, data: st.DataObject) -> None:
    out = tmp_path / "set"
    if not out.exists():
        build(tmp_path)
    files = sorted(path for path in out.iterdir() if path.suffix == ".tar" or path.name.startswith("shard"))
    path = data.draw(st.sampled_from(files))
    original = path.read_bytes()
    at, bit = data.draw(st.integers(0, len(original) - 1)), data.draw(st.integers(0, 7))
    try:
        overwrite_bytes(path, at, bytes([original[at] ^ 1 << bit]))
        problems = check_set(str(out), progress=False).problems
        assert problems
        assert path.name in problems[0]
    finally:
        path.write_bytes(original)


def test_a_sample_of_the_wrong_size_is_named(tmp_path: Path, photos: Any) -> None:
    out = build(tmp_path)
    rewrite_manifest(out, lambda raw: raw.update(patch=9))
    found = ShardSet.open(str(out), "hr")
    with pytest.raises(InputError, match=rf"sample {found.key(0)}\.hr is 16 x 16 RGB; the manifest says 18 x 18 RGB"):
        found.read(0)


def test_other_image_formats_inside_a_tar_are_not_decoded(tmp_path: Path, photos: Any) -> None:
    """Pillow knows dozens of formats; what claims to be webp must be webp."""
    out = build(tmp_path, shards=replace(CUT, encoding="png"))
    rewrite = json.loads((out / "shard-000000.json").read_text())
    for sample in rewrite["samples"]:
        sample["members"] = {"hr.webp": sample["members"]["hr.png"]}
    text = json.dumps(rewrite).encode()
    (out / "shard-000000.json").write_bytes(text)

    def to_webp(raw: dict[str, Any]) -> None:
        raw["encoding"] = "webp"
        raw["shards"] = raw["shards"][:1]
        raw["shards"][0]["index_sha256"] = hashlib.sha256(text).hexdigest()
        raw["count"] = raw["shards"][0]["count"]

    rewrite_manifest(out, to_webp)
    with pytest.raises(InputError, match="is damaged"):
        ShardSet.open(str(out), "hr").read(0)


@pytest.mark.parametrize(
    "place",
    [
        *([0, 10**9, 0], [10**9, 1, 0], [10**30, 1, 0], [-1, 5, 0], [0, 0, 0], [0, 1], [0, 1, -1], [0, 1, 1 << 32]),
        *([0], [0, 1, 2, 3], [0.0, 1.0, 0], [True, True, True], "012", None),
    ],
)
def test_a_place_outside_the_tar_is_named(sound: Path, place: Any) -> None:
    manifest = read_manifest(LocalSource(sound))
    raw = json.loads((sound / "shard-000000.json").read_text())
    raw["samples"][1]["members"]["hr.tiff"] = place
    with pytest.raises(InputError, match=r"samples\[1\]\.members\.hr\.tiff must be \[offset, size, crc32\] within"):
        parse_index("index", json.dumps(raw).encode(), manifest, manifest.shards[0])


@pytest.mark.parametrize("evil", ["../../escaped.hr.tiff", "/etc/escaped", "link", "hard link"])
def test_names_and_links_in_a_tar_go_nowhere(tmp_path: Path, photos: Any, evil: str) -> None:
    """A set whose index and manifest agree with its tar, in which one member is a trap for those who unpack it."""
    out = build(tmp_path)
    tar, index = out / "shard-000000.tar", out / "shard-000000.json"
    with tarfile.open(tar, "a") as archive:
        member = tarfile.TarInfo(evil)
        if "link" in evil:
            member.type = tarfile.SYMTYPE if evil == "link" else tarfile.LNKTYPE
            member.linkname = "../../../etc/passwd"
        archive.addfile(member)
    entry = {"tar_bytes": tar.stat().st_size, "sha256": hashlib.sha256(tar.read_bytes()).hexdigest()}
    index.write_text(json.dumps(json.loads(index.read_text()) | entry))
    entry["index_sha256"] = hashlib.sha256(index.read_bytes()).hexdigest()
    rewrite_manifest(out, lambda raw: raw["shards"][0].update(entry))
    found = ShardSet.open(str(out), "hr")
    for i in range(len(found)):
        found.read(i)
    (problem,) = check_set(str(out), progress=False).problems
    assert repr(evil) in problem
    assert sorted(os.listdir(tmp_path)) == ["photos", "set"]


# --- arbitrary JSON

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    (folder / "photos").mkdir()
    save(folder / "photos/a.png", texture(16, 32, 0))
    return build(folder)


@st.composite
def damaged(draw: st.DrawFn, original: Any) -> Any:
    """`original` with one value somewhere in it replaced by anything, or removed."""
    if isinstance(original, dict) and original and draw(st.integers(0, 5)):
        key = draw(st.sampled_from(sorted(original)))
        if draw(st.integers(0, 5)) == 0:
            return {k: v for k, v in original.items() if k != key}
        return original | {key: draw(damaged(original[key]))}
    if isinstance(original, list) and original and draw(st.integers(0, 5)):
        i = draw(st.integers(0, len(original) - 1))
        return [*original[:i], draw(damaged(original[i])), *original[i + 1 :]]
    return draw(json_values)


T = TypeVar("T")


def outcome(function: Callable[[], T]) -> T | InputError:
    try:
        return function()
    except InputError as error:
        return error


@given(data=st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_manifest_opens_or_gives_an_input_error(
    sound: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    raw = json.loads((sound / "manifest.json").read_text())
    folder = tmp_path_factory.getbasetemp() / "fuzzed"
    if not folder.exists():
        shutil.copytree(sound, folder)
    (folder / "manifest.json").write_text(json.dumps(data.draw(damaged(raw) | json_values)))
    found = outcome(lambda: ShardSet.open(str(folder), "hr"))
    if isinstance(found, ShardSet):
        assert len(found) == raw["count"]
        found = outcome(lambda: found.read(0))
    if isinstance(found, InputError):
        assert str(found).startswith(str(folder))
        assert "\n" not in str(found)


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_index_parses_or_gives_an_input_error(sound: Path, data: st.DataObject) -> None:
    manifest = read_manifest(LocalSource(sound))
    entry = manifest.shards[0]
    raw = json.loads((sound / "shard-000000.json").read_text())
    text = data.draw((damaged(raw) | json_values).map(lambda value: json.dumps(value).encode()) | st.binary())
    parsed = outcome(lambda: parse_index("index", text, manifest, entry))
    if isinstance(parsed, InputError):
        assert str(parsed).startswith("index: ")
        assert "\n" not in str(parsed)
    else:
        keys, members = parsed
        assert len(keys) == entry["count"]
        for places in members.values():
            assert all(
                o >= 0 and n > 0 and o + n <= entry["tar_bytes"] for o, n in zip(places[::3], places[1::3], strict=True)
            )


# --- the command


def test_build_and_check(tmp_path: Path, pairs: Any, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("scale: 2\nshards: {patch: 8, stride: 8}\n")
    out = tmp_path / "sets"
    argv = ["build", "--hr", tmp_path / "hr", "--lr", tmp_path / "lr", "--config", config, "--quiet", "--workers", "1"]
    argv.append("--allow-overlap")
    assert run_command(*argv, "--out", out.as_uri(), "--pairs-hr", tmp_path / "hr") == 0
    assert sorted(os.listdir(out)) == ["hr", "lr", "pairs"]
    assert all(len(ShardSet.open(str(out / kind), kind)) > 0 for kind in ("hr", "lr", "pairs"))
    capsys.readouterr()
    assert run_command(*argv, "--out", out) == 0
    assert capsys.readouterr().out.count("nothing to do") == 2

    assert run_command("check", out, "--quiet") == 0
    assert run_command("check", out / "lr", "--quiet") == 0
    assert capsys.readouterr().out.count("sound") == 4
    _, offset, _ = first_place(out / "lr")
    overwrite_bytes(out / "lr/shard-000000.tar", offset, b"\0" * 20)
    (out / "hr/shard-000000.json").write_text("{}")
    assert run_command("check", out, "--quiet") == 2
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 3
    assert "pairs: sound" in captured.out
    (out / "pairs/manifest.json").write_text("{}")
    assert run_command("check", out / "pairs", "--quiet") == 2


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["build", "--hr", "photos", "--lr", "photos", "--out", "nofs://bucket/x"], "nofs"),
        (["build", "--hr", "photos", "--lr", "photos", "--out", "pipe:rm x"], "refused"),
        (["build", "--hr", "photos", "--lr", "photos", "--out", "x"], "the same photographs: a.png and a.png"),
        (["build", "--hr", "nowhere", "--lr", "photos", "--out", "x"], "nowhere"),
        (["build", "--hr", "photos", "--lr", "photos", "--out", "x", "--workers", "0"], "--workers 0"),
        (["check", "photos"], "not a shard set"),
    ],
)
def test_bad_usage_exits_2_with_one_line(
    tmp_path: Path,
    photos: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "photos"))
    if "x" not in argv and argv[0] == "build":
        argv = [*argv, "--allow-overlap"]
    assert run_command(*argv) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert os.listdir(tmp_path) == ["photos"]


OWN = ["0310.jpg", "0120.png", "0500.JPG", "IMG_0001.jpg", "12345.png", "310.png", "DSC 0002.jpeg", "0020x4.png"]
"""Names that people's photographs have; four of them are also DIV2K's, three of its first 400 scenes."""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """tmp_path/hr with eight photographs of 40 x 40 px and one of 15 x 15, tmp_path/lr with five and one of 7 x 7."""
    for folder, names, small in (("hr", OWN, 15), ("lr", ["0410.png", "0020.jpg", "a.png", "b.png", "c.png"], 7)):
        (tmp_path / folder).mkdir()
        for i, name in enumerate(names):
            save(tmp_path / folder / name, texture(40, 40, seed=10 * len(names) + i))
        save(tmp_path / folder / "tiny.png", texture(small, small, seed=0))
    return tmp_path


def build_own(folder: Path, *overrides: str, out: str = "sets") -> int:
    """The whole command, with overrides before, between and behind the options."""
    given = [*overrides, *[""] * 3]
    argv = [
        "scale=2",
        "shards.patch=8",
        "shards.stride=16",
        given[0],
        "--hr",
        str(folder / "hr"),
        given[1],
        "--lr",
        str(folder / "lr"),
        "--quiet",
        given[2],
    ]
    argv += ["--out", str(folder / out), *overrides[3:]]
    return main(["shards", "build", *filter(None, argv)])


def test_scene_ranges_say_what_they_leave_out(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build_own(own, "shards.hr_scenes=0001-0400", "shards.lr_scenes=0401-0800") == 0
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        "hr: 3 of 9 photographs are in shards.hr_scenes = 0001-0400; the others are left out; all: shards.hr_scenes=",
        "lr: 1 of 6 photographs is in shards.lr_scenes = 0401-0800; the others are left out; all: shards.lr_scenes=",
    ]
    assert "hr: 3 of 9 photographs, 12 patches of 16x16 px" in captured.out
    used = {source["hr"] for source in json.loads((own / "sets/hr/manifest.json").read_text())["sources"]}
    assert used == {"0310.jpg", "0120.png", "0020x4.png"}


@pytest.mark.parametrize("key", ["hr", "lr"])
def test_a_range_without_any_photograph_names_the_way_out(
    own: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    assert build_own(own, f"shards.{key}_scenes=0700-0800") == 2
    (line,) = capsys.readouterr().err.splitlines()
    for part in (str(own / key), f"shards.{key}_scenes = 0700-0800", "shards.hr_scenes= and shards.lr_scenes= on"):
        assert part in line
    assert not (own / "sets").exists()


def test_overrides_stand_anywhere_and_the_last_one_counts(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = "shards.hr_scenes=0001-0400", "shards.lr_scenes=0401-0800"
    assert build_own(own, first, second, "shards.hr_scenes=", "shards.lr_scenes=", "shards.encoding=png") == 0
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        "tiny.png: 15x15 px is smaller than one patch of 16x16 px (shards.patch x scale); left out",
        "tiny.png: 7x7 px is smaller than one patch of 8x8 px (shards.patch); left out",
    ]
    assert captured.out.splitlines() == [
        f"{own}/sets/hr: 8 of 9 photographs, 32 patches of 16x16 px",
        f"{own}/sets/lr: 5 of 6 photographs, 45 patches of 8x8 px",
    ]
    assert read_manifest(LocalSource(own / "sets/hr")).encoding == "png"
    assert build_own(own, "shards.encoding=png") == 0
    assert capsys.readouterr().out.splitlines()[1] == (
        f"{own}/sets/lr: holds this result already, nothing to do (5 of 6 photographs, 45 patches of 8x8 px)"
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [("shards.path=8", "nearest: 'shards.patch'"), ("more", "key.sub=value"), ("shards.patch=0", "shards.patch = 0")],
)
def test_bad_overrides_are_named(own: Path, capsys: pytest.CaptureFixture[str], override: str, message: str) -> None:
    assert build_own(own, "seed=1", "seed=2", override) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (own / "sets").exists()


def test_options_are_no_overrides(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        build_own(own, "seed=1", "--patch=8")
    assert exit_.value.code == 2
    assert "--patch=8" in capsys.readouterr().err


def test_where_one_set_cannot_be_cut_there_is_one_error_and_no_set(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (own / "lr").iterdir():
        save(path, texture(7, 12, seed=len(path.name)))
    assert build_own(own) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"cyclesr: error: {own}/lr: no photograph is as large as one patch of 8x8 px (shards.patch)")
    assert line.endswith("shards.patch=7 would fit all")
    assert not (own / "sets").exists()


def test_flat_patches_are_counted(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(own / "lr/sky.png", np.full((8, 24, 3), 99, np.uint8))
    assert build_own(own, "shards.min_std=0.02") == 0
    line = "6 of 7 photographs, 45 patches of 8x8 px, 2 left out for shards.min_std = 0.02"
    assert capsys.readouterr().out.splitlines()[1] == f"{own}/sets/lr: {line}"


def test_names_that_are_the_same_by_chance_have_a_way_out(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(own / "lr/IMG_0001.png", texture(40, 40, seed=99))
    assert build_own(own) == 2
    assert "rename those that only share a name" in capsys.readouterr().err
    (own / "lr/IMG_0001.png").rename(own / "lr/other.png")
    assert build_own(own) == 0


def test_pairs_are_of_the_region_of_lr(tmp_path: Path, pairs: dict[str, tuple[int, int]]) -> None:
    whole = build_pairs(tmp_path)
    parts = {
        region: build_pairs(tmp_path, region, shards=replace(CUT, lr_region=region, stride=1))
        for region in ("left", "right")
    }
    for stem, (_, dx) in pairs.items():
        width = Image.open(tmp_path / f"lr/{stem}.png").width
        for region, found in parts.items():
            assert found.manifest["region"] == region
            columns = {int(key.rsplit("_", 2)[2]) for key in map(found.key, range(len(found))) if key.startswith(stem)}
            assert (
                max(columns) + 8 <= width // 2 + abs(dx) if region == "left" else min(columns) >= width // 2 - abs(dx)
            )
    sample = parts["right"].read(0)
    stem, y, x = parts["right"].key(0).rsplit("_", 2)
    dy, dx = pairs[stem]
    hr = np.array(Image.open(tmp_path / f"hr/{stem[:2]}.png"))
    top, left = SCALE * int(y) - dy, SCALE * int(x) - dx
    np.testing.assert_array_equal(sample["hr"], hr[top : top + 16, left : left + 16])
    assert len(whole) > 0
