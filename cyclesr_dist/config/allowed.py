"""What a key may be, in words for people: `cyclesr config keys` prints it."""

from __future__ import annotations

from dataclasses import is_dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from cyclesr_dist.config.marks import ToRead, annotated_types, split_marks
from cyclesr_dist.config.reader import KIND_NAMES, ObjectName, Samples


def allowed(kind: Any) -> str:
    """Of a field's type, with its marks: "an integer, at least 0 and at most 3"."""
    inner, marks, optional = split_marks(kind)
    is_path = any(isinstance(mark, ToRead) for mark in marks)  # what a text is for says more than that it is one
    words = [*([] if is_path else [_kind(inner)]), *map(str, marks), *["or null"] * optional]
    return ("; " if get_origin(inner) is tuple else ", ").join(words)


def _kind(kind: Any) -> str:
    origin = get_origin(kind)
    if origin in (Union, UnionType) and any(get_origin(part) is tuple or is_dataclass(part) for part in get_args(kind)):
        return ", or ".join(map(allowed, get_args(kind)))
    if origin in (Literal, Union, UnionType) or kind in (ObjectName, Samples):
        return ", ".join(_words(kind))
    if is_dataclass(kind):
        return f"a mapping with {', '.join(annotated_types(kind))}"  # type: ignore[arg-type]  # a class
    if origin is tuple:
        items = get_args(kind)
        if items[-1] is Ellipsis:
            return f"a list, each {allowed(items[0])}"
        return f"a list of {len(items)}: {'; '.join(map(allowed, items))}"
    return "a mapping" if origin is dict else KIND_NAMES[kind]


def _words(kind: Any) -> list[str]:
    """Of several names, all that any of them allows."""
    if kind is ObjectName:
        return ["or package.module:Name of yours"]
    if kind is Samples:
        return ["or an integer of at least 1"]
    if get_origin(kind) is Literal:
        return [str(option) for option in get_args(kind)]
    return [word for part in get_args(kind) for word in _words(part)]
