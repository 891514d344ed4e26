"""Fixtures of this folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.pages import TABLE, metrics_row, write_lines
from PIL import Image


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "demo"
    (folder / "comparisons").mkdir(parents=True)
    (folder / "config.yaml").write_text(
        "system: cyclesr\nseed: 3\nscale: 4\ntrack: mild\nperceptual:\n  source: random\noptim:\n  clip_norm: 50.0\n"
    )
    write_lines(folder / "metrics.jsonl", [metrics_row(step) for step in range(10, 600, 10)])
    write_lines(
        folder / "validation.jsonl",
        [{"step": s, "psnr": 21 + s / 400 - (s > 500), "ssim": 0.6 + s / 1e4} for s in range(100, 601, 100)],
    )
    summary = {
        "table": TABLE,
        "best": {"step": 500, "psnr": 22.54},
        "wall_seconds": 723.4,
        "versions": {"torch": "2.13.0"},
        "notes": ["Trained on 11 photographs."],
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    Image.new("RGB", (60, 30), (200, 30, 40)).save(folder / "comparisons" / "osprey.png")
    return folder
