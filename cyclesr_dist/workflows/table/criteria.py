"""How well the scores without pairs go with PSNR: rank correlations over the validations of all runs of a table."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cyclesr_dist.config.metrics import METRICS
from cyclesr_dist.config.systems import spec_of
from cyclesr_dist.workflows.table.jobs import Job

_SCORES = tuple(name for name, spec in METRICS.items() if "pairs" not in spec.needs)


def correlations(jobs: Sequence[Job]) -> dict[str, Any]:
    """By track and score: Spearman's rank correlation with PSNR, the sign such that 1 is perfect.

    `checkpoints`: the mean over runs of the correlation within a run; `runs`: over the last validations of all runs;
    `loss_db`: by how much PSNR at the checkpoint the score would choose is below the best one's, mean over runs. Runs
    with fewer than three validations do not count for `checkpoints`. A track's validations are of one set of
    photographs; sr_syn is validated on synthetic LR and left out.
    """
    tracks: dict[str, list[list[dict[str, float]]]] = defaultdict(list)
    for job in jobs:
        path = job.folder / "validation.jsonl"
        if not job.done or spec_of(job.config.system).data == "hr" or not path.is_file():
            continue
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if rows and "psnr" in rows[0]:
            tracks[job.config.track].append(rows)
    return {track: {score: found for score in _SCORES if (found := _of(runs, score))} for track, runs in tracks.items()}


def _of(runs: list[list[dict[str, float]]], score: str) -> dict[str, float]:
    having = [rows for rows in runs if all(score in row for row in rows)]
    if not having:
        return {}
    within = [spearman(rows, score) for rows in having if len(rows) >= 3]
    losses = [
        max(row["psnr"] for row in rows) - min(rows, key=lambda row: _sign(score) * row[score])["psnr"]
        for rows in having
    ]
    found = {"num_runs": float(len(having)), "loss_db": float(np.mean(losses))}
    if within:
        found["checkpoints"] = float(np.mean(within))
    if len(having) >= 3:
        found["runs"] = spearman([rows[-1] for rows in having], score)
    return found


def spearman(rows: Sequence[dict[str, float]], score: str) -> float:
    psnr, other = (_ranks([row[name] for row in rows]) for name in ("psnr", score))
    if np.ptp(psnr) == 0 or np.ptp(other) == 0:
        return 0.0
    return -_sign(score) * float(np.corrcoef(psnr, other)[0, 1])


def _sign(score: str) -> int:
    return -1 if METRICS[score].larger_is_better else 1


def _ranks(values: Sequence[float]) -> NDArray[np.float64]:
    """Ranks; equal values share their mean rank."""
    array = np.asarray(values)
    return np.array([(array < value).sum() + ((array == value).sum() - 1) / 2 for value in array])
