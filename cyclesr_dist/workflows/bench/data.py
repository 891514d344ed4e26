"""`cyclesr bench data`: the stream against the usual loaders and against decoding alone, all in one run."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cyclesr_dist.config.schema import Config, load
from cyclesr_dist.data.build import build_set
from cyclesr_dist.data.encoding import EXTENSIONS, decode, encode
from cyclesr_dist.data.images import read_rgb8, write_png
from cyclesr_dist.data.loader import Sources, rank_batches
from cyclesr_dist.data.shards import Kind, ShardSet
from cyclesr_dist.distributed.world import World
from cyclesr_dist.errors import InputError
from cyclesr_dist.runtime.bars import Bar, each
from cyclesr_dist.runtime.fork_server import start_fork_server
from cyclesr_dist.workflows.bench.loaders import (
    Rate,
    decode_limit,
    endless,
    png_loader,
    rate,
    square,
    webdataset_loader,
)
from cyclesr_dist.workflows.bench.plans import Settings
from cyclesr_dist.workflows.bench.processes import memory_mb

_OURS = "stream"


@dataclass(frozen=True)
class Sets:
    """The same patches as shard sets and as folders of PNG files."""

    folder: Path
    sources: Sources
    config: Config

    def tars(self, kind: str) -> list[str]:
        return [str(path) for path in sorted((self.folder / kind).glob("*.tar"))]

    def samples(self) -> list[tuple[bytes, bytes]]:
        """Encoded pairs, read back through the index."""
        hr, lr = self.sources.hr, self.sources.lr
        assert hr is not None
        assert lr is not None
        return list(zip(_encoded(hr.sets), _encoded(lr.sets), strict=False))


def bench_data(photos: list[Path], folder: Path, settings: Settings, progress: bool) -> dict[str, Any]:
    """Measure in `folder` (emptied by the caller). All loaders deliver the same: uint8 batches, not augmented.

    Returns what the command prints and writes. Raises InputError for photographs that cannot be used.
    """
    start_fork_server("cyclesr_dist.data.loader")  # as a training does, while it reads what it needs
    sets = make_sets(photos, folder, settings)
    batch, workers = settings.batch, settings.workers
    encoded = sets.samples()
    hr_px = settings.patch * settings.scale
    warm_up = -(-len(encoded) // batch)  # one epoch, in which the stream verifies checksums

    def stream() -> Iterator[Any]:
        return rank_batches(sets.sources, sets.config, World(), 0, 1 << 40)

    loaders: dict[str, Callable[[], Iterator[Any]]] = {
        _OURS: stream,
        "webdataset": lambda: webdataset_loader(sets.tars("hr"), sets.tars("lr"), batch, workers),
        "png folders": lambda: png_loader(folder / "png_hr", folder / "png_lr", batch, workers),
    }
    if importlib.util.find_spec("lmdb"):
        loaders["lmdb, raw"] = _lmdb_loader(sets, settings)
    rates: dict[str, list[Rate]] = {name: [] for name in (*loaders, "decoding alone")}
    for _ in each(range(settings.rounds), "rounds", "round", progress):
        for name, make in loaders.items():
            rates[name].append(rate(make, batch, warm_up, settings.seconds))
        limit = decode_limit(encoded, settings.encoding, hr_px, max(1, workers), settings.seconds)
        rates["decoding alone"].append(limit)
    medians = {
        name: Rate(median(r.per_second for r in of), median(r.per_cpu_second for r in of)) for name, of in rates.items()
    }
    ours = medians[_OURS]
    return {
        "settings": asdict(settings) | {"num_samples": len(encoded), "cpus": len(os.sched_getaffinity(0))},
        "cases": [
            {
                "name": name,
                "patches_per_second": [round(r.per_second, 1) for r in of],
                "median": medians[name].per_second,
                "ratio": ours.per_second / medians[name].per_second,
                "per_cpu_second": medians[name].per_cpu_second,
                "cpu_ratio": ours.per_cpu_second / medians[name].per_cpu_second,
                "first_seconds": [r.first_seconds for r in of if r.first_seconds is not None],
            }
            for name, of in rates.items()
        ],
        "encodings": measure_encodings(sets, settings),
        "storage": storage(sets),
        "memory_mb_by_epoch": memory_by_epoch(sets, settings, progress),
    }


def _lmdb_loader(sets: Sets, settings: Settings) -> Callable[[], Iterator[Any]]:
    from cyclesr_dist.workflows.bench.raw_lmdb import RawLmdb, write_lmdb

    hr, lr = sets.sources.hr, sets.sources.lr
    assert isinstance(hr, ShardSet)
    assert isinstance(lr, ShardSet)
    path = sets.folder / "lmdb"
    write_lmdb((hr, lr), path)
    dataset = RawLmdb(path, len(hr), len(lr), settings.patch * settings.scale, settings.patch)
    return lambda: endless(dataset, len(hr), settings.batch, settings.workers)


def make_sets(photos: list[Path], folder: Path, settings: Settings) -> Sets:
    """Pack HR and LR patches of the photographs, cropped or mirrored to one size, and write the same as PNG."""
    size = settings.patch * settings.scale
    (folder / "photos").mkdir(parents=True)
    count = -(-settings.pairs // 16)  # of that size a photograph gives 16 HR patches and more LR patches
    for photo in photos[:: max(1, len(photos) // count)]:
        write_png(folder / "photos" / f"{photo.stem}.png", square(read_rgb8(photo), size * 3 // 2))
    config = load(
        None,
        [
            *(f"global_batch={settings.batch}", f"scale={settings.scale}", f"data.workers={settings.workers}"),
            *(f"shards.patch={settings.patch}", f"shards.encoding={settings.encoding}", "shards.samples_per_shard=16"),
            *("data.tail=wrap", "data.allow_overlap=true"),
        ],
    )
    kinds: tuple[Kind, Kind] = ("hr", "lr")
    for kind in kinds:
        shards = replace(config.shards, stride=max(1, settings.patch // 6) if kind == "hr" else settings.patch)
        photos_dir = folder / "photos"
        build_set(
            kind, folder / kind, shards, scale=settings.scale, hr_dir=photos_dir, lr_dir=photos_dir, progress=False
        )
    hr = ShardSet.open(str(folder / "hr"), "hr", config.data)
    lr = ShardSet.open(str(folder / "lr"), "lr", config.data)
    if min(len(hr), len(lr)) < settings.batch:
        raise InputError(f"--photos: {min(len(hr), len(lr))} patches are fewer than a batch; give more photographs")
    for shard_set in (hr, lr):
        out = folder / f"png_{shard_set.kind}"
        out.mkdir()
        for i in range(len(shard_set)):
            write_png(out / f"{shard_set.key(i)}.png", shard_set.read(i)[shard_set.kind])
    return Sets(folder, Sources(hr, lr, None), config)


def measure_encodings(sets: Sets, settings: Settings) -> list[dict[str, Any]]:
    """Size and time of each encoding on HR patches of the set, one process."""
    assert sets.sources.hr is not None
    (hr,) = sets.sources.hr.sets
    chosen = range(0, len(hr), max(1, len(hr) // 32))
    patches: list[NDArray[np.uint8]] = [hr.read(i)["hr"] for i in chosen]
    size = settings.patch * settings.scale
    rows = []
    for name in EXTENSIONS:
        encode_ms, decode_ms, lossless = [], [], True
        num_bytes = 0
        for patch in patches:
            started = time.perf_counter()
            data = encode(patch, name)
            encoded = time.perf_counter()
            back = decode(data, name, size, name)
            decode_ms.append((time.perf_counter() - encoded) * 1e3)
            encode_ms.append((encoded - started) * 1e3)
            num_bytes += len(data)
            lossless &= bool(np.array_equal(back, patch))
        rows.append(
            {
                "encoding": name + (" (quality 95)" if name == "jpeg" else ""),
                "lossless": lossless,
                "kilobytes": num_bytes / len(patches) / 1e3,
                "encode_ms": median(encode_ms),
                "decode_ms": median(decode_ms),
            }
        )
    return rows


def storage(sets: Sets) -> dict[str, float]:
    """Bytes of the shard sets, indexes and all, and of the folders of PNG files."""
    shards = sum(path.stat().st_size for kind in ("hr", "lr") for path in (sets.folder / kind).iterdir())
    png = sum(path.stat().st_size for kind in ("hr", "lr") for path in (sets.folder / f"png_{kind}").iterdir())
    return {"shard_sets": shards, "png_folders": png, "ratio": shards / png}


def memory_by_epoch(sets: Sets, settings: Settings, progress: bool) -> list[float]:
    """Memory of this process and its loader processes, shared pages counted once, after each epoch."""
    epoch_steps = -(-len(sets.sources.epoch_set) // settings.batch)
    used: list[float] = []
    batches = rank_batches(sets.sources, sets.config, World(), 0, epoch_steps * settings.epochs)
    bar = Bar(settings.epochs, "memory", "epoch", progress)
    for step, _ in enumerate(batches, start=1):
        if step % epoch_steps == 0:
            used.append(round(memory_mb(), 1))
            bar.update()
    bar.close()
    return used


def _encoded(sets: Sequence[ShardSet]) -> list[bytes]:
    return [next(iter(one.read_encoded(i).values())) for one in sets for i in range(len(one))]


def describe(result: dict[str, Any]) -> str:
    """The figures as text for the terminal."""
    s = result["settings"]
    hr = s["patch"] * s["scale"]
    lines = [
        f"HR {hr} + LR {s['patch']} px, batch {s['batch']}, {s['workers']} loader processes, {s['cpus']} cores, "
        f"{s['num_samples']} pairs, torch {torch.__version__}",
        f"{'':16}{'patches/s':>11}{'min':>9}{'max':>9}{'stream is':>11}{'per CPU s':>12}{'stream is':>11}"
        f"{'first s':>9}",
    ]
    for case in result["cases"]:
        values = case["patches_per_second"]
        first = f"{median(case['first_seconds']):9.2f}" if case["first_seconds"] else ""
        lines.append(
            f"{case['name']:16}{case['median']:11.0f}{min(values):9.0f}{max(values):9.0f}{case['ratio']:10.2f}x"
            f"{case['per_cpu_second']:12.0f}{case['cpu_ratio']:10.2f}x{first}"
        )
    lines += ["", f"{'encoding':20}{'lossless':>9}{'kB':>8}{'encode ms':>11}{'decode ms':>11}"]
    for row in result["encodings"]:
        lossless = "yes" if row["lossless"] else "no"
        lines.append(
            f"{row['encoding']:20}{lossless:>9}{row['kilobytes']:8.1f}{row['encode_ms']:11.1f}{row['decode_ms']:11.2f}"
        )
    memory, store = result["memory_mb_by_epoch"], result["storage"]
    lines += [
        "",
        f"storage: {store['ratio']:.3f} of the same patches in folders of PNG files",
        f"memory: {memory[0]:.0f} MB after epoch 1, {max(memory):.0f} MB at most, {memory[-1]:.0f} MB after epoch "
        f"{len(memory)}",
    ]
    return "\n".join(lines)
