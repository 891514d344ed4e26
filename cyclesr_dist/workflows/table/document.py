"""Generated parts of a hand-written document, between `<!-- name -->` and `<!-- /name -->`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cyclesr_dist.errors import InputError
from cyclesr_dist.runtime.files import write_text
from cyclesr_dist.runtime.passing import failed, unwritable

IMAGES = "images"
"""The folder beside a document that holds its images."""


def check_marks(path: Path, name: str) -> None:
    """Raise InputError unless `path` is a text file with both marks of `name`, each once and in order."""
    _split(path, name)


def insert(path: Path, name: str, text: str) -> None:
    """Replace what is between the marks of `name` in `path`. Raises InputError as `check_marks` does."""
    before, after = _split(path, name)
    write_text(path, f"{before}\n\n{text.strip()}\n\n{after}")


def place_images(source: Path, document: Path, names: Sequence[str]) -> None:
    """Copy text images (SVG) of the folder `source` into `IMAGES` beside the document. Raises UnwritableError."""
    folder = document.parent / IMAGES
    try:
        for name in names:
            folder.mkdir(exist_ok=True)
            write_text(folder / name, (source / name).read_text(encoding="utf-8"))
    except OSError as error:
        raise unwritable(folder, error) from error


def origin(arguments: Sequence[str], content: Mapping[str, Any]) -> str:
    """What was run and with what, as a paragraph of Markdown."""
    seconds = content["train_seconds"]
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    runs = content["runs"]
    return (
        f"Made by `cyclesr {shlex.join(arguments)}`: {runs['done']} of {runs['of']} runs, {seconds / 3600:.1f} hours "
        f"of training in all, {content['threads']} thread(s) a run; {versions}."
    )


def _split(path: Path, name: str) -> tuple[str, str]:
    first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise failed(f"{path}: cannot be read ({error})", error) from error
    if text.count(first) != 1 or text.count(last) != 1 or text.index(first) > text.index(last):
        raise InputError(f"{path}: needs the marks {first} and {last}, each once and in this order")
    return text[: text.index(first) + len(first)], text[text.index(last) :]
