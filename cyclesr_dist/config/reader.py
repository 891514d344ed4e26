"""YAML and `key.sub=value` overrides -> frozen dataclasses, and back. Knows nothing of any particular configuration.

Fields may be str, int, float, bool, Literal, Optional, tuples and nested dataclasses of those, a str or a tuple, and
dict[str, Any] for plain values that somebody else reads. The YAML is composed to
nodes, never constructed: no tag can build an object, and every error can name its line.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NewType, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from cyclesr_dist.config.credentials import check_credentials
from cyclesr_dist.config.marks import Range, Removed, found_beside, removed_keys
from cyclesr_dist.errors import ConfigError, UnreachableError
from cyclesr_dist.runtime.files import write_text
from cyclesr_dist.runtime.passing import failed, may_pass, patiently
from cyclesr_dist.runtime.redact import redact, redacted

T = TypeVar("T")

# Far above any configuration: these stop /dev/zero and deep nesting, not users.
_MAX_BYTES = 1 << 20
_MAX_DEPTH = 32

_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = {
    _TAG + name for name in ["str", "int", "float", "bool", "null", "timestamp", "merge", "value", "seq", "map"]
}
# Decimal only: YAML 1.1 would read 010 as 8 and 1:30 as 90.
_INT = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
# Wider than YAML 1.1, which takes 1e3 and 2e-4 for strings.
_FLOAT = re.compile(r"[-+]?([0-9][0-9_]*\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_BOOL = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}
ObjectName = NewType("ObjectName", str)
"""`Literal[...] | ObjectName`: one of ours, or `package.module:Name` of the user's own (runtime/user_modules.py)."""
Samples = NewType("Samples", int)
"""`Literal[...] | Samples`: one of ours, or a number of at least 1."""
OBJECT_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")

KIND_NAMES = {str: "a string", int: "an integer", float: "a finite number", bool: "true or false", NoneType: "null"}


class _MismatchError(Exception):
    """A scalar that is not of the kind asked for."""


@dataclass(frozen=True)
class _Source:
    """Where a value comes from, for messages: a file with line numbers, or one override."""

    name: str
    root: type
    has_lines: bool = True

    def fail(self, message: str, mark: Any = None) -> NoReturn:
        line = f":{mark.line + 1}" if mark is not None and self.has_lines else ""
        raise ConfigError(f"{self.name}{line}: {message}")

    def fail_unknown(self, key: str, section: type, mark: Any = None) -> NoReturn:
        names = list(_dotted_names(self.root))
        if key in names:  # written as one dotted key in a file
            self.fail(f"key {_quote(key)} must be nested, one section a level, not dotted", mark)
        leaf = key.rpartition(".")[2]
        same_leaf = [name for name in names if name.rpartition(".")[2] == leaf]
        near = difflib.get_close_matches(key, same_leaf, 1, cutoff=0.0) or difflib.get_close_matches(key, names, 1)
        hint = f"nearest: '{near[0]}'" if near else f"allowed: {', '.join(_field_types(section))}"
        self.fail(f"unknown key {_quote(key)}; {hint}", mark)

    def check_removed(self, key: str, removed: Removed, node: yaml.Node) -> None:
        """Fail unless the key has the value that it would have everywhere now."""
        value = "" if removed.standing == "" and _is_null(node) else _plain(node, key, self)
        if value != removed.standing:
            way_out = "delete the line" if self.has_lines else "leave it out"
            self.fail(f"key {_quote(key)} was removed: {removed.text}; {way_out}", node.start_mark)


def read(
    cls: type[T],
    path: str | Path | None,
    overrides: Sequence[str] = (),
    defaults: T | None = None,
    beside: bool = True,
) -> T:
    """Build `cls` from a YAML file (None or an empty file: all defaults), then apply `a.b=value` overrides in order.

    `defaults` has the values of keys that the file does not give; None: the dataclasses have them. With `beside`, a
    relative path to read that the file gives is looked for beside the file first; what is there becomes absolute.

    Numbers are decimal; int is accepted for float; nan, inf, aliases and tags are refused. A str field takes a scalar
    as written (a folder called 2024 needs no quotes). `a.b=` is the empty string for str, null for Optional. A URL with
    a password is refused (config/credentials.py).
    Raises ConfigError naming file and line, or the override, with the key, the value and what is allowed.
    """
    if path is None:
        config = defaults or _section(cls, None, "", _Source("configuration", cls, has_lines=False))
    else:
        source = _Source(str(path), cls)
        config = _section(cls, _compose(_read_text(path, source), source), "", source, defaults)
        if beside:
            config = found_beside(config, Path(path).parent)
    for override in overrides:
        config = _apply(config, override, _Source(f"override {_quote(override)}", cls, has_lines=False))
    check_credentials(to_dict(config))
    return config


def check_range(
    key: str,
    value: float,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> None:
    """Raise ConfigError naming `key`, `value` and the range unless the value keeps all limits (two inclusive, two not).

    A limit of None does not apply. nan is in no range.
    """
    Range(minimum, maximum, above, below).check(key, value)


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as nested plain dicts, in the order of its fields."""
    return asdict(config)


def leaves(config: Any, prefix: str = "") -> dict[str, Any]:
    """The values of a configuration by dotted key, in the order of its fields."""
    found: dict[str, Any] = {}
    for f in fields(config):
        value = getattr(config, f.name)
        key = prefix + f.name
        found |= leaves(value, f"{key}.") if is_dataclass(value) else {key: _undressed(value)}
    return found


def _undressed(value: Any) -> Any:
    """With the items of a list as plain dicts, where they are dataclasses."""
    if isinstance(value, tuple):
        return tuple(map(_undressed, value))
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def to_show(config: Any) -> dict[str, Any]:
    """`to_dict` without the signatures and tokens in its URLs: for whatever is written, shown or sent."""
    shown: dict[str, Any] = redacted(to_dict(config))
    return shown


def dump(config: Any, *, signatures: bool = False) -> str:
    """YAML text that `read` turns into an equal configuration. Floats keep every digit.

    Signatures in URLs are hidden, and `read` then asks for them, unless `signatures`: for processes of the run alone.
    """
    content = to_dict(config) if signatures else to_show(config)
    text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=math.inf)
    # These end lines for a YAML reader, and PyYAML writes them as they are.
    if any(character in text for character in "\x85\u2028\u2029"):
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=False, width=math.inf)
    return text


def write_resolved(config: Any, path: str | Path) -> None:
    """Write `dump(config)` to `path`, whole or not at all. Raises InputError if the folder cannot be written."""
    path = Path(path)
    try:
        write_text(path, dump(config))
    except OSError as error:
        raise failed(f"{path}: cannot be written ({error.strerror})", error) from error


def _quote(text: str) -> str:
    """One printable line, not too long."""
    text = redact(text)
    return repr(text if len(text) <= 80 else text[:77] + "...")


def _field_types(cls: type) -> Mapping[str, Any]:
    return _evaluated(cls)


@cache  # Python evaluates annotations anew each time, which would be a fifth of reading a file
def _evaluated(cls: type) -> Mapping[str, Any]:
    hints = get_type_hints(cls)
    return {f.name: hints[f.name] for f in fields(cls) if f.init}


def _one_or_several(kind: Any) -> bool:
    """Whether it is a text, or something with parts in its place: `str | tuple[...]`, `str | SomeSection`."""
    parts = get_args(kind) if get_origin(kind) in (Union, UnionType) else ()
    return str in parts and any(get_origin(part) is tuple or is_dataclass(part) for part in parts)


def _member(kind: Any, node: yaml.Node) -> Any:
    """Of a text or something with parts, what the node looks like; any other type as it is."""
    if not _one_or_several(kind):
        return kind
    for part in get_args(kind):
        if isinstance(node, yaml.SequenceNode) and get_origin(part) is tuple:
            return part
        if isinstance(node, yaml.MappingNode) and is_dataclass(part):
            return part
    return str


def _name_of(kind: Any) -> str:
    """For messages: what a value has to be."""
    if not _one_or_several(kind):
        return KIND_NAMES[_without_none(kind)[0]]
    several = [part for part in get_args(kind) if part is not str]
    words = [
        "a list" if get_origin(part) is tuple else f"a mapping of {', '.join(_field_types(part))}" for part in several
    ]
    return " or ".join([KIND_NAMES[str], *words])


def _without_none(kind: Any) -> tuple[Any, bool]:
    """(X, whether it may be null) of X, X | None, X | ObjectName and X | Samples; `str | tuple[...]` as it is."""
    if _one_or_several(kind):
        return kind, False
    if get_origin(kind) not in (Union, UnionType):
        return kind, False
    inner = [arg for arg in get_args(kind) if arg not in (NoneType, ObjectName, Samples)]
    if all(get_origin(arg) is Literal for arg in inner):  # of several, all that any of them allows
        inner = [Literal[tuple(option for arg in inner for option in get_args(arg))]]
    if len(inner) != 1:
        raise TypeError(f"configuration fields cannot be of type {kind}")
    return inner[0], NoneType in get_args(kind)


def _dotted_names(cls: type, prefix: str = "") -> Iterator[str]:
    for name, kind in _field_types(cls).items():
        yield prefix + name
        inner, _ = _without_none(kind)
        if is_dataclass(inner):
            yield from _dotted_names(inner, f"{prefix}{name}.")  # type: ignore[arg-type]  # field types are classes


def _head(path: str | Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(_MAX_BYTES + 1)


def _read_text(path: str | Path, source: _Source) -> str:
    try:
        data = patiently(lambda: _head(path))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        if may_pass(error):
            raise UnreachableError(f"{path}: cannot be read ({error})") from error
        source.fail(f"cannot be read ({error.strerror if isinstance(error, OSError) else error})")
    if len(data) > _MAX_BYTES:
        source.fail(f"is too large for a configuration; allowed: {_MAX_BYTES} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(10) + 1  # 10: the newline byte
        source.fail(f"is not UTF-8 text (byte {data[error.start]:#04x} on line {line})")


class _RefusedError(Exception):
    def __init__(self, message: str, mark: Any) -> None:
        super().__init__(message)
        self.mark = mark


class _Loader(yaml.SafeLoader):
    """A SafeLoader that refuses aliases, and what is nested so deeply that composing it would break the stack."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # not in the stubs
        if isinstance(event, yaml.AliasEvent):
            raise _RefusedError(f"aliases are not allowed (*{event.anchor})", event.start_mark)
        if isinstance(event, yaml.CollectionStartEvent) and self._depth == _MAX_DEPTH:
            raise _RefusedError(f"nested too deeply; allowed: {_MAX_DEPTH} levels", event.start_mark)
        self._depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


@lru_cache(maxsize=16)  # a command reads its file several times, with one override more or less
def _nodes(text: str) -> yaml.Node | None:
    node: yaml.Node | None = _Loader(text).get_single_node()
    return node


def _compose(text: str, source: _Source) -> yaml.Node | None:
    """YAML text to its node tree, which others may have, too; None when there is nothing in it."""
    try:
        return _nodes(text)
    except _RefusedError as error:
        source.fail(str(error), error.mark)
    except yaml.MarkedYAMLError as error:
        source.fail(
            f"not valid YAML ({' '.join(str(error.problem).split())})", error.problem_mark or error.context_mark
        )
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # control characters; \U escapes beyond Unicode
        source.fail(f"not valid YAML ({' '.join(str(error).split())})")


def _section(cls: type[T], node: yaml.Node | None, prefix: str, source: _Source, defaults: T | None = None) -> T:
    """A mapping node to an instance of `cls`; nothing there means all defaults."""
    types = _field_types(cls)
    values: dict[str, Any] = {}
    if node is not None and not _is_null(node):
        if not isinstance(node, yaml.MappingNode):
            where = f"{prefix[:-1]} = {_show(node)}" if prefix else "the top level"
            source.fail(f"{where} is not a mapping; allowed keys: {', '.join(types)}", node.start_mark)
        _refuse_tag(node, prefix[:-1], source)
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            mark = key_node.start_mark
            if not isinstance(key_node, yaml.ScalarNode):
                source.fail(f"a key must be a name, not {_show(key_node)}", mark)
            name = key_node.value
            _refuse_tag(key_node, prefix + name, source)
            removed = None if name in types else removed_keys(cls).get(name)
            if name not in types and removed is None:
                source.fail_unknown(prefix + name, cls, mark)
            if name in lines:
                source.fail(f"duplicate key {_quote(prefix + name)}; first on line {lines[name]}", mark)
            lines[name] = mark.line + 1
            if removed is not None:
                source.check_removed(prefix + name, removed, value_node)
                continue
            values[name] = _convert(types[name], value_node, prefix + name, source, getattr(defaults, name, None))
    if defaults is not None:
        return replace(defaults, **values)  # type: ignore[type-var]  # T is a dataclass type
    for f in fields(cls):  # type: ignore[arg-type]  # T is a dataclass type
        if f.init and f.name not in values and f.default is MISSING and f.default_factory is MISSING:
            source.fail(f"key {_quote(prefix + f.name)} is missing", node.start_mark if node else None)
    return cls(**values)


def _convert(kind: Any, node: yaml.Node, key: str, source: _Source, defaults: Any = None) -> Any:
    """A node to a value of type `kind`; `defaults` is of that type, too, where it is a dataclass."""
    _refuse_tag(node, key, source)
    whole, kind = kind, _member(kind, node)
    inner, optional = _without_none(kind)
    if optional and _is_null(node):
        return None
    if is_dataclass(inner):
        return _section(inner, node, key + ".", source, defaults)  # type: ignore[arg-type]  # field types are classes
    if get_origin(inner) is tuple:
        items = get_args(inner)
        if not isinstance(node, yaml.SequenceNode):
            source.fail(f"{key} = {_show(node)} is not a list", node.start_mark)
        if items[-1] is Ellipsis:
            items = items[:1] * len(node.value)
        if len(items) != len(node.value):
            source.fail(f"{key} has {len(node.value)} items; allowed: {len(items)}", node.start_mark)
        pairs = enumerate(zip(items, node.value, strict=True))
        return tuple(_convert(item, child, f"{key}[{i}]", source) for i, (item, child) in pairs)
    if get_origin(inner) is dict:
        if not isinstance(node, yaml.MappingNode):
            source.fail(f"{key} = {_show(node)} is not a mapping", node.start_mark)
        return _plain(node, key, source)
    or_null = " or null" if optional else ""
    if get_origin(inner) is Literal:
        for option in get_args(inner):
            try:
                if _scalar(type(option), node) == option:
                    return option
            except _MismatchError:
                continue
        allowed = ", ".join(str(option) for option in get_args(inner))
        if ObjectName in get_args(kind):
            if isinstance(node, yaml.ScalarNode) and OBJECT_NAME.fullmatch(node.value):
                return node.value
            allowed += ", or package.module:Name of yours"
        if Samples in get_args(kind):
            if (number := _positive(node)) is not None:
                return number
            allowed += ", or an integer of at least 1"
        source.fail(f"{key} = {_show(node)} is not allowed; allowed: {allowed}{or_null}", node.start_mark)
    try:
        return _scalar(inner, node)
    except _MismatchError:
        source.fail(f"{key} = {_show(node)} is not {_name_of(whole)}{or_null}", node.start_mark)


def _plain(node: yaml.Node, key: str, source: _Source) -> Any:
    """A node to dicts, lists and scalars. Scalars that are not null, a bool or a number are strings."""
    _refuse_tag(node, key, source)
    if isinstance(node, yaml.MappingNode):
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                source.fail(f"a key of {key} must be a name, not {_show(key_node)}", key_node.start_mark)
            if key_node.value in values:
                source.fail(f"duplicate key {_quote(key_node.value)} in {key}", key_node.start_mark)
            values[key_node.value] = _plain(value_node, f"{key}.{key_node.value}", source)
        return values
    if isinstance(node, yaml.SequenceNode):
        return [_plain(child, f"{key}[{i}]", source) for i, child in enumerate(node.value)]
    for kind in (NoneType, bool, int, float, str):
        try:
            return _scalar(kind, node)
        except _MismatchError:
            continue
    source.fail(f"{key} = {_show(node)} is not {KIND_NAMES[str]}", node.start_mark)


def _scalar(kind: type, node: yaml.Node) -> Any:
    """A scalar node to str, int, float, bool or None; raises _MismatchError."""
    if not isinstance(node, yaml.ScalarNode):
        raise _MismatchError
    text: str = node.value
    tag = node.tag.removeprefix(_TAG)
    plain = node.style is None
    if kind is str and (tag != "null" or not text):
        return _joined(text)
    if kind is NoneType and tag == "null":
        return None
    if kind is bool and tag == "bool" and text.lower() in _BOOL:
        return _BOOL[text.lower()]
    if kind is int and plain and tag == "int" and _INT.fullmatch(text):
        try:
            return int(text.replace("_", ""))
        except ValueError as error:  # beyond Python's limit on digits
            raise _MismatchError from error
    if kind is float and plain and tag in ("int", "float", "str") and _FLOAT.fullmatch(text):
        value = float(text.replace("_", ""))
        if math.isfinite(value):
            return value
    raise _MismatchError


def _positive(node: yaml.Node) -> int | None:
    try:
        number: int = _scalar(int, node)
    except _MismatchError:
        return None
    return number if number > 0 else None


def _joined(text: str) -> str:
    """JSON writes what lies beyond U+FFFF as two escapes, which PyYAML leaves apart. One alone is no text."""
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError as error:
        raise _MismatchError from error


def _refuse_tag(node: yaml.Node, key: str, source: _Source) -> None:
    if node.tag not in _PLAIN_TAGS:
        source.fail(f"{key or 'the top level'} has the tag {_quote(node.tag)}; tags are not allowed", node.start_mark)


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and bool(node.tag == _TAG + "null")


def _show(node: yaml.Node) -> str:
    """The value as in the file; strings quoted."""
    if not isinstance(node, yaml.ScalarNode):
        return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"
    is_text = node.tag == _TAG + "str" or node.style is not None or not node.value or len(node.value) > 80
    return _quote(node.value) if is_text else str(node.value)


def _apply(config: T, override: str, source: _Source) -> T:
    """One `a.b=value` override on top of `config`."""
    dotted, equals, text = override.partition("=")
    names = dotted.strip().split(".")
    if not equals or not all(names):
        source.fail("not of the form key.sub=value")

    def descend(section: Any, depth: int) -> Any:
        types = _field_types(type(section))
        name, key = names[depth], ".".join(names)
        removed = None if name in types or depth + 1 < len(names) else removed_keys(type(section)).get(name)
        if removed is not None:
            source.check_removed(key, removed, _override_node(text, type(removed.standing), source))
            return section
        if name not in types:
            source.fail_unknown(key, type(section))
        inner, optional = _without_none(types[name])
        if depth + 1 == len(names):
            if optional and is_dataclass(inner) and text.strip() in ("", "null"):
                return replace(section, **{name: None})
            if is_dataclass(inner):
                source.fail(f"{key} is a section; set one of: {', '.join(_field_types(inner))}")  # type: ignore[arg-type]
            return replace(section, **{name: _convert(types[name], _override_node(text, inner, source), key, source)})
        if not is_dataclass(inner):
            source.fail_unknown(key, type(section))
        child = getattr(section, name)
        if child is None:
            child = _section(inner, None, ".".join(names[: depth + 1]) + ".", source)  # type: ignore[arg-type]
        return replace(section, **{name: descend(child, depth + 1)})

    result: T = descend(config, 0)
    return result


def _override_node(text: str, kind: Any, source: _Source) -> yaml.Node:
    """The value of an override as a YAML node.

    Unquoted text is one plain scalar whatever it holds, so that `data.hr=a #1: {b}` needs no YAML quoting; but where a
    list may stand, `[a, b]` is one.
    """
    text = text.strip()
    is_list = _one_or_several(kind) and text.startswith("[")
    if is_list or text.startswith(("'", '"')) or kind is list or get_origin(kind) in (tuple, dict):
        node = _compose(text, source)
        if node is not None:
            return node
    tag = yaml.SafeLoader("").resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]  # not in the stubs
    return yaml.ScalarNode(tag, text)
