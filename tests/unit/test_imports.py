"""Imports point inward: the method knows nothing of where it runs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cyclesr_dist

ROOT = Path(cyclesr_dist.__file__).parent
METHOD = sorted(
    [
        *(ROOT / "nets").glob("*.py"),
        *(ROOT / "losses").glob("*.py"),
        *(ROOT / name for name in ("objectives.py", "step.py", "pool.py", "types.py", "config.py", "configfile.py")),
    ]
)
OUTSIDE = ("torch.distributed", "deepspeed", "webdataset", "ray", "cyclesr_dist.train", "cyclesr_dist.data")
OUTSIDE += ("cyclesr_dist.cli", "cyclesr_dist.evaluate", "cyclesr_dist.world")


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", METHOD, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_method_imports_nothing_of_the_world(path: Path) -> None:
    found = {n for n in imported(path) if any(n == o or n.startswith(f"{o}.") for o in OUTSIDE)}
    assert not found


def test_help_needs_neither_deepspeed_nor_ray() -> None:
    code = (
        "import sys; from cyclesr_dist.train.main import build_parser; build_parser(); "
        "sys.exit(any(m in sys.modules for m in ('deepspeed', 'ray', 'torchvision')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
