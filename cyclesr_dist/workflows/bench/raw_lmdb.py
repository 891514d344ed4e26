"""Patches as raw pixels in LMDB, where that package is installed: nothing has to be decoded."""

from __future__ import annotations

import importlib
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cyclesr_dist.data.shards import ShardSet

_MAP_BYTES = 1 << 36
"""Of address space, not of the disk."""


def write_lmdb(sets: Sequence[ShardSet], path: Path) -> None:
    """All HR and LR patches into a new folder, by domain and number."""
    environment = _open(path, readonly=False)
    with environment.begin(write=True) as transaction:
        for shard_set in sets:
            for i in range(len(shard_set)):
                transaction.put(_key(shard_set.kind, i), shard_set.read(i)[shard_set.kind].tobytes())
    environment.close()


class RawLmdb(Dataset[tuple[Tensor, Tensor]]):
    """HR patches in order, an LR patch drawn at random beside each."""

    def __init__(self, path: Path, num_hr: int, num_lr: int, hr_px: int, lr_px: int) -> None:
        self.path = path
        self.num_hr, self.num_lr = num_hr, num_lr
        self.hr_px, self.lr_px = hr_px, lr_px
        self._environment: Any = None

    def __len__(self) -> int:
        return self.num_hr

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        self._environment = self._environment or _open(self.path)  # by the process that reads: it must not be forked
        with self._environment.begin(buffers=True) as transaction:
            return (
                _patch(transaction.get(_key("hr", i % self.num_hr)), self.hr_px),
                _patch(transaction.get(_key("lr", random.randrange(self.num_lr))), self.lr_px),
            )


def _open(path: Path, readonly: bool = True) -> Any:
    return importlib.import_module("lmdb").open(
        str(path), map_size=_MAP_BYTES, readonly=readonly, lock=False, readahead=False, meminit=False
    )


def _key(domain: str, i: int) -> bytes:
    return f"{domain}-{i}".encode()


def _patch(data: Any, px: int) -> Tensor:
    return torch.from_numpy(np.frombuffer(data, np.uint8).reshape(px, px, 3).copy())
