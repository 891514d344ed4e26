"""The house: rooms with names, imports that point down, no circle, and a method that knows nothing of where it runs."""

from __future__ import annotations

import argparse
import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import cyclesr_dist
from cyclesr_dist.cli.main import COMMANDS, build_parser
from cyclesr_dist.config.systems import SYSTEMS

ROOT = Path(cyclesr_dist.__file__).parent
LAYERS = (
    "runtime",
    "config",
    "distributed",
    "data",
    "degradation",
    "nets",
    "method",
    "models",
    "scoring",
    "reports",
    "telemetry",
    "training",
    "search",
    "slurm",
    "kubernetes",
    "workflows",
    "cli",
)
"""From below: each may import itself and those before it. docs/design.md says what they hold."""
BELOW_ALL = ("cyclesr_dist", "cyclesr_dist.errors")


def name_of(path: Path) -> str:
    parts = ("cyclesr_dist", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}


@cache
def imported(path: Path) -> frozenset[str]:
    """All that a file imports, also inside functions and for types alone."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def modules_of(path: Path) -> Iterator[str]:
    """The package's modules among them."""
    for name in imported(path):
        if name.startswith("cyclesr_dist"):
            yield name if name in MODULES else name.rpartition(".")[0]


def room(module: str) -> str:
    return module.split(".")[1]


def test_the_rooms_are_the_layers() -> None:
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(LAYERS)
    assert {path.name for path in ROOT.glob("*.py")} == {"__init__.py", "errors.py"}


@pytest.mark.parametrize("folder", [name for name, path in MODULES.items() if path.name == "__init__.py"])
def test_every_folder_says_what_it_holds(folder: str) -> None:
    assert ast.get_docstring(ast.parse(MODULES[folder].read_text(encoding="utf-8")))


@pytest.mark.parametrize("module", [name for name in MODULES if name not in BELOW_ALL])
def test_imports_point_down(module: str) -> None:
    allowed = LAYERS[: LAYERS.index(room(module)) + 1]
    above = {other for other in modules_of(MODULES[module]) if other not in BELOW_ALL and room(other) not in allowed}
    assert not above


def test_there_is_no_circle() -> None:
    graph = {name: set(modules_of(path)) - set(BELOW_ALL) for name, path in MODULES.items() if name not in BELOW_ALL}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


METHOD = sorted(
    [*(ROOT / "nets").glob("*.py"), *(ROOT / "method" / "losses").glob("*.py")]
    + [ROOT / "method" / f"{name}.py" for name in ("objectives", "step", "pool", "types")]
    + list((ROOT / "config").glob("*.py"))
)
OUTSIDE = ("torch.distributed", "deepspeed", "webdataset", "ray", "cyclesr_dist.distributed.world")
OUTSIDE += tuple(f"cyclesr_dist.data.{name}" for name in ("loader", "shards", "source", "remote", "build"))


@pytest.mark.parametrize("path", METHOD, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_method_imports_nothing_of_the_world(path: Path) -> None:
    found = {n for n in imported(path) if any(n == o or n.startswith(f"{o}.") for o in OUTSIDE)}
    assert not found


def branches_on_a_system(path: Path) -> list[str]:
    """Comparisons and matches of something called `system` with the name of one."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Compare):
            sides, texts = [node.left, *node.comparators], ast.walk(node)
        elif isinstance(node, ast.Match):
            sides, texts = [node.subject], (part for case in node.cases for part in ast.walk(case.pattern))
        else:
            continue
        names = {side.attr if isinstance(side, ast.Attribute) else getattr(side, "id", "") for side in sides}
        if "system" in names and any(isinstance(part, ast.Constant) and part.value in SYSTEMS for part in texts):
            found.append(f"{path.name}:{node.lineno}")
    return found


def test_nothing_but_its_description_asks_for_the_name_of_a_system() -> None:
    assert not [place for path in MODULES.values() for place in branches_on_a_system(path)]


def test_a_branch_on_a_system_would_be_found(tmp_path: Path) -> None:
    code = tmp_path / "code.py"
    code.write_text("if c.system == 'cyclesr': pass\nif system in ('sr_syn', 'x'): pass\nif c.system == other: pass\n")
    assert branches_on_a_system(code) == ["code.py:1", "code.py:2"]


def imports_of_process(code: str, modules: tuple[str, ...]) -> list[str]:
    """Which of the modules a new process has imported at its end."""
    code = f"import sys\ntry:\n    {code}\nexcept SystemExit: pass\nprint(*(m for m in {modules} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].split()


def test_help_needs_neither_deepspeed_nor_ray() -> None:
    code = "from cyclesr_dist.training.main import build_parser; build_parser()"
    assert imports_of_process(code, ("deepspeed", "ray", "torchvision")) == []


MAIN = "from cyclesr_dist.cli.main import main; main"
SLOW_TO_IMPORT = ("torch", "ray", "deepspeed", "webdataset", "scipy")


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["upscal"], []])
def test_the_overview_of_commands_and_a_wrong_one_import_no_command(words: list[str]) -> None:
    assert (
        imports_of_process(f"from cyclesr_dist.cli.main import main; main({words})", (*SLOW_TO_IMPORT, "numpy", "PIL"))
        == []
    )


COMMON = [*([command] for command in COMMANDS if command not in ("bench", "shards"))]
ACTIONS = [
    *(["shards", action] for action in ("build", "check")),
    *(["bench", action] for action in ("all", "train", "scaling", "upscale", "score", "checkpoint", "search")),
    *(["bench", action] for action in ("data", "telemetry", "estimate")),
]


FORKS = """
import contextlib, io, json, os, sys
from cyclesr_dist.cli.main import main
commands, modules = json.loads(sys.argv[1])
for command in commands:
    if os.fork():
        assert os.wait()[1] == 0
        continue
    for word in ("--help", "--no-such", "--debug=no"):
        with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
            main([*command, word])
    print(json.dumps([" ".join(command), [m for m in modules if m in sys.modules]]), flush=True)
    os._exit(0)
"""
"""A process that forks one for each command: what `--help` imports is imported for a wrong argument, too."""
ALL = [*COMMON, *ACTIONS, ["shards"], ["bench"]]


@pytest.fixture(scope="module")
def imported_for_help() -> dict[str, list[str]]:
    """Modules that take long to import, by the command whose process has them."""
    modules = (*SLOW_TO_IMPORT, "numpy", "PIL", "kubernetes", "imagecodecs")
    code = [sys.executable, "-c", FORKS, json.dumps([ALL, modules])]
    done = subprocess.run(code, capture_output=True, text=True, check=True)
    return dict(json.loads(line) for line in done.stdout.splitlines())


@pytest.mark.parametrize("command", ALL, ids=" ".join)
def test_help_and_wrong_arguments_come_without_what_takes_long_to_import(
    command: list[str], imported_for_help: dict[str, list[str]]
) -> None:
    assert imported_for_help[" ".join(command)] == []


def test_the_actions_tried_are_all_there_are() -> None:
    parser = build_parser()
    commands = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    found = [
        [name, word]
        for name in ("shards", "bench")
        for action in commands.choices[name]._actions
        if isinstance(action, argparse._SubParsersAction)
        for word in action.choices
    ]
    assert sorted(found) == sorted(ACTIONS)


def test_only_what_assembles_a_system_is_given_the_whole_configuration() -> None:
    """Functions that build may have it. What they build is given what it needs."""
    found = set()
    for module, path in MODULES.items():
        for owner in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for method in owner.body if isinstance(owner, ast.ClassDef) else ():
                if isinstance(method, ast.FunctionDef) and method.name == "__init__":
                    types = (ast.unparse(argument.annotation) for argument in method.args.args if argument.annotation)
                    found |= {f"{module}.{owner.name}"} if "Config" in types else set()
    bench = "cyclesr_dist.workflows.bench."  # its contenders are assembled from it, in turns
    assert {name for name in found if not name.startswith(bench)} == {
        f"cyclesr_dist.method.systems.{system}" for system in (
            "cincgan.CinCGANSystem", "cyclegan.CycleGANSystem", "dsgan.DSGANSystem", "estimated.EstimatedSystem",
            "high_to_low.HighToLowSystem", "joint.JointSystem",
            "pdm.PDMSystem", "pseudo_supervision.PseudoSupervisionSystem",
            "separate.SeparateSystem", "sr_only.SyntheticSystem",
        )
    }  # fmt: skip
