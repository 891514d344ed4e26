"""From a configuration's dataclasses to a JSON Schema (draft 2020-12), by which editors complete and check YAML.

It allows what the reader allows, as far as one key says it. What follows from two keys together, or from what
Kubernetes takes for a name, the commands themselves check.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Literal, get_args, get_origin

from cyclesr_dist.config.marks import EachOnce, Range, annotated_types, item_types, split_marks
from cyclesr_dist.config.reader import OBJECT_NAME, ObjectName, Samples
from cyclesr_dist.errors import ConfigError

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_LIMITS = {"minimum": "minimum", "maximum": "maximum", "above": "exclusiveMinimum", "below": "exclusiveMaximum"}
_SIMPLE: dict[type, Any] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: ["string", "number", "boolean"],  # a scalar as written: a folder called 2024 needs no quotes
}


@dataclass(frozen=True)
class Leaf:
    """A key that is no section."""

    key: str
    """With dots."""
    default: Any
    text: str
    kind: Any
    """Its type, with marks."""


def json_schema(cls: type, title: str) -> dict[str, Any]:
    """Of a whole configuration file."""
    return {"$schema": _DRAFT, "title": title, **_section(cls, cls(), "")}


def leaves(cls: type) -> Iterator[Leaf]:
    """All keys of a configuration, in the order of its fields."""
    yield from _leaves(cls, cls(), "")


def _leaves(cls: type, defaults: Any, prefix: str) -> Iterator[Leaf]:
    for name, kind in annotated_types(cls).items():
        inner, _, _ = split_marks(kind)
        default = getattr(defaults, name)
        if is_dataclass(inner):
            of_section = inner() if default is None else default  # type: ignore[operator]  # a class
            yield from _leaves(inner, of_section, f"{prefix}{name}.")  # type: ignore[arg-type]  # the same
        else:
            yield Leaf(prefix + name, default, field_texts(cls).get(name, ""), kind)


def _section(cls: type, defaults: Any, text: str) -> dict[str, Any]:
    """Of a mapping, with the values of the instance `defaults`."""
    texts = field_texts(cls)
    properties = {
        name: _key(kind, getattr(defaults, name), texts.get(name, ""), has_default=True)
        for name, kind in annotated_types(cls).items()
    }
    described = {"description": text or class_text(cls)}
    return described | {"type": ["object", "null"], "additionalProperties": False, "properties": properties}


def _item(cls: type) -> dict[str, Any]:
    """Of a mapping in a list, all of whose keys have to be given."""
    texts = field_texts(cls)
    properties = {name: _key(kind, None, texts[name]) for name, kind in annotated_types(cls).items()}
    described = {"description": class_text(cls), "type": "object", "additionalProperties": False}
    return described | {"properties": properties, "required": list(properties)}


def _key(kind: Any, default: Any, text: str, has_default: bool = False) -> dict[str, Any]:
    inner, marks, optional = split_marks(kind)
    if is_dataclass(inner) and any(
        field.default is MISSING and field.default_factory is MISSING for field in fields(inner)
    ):
        return _item(inner)  # type: ignore[arg-type]  # a class
    if is_dataclass(inner):
        return _section(inner, inner() if default is None else default, text)  # type: ignore[operator,arg-type]  # a class
    schema = _type(inner)
    if optional:
        schema = _or_null(schema)
    try:
        for mark in marks:
            if isinstance(mark, Range):
                schema |= {_LIMITS[name]: limit for name, limit in asdict(mark).items() if limit is not None}
            elif isinstance(mark, EachOnce):
                schema |= {"minItems": 1, "uniqueItems": True}
            if has_default and default is not None:
                mark.check("", default)
    except ConfigError:  # one that has to be given
        has_default = False
    described = {"description": text} if text else {}
    return described | schema | ({"default": _as_yaml(default)} if has_default else {})


def _type(kind: Any) -> dict[str, Any]:
    origin = get_origin(kind)
    if kind in _SIMPLE:
        return {"type": _SIMPLE[kind]}
    if origin is Literal:
        return {"enum": list(get_args(kind))}
    if origin is tuple:
        items = get_args(kind)
        if items[-1] is Ellipsis:
            return {"type": "array", "items": _key(items[0], None, "")}
        several = [_key(item, None, "") for item in item_types(kind, len(items))]
        return {"type": "array", "prefixItems": several, "items": False, "minItems": len(several)}
    if origin is dict:
        return {"type": "object"}
    if any(get_origin(split_marks(part)[0]) is tuple or is_dataclass(part) for part in get_args(kind)):
        return {"anyOf": [_key(part, None, "") for part in get_args(kind)]}
    # Of several names, all that any of them allows; or one of the user's own, or a number.
    parts = get_args(kind)
    schema: dict[str, Any] = {"enum": [name for part in parts for name in get_args(part)]}
    if ObjectName in parts:
        schema = {"anyOf": [schema, {"type": "string", "pattern": f"^{OBJECT_NAME.pattern}$"}]}
    if Samples in parts:
        schema = {"anyOf": [schema, {"type": "integer", "minimum": 1}]}
    return schema


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    if "enum" in schema:
        return {"enum": [*schema["enum"], None]}
    kind = schema["type"]
    return schema | {"type": [*(kind if isinstance(kind, list) else [kind]), "null"]}


def _as_yaml(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_as_yaml(item) for item in value]
    return value


@cache
def field_texts(cls: type) -> dict[str, str]:
    """The text below each field of a dataclass, in one line; those of the classes that it builds on, too."""
    texts: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if is_dataclass(base):
            texts |= _own_texts(base)
    return {field.name: texts[field.name] for field in fields(cls) if field.name in texts}


def class_text(cls: type) -> str:
    """The first paragraph below the class's name, in one line; dataclasses without one have one of their own making."""
    return " ".join((ast.get_docstring(_tree(cls)) or "").partition("\n\n")[0].split())


def _own_texts(cls: type) -> dict[str, str]:
    body = _tree(cls).body
    return {
        field.target.id: " ".join(below.value.value.split())
        for field, below in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        and isinstance(below.value.value, str)
    }


@cache
def _tree(cls: type) -> ast.ClassDef:
    (found,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(found, ast.ClassDef)
    return found
