"""JPEG's traces: the quality in a file's header, the blocks in pixels, and what both say of a set of photographs."""

from __future__ import annotations

import io
import json
import time
from functools import lru_cache
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

import cyclesr_dist
from cyclesr_dist.degradation.jpeg import Blocks, describe, find_blocks, luminance_table, quality_of_file

Pixels = NDArray[np.uint8]
PHOTOS = sorted((Path(cyclesr_dist.__file__).parent / "workflows" / "demo_photos").glob("*.webp"))
# As a common photo editor has them at a middle setting: of no IJG quality, nearest to 80 or so.
FOREIGN = [
    6,
    4,
    4,
    6,
    9,
    11,
    12,
    16,
    4,
    5,
    5,
    6,
    8,
    10,
    12,
    12,
    4,
    5,
    5,
    6,
    10,
    12,
    14,
    19,
    6,
    6,
    6,
    11,
    12,
    15,
    19,
    28,
]
FOREIGN += [9, 8, 10, 12, 16, 20, 27, 31, 11, 10, 12, 15, 20, 27, 31, 31, 12, 12, 14, 19, 27, 31, 31, 31]
FOREIGN += [16, 12, 19, 28, 31, 31, 31, 31]


@lru_cache(maxsize=8)
def photos(side: int) -> list[Image.Image]:
    """The bundled photographs, shrunk to `side` px a side, without regard to their shape."""
    return [Image.open(path).convert("RGB").resize((side, side), Image.Resampling.BICUBIC) for path in PHOTOS]


def coded(photo: Image.Image, quality: int, subsampling: int = 2) -> Pixels:
    file = io.BytesIO()
    photo.save(file, format="JPEG", quality=quality, subsampling=subsampling)
    return np.asarray(Image.open(file).convert("RGB"))


def noisy(photo: Image.Image, sigma: float, seed: int = 0) -> Pixels:
    noise = np.random.RandomState(seed).normal(0, sigma, (photo.height, photo.width, 3))
    return np.clip(np.asarray(photo) + noise, 0, 255).round().astype(np.uint8)


def save(path: Path, quality: int = 75, image: Image.Image | None = None) -> Path:
    (image or photos(160)[0]).save(path, format="JPEG", quality=quality)
    return path


# --- files


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_the_quality_in_a_header_is_the_one_it_was_saved_with(tmp_path: Path, mode: str) -> None:
    image = Image.new(mode, (16, 16))
    found = [quality_of_file(save(tmp_path / "a.jpg", quality, image)) for quality in range(1, 101)]
    assert found == list(range(1, 101))


def test_tables_are_read_row_by_row(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg", 50)
    with Image.open(tmp_path / "a.jpg") as image:
        assert list(image.quantization[0]) == luminance_table(50).ravel().tolist()  # type: ignore[attr-defined]
    assert luminance_table(50)[0].tolist() == [16, 11, 10, 16, 24, 40, 51, 61]
    assert luminance_table(100).max() == 1
    assert luminance_table(1).min() == luminance_table(1).max() == 255


def test_tables_of_others_give_the_nearest_quality(tmp_path: Path) -> None:
    photos(160)[0].save(tmp_path / "a.jpg", qtables=[FOREIGN])
    found = quality_of_file(tmp_path / "a.jpg")
    assert found is not None
    assert 78 <= found <= 90  # its high frequencies are finer than the IJG's at the quality of the low ones


@given(st.integers(1, 100), st.integers(0, 62), st.sampled_from([-1, 1]))
@settings(deadline=None, max_examples=30)
def test_a_table_that_is_almost_the_ijgs_has_almost_its_quality(quality: int, index: int, step: int) -> None:
    table = luminance_table(quality).ravel()
    table[index] = np.clip(table[index] + step, 1, 255)
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, format="JPEG", qtables=[table.tolist()])
    found = quality_of_file(file)  # type: ignore[arg-type] # Pillow takes both
    assert found is not None
    assert abs(found - quality) <= 1


def test_what_is_no_jpeg_has_no_quality(tmp_path: Path) -> None:
    photos(160)[0].save(tmp_path / "a.png")
    (tmp_path / "png.jpg").write_bytes((tmp_path / "a.png").read_bytes())
    (tmp_path / "text.jpg").write_text("a text")
    (tmp_path / "empty.jpg").touch()
    names = ["a.png", "png.jpg", "text.jpg", "empty.jpg", "missing.jpg", "."]
    assert [quality_of_file(tmp_path / name) for name in names] == [None] * len(names)


def test_the_name_does_not_matter(tmp_path: Path) -> None:
    assert quality_of_file(save(tmp_path / "a.png", 63)) == 63


def test_a_file_cut_anywhere_never_raises(tmp_path: Path) -> None:
    whole = save(tmp_path / "a.jpg", 70).read_bytes()
    found = []
    for length in [*range(0, 700, 7), len(whole) - 9]:
        (tmp_path / "cut.jpg").write_bytes(whole[:length])
        found.append(quality_of_file(tmp_path / "cut.jpg"))
    assert set(found) == {None, 70}
    assert found[-1] == 70


@given(st.data())
@settings(deadline=None, max_examples=100)
def test_a_damaged_header_never_raises(data: st.DataObject) -> None:
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, format="JPEG", quality=70)
    broken = bytearray(file.getvalue())
    for _ in range(data.draw(st.integers(1, 6))):
        broken[data.draw(st.integers(2, len(broken) - 1))] = data.draw(st.integers(0, 255))
    found = quality_of_file(io.BytesIO(bytes(broken)))  # type: ignore[arg-type]
    assert found is None or 1 <= found <= 100


# --- pixels


@pytest.mark.parametrize(
    ("side", "quality"),
    [(120, 50), (120, 85), (160, 10), (160, 30), (160, 60), (160, 80), (160, 92), (320, 50), (320, 75), (320, 85)],
)
def test_blocks_are_found(side: int, quality: int) -> None:
    images = [coded(photo, quality)[3:, 6:] for photo in photos(side)]
    each = [blocks for image in images if (blocks := find_blocks([image])) is not None]
    assert len(each) >= len(images) - 2
    assert median(abs(blocks.quality - quality) for blocks in each) == 0
    assert max(abs(blocks.quality - quality) for blocks in each) <= 3
    assert sum(blocks.offset == (5, 2) for blocks in each) >= len(each) - 1


def test_a_set_has_the_median_quality_and_the_offset_of_most() -> None:
    crops = [(5, 50, 3), (2, 70, 3), (2, 90, 3)]
    photo = photos(160)[2]
    assert find_blocks([coded(photo, quality)[top:, left:] for top, quality, left in crops]) == Blocks(70, (6, 5), 1.0)


@given(st.integers(0, 7), st.integers(0, 7), st.integers(20, 94), st.sampled_from([0, 1, 2]), st.integers(0, 13))
@settings(deadline=None, max_examples=30)
def test_any_offset_and_quality(top: int, left: int, quality: int, subsampling: int, which: int) -> None:
    image = coded(photos(160)[which], quality, subsampling)[top:, left:]
    blocks = find_blocks([image])
    if blocks is not None:  # one of them is mostly clipped sky
        assert abs(blocks.quality - quality) <= 2
        assert blocks.offset == (-top % 8, -left % 8)


@pytest.mark.parametrize(("side", "sigma"), [(48, 0.0), (48, 2.0), (160, 0.0), (160, 0.5), (160, 15.0), (320, 0.0)])
def test_no_blocks_without_jpeg(side: int, sigma: float) -> None:
    assert find_blocks([noisy(photo, sigma, seed) for seed, photo in enumerate(photos(side))]) is None


@pytest.mark.parametrize(("side", "quality"), [(100, 40), (210, 75)])
def test_resizing_takes_the_blocks_away(quality: int, side: int) -> None:
    images = [Image.fromarray(coded(photo, quality)).resize((side, side)) for photo in photos(160)]
    assert find_blocks([np.asarray(image) for image in images]) is None


@pytest.mark.parametrize("quality", [98, 100])
def test_the_highest_qualities_cannot_be_seen(quality: int) -> None:
    assert find_blocks([coded(photo, quality) for photo in photos(160)]) is None


def test_other_coders_are_not_taken_for_jpeg() -> None:
    files = [io.BytesIO() for _ in PHOTOS]
    for photo, file in zip(photos(160), files, strict=True):
        photo.save(file, format="WEBP", quality=50)
    assert find_blocks([np.asarray(Image.open(file).convert("RGB")) for file in files]) is None


@pytest.mark.parametrize("size", [2, 3, 8])
def test_enlarged_pixels_are_not_taken_for_blocks(size: int) -> None:
    images = [np.asarray(photo).repeat(size, axis=0).repeat(size, axis=1) for photo in photos(48)]
    assert find_blocks(images) is None


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(3))))
@settings(deadline=None, max_examples=40)
def test_patterns_are_not_taken_for_blocks(tile: Pixels) -> None:
    assert find_blocks([np.tile(tile, (90 // len(tile) + 1, 90 // tile.shape[1] + 1, 1))]) is None


def test_tables_of_others_are_seen_in_pixels_too() -> None:
    images = []
    for photo in photos(160):
        file = io.BytesIO()
        photo.save(file, format="JPEG", qtables=[FOREIGN])
        images.append(np.asarray(Image.open(file)))
    blocks = find_blocks(images)
    assert blocks is not None
    assert 78 <= blocks.quality <= 85
    assert blocks.share >= 0.8


def test_a_level_of_noise_after_jpeg_is_borne() -> None:
    blocks = find_blocks([noisy(Image.fromarray(coded(photo, 60)), 1.0) for photo in photos(160)])
    assert blocks is not None
    assert abs(blocks.quality - 60) <= 2
    assert blocks.share >= 0.8


def test_the_share_is_of_images_that_are_large_enough() -> None:
    with_blocks = coded(photos(160)[2], 75)
    images = [with_blocks, np.asarray(photos(160)[2]), with_blocks[:39], with_blocks[:, :39]]
    assert find_blocks(images) == Blocks(75, (0, 0), 0.5)
    assert find_blocks(images[2:]) is None
    assert find_blocks([]) is None


def test_a_large_image_keeps_its_offset() -> None:
    photo = photos(160)[2].resize((1500, 1301), Image.Resampling.NEAREST)
    blocks = find_blocks([coded(photo, 75)[1:, 3:]])
    assert blocks is not None
    assert blocks.offset == (7, 5)


def test_the_same_images_give_the_same() -> None:
    images = [coded(photo, 75) for photo in photos(160)]
    assert find_blocks(images) == find_blocks(images)


def test_it_is_fast() -> None:
    images = [coded(photo, 80) for photo in photos(512)][:8]
    start = time.process_time()
    find_blocks(images)
    assert time.process_time() - start < 10  # 64 take 2 s on one core; CPU time counts each of several


# --- both


def test_files_are_believed_first(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{quality}.jpg", quality) for quality in (70, 80, 90)]
    images = [coded(photo, 50) for photo in photos(160)]
    assert describe(paths, images) == {"quality": 80, "from": "files", "share": 1.0, "grid": [0, 0]}
    assert describe(paths, []) == describe(paths, images)
    cropped = describe(paths, [image[1:, 2:] for image in images])
    assert cropped is not None
    assert cropped["grid"] == [7, 6]


def test_half_of_the_files_are_enough(tmp_path: Path) -> None:
    photos(160)[0].save(tmp_path / "a.png")
    paths = [save(tmp_path / "a.jpg", 70), tmp_path / "a.png"]
    assert describe(paths, []) == {"quality": 70, "from": "files", "share": 0.5, "grid": [0, 0]}
    assert describe([*paths, tmp_path / "a.png"], []) is None


def test_pixels_speak_where_there_are_no_files() -> None:
    images = [coded(photo, 75)[3:, 6:] for photo in photos(160)]
    found = describe([], images)
    assert found == {"quality": 75, "from": "pixels", "share": found["share"], "grid": [5, 2]} if found else False
    clean = [np.asarray(photo) for photo in photos(160)]
    assert describe([], images[:6] + clean) is None
    assert describe([], clean) is None


def test_patches_cut_anywhere_have_no_grid() -> None:
    images = [coded(photo, 75)[i % 8 :, i % 3 :] for i, photo in enumerate(photos(160))]
    found = describe([], images)
    assert found is not None
    assert (found["quality"], found["from"], found["grid"]) == (75, "pixels", None)


def test_facts_are_json(tmp_path: Path) -> None:
    images = [coded(photo, 75) for photo in photos(160)]
    for facts in (describe([], images), describe([save(tmp_path / "a.jpg")], images)):
        assert facts is not None
        assert json.loads(json.dumps(facts)) == facts


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=60)))
@settings(deadline=None, max_examples=60)
def test_odd_shapes_never_raise(image: Pixels) -> None:
    assert describe([], [image]) is None


@pytest.mark.parametrize(
    "shape", [(1, 1, 3), (64, 64), (64, 64, 1), (64, 64, 2), (64, 64, 3), (64, 64, 4), (40, 999, 3)]
)
def test_odd_contents_never_raise(tmp_path: Path, shape: tuple[int, ...]) -> None:
    (tmp_path / "text.jpg").write_text("a text")
    random = np.random.RandomState(0)
    ramp = np.resize(np.arange(256, dtype=np.uint8), shape)
    noise = random.randint(0, 256, shape, dtype=np.uint8)
    dim = random.randint(60, 70, shape, dtype=np.uint8)
    constant = [np.full(shape, value, dtype=np.uint8) for value in (0, 77, 255)]
    for image in (*constant, ramp, noise, dim):
        assert describe([tmp_path / "text.jpg", tmp_path], [image]) is None
    floats = [np.full(shape, np.nan), noise.astype(np.float32)]
    assert describe([], floats) is None


def test_grey_and_transparent_photographs_have_blocks_as_well() -> None:
    image = coded(photos(160)[2], 75)
    grey = coded(photos(160)[2].convert("L"), 75)[..., 0]
    alpha = np.concatenate([image, np.full((160, 160, 1), 255, dtype=np.uint8)], axis=2)
    for other in (grey, grey[..., None], alpha):
        assert find_blocks([other]) == Blocks(75, (0, 0), 1.0)
