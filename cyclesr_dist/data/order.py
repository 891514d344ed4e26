"""Which sample comes when: pure functions of the seed and the step, the same on every rank.

An epoch is one pass over the HR domain; the LR domain, of another size, has passes of its own and is drawn
independently, so that no HR patch sticks to an LR patch. Nothing depends on the number of ranks or workers, and any
step can be computed without those before it.

A domain may have several shard sets, each with a share of every epoch. Each set has passes of its own that follow each
other without a gap; which set a place in the epoch belongs to is drawn anew every epoch.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import blake2b
from itertools import accumulate, permutations
from typing import Literal

import numpy as np
from torch import Tensor

_DOMAIN_STREAM = {"hr": 1, "lr": 2, "pairs": 3}
_AUGMENT_STREAM = {"hr": 4, "lr": 5, "pairs": 6}
_NOISE_STREAM = 7
_REPLACEMENT_STREAM = {"hr": 8, "lr": 9, "pairs": 10}
_MIXTURE_STREAM = {"hr": 11, "lr": 12, "pairs": 13}
_DEGRADATION_STREAM = 14

_CHANNEL_ORDERS = tuple(permutations(range(3)))

Tail = Literal["drop", "wrap"]


@dataclass(frozen=True)
class Draw:
    """One sample of one pass over a domain."""

    domain: str
    index: int
    """Sample in the shard set; of several, counted through all of them."""
    epoch: int
    """Pass over this shard set."""


@dataclass(frozen=True)
class Mix:
    """The shard sets of a domain: how many samples each has, and how many places of an epoch each fills.

    An epoch has as many places as there are samples in all.
    """

    sizes: tuple[int, ...]
    quotas: tuple[int, ...]

    @classmethod
    def alone(cls, num_samples: int) -> Mix:
        """One shard set: an epoch is a pass over it."""
        return cls((num_samples,), (num_samples,))

    @cached_property
    def num_samples(self) -> int:
        return sum(self.sizes)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Index of the first sample of each set."""
        return tuple(accumulate(self.sizes, initial=0))[:-1]

    def set_of(self, index: int) -> int:
        """Which set a sample is in."""
        return bisect_right(self.starts, index) - 1


Order = tuple[np.ndarray, np.ndarray]
"""Of one epoch, for each place: index of the sample, and the pass over its set."""


@lru_cache(maxsize=8)
def _order(seed: int, domain: str, epoch: int, mix: Mix) -> Order:
    if len(mix.sizes) == 1:
        order = _pass(seed, domain, epoch, mix.num_samples), np.broadcast_to(np.int64(epoch), mix.num_samples)
    else:
        order = _mixed(seed, domain, epoch, mix)
    for part in order:
        part.flags.writeable = False
    return order


def _pass(seed: int, domain: str, number: int, num_samples: int, of_set: tuple[int, ...] = ()) -> np.ndarray:
    return np.random.default_rng([seed, _DOMAIN_STREAM[domain], number, *of_set]).permutation(num_samples)


def _mixed(seed: int, domain: str, epoch: int, mix: Mix) -> Order:
    """Every set goes on where it stood at the end of the epoch before: its passes leave nothing out."""
    stream = np.random.default_rng([seed, _MIXTURE_STREAM[domain], epoch])
    owners = stream.permutation(np.repeat(np.arange(len(mix.sizes)), mix.quotas))
    index, passes = np.empty(len(owners), np.int64), np.empty(len(owners), np.int64)
    for i, (size, quota, start) in enumerate(zip(mix.sizes, mix.quotas, mix.starts, strict=True)):
        number, place = np.divmod(epoch * quota + np.arange(quota), size)
        orders = [_pass(seed, domain, n, size, (i,)) for n in range(number[0], number[-1] + 1)]
        index[owners == i] = start + np.concatenate(orders)[place + (number - number[0]) * size]
        passes[owners == i] = number
    return index, passes


def steps_per_epoch(num_hr: int, global_batch: int, tail: Tail) -> int:
    """Global batches in one pass over HR; `drop` leaves out the incomplete last one."""
    return num_hr // global_batch if tail == "drop" else -(-num_hr // global_batch)


def epoch_draws(seed: int, domain: str, mix: Mix, global_batch: int, step: int, tail: Tail) -> list[Draw]:
    """The global batch of `step` (from 0) where epochs are whole; `wrap` fills the last one from the epoch's start.

    Where an epoch is one pass, as with one set, every sample comes at most once in it with `drop`, and at least once
    with `wrap`.
    """
    epoch, step_in_epoch = divmod(step, steps_per_epoch(mix.num_samples, global_batch, tail))
    start = step_in_epoch * global_batch
    return [_draw(seed, domain, mix, epoch, i % mix.num_samples) for i in range(start, start + global_batch)]


def endless_draws(seed: int, domain: str, mix: Mix, global_batch: int, step: int) -> list[Draw]:
    """The global batch of `step` (from 0) where epochs follow each other without a gap."""
    positions = range(step * global_batch, (step + 1) * global_batch)
    return [_draw(seed, domain, mix, *divmod(position, mix.num_samples)) for position in positions]


def _draw(seed: int, domain: str, mix: Mix, epoch: int, place: int) -> Draw:
    index, number = _order(seed, domain, epoch, mix)
    return Draw(domain, int(index[place]), int(number[place]))


def replacement(seed: int, draw: Draw, attempt: int, mix: Mix) -> Draw:
    """What is drawn in place of a sample that cannot be read, and in place of that (attempt 1, 2, ...): one of the same
    set.

    A function of the bad sample, not of who meets it: batches stay the same for any number of ranks.
    """
    stream = np.random.default_rng([seed, _REPLACEMENT_STREAM[draw.domain], draw.epoch, draw.index, attempt])
    of_set = mix.set_of(draw.index)
    return Draw(draw.domain, mix.starts[of_set] + int(stream.integers(mix.sizes[of_set])), draw.epoch)


@dataclass(frozen=True)
class Augmentation:
    left_right: bool
    up_down: bool
    quarter_turns: int
    channels: tuple[int, ...]
    """Where each colour channel comes from."""

    def apply(self, image: Tensor) -> Tensor:
        """(3, H, W) -> the same, or (3, W, H) after an odd number of turns; maybe a view."""
        flips = [dim for dim, flip in ((2, self.left_right), (1, self.up_down)) if flip]
        if flips:
            image = image.flip(flips)
        if self.quarter_turns:
            image = image.rot90(self.quarter_turns, (1, 2))
        return image if self.channels == (0, 1, 2) else image[list(self.channels)]


def augmentation(seed: int, draw: Draw, flip: bool, rotate: bool, colours: bool) -> Augmentation:
    """A function of (seed, pass, sample); what is switched off leaves the other draws as they are.

    Drawn from a hash: a random generator for each sample takes a twentieth of the time of decoding it.
    """
    what = f"{seed} {_AUGMENT_STREAM[draw.domain]} {draw.epoch} {draw.index}"
    flips, turns, *colour = blake2b(what.encode(), digest_size=8).digest()
    channels = _CHANNEL_ORDERS[int.from_bytes(colour) % 6] if colours else _CHANNEL_ORDERS[0]
    return Augmentation(flip and flips & 1 == 1, flip and flips & 2 == 2, turns % 4 if rotate else 0, channels)


def noise(seed: int, sample: int, channels: int, size: int) -> np.ndarray:
    """(2, channels, size, size) float32, unit Gaussian, for the sample's position since the start of training."""
    stream = np.random.default_rng([seed, _NOISE_STREAM, sample])
    return stream.standard_normal((2, channels, size, size), dtype=np.float32)


def degradation_draws(seed: int, sample: int) -> np.random.Generator:
    """What the high-order degradation of a sample is drawn from, by its position since the start of training."""
    return np.random.default_rng([seed, _DEGRADATION_STREAM, sample])
