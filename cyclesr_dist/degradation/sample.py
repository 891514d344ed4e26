"""A bounded, seeded sample of patches from photographs or from a shard set, whatever their size.

Both domains are looked at on the LR grid: HR photographs are shrunk first, as training does it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cyclesr_dist.config.schema import Data
from cyclesr_dist.data.folders import images_folder, is_image_name, list_images
from cyclesr_dist.data.formats import SUFFIXES
from cyclesr_dist.data.images import image_size, read_rgb8
from cyclesr_dist.data.mixture import SampleSet
from cyclesr_dist.data.remote import RemoteSource
from cyclesr_dist.data.resize import down, downsampling_of, to_8bit_grid
from cyclesr_dist.data.shards import MANIFEST, ShardSet, open_source, read_manifest
from cyclesr_dist.data.source import is_remote, local_folder, shown
from cyclesr_dist.errors import InputError, NothingLeftError, StorageError
from cyclesr_dist.runtime.tally import Tally, trying

PATCH = 32
"""Side in LR px, where the photographs or the shard set have so many."""
SMALLEST_PATCH = 16
_NUM_PATCHES = 6000
_NUM_PHOTOS = 120
_PIXELS = 250_000_000  # decoded on a side, some ten seconds of two cores
_VIEW_PX, _NUM_VIEWS = 384, 24
_STREAM = {"hr": 1, "lr": 2}

Window = NDArray[np.uint8]


@dataclass(frozen=True)
class Sample:
    """What is looked at of one domain."""

    patches: Tensor
    """(n, 3, p, p) in [0, 1], on the 8-bit grid."""
    photo: Tensor
    """(n,) which photograph each is from, counted from 0."""
    num_photos: int
    """In the sample; `num_there` in all."""
    num_there: int
    views: tuple[Window, ...]
    """Centres of some photographs, on the LR grid: (h, w, 3)."""
    paths: tuple[Path, ...]
    """Files of the sample; empty for a shard set."""


def read_sample(url: str, domain: str, scale: int, data: Data, seed: int, tally: Tally | None = None) -> Sample:
    """Sample a folder of photographs or a shard set, local or remote. `domain` is `hr` or `lr`.

    Raises InputError when there is nothing to look at, or a file cannot be read; with a `tally`, that hears of such
    files, the others are looked at.
    """
    if is_shard_set(url, data):
        return sample_shards(open_shards(url, domain, data), domain, scale, data, seed)
    if is_remote(url):
        return _sample_remote(url, domain, scale, data, seed, tally)
    paths = list_images(images_folder(local_folder(url), scale) if domain == "lr" else local_folder(url), tally)
    return sample_photos(paths, domain, scale, data, seed, tally)


def is_shard_set(url: str, data: Data) -> bool:
    return open_source(url, data.remote).exists(MANIFEST)


def open_shards(url: str, domain: str, data: Data) -> ShardSet:
    """A set of that domain, or of pairs. Raises InputError."""
    kind = read_manifest(open_source(url, data.remote)).kind
    return ShardSet.open(url, kind if kind == "pairs" else domain, data)


def sample_photos(
    paths: Sequence[Path], domain: str, scale: int, data: Data, seed: int, tally: Tally | None = None
) -> Sample:
    """Of image files. Raises InputError for one that cannot be read (without a `tally`), or where all are too small;
    NothingLeftError where none can be read."""
    shrink = scale if domain == "hr" else 1
    chosen, sizes = _choose(paths, shrink, np.random.default_rng([seed, _STREAM[domain]]), tally)
    side = _patch_side(min(size) for size in sizes)
    quota = -(-_NUM_PATCHES // len(chosen))

    def read(number: int) -> tuple[Tensor, Window] | InputError:
        try:
            image = _on_lr_grid(read_rgb8(chosen[number]), shrink, data)
        except InputError as error:
            return error
        random = np.random.default_rng([seed, _STREAM[domain], number])
        return _cut(image, side, quota, random), _centre(image)

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(read, range(len(chosen))))
    parts, used = [], []
    for path, part in zip(chosen, found, strict=True):
        with trying(tally, str(path), path):
            if isinstance(part, InputError):
                raise part
            parts.append(part)
            used.append(path)
    if not parts:
        raise NothingLeftError(f"{paths[0].parent}: not one photograph can be read")
    patches = [part for part, _ in parts]
    photo = torch.cat([torch.full((len(part),), i) for i, part in enumerate(patches)])
    views = tuple(view for _, view in parts[:_NUM_VIEWS])
    return Sample(_unit(torch.cat(patches)), photo, len(used), len(paths), views, tuple(used))


def sample_shards(shards: SampleSet, domain: str, scale: int, data: Data, seed: int) -> Sample:
    """Of a shard set, or of several in their shares. Samples that cannot be read are left out; InputError where
    none is left."""
    if shards.scale != scale:
        raise InputError(f"{shards.url}: was cut for scale {shards.scale}, not {scale}")
    side = _patch_side([shards.patch])
    grid = max(1, (shards.patch - side) // (side // 2) + 1)
    random = np.random.default_rng([seed, _STREAM[domain]])
    count = min(len(shards), max(400, _NUM_PATCHES // grid**2))
    indices = [int(i) for i in np.sort(_indices(shards, count, random))]
    shrink = scale if domain == "hr" else 1
    parts: list[Tensor] = []
    names: list[str] = []
    views: list[Window] = []
    quota = -(-_NUM_PATCHES // count)
    for index, found in zip(indices, shards.read_many(indices), strict=True):
        if isinstance(found, StorageError):
            raise found
        if isinstance(found, InputError):
            continue
        image = _on_lr_grid(found[domain], shrink, data)
        name = shards.key(index).rsplit("_", 2)[0]
        if name not in names and len(views) < _NUM_VIEWS:
            views.append(_centre(image))
        parts.append(_cut(image, side, quota, random))
        names += [name] * len(parts[-1])
    if not parts:
        raise InputError(f"{shards.url}: none of the {count} samples that were tried can be read")
    numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
    photo = torch.tensor([numbers[name] for name in names])
    return Sample(_unit(torch.cat(parts)), photo, len(numbers), len(shards.sources), tuple(views), ())


def _indices(shards: SampleSet, count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Samples as training draws them: one of a small set with a large share comes several times."""
    mix = shards.mix
    if len(mix.sizes) == 1:
        return random.permutation(len(shards))[:count]
    shares = [max(1, round(count * quota / mix.num_samples)) for quota in mix.quotas]
    of_sets = zip(mix.starts, mix.sizes, shares, strict=True)
    return np.concatenate([start + np.resize(random.permutation(size), share) for start, size, share in of_sets])


def _sample_remote(url: str, domain: str, scale: int, data: Data, seed: int, tally: Tally | None) -> Sample:
    """Of photographs behind a URL: those that are chosen are fetched into a temporary folder."""
    source = RemoteSource(url, data.remote)
    images = sorted(name for name in source.names() if is_image_name(name))
    if not images:
        raise InputError(f"{shown(url)}: holds no image (looked for {', '.join(sorted(SUFFIXES))}) and no {MANIFEST}")
    order = np.random.default_rng([seed, _STREAM[domain], 0]).permutation(len(images))[:_NUM_PHOTOS]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        fetched = []
        for place in sorted(order):
            name = images[place]
            (folder / name).write_bytes(source.get(name))
            fetched.append(folder / name)
        sample = sample_photos(fetched, domain, scale, data, seed, tally)
    return Sample(sample.patches, sample.photo, sample.num_photos, len(images), sample.views, ())


def _choose(
    paths: Sequence[Path], shrink: int, random: np.random.Generator, tally: Tally | None
) -> tuple[list[Path], list[tuple[int, int]]]:
    """Photographs to look at, with their sizes on the LR grid; not too many pixels in all."""
    chosen: list[Path] = []
    sizes: list[tuple[int, int]] = []
    pixels, too_small = 0, 0
    for place in random.permutation(len(paths)):
        size = None
        with trying(tally, str(paths[place]), paths[place]):
            size = image_size(paths[place])
        if size is None:
            continue
        width, height = size
        if min(width, height) // shrink < SMALLEST_PATCH:
            too_small += 1
            continue
        if len(chosen) == _NUM_PHOTOS or (len(chosen) >= 3 and pixels + width * height > _PIXELS):
            break
        pixels += width * height
        chosen.append(paths[place])
        sizes.append((width // shrink, height // shrink))
    if not chosen and not too_small:
        raise NothingLeftError(f"{paths[0].parent}: not one photograph can be read")
    if not chosen:
        raise InputError(
            f"{paths[0].parent}: all {too_small} photographs are too small; at least {SMALLEST_PATCH * shrink} px a "
            "side are needed"
        )
    order = sorted(range(len(chosen)), key=lambda i: chosen[i])
    return [chosen[i] for i in order], [sizes[i] for i in order]


def _patch_side(sides: Iterator[int] | Sequence[int]) -> int:
    """PATCH, or less where the smallest side is less. Raises InputError."""
    smallest = min(sides)
    side = min(PATCH, smallest // 2 * 2)
    if side < SMALLEST_PATCH:
        raise InputError(
            f"patches of {smallest} LR px are too small to measure a degradation on; at least {SMALLEST_PATCH} px are "
            "needed (shards.patch)"
        )
    return side


def _on_lr_grid(image: Window, shrink: int, data: Data) -> Window:
    if shrink == 1:
        return image
    height, width = (size // shrink * shrink for size in image.shape[:2])
    tensor = torch.from_numpy(image[:height, :width].copy()).permute(2, 0, 1)[None].float() / 255
    small = to_8bit_grid(down(tensor, shrink, downsampling_of(data)))
    return np.asarray((small[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())


def _cut(image: Window, side: int, quota: int, random: np.random.Generator) -> Tensor:
    """Up to `quota` patches of (h, w, 3), (m, 3, side, side) uint8, half a side apart."""
    stride = side // 2
    height, width = image.shape[:2]
    top, left = (int(random.integers(0, (size - side) % stride + 1)) for size in (height, width))
    rows, columns = range(top, height - side + 1, stride), range(left, width - side + 1, stride)
    places = [(y, x) for y in rows for x in columns]
    kept = np.sort(random.permutation(len(places))[:quota])
    cut = np.stack([image[y : y + side, x : x + side] for y, x in (places[i] for i in kept)])
    return torch.from_numpy(cut).permute(0, 3, 1, 2)


def _centre(image: Window) -> Window:
    height, width = image.shape[:2]
    h, w = min(height, _VIEW_PX), min(width, _VIEW_PX)
    top, left = (height - h) // 2, (width - w) // 2
    return np.ascontiguousarray(image[top : top + h, left : left + w])


def _unit(patches: Tensor) -> Tensor:
    return patches.float() / 255
