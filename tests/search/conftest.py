"""A search's file on tiny data, and a place of its own for what its trials write."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.searches import BASE


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base.yaml"
    path.write_text(BASE)
    return path


@pytest.fixture
def write_search(config_file, tiny_data, tmp_path) -> Any:
    """A function that writes a search's file: weights.mse on tiny data, two reports a trial, with changes."""

    def write(**changes: object) -> Path:
        content = {
            "base": str(config_file),
            "overrides": [*tiny_data.overrides, *changes.pop("overrides", [])],  # type: ignore[misc]
            "space": {"weights.mse": {"grid": [10.0, 100.0]}},
            "steps": 8,
            "report_every_steps": 4,
            "scheduler": "none",
        }
        path = tmp_path / "search.yaml"
        path.write_text(yaml.safe_dump(content | changes))
        return path

    return write


@pytest.fixture(autouse=True)
def scratch(monkeypatch) -> Iterator[Path]:
    """Where the trials of this test keep their folders, and nobody else's. Short: Ray's sockets lie there."""
    with tempfile.TemporaryDirectory(prefix="s-", dir="/tmp", ignore_cleanup_errors=True) as name:
        monkeypatch.setenv("TMPDIR", name)
        monkeypatch.setenv("XDG_CACHE_HOME", f"{name}/cache")
        yield Path(name)
