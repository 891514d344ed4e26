"""The tests themselves: where they lie, how long they are, and what they keep away from."""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

import cyclesr_dist

TESTS = Path(__file__).parents[1]
PACKAGE = Path(cyclesr_dist.__file__).parent
FILES = sorted(TESTS.rglob("*.py"))
LONGEST = 500
PRIVATE = re.compile(r"_[a-zA-Z]\w*")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def defined(path: Path) -> set[str]:
    """Names that a file gives to functions, classes, variables and attributes."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
    return found


@cache
def private_names() -> frozenset[str]:
    """All that the package keeps to itself."""
    names = set().union(*(defined(path) for path in PACKAGE.rglob("*.py")))
    return frozenset(name for name in names if PRIVATE.fullmatch(name))


def uses(path: Path) -> set[str]:
    """Names that a file imports, takes as an attribute, or hands to a `setattr`, also as the end of a dotted path."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("setattr", "delattr", "patch")):
            words = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            found |= {word.rpartition(".")[2] for word in words}
    return found


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
    assert not uses(path) & private_names() - defined(path)


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_nothing_sleeps_but_what_waits_for_something(path: Path) -> None:
    if path == TESTS / "helpers" / "waiting.py":
        return
    nodes = list(ast.walk(tree(path)))
    calls = [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) == "time.sleep"]
    assert not [f"line {call.lineno}" for call in calls]
    assert "sleep" not in {a.name for node in nodes if isinstance(node, ast.ImportFrom) for a in node.names}


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_tests_import_helpers_and_no_other_tests(path: Path) -> None:
    modules = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module)
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
    assert not {name for name in modules if name.split(".")[0].startswith("test_")}
