"""Photographs and settings that shard sets are not made of: named, or left out and counted."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.shard_sets import CUT, SCALE, build, contents, outcome, save, texture
from PIL import Image

from cyclesr_dist.config.schema import Shards
from cyclesr_dist.data.build import build_set
from cyclesr_dist.data.images import image_size, read_rgb8
from cyclesr_dist.data.shards import read_manifest
from cyclesr_dist.data.source import LocalSource, local_folder
from cyclesr_dist.errors import ConfigError, InputError


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


def test_a_side_that_the_end_of_the_file_tells_is_known_in_time(
    tmp_path: Path, photos: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """PNG may have EXIF behind the pixels."""
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
    assert late == "late.png: its left half, 8x30 px, is smaller than one patch of 9x9 px (shards.patch); left out"
    assert c.startswith("c.png: its left half, 8x16 px, is smaller than one patch of 9x9 px")
    assert read_manifest(LocalSource(out)).raw["left_out"] == ["c.png", "late.png"]


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tif"])
def test_sizes_are_read_without_the_pixels(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(texture(300, 400, 0)).save(path)
    head = path.read_bytes()
    if suffix in ("jpg", "png"):  # TIFF may have its fields at the end, and BMP says how long it is
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
