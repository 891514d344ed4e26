"""What is said of a key at its field, beside its type: how far a number may go, what names a file, what was removed.

Said once: the checks of a configuration and its JSON Schema both read it there.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass, replace
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, TypeVar, Union, get_args, get_origin, get_type_hints

from cyclesr_dist.errors import ConfigError
from cyclesr_dist.runtime.patterns import exists

T = TypeVar("T")


@dataclass(frozen=True)
class Range:
    """Of a number. A limit of None does not apply; two are inclusive, two are not."""

    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None

    def check(self, key: str, value: float) -> None:
        """Raise ConfigError naming `key`, `value` and the range unless the value keeps all limits. nan keeps none."""
        keeps = (operator.ge, operator.gt, operator.le, operator.lt)
        if not all(limit is None or kept(value, limit) for (_, limit), kept in zip(self._limits(), keeps, strict=True)):
            raise ConfigError(f"{key} = {value} is out of range; allowed: {self}")

    def __str__(self) -> str:
        return " and ".join(f"{word} {limit}" for word, limit in self._limits() if limit is not None)

    def _limits(self) -> tuple[tuple[str, float | None], ...]:
        return (
            ("at least", self.minimum),
            ("above", self.above),
            ("at most", self.maximum),
            ("below", self.below),
        )


@dataclass(frozen=True)
class EachOnce:
    """Of a list: one value or more, each once."""

    def check(self, key: str, value: tuple[Any, ...]) -> None:
        if not value or len(set(value)) != len(value):
            raise ConfigError(f"{key} = {list(value)}; allowed: {self}")

    def __str__(self) -> str:
        return "one value or more, each once"


@dataclass(frozen=True)
class ToRead:
    """Of a path: a file or folder that is read, not written. `names` are other things that may stand there."""

    names: tuple[str, ...] = ()

    def check(self, key: str, value: str) -> None:
        """Any text will do: whether there is such a file is found out when it is read."""

    def __str__(self) -> str:
        return ", or ".join(("a path to read", *self.names))


@dataclass(frozen=True)
class Removed:
    """A key that is no more, in `REMOVED` of its section. Where it has `standing`, as everywhere now, it may stay."""

    standing: bool | float | str | list[Any]
    """As YAML has it."""
    text: str
    """How it is now, as part of a sentence."""


Count = Annotated[int, Range(minimum=0)]
Positive = Annotated[int, Range(minimum=1)]
Amount = Annotated[float, Range(minimum=0)]
AboveZero = Annotated[float, Range(above=0)]
PathToRead = Annotated[str, ToRead()]

_Mark = Range | EachOnce | ToRead


def annotated_types(cls: type) -> Mapping[str, Any]:
    """Types of a dataclass's fields by name, with their marks."""
    return _evaluated(cls)


@cache  # Python evaluates annotations anew each time, and every configuration that is read asks for all of them
def _evaluated(cls: type) -> Mapping[str, Any]:
    hints = get_type_hints(cls, include_extras=True)
    return {name: kind for name, kind in hints.items() if get_origin(kind) is not ClassVar and kind is not ClassVar}


def split_marks(kind: Any) -> tuple[Any, tuple[_Mark, ...], bool]:
    """(type, marks, whether it may be null) of a field's type."""
    optional = False
    if get_origin(kind) in (Union, UnionType):
        rest = [arg for arg in get_args(kind) if arg is not NoneType]
        optional = len(rest) < len(get_args(kind))
        if optional and len(rest) == 1:
            kind = rest[0]
    if get_origin(kind) is not Annotated:
        return kind, (), optional
    inner, *marks = get_args(kind)
    return inner, tuple(mark for mark in marks if isinstance(mark, _Mark)), optional


def fitting(kind: Any, value: Any) -> Any:
    """Of a union such as a path or a list of paths, the member that `value` is of; any other type as it is."""
    if get_origin(kind) in (Union, UnionType):
        for part in get_args(kind):
            inner = split_marks(part)[0]
            cls = get_origin(inner) or inner
            if isinstance(cls, type) and isinstance(value, cls):
                return part
    return kind


def check_marks(config: Any, prefix: str = "") -> None:
    """Raise ConfigError naming the key, the value and what is allowed where a value of a dataclass breaks a mark."""
    for name, kind in annotated_types(type(config)).items():
        _check(kind, getattr(config, name), prefix + name)


def _check(kind: Any, value: Any, key: str) -> None:
    inner, marks, _ = split_marks(fitting(kind, value))
    if value is None:
        return
    for mark in marks:
        mark.check(key, value)
    if is_dataclass(value):
        check_marks(value, f"{key}.")
    elif get_origin(inner) is tuple:
        for i, (item, one) in enumerate(zip(item_types(inner, len(value)), value, strict=True)):
            _check(item, one, f"{key}[{i}]")


def item_types(kind: Any, length: int) -> tuple[Any, ...]:
    """The types of `length` items of a tuple type."""
    items = get_args(kind)
    return items[:1] * length if items[-1] is Ellipsis else items


def found_beside(config: T, folder: Path) -> T:
    """With every relative path to read that exists in `folder`, the configuration file's own, made absolute. Of a
    pattern something must fit.

    Others stay: they are relative to the working directory.
    """
    if folder.absolute() == Path.cwd():
        return config
    kinds = annotated_types(type(config))
    changes = {name: _found(kind, getattr(config, name), folder) for name, kind in kinds.items()}
    return replace(config, **changes)  # type: ignore[type-var]  # T is a dataclass type


def _found(kind: Any, value: Any, folder: Path) -> Any:
    inner, marks, _ = split_marks(fitting(kind, value))
    if is_dataclass(value):
        return found_beside(value, folder)
    if get_origin(inner) is tuple and value is not None:
        items = item_types(inner, len(value))
        return tuple(_found(item, one, folder) for item, one in zip(items, value, strict=True))
    if any(isinstance(mark, ToRead) and value not in mark.names for mark in marks) and _is_relative(value):
        place = (folder / value).absolute()
        return str(place) if exists(place) else value
    return value


def _is_relative(value: str) -> bool:
    return bool(value) and "://" not in value and not Path(value).is_absolute()


def without_removed(cls: type, saved: Mapping[str, Any]) -> dict[str, Any]:
    """A section as it was written, without the keys that were removed since and had the value that stands now."""
    return dict(_without_removed(cls, saved))


def _without_removed(cls: type, saved: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    types = annotated_types(cls)
    for name, value in saved.items():
        removed = removed_keys(cls).get(name)
        if removed is None:
            inner = split_marks(types[name])[0] if name in types else None
            is_section = is_dataclass(inner) and isinstance(value, Mapping)
            yield name, without_removed(inner, value) if is_section else value  # type: ignore[arg-type]  # a class
        elif value != removed.standing:
            yield name, value


def removed_keys(cls: type) -> Mapping[str, Removed]:
    """Of this section alone."""
    found: Mapping[str, Removed] = getattr(cls, "REMOVED", {})
    return found
