"""HR and real LR must not show the same pixels: what the manifests tell."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import write_photos

from cyclesr_dist.cli.main import main as cyclesr
from cyclesr_dist.config.schema import Degrade, Shards, load
from cyclesr_dist.data.build import build_set, describe_set
from cyclesr_dist.data.cut import crop_region
from cyclesr_dist.data.images import read_rgb8, write_png
from cyclesr_dist.data.loader import open_sources
from cyclesr_dist.data.overlap import BOXES, shared_photographs
from cyclesr_dist.data.shards import ShardSet
from cyclesr_dist.degradation.simulate_folder import degrade_folder
from cyclesr_dist.errors import InputError

CUT = Shards(patch=8, stride=8, samples_per_shard=7)


def manifests(hr: Path, lr: Path, **regions: str) -> tuple[dict, dict]:
    shards = Shards(patch=8, stride=8, **regions)  # type: ignore[arg-type]
    return describe_set("hr", shards, scale=2, hr_dir=hr), describe_set("lr", shards, scale=2, lr_dir=lr)


def test_the_same_file_or_the_same_name_is_an_overlap(tmp_path: Path) -> None:
    write_photos(tmp_path / "hr", 2, 32, 32, seed=0)
    write_photos(tmp_path / "lr", 1, 32, 32, seed=1)
    write_photos(tmp_path / "other", 1, 32, 32, seed=2)
    (tmp_path / "other/photo0.png").rename(tmp_path / "other/elsewhere.png")
    (tmp_path / "other/copy.png").write_bytes((tmp_path / "hr/photo1.png").read_bytes())
    assert shared_photographs(*manifests(tmp_path / "hr", tmp_path / "lr")) == [("photo0.png", "photo0.png")]
    assert shared_photographs(*manifests(tmp_path / "hr", tmp_path / "other")) == [("photo1.png", "copy.png")]


def test_div2k_names_are_recognised(tmp_path: Path) -> None:
    for folder, names in (("hr", ["0001", "0002"]), ("lr", ["0002x4w1", "0801x4m", "0900"])):
        write_photos(tmp_path / folder, len(names), 32, 32, seed=len(names))
        for i, name in enumerate(names):
            (tmp_path / folder / f"photo{i}.png").rename(tmp_path / folder / f"{name}.png")
    assert shared_photographs(*manifests(tmp_path / "hr", tmp_path / "lr")) == [("0002.png", "0002x4w1.png")]


def test_a_recorded_origin_counts_for_more_than_a_name(tmp_path: Path) -> None:
    """Two halves of one photograph under one name are fine; a renamed degraded photograph is not."""
    write_photos(tmp_path / "photos", 1, 64, 64, seed=0)
    for folder, region in (("hr", "left"), ("clean", "right")):
        (tmp_path / folder).mkdir()
        half = crop_region(read_rgb8(tmp_path / "photos/photo0.png"), region)[2]  # type: ignore[arg-type]
        write_png(tmp_path / folder / "photo0.png", np.ascontiguousarray(half))
    for source, out in (("clean", "lr"), ("hr", "lr2")):
        options = {"track": "mild", "scale": 2, "seed": 0, "levels": Degrade(shift_px=0), "progress": False}
        degrade_folder(tmp_path / source, tmp_path / out, **options)  # type: ignore[arg-type]
    assert shared_photographs(*manifests(tmp_path / "hr", tmp_path / "lr")) == []
    record = json.loads((tmp_path / "lr2/degradations.json").read_text())
    (name,) = record["files"]
    (tmp_path / "lr2" / name).rename(tmp_path / "lr2/renamed.png")
    record["files"] = {"renamed.png": record["files"][name]}
    (tmp_path / "lr2/degradations.json").write_text(json.dumps(record))
    assert shared_photographs(*manifests(tmp_path / "hr", tmp_path / "lr2")) == [("photo0.png", "renamed.png")]
    (tmp_path / "lr2/degradations.json").write_text('{"files": [1]}')
    with pytest.raises(InputError, match=r"degradations\.json: is not the record"):
        manifests(tmp_path / "hr", tmp_path / "lr2")


@pytest.mark.parametrize("hr", BOXES)
@pytest.mark.parametrize("lr", BOXES)
@pytest.mark.parametrize("size", [(6, 8), (7, 9)])
def test_regions_overlap_exactly_where_they_share_a_pixel(hr: str, lr: str, size: tuple[int, int], tmp_path) -> None:
    pixels = np.arange(size[0] * size[1] * 3, dtype=np.uint8).reshape(*size, 3)
    top, left, part = crop_region(pixels, hr)  # type: ignore[arg-type]
    assert np.array_equal(pixels[top : top + part.shape[0], left : left + part.shape[1]], part)
    other = crop_region(pixels, lr)[2]  # type: ignore[arg-type]
    shares = bool(set(part[..., 0].ravel()) & set(other[..., 0].ravel()))
    source = {"hr": "a.png", "lr": "a.png", "hr_sha256": "1", "lr_sha256": "1"}
    found = shared_photographs({"region": hr, "sources": [source]}, {"region": lr, "sources": [source]})
    assert bool(found) == shares


def test_one_folder_serves_as_both_domains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = write_photos(tmp_path / "photos", 2, 64, 64, seed=0)
    config = tmp_path / "c.yaml"
    config.write_text("scale: 2\nshards: {patch: 8, stride: 8, hr_region: left, lr_region: right}\n")
    argv = ["shards", "build", "--hr", str(photos), "--lr", str(photos), "--out", str(tmp_path / "sets"), "--quiet"]
    assert cyclesr(argv) == 2
    assert "different halves (shards.hr_region" in capsys.readouterr().err
    assert not (tmp_path / "sets").exists()
    assert cyclesr([*argv, "--config", str(config)]) == 0
    for kind, first, last in (("hr", 0, 16), ("lr", 32, 56)):
        found = ShardSet.open(str(tmp_path / "sets" / kind), kind)
        columns = {int(found.key(i).rsplit("_", 1)[1]) for i in range(len(found))}
        assert (min(columns), max(columns)) == (first, last)
        for i in range(len(found)):
            name, y, x = found.key(i).split("_")
            patch = found.read(i)[kind]
            image = read_rgb8(photos / f"{name}.png")
            assert np.array_equal(patch, image[int(y) : int(y) + len(patch), int(x) : int(x) + len(patch)])


def test_training_refuses_sets_that_overlap_unless_told(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 2, 64, 64, seed=0)
    build_set("hr", tmp_path / "hr", CUT, scale=2, hr_dir=photos, progress=False)
    build_set("lr", tmp_path / "lr", CUT, scale=2, lr_dir=photos, progress=False)
    sets = ["scale=2", f"data.hr={tmp_path}/hr", f"data.lr={tmp_path}/lr", "global_batch=2"]
    with pytest.raises(InputError, match=r"photo0\.png and photo0\.png.*data\.allow_overlap"):
        open_sources(load(None, sets))
    assert open_sources(load(None, [*sets, "data.allow_overlap=true"])).lr is not None
