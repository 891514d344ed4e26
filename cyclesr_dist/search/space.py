"""What a search may vary: number keys of the training configuration, each with a domain, checked before Ray starts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, get_args

from cyclesr_dist.config.schema import Config, load
from cyclesr_dist.config.systems import spec_of
from cyclesr_dist.errors import ConfigError

Kind = Literal["choice", "grid", "uniform", "loguniform"]
Values = Mapping[str, float]
"""One draw: a number by key."""

_SET_BY_THE_SEARCH = (
    "train.steps",
    "train.max_steps",
    "train.validate_every_steps",
    "train.checkpoint_every_steps",
    "train.keep_checkpoints",
    "telemetry.port",
)
_PERCEPTUAL_ONLY = ("weights.percep", "weights.texture", "weights.advsr")


@dataclass(frozen=True)
class Domain:
    """The values of one key. `choice` and `grid` list them, `uniform` and `loguniform` have a low and a high end."""

    key: str
    kind: Kind
    values: tuple[float, ...]
    whole: bool
    """The key takes whole numbers."""

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)

    @property
    def is_log(self) -> bool:
        """Whether a chart of it is better logarithmic: drawn so, or listed over two decades or more."""
        return self.kind == "loguniform" or (self.low > 0 and self.high / self.low >= 100)

    def clamped(self, value: float) -> float:
        """The nearest value of the domain: population based training multiplies values, beyond the ends too."""
        if self.kind in ("choice", "grid"):
            return min(self.values, key=lambda v: abs(v - value))
        inside = min(max(value, self.low), self.high)
        return round(inside) if self.whole else inside

    def for_ray(self) -> Any:
        """As Ray Tune wants it."""
        from ray import tune

        low, high = self.values[0], self.values[-1]
        match self.kind:
            case "choice":
                return tune.choice(list(self.values))
            case "grid":
                return tune.grid_search(list(self.values))
            case "uniform":
                return tune.randint(int(low), int(high) + 1) if self.whole else tune.uniform(low, high)
            case "loguniform":
                return tune.lograndint(int(low), int(high) + 1) if self.whole else tune.loguniform(low, high)


def parse_space(space: Mapping[str, Any], base: Path, overrides: Sequence[str]) -> tuple[Domain, ...]:
    """The domains of `space`, a mapping such as `weights.mse: {loguniform: [1, 1000]}`.

    Raises ConfigError naming the key, the value and what is allowed: also when an end of a domain is no value that the
    training configuration `base` with `overrides` can take.
    """
    if not space:
        raise ConfigError("space is empty; give one key or more, such as weights.mse: {loguniform: [1, 1000]}")
    return tuple(_domain(key, value, base, overrides) for key, value in space.items())


def _domain(key: str, value: Any, base: Path, overrides: Sequence[str]) -> Domain:
    where = f"space.{key}"
    kinds = get_args(Kind)
    if not isinstance(value, Mapping) or len(value) != 1 or next(iter(value)) not in kinds:
        raise ConfigError(f"{where} = {value!r}; allowed: one of {', '.join(f'{{{kind}: [...]}}' for kind in kinds)}")
    ((kind, listed),) = value.items()
    if not isinstance(listed, list) or not all(_is_number(item) for item in listed):
        raise ConfigError(f"{where}.{kind} = {listed!r}; allowed: a list of finite numbers")
    if key in _SET_BY_THE_SEARCH:
        raise ConfigError(f"{where}: the search sets {key} itself, from steps and report_every_steps")
    if kind in ("uniform", "loguniform"):
        _check_ends(where, kind, listed)
    elif not listed or len(set(listed)) != len(listed):
        raise ConfigError(f"{where}.{kind} = {listed!r}; allowed: one value or more, each once")
    kinds_found = {_check_value(where, key, item, base, overrides) for item in listed}
    if kinds_found == {"whole"}:
        return Domain(key, kind, tuple(int(item) for item in listed), whole=True)
    return Domain(key, kind, tuple(float(item) for item in listed), whole=False)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_ends(where: str, kind: str, ends: Sequence[float]) -> None:
    positive = kind == "uniform" or (ends and ends[0] > 0)
    if len(ends) != 2 or ends[0] >= ends[1] or not positive:
        above = " above 0" if kind == "loguniform" else ""
        raise ConfigError(f"{where}.{kind} = {list(ends)!r}; allowed: [low, high] with low < high{above}")


def _check_value(where: str, key: str, value: float, base: Path, overrides: Sequence[str]) -> str:
    """Load the configuration with this value; "whole" or "real", by the key's own type."""
    try:
        config = load(base, [*overrides, override(key, value)])
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    found = attrgetter(key)(config)
    if not _is_number(found):
        raise ConfigError(f"{where}: {key} is no number; a search varies numbers")
    spec = spec_of(config.system)
    judges_hr = spec.translates_first and key == "weights.advsr"
    if key in _PERCEPTUAL_ONLY and not (spec.perceptual or judges_hr):
        raise ConfigError(f"{where}: {key} has no effect with system = {config.system}; it is read by cyclesrgan only")
    return "whole" if isinstance(found, int) else "real"


def override(key: str, value: float) -> str:
    """As launch/train.py takes it."""
    return f"{key}={value!r}"


def overrides_of(values: Values) -> list[str]:
    return [override(key, value) for key, value in values.items()]


def with_values(base: Path, overrides: Sequence[str], values: Values) -> Config:
    """The training configuration at one point of the space."""
    return load(base, [*overrides, *overrides_of(values)])
