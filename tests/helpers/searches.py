"""Searches in a process of their own, and what they leave."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

BASE = "system: cyclesr\nbackend: ddp\ndata: {valid_lr: lr, hr: a, lr: b}\n"
"""A training that opens no data before it begins."""
TUNE = [sys.executable, str(Path(__file__).parents[2] / "launch/tune.py")]


def search_file(base: Path, /, **changes: object) -> Path:
    content = {"base": str(base), "space": {"weights.mse": {"loguniform": [0.1, 100]}}, "steps": 80, "num_samples": 4}
    path = base.with_name("search.yaml")
    path.write_text(yaml.safe_dump(content | changes))
    return path


@contextmanager
def searching(config: Path, run_dir: Path, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [*TUNE, "--config", str(config), "--run-dir", str(run_dir), *more]
    output = run_dir.with_suffix(".out").open("w")
    process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        output.close()
        print(printed(run_dir))


def search(config: Path, run_dir: Path, *more: str, seconds: float = 700) -> tuple[int, str]:
    """Exit code and all that was printed."""
    with searching(config, run_dir, *more) as process:
        process.wait(seconds)
    return process.returncode, printed(run_dir)


def printed(run_dir: Path) -> str:
    return run_dir.with_suffix(".out").read_text()


def trials(run_dir: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run_dir / "trials.csv").read_text().splitlines()))


def reports(run_dir: Path) -> list[dict[str, Any]]:
    path = run_dir / "results.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [record for record in map(json.loads, lines) if "step" in record]
