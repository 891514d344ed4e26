"""From shard sets to batches: each rank reads its share of every global batch, by index."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cyclesr_dist.config.paths import places
from cyclesr_dist.config.schema import Config, Data, WeightedSet, noise_channels
from cyclesr_dist.config.systems import spec_of
from cyclesr_dist.data.batch import Batch
from cyclesr_dist.data.faults import Fault, fault_of
from cyclesr_dist.data.mixture import Mixture, SampleSet
from cyclesr_dist.data.order import (
    Augmentation,
    Draw,
    augmentation,
    endless_draws,
    epoch_draws,
    noise,
    replacement,
    steps_per_epoch,
)
from cyclesr_dist.data.overlap import describe, shared_photographs
from cyclesr_dist.data.resize import down, downsampling_of, to_8bit_grid
from cyclesr_dist.data.shards import ShardSet
from cyclesr_dist.data.shared_slots import Shapes, SharedSlots
from cyclesr_dist.distributed.world import World
from cyclesr_dist.errors import ConfigError, InputError
from cyclesr_dist.runtime.lifeline import end_with_parent
from cyclesr_dist.runtime.signals import REQUESTS, deaf_children

Faults = dict[tuple[str, int], Fault]
"""By domain and index."""


@dataclass(frozen=True)
class Sources:
    """The opened shard sets of a system: `hr` and `lr` for unpaired training, `pairs` alone for sr_paired."""

    hr: SampleSet | None
    lr: SampleSet | None
    pairs: SampleSet | None

    @property
    def epoch_set(self) -> SampleSet:
        """The set that one epoch is a pass over."""
        chosen = self.pairs or self.hr
        assert chosen is not None
        return chosen


def open_sources(config: Config) -> Sources:
    """Open what `config.system` needs. Raises ConfigError or InputError naming the key or the set."""
    data = spec_of(config.system).data
    if data == "pairs":
        sources = Sources(None, None, _open("data.pairs", config.data.pairs, "pairs", config))
    elif data == "hr":
        sources = Sources(_open("data.hr", config.data.hr, "hr", config), None, None)
    else:
        hr, lr = _open("data.hr", config.data.hr, "hr", config), _open("data.lr", config.data.lr, "lr", config)
        sources = Sources(hr, lr, None)
        _check_domains(hr, lr, config)
    if len(sources.epoch_set) < config.global_batch and config.data.tail == "drop":
        raise ConfigError(
            f"global_batch = {config.global_batch} is more than the {len(sources.epoch_set)} samples of "
            f"{sources.epoch_set.url}; allowed: at most that, or data.tail=wrap"
        )
    return sources


def _open(key: str, value: str | tuple[str | WeightedSet, ...], kind: str, config: Config) -> SampleSet:
    named = places(key, value)
    if not named:
        raise ConfigError(f"{key} is empty; give the shard set that `cyclesr shards build` made")
    sets = [_open_one(name, url, kind, config) for name, url in named.items()]
    weights = None if isinstance(value, str) else [one.weight for one in value if isinstance(one, WeightedSet)]
    opened = sets[0] if len(sets) == 1 else Mixture(key, sets, weights or None)
    if config.data.max_bad_samples >= len(opened):
        raise ConfigError(
            f"data.max_bad_samples = {config.data.max_bad_samples}, but {opened.url} has {len(opened)} samples; "
            "allowed: less than that"
        )
    return opened


def _open_one(name: str, url: str, kind: str, config: Config) -> ShardSet:
    try:
        shard_set = ShardSet.open(url, kind, config.data)
    except InputError as error:
        raise type(error)(f"{name}: {error}") from error
    if shard_set.scale != config.scale:
        raise ConfigError(f"scale = {config.scale}, but {shard_set.url} was cut for scale {shard_set.scale}")
    return shard_set


def _check_domains(hr: SampleSet, lr: SampleSet, config: Config) -> None:
    if hr.patch != lr.patch:
        raise InputError(f"data.hr has patches for LR size {hr.patch}, data.lr has {lr.patch}; they must be equal")
    shared = [pair for a in hr.sets for b in lr.sets for pair in shared_photographs(a.manifest, b.manifest)]
    if shared and not config.data.allow_overlap:
        raise InputError(
            f"data.hr and data.lr hold patches of the same photographs: {describe(shared)}; "
            "give unrelated ones, or data.allow_overlap=true"
        )


@dataclass(frozen=True)
class RankBatch:
    """This rank's share of a global batch, before augmentation."""

    arrays: dict[str, np.ndarray]
    """`hr`, `lr`: (N, H, W, 3) uint8; `noise`: (2, N, E, h, w) float32. Empty where they lie in a shared slot."""
    changes: dict[str, list[Augmentation]]
    hr_keys: tuple[str, ...]
    lr_keys: tuple[str, ...]
    faults: tuple[Fault, ...]
    remarks: tuple[str, ...]
    """On the storage of the sets; see `ShardSet.remark`."""


class RankBatches(Dataset[RankBatch]):
    """Item `step` is this rank's share of that global batch. A pure function, so workers need no seeds."""

    slots: SharedSlots | None = None
    """Where loader processes put the arrays."""

    def __init__(
        self, sources: Sources, data: Data, seed: int, global_batch: int, noise_channels: int, world: World
    ) -> None:
        """See `rank_dataset`."""
        self.sources = sources
        self.seed = seed
        self.global_batch = global_batch
        self.tail = data.tail
        self.max_faults = data.max_bad_samples
        self.augment = data.augment
        self.noise_channels = noise_channels
        self.rank_batch = world.rank_batch(global_batch)
        self.first = world.rank * self.rank_batch

    def shapes(self) -> Shapes:
        """Shapes and types of an item's arrays."""
        n, s = self.rank_batch, self.sources
        patch, scale = s.epoch_set.patch, s.epoch_set.scale
        hr, lr = (n, patch * scale, patch * scale, 3), (n, patch, patch, 3)
        noise_shape = (2, n, self.noise_channels, patch, patch)
        shapes: Shapes = {
            "hr": (hr, np.dtype(np.uint8)),
            "noise": (noise_shape, np.dtype(np.float32)),
        }
        return shapes | ({"lr": (lr, np.dtype(np.uint8))} if s.lr or s.pairs else {})

    def __getitem__(self, step: int) -> RankBatch:
        s = self.sources
        if self.slots:
            arrays = self.slots.take(step)
        else:
            arrays = {name: np.empty(shape, dtype) for name, (shape, dtype) in self.shapes().items()}
        faults: Faults = {}
        hr_keys: tuple[str, ...] = ()
        lr_keys: tuple[str, ...] = ()
        changes: dict[str, list[Augmentation]] = {}
        if s.pairs is not None:
            draws = epoch_draws(self.seed, "pairs", s.pairs.mix, self.global_batch, step, self.tail)
            hr_keys, changes["lr"] = self._fill(s.pairs, self._mine(draws), arrays, faults)
            lr_keys, changes["hr"] = hr_keys, changes["lr"]
        if s.hr is not None:
            draws = epoch_draws(self.seed, "hr", s.hr.mix, self.global_batch, step, self.tail)
            hr_keys, changes["hr"] = self._fill(s.hr, self._mine(draws), arrays, faults)
        if s.lr is not None:
            draws = endless_draws(self.seed, "lr", s.lr.mix, self.global_batch, step)
            lr_keys, changes["lr"] = self._fill(s.lr, self._mine(draws), arrays, faults)
        first = step * self.global_batch + self.first
        for i in range(self.rank_batch if self.noise_channels else 0):
            arrays["noise"][:, i] = noise(self.seed, first + i, self.noise_channels, s.epoch_set.patch)
        if self.slots:
            self.slots.done(step)
        remarks = tuple(one.remark for one in (s.pairs, s.hr, s.lr) if one and one.remark)
        return RankBatch({} if self.slots else arrays, changes, hr_keys, lr_keys, tuple(faults.values()), remarks)

    def _mine(self, draws: list[Draw]) -> list[Draw]:
        return draws[self.first : self.first + self.rank_batch]

    def _fill(
        self,
        shard_set: SampleSet,
        draws: list[Draw],
        arrays: dict[str, np.ndarray],
        faults: Faults,
    ) -> tuple[tuple[str, ...], list[Augmentation]]:
        """Decode into `arrays`; returns keys and augmentations. Beyond the limit of faults, and where storage fails,
        the rest is left blank."""
        keys: list[str] = []
        changes: list[Augmentation] = []
        if any(fault.storage_code for fault in faults.values()):
            return (), []  # of the other domain: the run will end, and waiting once was enough
        samples = shard_set.read_many([draw.index for draw in draws])
        for place, (draw, found) in enumerate(zip(draws, samples, strict=True)):
            drawn, sample, attempt = draw, found, 0
            while isinstance(sample, InputError):
                fault = fault_of(draw.domain, drawn.index, sample)
                faults[draw.domain, drawn.index] = fault
                if fault.storage_code or len(faults) > self.max_faults:
                    return tuple(keys), changes
                attempt += 1
                drawn = replacement(self.seed, draw, attempt, shard_set.mix)
                (sample,) = shard_set.read_many([drawn.index])
            for name, image in sample.items():
                arrays[name][place] = image
            keys.append(shard_set.key(drawn.index))
            changes.append(self._change(drawn))
        return tuple(keys), changes

    def _change(self, draw: Draw) -> Augmentation:
        """Pairs are augmented as LR is, both members alike."""
        a = self.augment
        hr = draw.domain == "hr"
        switches = (True, True, a.hr_colours) if hr else (a.lr_flip, a.lr_rotate, a.lr_colours)
        return augmentation(self.seed, draw, *switches)


def rank_dataset(sources: Sources, config: Config, world: World) -> RankBatches:
    """All of a run's batches for this rank."""
    return RankBatches(sources, config.data, config.seed, config.global_batch, noise_channels(config), world)


def rank_batches(
    sources: Sources, config: Config, world: World, start: int, stop: int
) -> Iterator[tuple[RankBatch, dict[str, np.ndarray]]]:
    """This rank's shares of steps start..stop-1, read ahead by `data.workers` processes, with their arrays.

    The arrays may be overwritten once the next item is asked for.
    """
    workers, prefetch = config.data.workers, config.data.prefetch
    dataset = rank_dataset(sources, config, world)
    if workers:
        # One item more than are under way: the consumer holds one while the workers have workers * prefetch.
        with deaf_children():  # multiprocessing's resource tracker
            dataset.slots = SharedSlots(dataset.shapes(), workers * prefetch + 1)
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=range(start, stop),
        num_workers=workers,
        prefetch_factor=prefetch if workers else None,
        multiprocessing_context="forkserver" if workers else None,  # fork is unsafe beside gloo's and CUDA's threads
        collate_fn=_as_it_is,
        worker_init_fn=_belong_to_rank,
    )
    before = set(active_children())
    with deaf_children():  # a stop is the rank's to decide, which needs its batches until then
        items = iter(loader)
    _end_at_exit(set(active_children()) - before)
    for step, item in zip(range(start, stop), items, strict=True):
        yield item, dataset.slots.finished(step) if dataset.slots else item.arrays


def batches(
    sources: Sources, config: Config, world: World, start: int, stop: int
) -> Generator[tuple[Batch, Sequence[Fault]]]:
    """This rank's batches of steps start..stop-1 on its device, and the samples it could not read for them.

    Seeks by index, whatever `start` is. A batch with more faults than `data.max_bad_samples` is incomplete.
    """
    for step, (item, arrays) in zip(range(start, stop), rank_batches(sources, config, world, start, stop), strict=True):
        if world.is_main:
            for remark in item.remarks:
                _tell(remark)
        hr = _augmented(arrays["hr"], item.changes["hr"], world.device)
        syn = to_8bit_grid(down(hr, config.scale, downsampling_of(config.data)))
        real = _augmented(arrays["lr"], item.changes["lr"], world.device) if "lr" in arrays else syn
        noise_tensor = torch.tensor(arrays["noise"], device=world.device)
        index = step * config.global_batch
        yield Batch(syn, real, hr, noise_tensor, index, item.hr_keys, item.lr_keys), item.faults


def _augmented(images: np.ndarray, changes: Sequence[Augmentation], device: torch.device) -> Tensor:
    """uint8 (N, H, W, 3), square -> a new float32 (N, 3, H, W) in [0, 1] on `device`, each flipped and turned."""
    source = torch.from_numpy(images)
    if device.type == "cuda":
        source = source.pin_memory().to(device, non_blocking=True)
    out = torch.empty((len(images), 3, *images.shape[1:3]), device=device)
    for target, image, change in zip(out, source.permute(0, 3, 1, 2), changes, strict=False):
        target.copy_(change.apply(image))
    return out.div_(255)


@cache
def _tell(remark: str) -> None:
    """Once in a process."""
    print(f"cyclesr: warning: {remark}", file=sys.stderr, flush=True)


_started: WeakKeyDictionary[BaseProcess, int] = WeakKeyDictionary()
"""Loader processes, and whose they are."""


def _end_at_exit(processes: set[BaseProcess]) -> None:
    """Should they still be there when the interpreter ends, because somebody holds the batches or a traceback with
    them: multiprocessing, and torch, then send SIGTERM, which they do not follow, and wait for them for ever."""
    _started.update(dict.fromkeys(processes, os.getpid()))
    atexit.unregister(_end_started)  # what is registered last is called first, before torch's and multiprocessing's
    atexit.register(_end_started)


def _end_started() -> None:
    for process, owner in list(_started.items()):
        if owner == os.getpid() and process.is_alive():
            process.kill()


def _belong_to_rank(worker: int) -> None:
    """No request is theirs to follow, also where a fork server was there before; they end with the rank."""
    for number in REQUESTS:
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()


def _as_it_is(item: Any) -> Any:
    return item


def num_epoch_steps(sources: Sources, config: Config) -> int:
    return steps_per_epoch(len(sources.epoch_set), config.global_batch, config.data.tail)
