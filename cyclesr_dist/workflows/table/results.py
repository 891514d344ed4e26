"""From finished runs to `table.json`: means and spreads over seeds, and what the runs cost."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from cyclesr_dist import __version__
from cyclesr_dist.config.metrics import lower_is_better
from cyclesr_dist.models.model_name import resolve_model
from cyclesr_dist.training.run_folder import read_summary
from cyclesr_dist.workflows.table.config import Table
from cyclesr_dist.workflows.table.data import TableData
from cyclesr_dist.workflows.table.jobs import SHARED, Job, has_scores, take_scores

Stat = dict[str, float]
"""`mean`, `std` (of the sample; 0 for one seed) and `n`."""


def collect(table: Table, data: TableData, jobs: Sequence[Job], root: Path) -> dict[str, Any]:
    """The table's content. Rows are by track and system; a system without a finished run has none.

    Of a row: `psnr`, `ssim` and whatever else the protocol scores, each a `Stat`; `to_bicubic` (PSNR, dB); `seeds`,
    the scores by seed; `train_seconds` and `peak_memory_mb` of one run. `gap_closed`: how much of the way from sr_syn
    to sr_paired a system goes, 1 being all of it; `gap_closed_y`: the same in luma, where the protocol scores it.
    Raises InputError when bicubic cannot be scored.
    """
    tracks = {}
    for track in data.tracks:
        rows = {}
        for system in table.systems:
            row = _bicubic(table, data, track, root) if system == "bicubic" else _row(jobs, track, system)
            if row:
                rows[system] = row
        for row in rows.values():
            if "bicubic" in rows:
                row["to_bicubic"] = row["psnr"]["mean"] - rows["bicubic"]["psnr"]["mean"]
            for name, score in (("gap_closed", "psnr"), ("gap_closed_y", "psnr_y")):
                if all(score in rows.get(system, {}) for system in ("sr_syn", "sr_paired")):
                    low, high = (rows[system][score]["mean"] for system in ("sr_syn", "sr_paired"))
                    row[name] = (row[score]["mean"] - low) / (high - low) if high != low else None
        tracks[track] = rows
    return {
        "protocol": table.protocol,
        "scores": list(table.scores),
        "seeds": list(table.seeds),
        "runs": {"done": sum(job.done for job in jobs), "of": len(jobs)},
        "train_seconds": sum(read_summary(job.folder).get("train_seconds", 0.0) for job in jobs),
        "threads": table.cpus_per_run,
        "tracks": tracks,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    return {"cyclesr_dist": __version__, "torch": torch.__version__, "python": sys.version.split()[0]}


def stat(values: Sequence[float]) -> Stat:
    """Mean and sample standard deviation."""
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.fmean(values), "std": spread, "n": len(values)}


def best(rows: dict[str, Any], key: str) -> list[str]:
    """The systems with the best and the second best mean, of those that need no real pairs."""
    contest = [name for name in rows if name != "sr_paired" and key in rows[name]]
    return sorted(contest, key=lambda name: float(rows[name][key]["mean"]), reverse=not lower_is_better(key))[:2]


def _bicubic(table: Table, data: TableData, track: Any, root: Path) -> dict[str, Any]:
    path = root / "runs" / track / "bicubic" / f"scores-{track}.json"
    if not has_scores(path, table.scores):
        path.parent.mkdir(parents=True, exist_ok=True)
        model = resolve_model("bicubic", table.run.scale)
        take_scores(path, model, data.tracks[track].test_lr, data.test_hr, table.protocol, table.scores)
    return {name: stat([value]) for name, value in _mean(path).items()}


def _row(jobs: Sequence[Job], track: str, system: str) -> dict[str, Any]:
    own = [job for job in jobs if job.done and job.config.system == system and track in job.tests]
    if not own:
        return {}
    means = {job.config.seed: _mean(job.scores(track)) for job in own}
    names = [name for name in next(iter(means.values())) if all(name in scores for scores in means.values())]
    summaries = [read_summary(job.folder) for job in own]
    row: dict[str, Any] = {name: stat([scores[name] for scores in means.values()]) for name in names}
    row["seeds"] = {str(seed): scores for seed, scores in means.items()}
    for key in ("train_seconds", "peak_memory_mb"):
        row[key] = statistics.fmean(summary[key] for summary in summaries)
    row["warnings"] = sorted({text for summary in summaries for text in summary.get("warnings", [])})
    row["shared"] = own[0].name.startswith(f"{SHARED}/")
    return row


def _mean(path: Path) -> dict[str, float]:
    scores: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))["mean"]
    return {name: value for name, value in scores.items() if value is not None}
