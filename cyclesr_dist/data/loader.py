"""From shard sets to batches: each rank reads its share of every global batch, by index."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cyclesr_dist.config import Config
from cyclesr_dist.data.order import Draw, augmentation, endless_draws, epoch_draws, noise, steps_per_epoch
from cyclesr_dist.data.shards import ShardSet
from cyclesr_dist.errors import ConfigError, InputError
from cyclesr_dist.resize import bicubic_down, to_8bit_grid
from cyclesr_dist.types import Batch
from cyclesr_dist.world import World


@dataclass(frozen=True)
class Sources:
    """The opened shard sets of a system: `hr` and `lr` for unpaired training, `pairs` alone for sr_paired."""

    hr: ShardSet | None
    lr: ShardSet | None
    pairs: ShardSet | None

    @property
    def epoch_set(self) -> ShardSet:
        """The set that one epoch is a pass over."""
        chosen = self.pairs or self.hr
        assert chosen is not None
        return chosen


def open_sources(config: Config) -> Sources:
    """Open what `config.system` needs. Raises ConfigError or InputError naming the key or the set."""
    if config.system == "sr_paired":
        sources = Sources(None, None, _open("data.pairs", config.data.pairs, "pairs"))
    elif config.system == "sr_syn":
        sources = Sources(_open("data.hr", config.data.hr, "hr"), None, None)
    else:
        sources = Sources(_open("data.hr", config.data.hr, "hr"), _open("data.lr", config.data.lr, "lr"), None)
    for shard_set in (sources.hr, sources.lr, sources.pairs):
        if shard_set is not None and shard_set.scale != config.scale:
            raise ConfigError(f"scale = {config.scale}, but {shard_set.folder} was cut for scale {shard_set.scale}")
    if sources.hr and sources.lr and sources.hr.patch != sources.lr.patch:
        raise InputError(
            f"data.hr has patches for LR size {sources.hr.patch}, data.lr has {sources.lr.patch}; they must be equal"
        )
    if len(sources.epoch_set) < config.global_batch:
        raise ConfigError(
            f"global_batch = {config.global_batch} is more than the {len(sources.epoch_set)} samples of "
            f"{sources.epoch_set.folder}; allowed: at most that"
        )
    return sources


def _open(key: str, url: str, kind: str) -> ShardSet:
    if not url:
        raise ConfigError(f"{key} is empty; give the shard set that `cyclesr shards build` made")
    return ShardSet.open(url, kind)


class RankBatches(Dataset[tuple[dict[str, np.ndarray], tuple[str, ...], tuple[str, ...]]]):
    """Item `step` is this rank's share of that global batch, as arrays. A pure function, so workers need no seeds."""

    def __init__(self, sources: Sources, config: Config, world: World) -> None:
        self.sources = sources
        self.seed = config.seed
        self.global_batch = config.global_batch
        self.augment = config.data.augment
        self.noise_channels = config.nets.translator.noise_channels
        self.rank_batch = world.rank_batch(config.global_batch)
        self.first = world.rank * self.rank_batch

    def __getitem__(self, step: int) -> tuple[dict[str, np.ndarray], tuple[str, ...], tuple[str, ...]]:
        s = self.sources
        arrays: dict[str, list[np.ndarray]] = {"hr": [], "lr": []}
        hr_keys: list[str] = []
        lr_keys: list[str] = []
        if s.pairs is not None:
            for draw in self._mine(epoch_draws(self.seed, "pairs", len(s.pairs), self.global_batch, step)):
                sample = self._read(s.pairs, draw)
                arrays["hr"].append(sample["hr"])
                arrays["lr"].append(sample["lr"])
                hr_keys.append(s.pairs.key(draw.index))
            lr_keys = hr_keys
        if s.hr is not None:
            for draw in self._mine(epoch_draws(self.seed, "hr", len(s.hr), self.global_batch, step)):
                arrays["hr"].append(self._read(s.hr, draw)["hr"])
                hr_keys.append(s.hr.key(draw.index))
        if s.lr is not None:
            for draw in self._mine(endless_draws(self.seed, "lr", len(s.lr), self.global_batch, step)):
                arrays["lr"].append(self._read(s.lr, draw)["lr"])
                lr_keys.append(s.lr.key(draw.index))
        stacked = {name: np.stack(images) for name, images in arrays.items() if images}
        first = step * self.global_batch + self.first
        stacked["noise"] = np.stack(
            [noise(self.seed, first + i, self.noise_channels, s.epoch_set.patch) for i in range(self.rank_batch)],
            axis=1,
        )
        return stacked, tuple(hr_keys), tuple(lr_keys)

    def _mine(self, draws: list[Draw]) -> list[Draw]:
        return draws[self.first : self.first + self.rank_batch]

    def _read(self, shard_set: ShardSet, draw: Draw) -> dict[str, np.ndarray]:
        """A sample, augmented. Pairs are augmented as LR is, both members alike."""
        a = self.augment
        hr = draw.domain == "hr"
        switches = (a.hr_flip, a.hr_rotate, a.hr_colours) if hr else (a.lr_flip, a.lr_rotate, a.lr_colours)
        change = augmentation(self.seed, draw, *switches)
        return {name: change.apply(image) for name, image in shard_set.read(draw.index).items()}


def batches(sources: Sources, config: Config, world: World, start: int, stop: int) -> Iterator[Batch]:
    """This rank's batches of steps start..stop-1 on its device. Seeks by index, whatever `start` is."""
    workers = config.data.workers
    loader = DataLoader(
        RankBatches(sources, config, world),
        batch_size=None,
        sampler=range(start, stop),
        num_workers=workers,
        multiprocessing_context="forkserver" if workers else None,  # fork is unsafe beside gloo's and CUDA's threads
        pin_memory=world.device.type == "cuda",
    )
    for step, (arrays, hr_keys, lr_keys) in zip(range(start, stop), loader, strict=True):
        hr = _to_unit_range(arrays["hr"], world.device)
        syn = to_8bit_grid(bicubic_down(hr, config.scale))
        real = _to_unit_range(arrays["lr"], world.device) if "lr" in arrays else syn
        index = step * config.global_batch
        noise_tensor = torch.as_tensor(arrays["noise"], device=world.device)
        yield Batch(syn, real, hr, noise_tensor, index, hr_keys, lr_keys)


def _to_unit_range(images: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """uint8 (N, H, W, 3) -> float32 (N, 3, H, W) in [0, 1]."""
    return torch.as_tensor(images).to(device, non_blocking=True).permute(0, 3, 1, 2).float().div(255).contiguous()


def num_epoch_steps(sources: Sources, config: Config) -> int:
    return steps_per_epoch(len(sources.epoch_set), config.global_batch)
