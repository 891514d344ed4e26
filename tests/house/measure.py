"""The house in figures: `python tests/house/measure.py [PACKAGE_FOLDER]`, also for an older checkout.

Rooms and files at the root, modules and lines a room, circles of imports, imports that point up (where the rooms are
today's), the longest functions, and the leaves of the training configuration.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

LAYERS = ("runtime", "config", "distributed", "data", "degradation", "nets", "method", "models", "scoring", "reports")
LAYERS += ("telemetry", "training", "search", "kubernetes", "workflows", "cli")
COUNT_LEAVES = """
from dataclasses import fields, is_dataclass
try:
    from cyclesr_dist.config.schema import Config
except ImportError:
    from cyclesr_dist.config import Config
def leaves(part):
    return sum(leaves(getattr(part, f.name)) if is_dataclass(getattr(part, f.name)) else 1 for f in fields(part))
print(leaves(Config()))
"""


def main(root: Path) -> None:
    modules = {
        ".".join(("cyclesr_dist", *path.relative_to(root).with_suffix("").parts)): path for path in root.rglob("*.py")
    }
    modules = {name.removesuffix(".__init__"): path for name, path in modules.items()}
    trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in modules.items()}
    graph = {name: imports(tree, set(modules)) - {name} for name, tree in trees.items()}
    at_root = [path for path in root.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    print(f"at the root: {len(at_root)} modules and folders")
    lines: Counter[str] = Counter()
    files: Counter[str] = Counter()
    for name, path in modules.items():
        files[room(name)] += 1
        lines[room(name)] += len(path.read_text(encoding="utf-8").splitlines())
    for name in sorted(lines, key=lambda name: -lines[name]):
        print(f"  {name or '(root)':14} {files[name]:4} modules {lines[name]:6} lines")
    print(f"in all: {len(modules)} modules, {sum(lines.values())} lines")
    print(f"circles: {[sorted(circle) for circle in circles(graph)] or 0}")
    if set(LAYERS) <= set(lines):
        up = [f"{a} -> {b}" for a in graph for b in graph[a] if points_up(a, b)]
        print(f"imports that point up: {up or 0}")
    lengths = [
        (node.end_lineno - node.lineno + 1, f"{name}.{node.name}")
        for name, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.end_lineno
    ]
    functions = [(length, name) for length, name in lengths if name.rpartition(".")[2][0].islower() or "._" in name]
    print("longest functions:", ", ".join(f"{name} {length}" for length, name in sorted(functions)[-3:]))
    print("longest classes:", ", ".join(f"{n} {length}" for length, n in sorted(set(lengths) - set(functions))[-3:]))
    counted = subprocess.run(
        [sys.executable, "-c", COUNT_LEAVES], cwd=root.parent, capture_output=True, text=True, check=True
    )
    print(f"leaves of the training configuration: {counted.stdout.strip()}")


def room(module: str) -> str:
    return module.split(".")[1] if module.count(".") > 1 or module.split(".")[-1] in LAYERS else ""


def points_up(a: str, b: str) -> bool:
    both = room(a), room(b)
    return all(name in LAYERS for name in both) and LAYERS.index(both[0]) < LAYERS.index(both[1])


def imports(tree: ast.Module, modules: set[str]) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    found = {name if name in modules else name.rpartition(".")[0] for name in names if name.startswith("cyclesr_dist")}
    return found - {"cyclesr_dist"}


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Sets of modules that import each other, directly or through others."""
    reach: dict[str, set[str]] = {}
    for start in graph:
        seen, todo = set(), [start]
        while todo:
            for other in graph.get(todo.pop(), set()) - seen:
                seen.add(other)
                todo.append(other)
        reach[start] = seen
    found: list[set[str]] = []
    for name in graph:
        if name in reach[name] and not any(name in circle for circle in found):
            found.append({other for other in reach[name] if name in reach.get(other, set())})
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", nargs="?", type=Path, default=Path(__file__).parents[2] / "cyclesr_dist")
    main(parser.parse_args().root.resolve())
