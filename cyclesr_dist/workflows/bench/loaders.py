"""What the stream is measured against: the usual ways to feed patches, and decoding alone."""

from __future__ import annotations

import io
import random
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from queue import Empty
from typing import Any

import numpy as np
import torch
import webdataset
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from cyclesr_dist.data.encoding import decode
from cyclesr_dist.errors import CycleSRError
from cyclesr_dist.workflows.bench.processes import cpu_seconds, ended

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Rate:
    """Pairs a second, and pairs a second of processor time, which other users of the machine disturb less."""

    per_second: float
    per_cpu_second: float
    first_seconds: float | None = None
    """From asking for a loader to its first batch; None: it is none."""


class PngFolders(Dataset[Pair]):
    """The textbook Dataset: a folder of PNG files for each domain, an LR file drawn at random beside each HR file."""

    def __init__(self, hr: Path, lr: Path) -> None:
        self.hr, self.lr = sorted(hr.iterdir()), sorted(lr.iterdir())

    def __getitem__(self, i: int) -> Pair:
        return _read_png(self.hr[i % len(self.hr)]), _read_png(random.choice(self.lr))


def _read_png(path: Path) -> Tensor:
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image))


def png_loader(hr: Path, lr: Path, batch: int, workers: int) -> Iterator[Any]:
    """Endless batches from `PngFolders`."""
    dataset = PngFolders(hr, lr)
    return endless(dataset, len(dataset.hr), batch, workers)


def endless(dataset: Dataset[Pair], size: int, batch: int, workers: int) -> Iterator[Any]:
    """Batches of a dataset of so many samples, shuffled anew each time they are through."""
    order = (i for _ in count() for i in torch.randperm(size).tolist())
    return iter(DataLoader(dataset, batch, sampler=_Endless(order), **_processes(workers)))


class _Endless:
    def __init__(self, order: Iterator[int]) -> None:
        self.order = order

    def __iter__(self) -> Iterator[int]:
        return self.order

    def __len__(self) -> int:
        return 1 << 40


class WebDatasets(IterableDataset[Pair]):
    """Two plain webdataset pipelines over the same tars: shards split by worker, a shuffle buffer, decode."""

    def __init__(self, hr: list[str], lr: list[str]) -> None:
        self.hr, self.lr = hr, lr

    def __iter__(self) -> Iterator[Pair]:
        return zip(_pipeline(self.hr, "hr"), _pipeline(self.lr, "lr"), strict=True)


def _pipeline(tars: list[str], domain: str) -> Iterator[Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stream = webdataset.WebDataset(tars, shardshuffle=100).shuffle(100).repeat()
        for sample in stream:
            (data,) = (value for name, value in sample.items() if name.startswith(f"{domain}."))
            yield torch.from_numpy(_patch(data))


def _patch(data: bytes) -> NDArray[np.uint8]:
    """As a plain pipeline reads it."""
    if data.startswith(np.lib.format.MAGIC_PREFIX):
        return np.asarray(np.load(io.BytesIO(data)), np.uint8)
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image)


def webdataset_loader(hr: list[str], lr: list[str], batch: int, workers: int) -> Iterator[Any]:
    """Endless batches from `WebDatasets`."""
    return iter(DataLoader(WebDatasets(hr, lr), batch, **_processes(workers)))


def _processes(workers: int) -> dict[str, Any]:
    return {"num_workers": workers, "multiprocessing_context": "forkserver" if workers else None}


def decode_limit(samples: list[tuple[bytes, bytes]], encoding: str, hr_px: int, processes: int, seconds: float) -> Rate:
    """Pairs a second that `processes` processes decode from memory into one array, doing nothing else."""
    context = get_context("forkserver")
    results: Queue[tuple[int, float, float]] = context.Queue()
    ready = context.Barrier(processes)
    workers = [
        context.Process(target=_decode_for, args=(samples, encoding, hr_px, seconds, ready, results))
        for _ in range(processes)
    ]
    for worker in workers:
        worker.start()
    try:
        found = [_result(results, workers) for _ in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.join()
    done, cpu = sum(n for n, _, _ in found), sum(c for _, _, c in found)
    return Rate(sum(n / spent for n, spent, _ in found), done / cpu)


def _result(results: Queue[tuple[int, float, float]], workers: Sequence[BaseProcess]) -> tuple[int, float, float]:
    while True:
        with suppress(Empty):
            return results.get(timeout=1)
        # One that ends has left its result before.
        if (failed := next((worker for worker in workers if worker.exitcode), None)) is not None:
            raise CycleSRError(f"decoding alone: a process {ended(failed.exitcode)}")


def _decode_for(
    samples: list[tuple[bytes, bytes]],
    encoding: str,
    hr_px: int,
    seconds: float,
    ready: Barrier,
    result: Queue[tuple[int, float, float]],
) -> None:
    outs = [np.empty((px, px, 3), np.uint8) for px in (hr_px, _width(samples[0][1]))]
    ready.wait()
    started, cpu = time.perf_counter(), time.process_time()
    done = 0
    while (spent := time.perf_counter() - started) < seconds:
        for data, out in zip(samples[done % len(samples)], outs, strict=True):
            out[:] = decode(data, encoding, len(out), "sample")
        done += 1
    result.put((done, spent, time.process_time() - cpu))


def _width(data: bytes) -> int:
    return int(_patch(data).shape[1])


def rate(make: Callable[[], Iterator[Any]], batch: int, warm_up: int, seconds: float) -> Rate:
    """What an endless iterator of batches gives after its first `warm_up` batches, one at least; and how long the very
    first one takes."""
    began = time.perf_counter()
    batches = make()
    next(batches)
    first = time.perf_counter() - began
    for _ in range(warm_up - 1):
        next(batches)
    started, cpu = time.perf_counter(), cpu_seconds()
    done = 0
    while (spent := time.perf_counter() - started) < seconds:
        next(batches)
        done += batch
    return Rate(done / spent, done / (cpu_seconds() - cpu), first)  # its processes end with `batches`


def square(photo: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The top left `size` px of a photograph, mirrored at its edges if it is smaller."""
    height, width = photo.shape[:2]
    while min(height, width) < size:
        down, right = (min(max(0, size - n), n) for n in (height, width))
        photo = np.pad(photo, ((0, down), (0, right), (0, 0)), mode="symmetric")
        height, width = photo.shape[:2]
    return photo[:size, :size]
