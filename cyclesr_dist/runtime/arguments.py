"""What a Python program gives to the functions of this package, checked: a TypeError from deep inside helps nobody."""

from __future__ import annotations

import os
from operator import index
from pathlib import Path

from cyclesr_dist.errors import InputError


def is_path(value: object) -> bool:
    return isinstance(value, str | os.PathLike)


def path_of(name: str, value: object) -> Path:
    """Raises InputError for what is no path; `name` is the argument's."""
    return Path(text_of(name, value))


def text_of(name: str, value: object) -> str:
    """A path or URL as it was given."""
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise InputError(f"{name} = {value!r:.80} is not a path")
    return text


def word(name: str, value: object) -> str:
    """A string."""
    if not isinstance(value, str):
        raise InputError(f"{name} = {value!r:.80} is not a string")
    return value


def whole(name: str, value: object) -> int:
    """An integer, Python's or NumPy's."""
    try:
        return index(value)  # type: ignore[arg-type]  # what it refuses is refused here
    except TypeError as error:
        raise InputError(f"{name} = {value!r:.80} is not an integer") from error


def png_target(out: object, source: Path) -> Path:
    """The file that the result for `source` is written to."""
    target = path_of("out", out)
    if target.suffix.lower() != ".png":
        raise InputError(f"out = {target}: files are written as PNG; give a name that ends in .png")
    if target.is_dir():
        raise InputError(f"out = {target}: is a folder; name a file")
    if not target.parent.is_dir():
        raise InputError(f"out = {target}: no such folder {target.parent}")
    if target.resolve() == source.resolve():
        raise InputError(f"out = {target}: is the input itself")
    return target
