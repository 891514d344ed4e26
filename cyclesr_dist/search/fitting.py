"""Whether the values of a space go together with each other and with the rest of a search, seen before Ray starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice, product
from operator import attrgetter
from pathlib import Path

from cyclesr_dist.config.schema import Config
from cyclesr_dist.errors import ConfigError
from cyclesr_dist.search.config import Search
from cyclesr_dist.search.space import Domain, override, with_values
from cyclesr_dist.training.changes import Kind, kind_of

_MOST_VALUES = 64
_MOST_CORNERS = 256
_READ_BY_OTHERS = {
    "shards.": "cyclesr shards build",
    "degrade.": "cyclesr degrade",
    "cluster.": "cyclesr submit",
    "slurm.": "cyclesr submit",
    "telemetry.": "the monitoring of a single run",
    "validate.pictures": "the report of a single run",
}
_MOST_LOOKS = 8
_SAFE = ("weights.", "optim.", "train.", "ema_decay", "seed")
"""Whatever they are, the same data and networks can be opened with them."""


def check_values(search: Search) -> None:
    """Raises ConfigError naming the key and the value that cannot work in this search."""
    base = search.base_config()
    for domain in search.domains:
        for start, reader in _READ_BY_OTHERS.items():
            if domain.key.startswith(start):
                raise ConfigError(f"space.{domain.key}: a trial does not read it, but {reader} does; leave it out")
        for value in _values(domain):
            _check_value(search, base, domain.key, value)
    for values in islice(_corners(search), _MOST_CORNERS):
        _loaded(search, values)


def questionable(search: Search) -> list[tuple[str, str]]:
    """Keys, each with an override of it, with which a worker must open the data to know whether it can train."""
    return [
        (domain.key, override(domain.key, value))
        for domain in search.domains
        if not domain.key.startswith(_SAFE)
        for value in sorted({domain.low, domain.high, *domain.values[:_MOST_LOOKS]})
    ]


def _values(domain: Domain) -> list[float]:
    """Those of the domain that are looked at: all that are listed, whole numbers in a range, else both ends."""
    if domain.kind in ("choice", "grid") or not domain.whole:
        return list(domain.values)
    low, high = int(domain.low), int(domain.high)
    stride = max(1, (high - low) // _MOST_VALUES)
    # Neighbours as well: of any two at least one is odd.
    return sorted({low, low + 1, high, *range(low, high + 1, stride)})


def _check_value(search: Search, base: Config, key: str, value: float) -> None:
    where = f"space.{key}"
    config = _loaded(search, {key: value})
    if config.global_batch % search.workers.num:
        raise ConfigError(
            f"{where}: workers.num = {search.workers.num} does not divide global_batch = {config.global_batch}"
        )
    shared = attrgetter(key)(base)
    if search.shared_steps and value != shared and kind_of(key) in (Kind.FITS_THE_STATE, Kind.ORDER):
        raise ConfigError(
            f"{where}: with shared_steps = {search.shared_steps} all trials go on from a checkpoint that has {key} = "
            f"{shared}, and {value:g} does not fit it; allowed: shared_steps: 0, or another key"
        )


def _corners(search: Search) -> Iterator[Mapping[str, float]]:
    """What is drawn lies between these: each key at its least and its most."""
    keys = [domain.key for domain in search.domains]
    for values in product(*(dict.fromkeys((domain.low, domain.high)) for domain in search.domains)):
        yield dict(zip(keys, values, strict=True))


def _loaded(search: Search, values: Mapping[str, float]) -> Config:
    try:
        return with_values(Path(search.base), [*search.overrides, *search.trial_overrides()], values)
    except ConfigError as error:
        raise ConfigError(f"space.{', '.join(values)}: {error}") from error
