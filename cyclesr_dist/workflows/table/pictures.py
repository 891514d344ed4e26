"""Comparison strips of test photographs, all systems side by side as in the paper's Figure 2."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cyclesr_dist.config.schema import Track
from cyclesr_dist.data.covered import covered
from cyclesr_dist.data.folders import match_pairs
from cyclesr_dist.data.images import read_rgb8
from cyclesr_dist.models.infer import upscale_image
from cyclesr_dist.models.model_name import resolve_model
from cyclesr_dist.reports.strips import save_comparison
from cyclesr_dist.scoring.score import to_uint8
from cyclesr_dist.workflows.table.config import Table
from cyclesr_dist.workflows.table.data import TableData
from cyclesr_dist.workflows.table.jobs import Job


def draw_strips(table: Table, data: TableData, jobs: Sequence[Job], root: Path) -> dict[str, list[Path]]:
    """PNG files by track, of the first seed's runs that are done and of test photographs spread over the set."""
    return {track: _of_track(table, data, jobs, root, track) for track in data.tracks} if table.pictures else {}


def _of_track(table: Table, data: TableData, jobs: Sequence[Job], root: Path, track: Track) -> list[Path]:
    scores: dict[str, dict[str, float]] = {}
    folders: dict[str, Path] = {"bicubic": root / "runs" / track / "bicubic"}
    for job in jobs:
        if job.done and job.config.seed == table.seeds[0] and track in job.tests:
            folders[job.config.system] = job.folder
    for system, folder in folders.items():
        path = folder / f"scores-{track}.json"
        if path.is_file():
            images: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["images"]
            scores[system] = {image["name"]: image["psnr"] for image in images if image["psnr"] is not None}
    shown: list[str] = [system for system in table.systems if system in scores]
    models = {
        system: resolve_model("bicubic" if system == "bicubic" else str(folders[system]), table.run.scale, True)
        for system in shown
    }
    pairs = match_pairs(data.test_hr, data.tracks[track].test_lr)
    written = []
    for pair in pairs[:: max(1, len(pairs) // table.pictures)][: table.pictures]:
        low = read_rgb8(pair.lr)
        with torch.no_grad():
            unit = low.astype(np.float32) / 255
            enlarged = {name: to_uint8(upscale_image(model, unit)) for name, model in models.items()}
        of_image = {name: scores[name][pair.name] for name in shown if pair.name in scores[name]}
        high = read_rgb8(pair.hr)
        part = covered(low.shape, high.shape, table.run.scale, (str(pair.lr), str(pair.hr)))
        height, width = (side * table.run.scale for side in part)
        path = root / "strips" / track / f"{pair.name}.png"
        save_comparison(path, low, enlarged, high[:height, :width], of_image)
        written.append(path)
    return written
