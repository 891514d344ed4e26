"""Several shard sets of a domain as one, each with its share of what is drawn."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from math import floor
from typing import Any

from cyclesr_dist.data.order import Mix
from cyclesr_dist.data.shards import Sample, ShardSet
from cyclesr_dist.errors import ConfigError, InputError


class Mixture:
    """Random access to the samples of several shard sets, counted through all of them. Has what a `ShardSet` has."""

    def __init__(self, key: str, sets: Sequence[ShardSet], weights: Sequence[float] | None) -> None:
        """`key` is the configuration's, for errors. Without weights every sample comes as often as any other.

        Raises ConfigError for sets that do not go together, or a weight so small that its set is never drawn.
        """
        self.sets = tuple(sets)
        self.url = ", ".join(one.url for one in sets)
        self.kind, self.scale, self.patch = sets[0].kind, sets[0].scale, sets[0].patch
        for i, one in enumerate(sets):
            if one.patch != self.patch:
                raise ConfigError(
                    f"{key}[0] has patches for LR size {self.patch}, {key}[{i}] has {one.patch}; they must be equal"
                )
            for j, other in enumerate(sets[:i]):
                if one.checksum == other.checksum:
                    raise ConfigError(
                        f"{key}[{j}] = {other.url} and {key}[{i}] = {one.url} are the same shard set; allowed: each "
                        "once, with a weight for each to have some come more often"
                    )
        self.mix = mix(key, [len(one) for one in sets], weights)

    @property
    def contents(self) -> list[dict[str, Any]]:
        """What is drawn from, for the identity of a run."""
        return [
            {"sha256": one.checksum, "samples": quota} for one, quota in zip(self.sets, self.mix.quotas, strict=True)
        ]

    @property
    def checksum(self) -> str:
        """SHA-256 over the manifests' checksums and the shares."""
        return hashlib.sha256(json.dumps(self.contents).encode()).hexdigest()

    @property
    def sources(self) -> list[dict[str, Any]]:
        """The photographs of all sets, as the manifests describe them."""
        return [source for one in self.sets for source in one.sources]

    @property
    def remark(self) -> str:
        """Of all sets' storage; see `ShardSet.remark`."""
        return "; ".join(one.remark for one in self.sets if one.remark)

    def __len__(self) -> int:
        """Number of samples."""
        return self.mix.num_samples

    def key(self, i: int) -> str:
        """Name of sample `i`: the number of its set in the configuration's list, a colon, and its key in that set."""
        number, j = self._locate(i)
        return f"{number}:{self.sets[number].key(j)}"

    def read_many(self, indices: Sequence[int]) -> Iterator[Sample | InputError]:
        """Each sample in turn, or why it cannot be read. What a set has of them is fetched at once."""
        located = [self._locate(i) for i in indices]
        wanted: dict[int, list[int]] = {}
        for number, j in located:
            wanted.setdefault(number, []).append(j)
        found = {number: self.sets[number].read_many(of_set) for number, of_set in wanted.items()}
        for number, _ in located:
            yield next(found[number])

    def _locate(self, i: int) -> tuple[int, int]:
        if not 0 <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)}")
        number = self.mix.set_of(i)
        return number, i - self.mix.starts[number]


SampleSet = ShardSet | Mixture


def mix(key: str, sizes: Sequence[int], weights: Sequence[float] | None) -> Mix:
    """Shares of sets with so many samples: by weight, or, without weights, by size.

    An epoch is cut where the sums of the weights fall, so that the shares make up the whole. Raises ConfigError where
    a share is less than a sample.
    """
    if weights is None:
        return Mix(tuple(sizes), tuple(sizes))
    exact = [Fraction(weight) for weight in weights]  # so that no machine rounds in another way
    total, whole = sum(sizes), sum(exact)
    cuts = [floor(total * sum(exact[:i]) / whole + Fraction(1, 2)) for i in range(len(exact) + 1)]
    quotas = tuple(after - before for before, after in pairwise(cuts))
    for i, quota in enumerate(quotas):
        if not quota:
            raise ConfigError(
                f"{key}[{i}].weight = {weights[i]:g} of {float(whole):g} in all gives it none of the {total} samples "
                "of an epoch; allowed: a larger weight, or leave the set out"
            )
    return Mix(tuple(sizes), quotas)
