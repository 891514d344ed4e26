"""Cutting photographs into patches and packing them into a shard set (see `shards.py` for the format)."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import tarfile
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import torch
import webdataset
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from cyclesr_dist.config import Shards
from cyclesr_dist.configfile import check_range
from cyclesr_dist.data.shards import DOMAINS, FORMAT, MANIFEST, VERSION, Kind, ShardSet, shard_name
from cyclesr_dist.errors import InputError
from cyclesr_dist.files import new_folder, sha256, write_json
from cyclesr_dist.images import list_images, match_pairs, read_rgb8
from cyclesr_dist.resize import bicubic_up

T = TypeVar("T")
R = TypeVar("R")

MAX_SHIFT_PX = 16
"""How far apart, in HR px along each axis, `estimate_shift` looks."""

_ORDER_SEED = 0  # fixed: the order within a set is no setting; training shuffles by its own seed
_STEM_CHARS = 60  # with a checksum and two positions a key stays below the 100 bytes of a tar name


@dataclass(frozen=True)
class Source:
    """What one image, or pair of images, contributes."""

    stem: str
    """Tar-safe and unique in the set."""
    files: dict[str, Path]
    """By domain: 'hr', 'lr'."""


@dataclass(frozen=True)
class Cut:
    """The encoded patches of one source."""

    keys: list[str]
    patches: list[list[bytes]]
    """For each key the members, in the order of the kind's domains."""
    shift_px: tuple[int, int]
    """Of LR against HR, (down, right) in HR px; (0, 0) for single images."""


@dataclass(frozen=True)
class Place:
    """A sample in the spool file."""

    key: str
    offset: int
    sizes: tuple[int, ...]


def build_set(
    kind: Kind,
    out: Path,
    shards: Shards,
    *,
    scale: int,
    hr_dir: Path | None = None,
    lr_dir: Path | None = None,
    align: bool = True,
    overwrite: bool = False,
    workers: int | None = None,
    progress: bool = True,
) -> int:
    """Cut the images of `hr_dir` and/or `lr_dir`, as `kind` needs, and write a shard set to `out`; all or nothing.

    HR patches are `shards.patch * scale` px square, LR patches `shards.patch`; the last of a row or column is aligned
    to the edge of the image. `pairs` matches the folders by name and, with `align`, first moves each HR image by the
    global shift found by `estimate_shift`. The bytes written depend on the images and the settings alone, not on
    `workers` (threads; None: one a core). Returns the number of samples, 0 if `out` held this very result already.
    Raises InputError for a bad or too small image, an `out` that holds anything else (without `overwrite`), or if no
    patch is left; ConfigError for settings out of range.
    """
    _check_settings(shards, scale)
    sources = _sources(kind, hr_dir, lr_dir)
    workers = workers or min(32, os.cpu_count() or 1)
    request: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "kind": kind,
        "scale": scale,
        "patch": shards.patch,
        "stride": shards.stride,
        "min_std": shards.min_std,
        "encoding": shards.encoding,
        "samples_per_shard": shards.samples_per_shard,
        "align": align and kind == "pairs",
        "sources": list(_in_order(_describe, sources, workers)),
    }
    if _holds(out, kind, request):
        return 0
    folders = tuple(folder for folder in (hr_dir, lr_dir) if folder is not None)
    with new_folder(out, overwrite=overwrite, inputs=folders) as folder:
        with (folder / ".spool").open("w+b") as spool:
            places: list[Place] = []
            shifts: dict[str, list[int]] = {}
            cut_one = partial(_cut, kind=kind, shards=shards, scale=scale, align=align)
            cuts = _in_order(cut_one, sources, workers)
            bar = tqdm(cuts, total=len(sources), desc=f"cut {kind}", unit="image", disable=not progress)
            for source, cut in zip(sources, bar, strict=True):
                shifts[source.stem] = list(cut.shift_px)
                for key, members in zip(cut.keys, cut.patches, strict=True):
                    places.append(Place(key, spool.tell(), tuple(map(len, members))))
                    spool.writelines(members)
            if not places:
                raise InputError(
                    f"{folders[-1]}: no patch has a standard deviation of {shards.min_std} or more (min_std)"
                )
            entries = _write_shards(folder, places, spool, kind, shards, progress)
        (folder / ".spool").unlink()
        manifest = request | {"count": len(places), "shards": entries}
        if kind == "pairs":
            manifest["shifts_px"] = shifts
        write_json(folder / MANIFEST, manifest)
    return len(places)


def positions(length: int, patch: int, stride: int) -> list[int]:
    """Where patches start along an axis: every `stride`, and one that ends at the edge. Needs length >= patch."""
    starts = list(range(0, length - patch + 1, stride))
    return starts if starts[-1] == length - patch else [*starts, length - patch]


def estimate_shift(hr: NDArray[np.uint8], lr: NDArray[np.uint8], scale: int) -> tuple[int, int]:
    """How far the content of `lr` (h, w, 3) lies below and to the right of that of `hr` (H, W, 3), in HR px.

    Maximises the normalised correlation of the bicubically enlarged LR with HR over all whole shifts up to
    MAX_SHIFT_PX (a quarter of the image, if that is less) along each axis; it does not mind other brightness or
    contrast. A flat image gives (0, 0).
    """
    up = bicubic_up(torch.from_numpy(lr.astype(np.float32)).permute(2, 0, 1).unsqueeze(0) / 255, scale)
    moved = up[0].mean(dim=0).double().numpy()
    fixed = hr.mean(axis=2, dtype=np.float64) / 255
    height, width = (min(a, b) for a, b in zip(fixed.shape, moved.shape, strict=True))
    fixed = fixed[:height, :width] - fixed.mean()
    reach_y, reach_x = min(MAX_SHIFT_PX, height // 4), min(MAX_SHIFT_PX, width // 4)
    window = moved[reach_y : height - reach_y, reach_x : width - reach_x]
    window = window - window.mean()
    # Correlation with all windows of `fixed` at once; entry (u, v) is the one that starts there.
    spectrum = np.fft.rfft2(fixed) * np.conj(np.fft.rfft2(window, s=fixed.shape))
    products = np.fft.irfft2(spectrum, s=fixed.shape)[: 2 * reach_y + 1, : 2 * reach_x + 1]
    sums, squares = _window_sums(fixed, window.shape), _window_sums(fixed**2, window.shape)
    energy = squares - sums**2 / window.size
    if np.sum(window**2) < 1e-9 * window.size or energy.max() < 1e-9 * window.size:
        return 0, 0
    score = products / np.sqrt(np.maximum(energy, 1e-9 * window.size))
    u, v = np.unravel_index(np.argmax(score), score.shape)
    return reach_y - int(u), reach_x - int(v)


def _window_sums(image: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Sums over all windows of `shape`, through the integral image."""
    total = np.pad(image.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    h, w = shape
    sums: NDArray[np.float64] = total[h:, w:] - total[:-h, w:] - total[h:, :-w] + total[:-h, :-w]
    return sums


def _check_settings(shards: Shards, scale: int) -> None:
    check_range("scale", scale, minimum=1)
    for key in ("patch", "stride", "samples_per_shard"):
        check_range(f"shards.{key}", getattr(shards, key), minimum=1)
    check_range("shards.min_std", shards.min_std, minimum=0, maximum=1)


def _sources(kind: Kind, hr_dir: Path | None, lr_dir: Path | None) -> list[Source]:
    if kind == "pairs":
        if hr_dir is None or lr_dir is None:
            raise ValueError("pairs need hr_dir and lr_dir")
        pairs = match_pairs(hr_dir, lr_dir)
        stems = _safe_stems([pair.lr for pair in pairs])
        return [Source(stem, {"hr": pair.hr, "lr": pair.lr}) for stem, pair in zip(stems, pairs, strict=True)]
    folder = hr_dir if kind == "hr" else lr_dir
    if folder is None:
        raise ValueError(f"{kind} needs {kind}_dir")
    paths = list_images(folder)
    return [Source(stem, {kind: path}) for stem, path in zip(_safe_stems(paths), paths, strict=True)]


def _safe_stems(paths: Sequence[Path]) -> list[str]:
    """Stems of A-Z a-z 0-9 _ - alone, unique even where case is ignored; a changed or shared one gets a checksum."""
    safe = [re.sub(r"[^A-Za-z0-9_-]", "_", path.stem)[:_STEM_CHARS] for path in paths]
    uses = Counter(stem.lower() for stem in safe)
    stems = [
        stem
        if stem == path.stem and uses[stem.lower()] == 1
        else f"{stem}-{hashlib.sha256(path.name.encode()).hexdigest()[:8]}"
        for stem, path in zip(safe, paths, strict=True)
    ]
    taken: dict[str, Path] = {}
    for stem, path in zip(stems, paths, strict=True):
        if stem in taken:
            raise InputError(f"{path}: its samples would be named like those of {taken[stem].name}; rename one of them")
        taken[stem] = path
    return stems


def _describe(source: Source) -> dict[str, str]:
    names = {domain: path.name for domain, path in source.files.items()}
    return {"stem": source.stem} | names | {f"{d}_sha256": sha256(path) for d, path in source.files.items()}


def _cut(source: Source, *, kind: Kind, shards: Shards, scale: int, align: bool) -> Cut:
    """Read, align, cut and encode one source. Positions in keys are px of the image, of the LR image for pairs."""
    images = {domain: read_rgb8(path) for domain, path in source.files.items()}
    shift, top, left = (0, 0), 0, 0
    factor = dict.fromkeys(images, 1)
    if kind == "pairs":
        _check_sizes(source, images, scale)
        if align:
            shift = estimate_shift(images["hr"], images["lr"], scale)
        (top, left), images = _overlap(images, scale, shift)
        factor["hr"] = scale
    size, stride = (n * (scale if kind == "hr" else 1) for n in (shards.patch, shards.stride))
    height, width = images[DOMAINS[kind][-1]].shape[:2]
    if min(height, width) < size:
        after = f" once aligned by {shift} HR px" if shift != (0, 0) else ""
        raise InputError(
            f"{source.files[DOMAINS[kind][-1]]}: {width} x {height} px{after} is smaller than a patch; "
            f"at least {size} x {size} px are needed"
        )
    keys: list[str] = []
    patches: list[list[bytes]] = []
    for y in positions(height, size, stride):
        for x in positions(width, size, stride):
            cut = [
                images[domain][y * f : (y + size) * f, x * f : (x + size) * f]
                for domain, f in ((domain, factor[domain]) for domain in DOMAINS[kind])
            ]
            if _contrast(cut[-1]) >= shards.min_std:
                keys.append(f"{source.stem}_{top + y}_{left + x}")
                patches.append([_encode(patch, shards.encoding) for patch in cut])
    return Cut(keys, patches, shift)


def _check_sizes(source: Source, images: dict[str, NDArray[np.uint8]], scale: int) -> None:
    (height, width), (h, w) = images["hr"].shape[:2], images["lr"].shape[:2]
    if abs(h * scale - height) >= scale or abs(w * scale - width) >= scale:
        raise InputError(
            f"{source.files['lr']}: {w} x {h} px is not 1/{scale} of {source.files['hr'].name}, {width} x {height} px"
        )


def _overlap(
    images: dict[str, NDArray[np.uint8]], scale: int, shift: tuple[int, int]
) -> tuple[tuple[int, int], dict[str, NDArray[np.uint8]]]:
    """Crop LR to the rows and columns that HR has too, and HR to the same, moved by `shift`. Also LR's new origin."""
    hr, lr = images["hr"], images["lr"]
    first = [max(0, math.ceil(d / scale)) for d in shift]
    last = [
        max(a, min(n, (size + d) // scale))
        for a, n, size, d in zip(first, lr.shape[:2], hr.shape[:2], shift, strict=True)
    ]
    hr_rows, hr_columns = (slice(a * scale - d, b * scale - d) for a, b, d in zip(first, last, shift, strict=True))
    rows, columns = (slice(a, b) for a, b in zip(first, last, strict=True))
    return (first[0], first[1]), {"hr": hr[hr_rows, hr_columns], "lr": lr[rows, columns]}


def _contrast(patch: NDArray[np.uint8]) -> float:
    """Standard deviation over the pixels, averaged over the channels, in [0, 1]: an even blue has none."""
    return float(patch.std(axis=(0, 1), dtype=np.float64).mean() / 255)


def _encode(patch: NDArray[np.uint8], encoding: str) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(patch))
    if encoding == "webp":
        image.save(buffer, format="WEBP", lossless=True, method=4, quality=50)  # of 100: a third faster, same size
    else:
        image.save(buffer, format="PNG")
    return buffer.getvalue()


def _write_shards(
    folder: Path, places: list[Place], spool: BinaryIO, kind: Kind, shards: Shards, progress: bool
) -> list[dict[str, Any]]:
    """Pack the spooled patches in a fixed random order: no shard is one image. Returns the manifest's entries."""
    names = [f"{domain}.{shards.encoding}" for domain in DOMAINS[kind]]
    order = iter(np.random.RandomState(_ORDER_SEED).permutation(len(places)).tolist())
    entries: list[dict[str, Any]] = []
    with tqdm(total=len(places), desc=f"pack {kind}", unit="patch", disable=not progress) as bar:
        while chosen := [places[i] for i in islice(order, shards.samples_per_shard)]:
            tar = folder / f"{shard_name(len(entries))}.tar"
            # Fixed owner and time: equal patches give equal bytes.
            with tar.open("wb") as file, webdataset.TarWriter(file, user="cyclesr", group="cyclesr", mtime=0) as writer:
                for place in chosen:
                    spool.seek(place.offset)
                    members = {name: spool.read(size) for name, size in zip(names, place.sizes, strict=True)}
                    writer.write({"__key__": place.key} | members)
                    bar.update()
            entry: dict[str, Any] = {
                "tar": tar.name,
                "count": len(chosen),
                "tar_bytes": tar.stat().st_size,
                "sha256": sha256(tar),
            }
            index = tar.with_suffix(".json")
            with tarfile.open(tar) as archive:
                found = {member.name: [member.offset_data, member.size] for member in archive}
            samples = [{"key": p.key, "members": {name: found[f"{p.key}.{name}"] for name in names}} for p in chosen]
            index.write_text(json.dumps(entry | {"samples": samples}) + "\n", encoding="utf-8")
            entries.append(entry | {"index_sha256": sha256(index)})
    return entries


def _holds(out: Path, kind: Kind, request: dict[str, Any]) -> bool:
    """Whether `out` is a complete set made from the same images with the same settings."""
    try:
        manifest = ShardSet.open(str(out.resolve()), kind).manifest
    except InputError:
        return False
    return {key: manifest.get(key) for key in request} == request


def _in_order(function: Callable[[T], R], items: Sequence[T], workers: int) -> Iterator[R]:
    """Map over threads (Pillow, hashing and torch release the GIL), in order, few results waiting at a time."""
    if workers == 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
