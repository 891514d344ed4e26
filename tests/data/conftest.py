"""Fixtures of this folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.shard_sets import SCALE, build, save, scene, texture
from numpy.typing import NDArray

from cyclesr_dist.config.schema import Degrade
from cyclesr_dist.degradation.simulate_folder import degrade_folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's cache of remote shard sets lies, and nobody else's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "cyclesr-dist"


@pytest.fixture
def photos(tmp_path: Path) -> dict[str, NDArray[np.uint8]]:
    """Three images in tmp_path/photos. 40 x 32 is a whole number of HR patches, the others are not."""
    folder = tmp_path / "photos"
    folder.mkdir()
    sizes = {"a": (40, 32), "b": (33, 50), "c": (16, 16)}
    return {name: save(folder / f"{name}.png", texture(*size, seed=ord(name))) for name, size in sizes.items()}


@pytest.fixture
def pairs(tmp_path: Path) -> dict[str, tuple[int, int]]:
    """Two scenes and their mild LR files; returns the shifts that were drawn, by LR stem."""
    (tmp_path / "hr").mkdir()
    for i, size in enumerate([(96, 120), (98, 101)]):
        save(tmp_path / f"hr/s{i}.png", scene(*size, seed=i))
    levels = Degrade(blur_px=4, noise=0.02, shift_px=6)
    degrade_folder(tmp_path / "hr", tmp_path / "lr", track="mild", scale=SCALE, seed=0, levels=levels, progress=False)
    record = json.loads((tmp_path / "lr/degradations.json").read_text())
    return {Path(name).stem: tuple(entry["parameters"]["shift_px"]) for name, entry in record["files"].items()}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    (folder / "photos").mkdir()
    save(folder / "photos/a.png", texture(16, 32, 0))
    return build(folder)
