"""The photographs and shard sets of a table, made once and reused: what each run of it trains, validates, is scored on.

patterns -> given                (links)
photos -> train, valid           (links)
per track: train_lr, valid_lr, test_lr   (simulated, unless the track gives folders); estimate
shards: hr, and per track lr and pairs
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from cyclesr_dist.config.schema import MEASURED, Shards, Track
from cyclesr_dist.config.systems import spec_of
from cyclesr_dist.data.build import build_set
from cyclesr_dist.data.covered import check_sizes
from cyclesr_dist.data.folders import images_folder, list_images, match_pairs, pairs_if_any
from cyclesr_dist.data.images import read_rgb8, write_png
from cyclesr_dist.data.resize import bicubic_down
from cyclesr_dist.data.shards import Kind
from cyclesr_dist.degradation.estimate import estimate
from cyclesr_dist.degradation.record import FACTS, save
from cyclesr_dist.degradation.simulate_folder import degrade_folder
from cyclesr_dist.errors import ConfigError, InputError
from cyclesr_dist.runtime.files import new_folder
from cyclesr_dist.runtime.patterns import Pattern, pattern_of
from cyclesr_dist.workflows.table.config import Table, TrackData

Announce = Callable[[str], None]


@dataclass(frozen=True)
class Folders:
    """Of one track, or of the synthetic LR that sr_syn is validated on."""

    lr: str
    """Shard set; empty for synthetic LR."""
    pairs: str
    valid_lr: Path
    test_lr: Path
    estimate: str = ""
    """Folder of the degradation measured between the shard sets, where a system starts from it."""


@dataclass(frozen=True)
class TableData:
    hr: str
    """Shard set of the HR domain."""
    valid_hr: Path
    test_hr: Path
    syn_valid_lr: Path
    tracks: dict[Track, Folders]


def prepare(table: Table, root: Path, announce: Announce, quiet: bool) -> TableData:
    """Make under `root` what is not there yet. Raises InputError or ConfigError when a folder does not serve."""
    scale = table.run.scale
    table = _given(table, root / "given")  # from here on all are folders
    train_hr, valid_hr = _split(table, root)
    test_hr = Path(table.test_hr)
    shards = table.run.shards
    given = [name for name, track in table.tracks.chosen().items() if track.lr]
    same_part = shards.hr_region == shards.lr_region and shards.hr_scenes == shards.lr_scenes
    if same_part and len(given) < len(table.tracks.chosen()):
        raise ConfigError(
            f"run.shards.hr_region = lr_region = {shards.hr_region} with a simulated track: HR and LR would show the "
            "same scenes; allowed: different regions, or different hr_scenes and lr_scenes"
        )
    announce("data: synthetic LR for validation")
    syn_valid = _synthetic(valid_hr, root / "syn" / "valid_lr", scale)
    hr = _pack("hr", root / "shards" / "hr", shards, scale, train_hr, None, quiet)
    tracks: dict[Track, Folders] = {}
    for name, track in table.tracks.chosen().items():
        announce(f"data: track {name}")
        folders = _track(table, root / name, name, track, train_hr, valid_hr, quiet)
        tracks[name] = replace(folders, estimate=_estimated(table, root / name / "estimate", hr, folders.lr))
    return TableData(hr, valid_hr, test_hr, syn_valid, tracks)


def _given(table: Table, root: Path) -> Table:
    """The table with a folder of links in the place of every pattern."""

    def folder(place: str, *parts: str) -> str:
        pattern = pattern_of(Path(place))
        return str(_linked(_by_scene(pattern), root.joinpath(*parts))) if pattern else place

    tracks = {
        name: replace(
            track,
            lr=folder(track.lr, name, "lr"),
            valid_lr=folder(track.valid_lr, name, "valid_lr"),
            test_lr=folder(track.test_lr, name, "test_lr"),
            pairs_hr=folder(track.pairs_hr, name, "pairs_hr"),
        )
        for name, track in table.tracks.chosen().items()
    }
    photos, valid_hr, test_hr = (folder(getattr(table, key), key) for key in ("photos", "valid_hr", "test_hr"))
    return replace(
        table, photos=photos, valid_hr=valid_hr, test_hr=test_hr, tracks=replace(table.tracks, **dict(tracks))
    )


def _by_scene(pattern: Pattern) -> dict[str, Path]:
    """The photographs of a pattern by a name below which they can lie in one folder, and are matched there."""
    photos: dict[str, Path] = {}
    for path in list_images(Path(str(pattern))):
        name = pattern.scene(path).replace("/", "_").replace("*", "") + path.suffix
        if name in photos:
            raise InputError(f"{pattern}: {photos[name]} and {path} would both be {name}; rename one of them")
        photos[name] = path
    return photos


def _split(table: Table, root: Path) -> tuple[Path, Path]:
    """Training and validation photographs."""
    if table.valid_hr:
        return Path(table.photos), Path(table.valid_hr)
    photos = list_images(Path(table.photos))
    valid = photos[table.valid_every // 2 :: table.valid_every]
    train = [photo for photo in photos if photo not in valid]
    if not valid or not train:
        raise ConfigError(
            f"valid_every = {table.valid_every} leaves no photograph of the {len(photos)} in {table.photos}"
        )
    return _same_names(train, root / "train_hr"), _same_names(valid, root / "valid_hr")


def _same_names(photos: list[Path], out: Path) -> Path:
    return _linked({photo.name: photo for photo in photos}, out)


def _linked(photos: Mapping[str, Path], out: Path) -> Path:
    """A folder of links to exactly these files, by name; an older one of others is replaced."""
    wanted = {name: str(photo.resolve()) for name, photo in photos.items()}
    if out.is_dir() and {p.name: os.readlink(p) for p in out.iterdir() if p.is_symlink()} == wanted:
        return out
    with new_folder(out, overwrite=True) as folder:
        for name, target in wanted.items():
            (folder / name).symlink_to(target)
    return out


def _synthetic(hr: Path, out: Path, scale: int) -> Path:
    """Bicubic LR of all photographs of a folder."""
    wanted = {f"{photo.stem}.png": photo for photo in list_images(images_folder(hr, scale))}
    if out.is_dir() and {path.name for path in out.iterdir()} == set(wanted):
        return out
    with new_folder(out, overwrite=True) as folder:
        for name, photo in wanted.items():
            image = torch.from_numpy(read_rgb8(photo).astype(np.float32) / 255).permute(2, 0, 1)[None]
            height, width = (size // scale * scale for size in image.shape[-2:])
            low = bicubic_down(image[..., :height, :width], scale)[0].permute(1, 2, 0)
            write_png(folder / name, (low * 255).round().to(torch.uint8).numpy())
    return out


def _track(
    table: Table, root: Path, name: Track, track: TrackData, train_hr: Path, valid_hr: Path, quiet: bool
) -> Folders:
    scale = table.run.scale

    def simulated(hr: Path, part: str, variants: int) -> Path:
        degrade_folder(
            hr, root / part, track=name, scale=scale, seed=table.run.seed, levels=track.degrade, progress=not quiet
        )
        if name != "wild" or variants == 4:
            return root / part
        kept = [p for p in list_images(root / part) if int(p.stem[-1]) <= variants]
        return _same_names(kept, root / f"{part}_first{variants}")

    if track.lr:
        train_lr, valid_lr, test_lr = (
            images_folder(Path(folder), scale) for folder in (track.lr, track.valid_lr, track.test_lr)
        )
        check_sizes(pairs_if_any(valid_hr, valid_lr), scale)
        check_sizes(match_pairs(Path(table.test_hr), test_lr), scale)
    else:
        train_lr = simulated(train_hr, "train_lr", 4)
        valid_lr = simulated(valid_hr, "valid_lr", table.wild_variants)
        test_lr = simulated(Path(table.test_hr), "test_lr", table.wild_variants)
    shards = table.run.shards
    lr = _pack("lr", root / "shards" / "lr", shards, scale, None, train_lr, quiet)
    pairs = ""
    if paired := [name for name in table.trained if spec_of(name).data == "pairs"]:
        pairs_hr = Path(track.pairs_hr) if track.pairs_hr else train_hr
        try:
            match_pairs(pairs_hr, train_lr)
        except InputError as error:
            raise InputError(f"systems has {paired[0]}, which needs pairs; leave it out, or: {error}") from error
        pairs = _pack("pairs", root / "shards" / "pairs", shards, scale, pairs_hr, train_lr, quiet)
    return Folders(lr, pairs, valid_lr, test_lr)


def _estimated(table: Table, out: Path, hr: str, lr: str) -> str:
    """Measured once for all seeds and systems."""
    measured = table.run.nets.translator.kind == MEASURED
    if not any(spec_of(name).needs_estimate(measured) for name in table.trained):
        return ""
    if not (out / FACTS).is_file():
        save(out, estimate(hr, lr, scale=table.run.scale, seed=table.run.seed, data=table.run.data))
    return str(out)


def _pack(kind: Kind, out: Path, shards: Shards, scale: int, hr: Path | None, lr: Path | None, quiet: bool) -> str:
    build_set(kind, out, shards, scale=scale, hr_dir=hr, lr_dir=lr, progress=not quiet)
    return str(out)
