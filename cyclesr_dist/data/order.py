"""Which sample comes when: pure functions of the seed and the step, the same on every rank.

An epoch is one pass over the HR domain; the LR domain, of another size, has passes of its own and is drawn
independently, so that no HR patch sticks to an LR patch. Nothing depends on the number of ranks or workers, and any
step can be computed without those before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import permutations
from typing import Literal

import numpy as np
from torch import Tensor

_DOMAIN_STREAM = {"hr": 1, "lr": 2, "pairs": 3}
_AUGMENT_STREAM = {"hr": 4, "lr": 5, "pairs": 6}
_NOISE_STREAM = 7
_REPLACEMENT_STREAM = {"hr": 8, "lr": 9, "pairs": 10}

_CHANNEL_ORDERS = tuple(permutations(range(3)))

Tail = Literal["drop", "wrap"]


@dataclass(frozen=True)
class Draw:
    """One sample of one pass over a domain."""

    domain: str
    index: int
    """Sample in the shard set."""
    epoch: int
    """Pass over this domain."""


@lru_cache(maxsize=8)
def _order(seed: int, domain: str, epoch: int, num_samples: int) -> np.ndarray:
    order = np.random.default_rng([seed, _DOMAIN_STREAM[domain], epoch]).permutation(num_samples)
    order.flags.writeable = False
    return order


def steps_per_epoch(num_hr: int, global_batch: int, tail: Tail) -> int:
    """Global batches in one pass over HR; `drop` leaves out the incomplete last one."""
    return num_hr // global_batch if tail == "drop" else -(-num_hr // global_batch)


def epoch_draws(seed: int, domain: str, num_samples: int, global_batch: int, step: int, tail: Tail) -> list[Draw]:
    """The global batch of `step` (from 0) where an epoch is one pass; `wrap` fills the last one from the pass's start.

    With `drop` every sample comes at most once in an epoch, with `wrap` at least once.
    """
    epoch, step_in_epoch = divmod(step, steps_per_epoch(num_samples, global_batch, tail))
    order = _order(seed, domain, epoch, num_samples)
    start = step_in_epoch * global_batch
    return [Draw(domain, int(order[i % num_samples]), epoch) for i in range(start, start + global_batch)]


def endless_draws(seed: int, domain: str, num_samples: int, global_batch: int, step: int) -> list[Draw]:
    """The global batch of `step` (from 0) where passes follow each other without a gap."""
    draws = []
    for position in range(step * global_batch, (step + 1) * global_batch):
        epoch, place = divmod(position, num_samples)
        draws.append(Draw(domain, int(_order(seed, domain, epoch, num_samples)[place]), epoch))
    return draws


def replacement(seed: int, draw: Draw, attempt: int, num_samples: int) -> Draw:
    """What is drawn in place of a sample that cannot be read, and in place of that (attempt 1, 2, ...).

    A function of the bad sample, not of who meets it: batches stay the same for any number of ranks.
    """
    stream = np.random.default_rng([seed, _REPLACEMENT_STREAM[draw.domain], draw.epoch, draw.index, attempt])
    return Draw(draw.domain, int(stream.integers(num_samples)), draw.epoch)


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
