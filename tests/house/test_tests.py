"""The tests themselves: where they lie, how long they are, and what they keep away from."""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import cyclesr_dist

TESTS = Path(__file__).parents[1]
PACKAGE = Path(cyclesr_dist.__file__).parent
FILES = sorted(TESTS.rglob("*.py"))
LONGEST = 500
PRIVATE = re.compile(r"_[a-zA-Z]\w*")


class Said(NamedTuple):
    """What a file says. Not its tree: the garbage collector would look through all of them, again and again."""

    defined: frozenset[str]
    """Names that it gives to functions, classes, variables and attributes."""
    used: frozenset[str]
    """Names that it imports, takes as an attribute, or hands to a `setattr`, also as the end of a dotted path."""
    sleeps: tuple[str, ...]
    modules: frozenset[str]
    """That it imports."""


@cache
def said(path: Path) -> Said:
    defined, used, sleeps, modules = set(), set(), [], set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                defined.add(node.name)
            case ast.Name(id=name, ctx=ast.Store()):
                defined.add(name)
            case ast.Attribute(attr=name):
                used.add(name)
                if isinstance(node.ctx, ast.Store):
                    defined.add(name)
            case ast.Import():
                modules |= {alias.name for alias in node.names}
            case ast.ImportFrom():
                names = {alias.name for alias in node.names}
                used |= names
                modules |= {node.module} if node.module else set()
                sleeps += [f"line {node.lineno}"] if "sleep" in names else []
            case ast.Call(func=ast.Attribute(value=ast.Name(id="time"), attr="sleep")):
                sleeps.append(f"line {node.lineno}")
            case ast.Call(func=ast.Attribute(attr=function) | ast.Name(id=function)):
                if function.endswith(("setattr", "delattr", "patch")):
                    words = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
                    used |= {word.rpartition(".")[2] for word in words}
    return Said(frozenset(defined), frozenset(used), tuple(sleeps), frozenset(modules))


@cache
def private_names() -> frozenset[str]:
    """All that the package keeps to itself."""
    names = set().union(*(said(path).defined for path in PACKAGE.rglob("*.py")))
    return frozenset(name for name in names if PRIVATE.fullmatch(name))


def relative(path: Path) -> str:
    return str(path.relative_to(TESTS))


def test_folders_are_the_rooms_of_the_package() -> None:
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    folders = {path.name for path in TESTS.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == rooms | {"helpers", "house"}
    assert not list(TESTS.glob("test_*.py"))


def test_names_are_unique_for_they_are_imported_without_their_folder() -> None:
    twice = [name for name, count in Counter(path.name for path in FILES).items() if count > 1]
    assert set(twice) <= {"conftest.py"}


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_a_file_is_not_too_long(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_nothing_private_of_the_package_is_used(path: Path) -> None:
    assert not said(path).used & private_names() - said(path).defined


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_nothing_sleeps_but_what_waits_for_something(path: Path) -> None:
    assert not said(path).sleeps or path == TESTS / "helpers" / "waiting.py"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_tests_import_helpers_and_no_other_tests(path: Path) -> None:
    assert not {name for name in said(path).modules if name.split(".")[0].startswith("test_")}
