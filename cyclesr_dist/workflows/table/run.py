"""`cyclesr table` and `cyclesr ablate`: data, runs, results, in this order; each part is kept and reused."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from cyclesr_dist.config.reader import dump
from cyclesr_dist.errors import CycleSRError
from cyclesr_dist.reports.curves import standing_alone
from cyclesr_dist.runtime.files import write_text
from cyclesr_dist.runtime.lease import Lease, held
from cyclesr_dist.workflows.table import ablation, render
from cyclesr_dist.workflows.table.config import Table
from cyclesr_dist.workflows.table.criteria import correlations
from cyclesr_dist.workflows.table.data import prepare
from cyclesr_dist.workflows.table.inference import costs
from cyclesr_dist.workflows.table.jobs import check_scores, run_jobs, sweep_jobs, table_jobs
from cyclesr_dist.workflows.table.pictures import draw_strips
from cyclesr_dist.workflows.table.results import collect
from cyclesr_dist.workflows.table.stages import compare_stages

Announce = Callable[[str], None]


def run_table(table: Table, root: Path, ray_address: str | None, announce: Announce, quiet: bool) -> dict[str, Any]:
    """Train and score what is not there yet; write `table.json`, `table.md`, `table.html`; return the table's content.

    When runs fail, what there is is written first. Raises CycleSRError then, InputError or ConfigError for bad folders.
    """
    with _claimed(root) as lease:
        return _table(table, root, lease, ray_address, announce, quiet)


def _table(
    table: Table, root: Path, lease: Lease, ray_address: str | None, announce: Announce, quiet: bool
) -> dict[str, Any]:
    check_scores(table)
    write_text(root / "table.yaml", dump(table))
    data = prepare(table, root / "data", announce, quiet)
    jobs = table_jobs(table, data, root)
    failure = None
    try:
        run_jobs(jobs, announce, ray_address, table.cpus_per_run, table.gpus_per_run, lease.hold)
    except CycleSRError as error:
        failure = error
    lease.hold(sure=True)
    announce("results")
    content = collect(table, data, jobs, root)
    content["correlations"] = correlations(jobs)
    content["inference"] = costs(data, jobs)
    content["stages"] = compare_stages(table, data, jobs)
    pictures = draw_strips(table, data, jobs, root)
    write_text(root / "table.json", json.dumps(content, indent=1) + "\n")
    write_text(root / "table.md", render.markdown(content))
    for track, chart in render.planes(content).items():
        write_text(root / render.plane_file(track), standing_alone(chart) + "\n")
    write_text(root / "table.html", render.html(content, "CycleSR: the table of systems", pictures))
    if failure:
        raise failure
    return content


def run_ablation(table: Table, root: Path, ray_address: str | None, announce: Announce, quiet: bool) -> dict[str, Any]:
    """cyclesr at every `sweep_mse`; write `ablation.json`, `ablation.md`, `ablation.html` with Figure 3's pictures."""
    with _claimed(root) as lease:
        return _ablation(table, root, lease, ray_address, announce, quiet)


def _ablation(
    table: Table, root: Path, lease: Lease, ray_address: str | None, announce: Announce, quiet: bool
) -> dict[str, Any]:
    write_text(root / "ablation.yaml", dump(table))
    data = prepare(table, root / "data", announce, quiet)
    jobs = sweep_jobs(table, data, root)
    failure = None
    try:
        run_jobs(list(jobs.values()), announce, ray_address, table.cpus_per_run, table.gpus_per_run, lease.hold)
    except CycleSRError as error:
        failure = error
    lease.hold(sure=True)
    announce("results")
    content = ablation.collect(table, jobs)
    pictures = ablation.draw(table, data, jobs, root)
    write_text(root / "ablation.json", json.dumps(content, indent=1) + "\n")
    write_text(root / "ablation.md", ablation.markdown(content))
    write_text(root / "ablation.html", ablation.html(content, pictures))
    if failure:
        raise failure
    return content


def _claimed(root: Path) -> AbstractContextManager[Lease]:
    return held(root, f"run folder {root}")
