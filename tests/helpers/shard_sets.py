"""Small shard sets, and photographs to cut them from."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cyclesr_dist.cli import shards as command
from cyclesr_dist.config.schema import Shards
from cyclesr_dist.data.build import build_set
from cyclesr_dist.data.shards import ShardSet
from cyclesr_dist.errors import InputError
from cyclesr_dist.runtime.command import guarded

T = TypeVar("T")
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


def build_pairs(tmp_path: Path, name: str = "pairs", shards: Shards = CUT, **changes: Any) -> ShardSet:
    settings: dict[str, Any] = {"scale": SCALE, "progress": False} | changes
    build_set("pairs", tmp_path / name, shards, hr_dir=tmp_path / "hr", lr_dir=tmp_path / "lr", **settings)
    return ShardSet.open(str(tmp_path / name), "pairs")


def first_place(out: Path) -> tuple[str, int, int]:
    sample = json.loads((out / "shard-000000.json").read_text())["samples"][0]
    (offset, size, _) = next(iter(sample["members"].values()))
    return sample["key"], offset, size


def overwrite_bytes(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def outcome(function: Callable[[], T]) -> T | InputError:
    """What it returns, or the InputError that it raises."""
    try:
        return function()
    except InputError as error:
        return error
