"""What a document names is there: files, sections, keys of configurations."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from helpers.documents import DOCUMENTS, REPOSITORY, blocks, name_of

from cyclesr_dist.config.schema import Config
from cyclesr_dist.search.config import Search
from cyclesr_dist.workflows.table.config import Table

FOLDERS = ("configs", "cyclesr_dist", "docs", "examples", "k8s", "launch", "tests")
OF_THE_PAST = {
    "docs/results.md",
    "docs/configuration.md",
    *(name_of(path) for path in DOCUMENTS if path.parent.name == "decisions"),
}
"""They say what was done at a commit, with the keys of that time, or list keys that are gone."""


def prose(path: Path) -> str:
    """A document without what stands between fences."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for block in blocks(path):
        for number in range(block.first_line - 1, block.first_line + len(block.lines) + 1):
            lines[number - 1] = ""
    return "\n".join(lines)


def spans(path: Path) -> list[str]:
    return [" ".join(text.split()) for text in re.findall(r"`([^`]+)`", prose(path))]


def anchors(path: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"(?m)^#+ (.+)$", prose(path))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def keys(section: type, prefix: str = "") -> Iterator[str]:
    """`a.b` of all fields below a configuration, and of the sections themselves."""
    hints = get_type_hints(section)
    for name in (field.name for field in fields(section)):  # type: ignore[arg-type]
        yield prefix + name
        for kind in (hints[name], *get_args(hints[name])):
            if is_dataclass(kind):
                yield from keys(kind, f"{prefix}{name}.")  # type: ignore[arg-type]


KEYS = {*keys(Config), *keys(Search), *keys(Table)}
SECTIONS = {key.split(".")[0] for key in KEYS if "." in key}


def keys_named(text: str) -> list[str]:
    """Of one span: `train.steps`, `train.steps=3`, `train.steps: 3`."""
    found = re.fullmatch(r"([a-z_]+(?:\.[a-z_0-9]+)+)(?:=.*|: .*)?", text)
    known = found and found[1].split(".")[0] in SECTIONS and not re.search(r"\.(py|md|yaml|json|jsonl)$", found[1])
    return [found[1]] if found and known else []


def is_key(name: str) -> bool:
    if any(name.startswith(f"{key}.") for key in ("weights.more", "space", "nets.sr.arguments")):
        return True  # mappings
    return name in KEYS


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    wrong = []
    for place, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", prose(path)):
        target = (path.parent / place).resolve() if place else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(f"{place}#{anchor}")
    assert not wrong


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_files_that_are_named_are_there(path: Path) -> None:
    named = {text for text in spans(path) if re.fullmatch(r"[\w./-]+\.(py|yaml|md|json|yml)", text)}
    tests = {file.name for file in (REPOSITORY / "tests").rglob("*.py")}
    wrong = [text for text in named if text.split("/")[0] in FOLDERS and not (REPOSITORY / text).exists()]
    wrong += [text for text in named if text.startswith("test_") and text not in tests]
    assert not wrong


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if name_of(path) not in OF_THE_PAST], ids=name_of)
def test_keys_that_are_named_are_keys(path: Path) -> None:
    assert not [key for text in spans(path) for key in keys_named(text) if not is_key(key)]


def test_a_wrong_key_would_be_found() -> None:
    named = [*keys_named("train.step=3"), *keys_named("nets.sr.knd: vdsr"), *keys_named("train.steps")]
    assert [key for key in named if not is_key(key)] == ["train.step", "nets.sr.knd"]
    assert keys_named("train.py") == keys_named("fit.yaml") == keys_named("os.environ") == []
    assert {"train.steps", "tracks.mild.sr.kind", "cluster.nodes", "workers.num"} <= KEYS
