"""Trials of a system's step before it trains: they need memory and time as training does, and change nothing.

Every rank tries by itself: nothing is exchanged, so one that runs out of memory leaves no other waiting.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from cyclesr_dist.config.schema import Config, noise_channels
from cyclesr_dist.config.systems import Phase, spec_of
from cyclesr_dist.data.batch import Batch
from cyclesr_dist.distributed.player import Player
from cyclesr_dist.method.losses.pixel import full
from cyclesr_dist.method.systems.base import System
from cyclesr_dist.method.systems.parts import PlayersAndPools
from cyclesr_dist.method.types import Fakes
from cyclesr_dist.method.whole_batch import WholeBatch
from cyclesr_dist.training.bad_numbers import keep_buffers, restore_buffers

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def trial_of(config: Config, system: System, patch: int, device: torch.device) -> Trial:
    """With patches of `patch` px, on this rank's device."""

    def batch_of(num: int) -> Batch:
        return noise_batch(config, patch, num, device)

    return Trial(system, phases(config), batch_of, config.precision, device)


class Trial:
    """Of a system in `phases`, with batches that `batch_of` makes of a number of samples."""

    def __init__(
        self,
        system: System,
        phases: Sequence[Phase],
        batch_of: Callable[[int], Batch],
        precision: str,
        device: torch.device,
    ) -> None:
        self.system, self.phases, self.batch_of = system, phases, batch_of
        self.precision, self.device = precision, device

    def step(self, num: int) -> float:
        """A step of every phase on `num` samples of noise, all at once, without the update. Seconds of the longest."""
        batch = self.batch_of(num)
        seconds = []
        with self._trying():
            for phase in self.phases:
                began = time.monotonic()
                self.system.step(batch, phase)
                wait(self.device)
                seconds.append(time.monotonic() - began)
        return max(seconds)

    @contextmanager
    def _trying(self) -> Iterator[None]:
        system = self.system
        players, kept = system.players, keep_buffers(system.players)
        trying = {name: _Trying(player, self.precision, self.device) for name, player in players.items()}
        system.players = trying  # type: ignore[assignment]  # of a player a step needs no more
        pools = system.pools if isinstance(system, PlayersAndPools) else None
        if isinstance(system, PlayersAndPools):
            system.pools = _NoPools()  # type: ignore[assignment]  # it is asked for an exchange alone
        try:
            yield
        finally:
            system.players = players
            if isinstance(system, PlayersAndPools) and pools is not None:
                system.pools = pools
            restore_buffers(kept)


class _NoPools:
    def exchange(self, fakes: Fakes, first_index: int) -> Fakes:
        return fakes


class _Trying:
    """A player whose gradients are computed and dropped. autograd.grad reaches none of DDP's and ZeRO's hooks."""

    def __init__(self, player: Player, precision: str, device: torch.device) -> None:
        self.module = player.module
        self.micro_batch: int | None = None
        self._params = [p for p in self.module.parameters() if p.requires_grad]
        self._autocast: dict[str, Any] = {
            "device_type": device.type,
            "dtype": _DTYPES[precision],
            "enabled": precision != "fp32",
        }

    def __call__(self, *inputs: Any) -> Any:
        whole = getattr(self.module, "whole", WholeBatch(False))
        with torch.autocast(**self._autocast), whole.by(_in_place_of):
            return self.module(*inputs)

    def accumulate(self, part: Callable[[], Tensor]) -> None:
        torch.autograd.grad(part(), self._params, allow_unused=True)

    def update(self, loss: Tensor) -> float:
        torch.autograd.grad(loss, self._params, allow_unused=True)
        return 0.0


def _in_place_of(term: Callable[..., Tensor], *outputs: Tensor) -> Tensor:
    """Of a term that ranks exchange means for: it holds on to the same tensors."""
    return torch.stack([full(y).sum() * 0 for y in outputs]).sum()


def noise_batch(config: Config, patch: int, num: int, device: torch.device) -> Batch:
    """`num` samples of LR patches of `patch` px."""
    lr, hr = (torch.rand(num, 3, side, side, device=device) for side in (patch, patch * config.scale))
    noise = torch.randn(2, num, noise_channels(config), patch, patch, device=device)
    return Batch(lr, lr, hr, noise, 0, (), ())


def phases(config: Config) -> Sequence[Phase]:
    """That training has, each once."""
    rounds = spec_of(config.system).rounds
    return list(dict.fromkeys(phase for one in rounds for phase in (one.first, one.phase) if phase))


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
