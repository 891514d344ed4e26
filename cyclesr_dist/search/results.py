"""What came out of a search: a row for every trial, the best values as a training configuration."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low
from typing import Any, Literal

from cyclesr_dist.config.reader import dump
from cyclesr_dist.search.config import Search, is_better
from cyclesr_dist.search.progress import Results
from cyclesr_dist.search.space import with_values

State = Literal["finished", "stopped early", "failed", "lost", "unfinished"]


@dataclass(frozen=True)
class Row:
    """One trial at its last report."""

    name: str
    number: int
    state: State
    values: Mapping[str, float]
    step: float
    own_steps: float
    """Without those that all trials share."""
    scores: Mapping[str, float]
    seconds: float
    cause: str
    checkpoint: Any
    """A Ray checkpoint, or None."""

    @property
    def counts(self) -> bool:
        """Whether its score says something of its values."""
        return self.state in ("finished", "stopped early") and bool(self.scores)

    @property
    def has_failed(self) -> bool:
        """Whether it ended without a score, by itself or because its processes were lost too often."""
        return self.state in ("failed", "lost")


def rows(search: Search, results: Iterable[Any], reported: Results) -> list[Row]:
    """From Tune's results, for the trials that have begun, numbered in that order."""
    last_step = search.last_step()
    last = {record["trial"]: record for record in reported.reports}
    by_name = {Path(result.path).name: result for result in results}
    return [
        _row(search, name, number, by_name[name], values, last.get(name, {}), last_step)
        for number, (name, values) in enumerate(reported.values.items(), 1)
        if name in by_name
    ]


def _row(
    search: Search,
    name: str,
    number: int,
    result: Any,
    values: Mapping[str, float],
    record: Mapping[str, Any],
    last_step: int,
) -> Row:
    failed = str(record.get("failed", ""))
    scores = {name: float(record[name]) for name in search.scores if name in record and not failed}
    step = float(record.get("step", 0))
    state: State = "unfinished"
    if failed:
        state = "failed"
    elif step >= last_step:
        state = "finished"
    elif record.get("done"):
        state = "stopped early"
    elif result.error:
        state = "lost"
    cause = failed or (str(result.error).strip().splitlines()[-1] if state == "lost" else "")
    seconds = round(float(record.get("seconds", 0.0)), 1)
    own_steps = float(record.get("own_steps", 0))
    return Row(name, number, state, values, step, own_steps, scores, seconds, cause, result.checkpoint)


def ranked(search: Search, found: Sequence[Row]) -> list[Row]:
    """Those that count, best first: the longest first, since a trial was stopped where others were better, and scores
    of different steps cannot be compared; then by score; among equals the one that began first."""
    sign = -1.0 if search.mode == "max" else 1.0
    counting = [row for row in found if row.counts]
    return sorted(counting, key=lambda row: (-row.step, sign * row.scores[search.metric], row.number))


def num_unfinished(search: Search, found: Sequence[Row]) -> int:
    """Trials that are to go on, or to begin."""
    return sum(row.state == "unfinished" for row in found) + search.num_trials - len(found)


def failures(found: Sequence[Row]) -> str:
    """How many failed, and why most did; causes are alike when they differ in numbers alone."""
    failed = [row for row in found if row.has_failed]
    alike: dict[str, list[Row]] = {}
    for row in failed:
        alike.setdefault(re.sub(r"[-+]?\d[\d.]*(e[-+]?\d+)?", "", row.cause), []).append(row)
    most = max(alike.values(), key=len, default=[])
    many = f"{len(failed)} of {len(found)} trials failed"
    if not most:
        return many
    share = "" if len(most) == len(failed) else f" ({len(most)} of them)"
    return f"{many}{share}: {most[0].cause}"


def steps_trained(search: Search, found: Sequence[Row]) -> tuple[float, int]:
    """In all, shared ones included, and what all trials at full length would take."""
    trained = search.shared_steps + sum(row.own_steps for row in found)
    return trained, search.shared_steps + search.num_trials * search.own_steps()


def front(search: Search, found: Sequence[Row]) -> list[Row]:
    """Of a search for two scores: the trials that no other beats in both."""
    counting = [row for row in found if row.counts]
    return [row for row in counting if not any(_dominates(search, other, row) for other in counting)]


def _dominates(search: Search, a: Row, b: Row) -> bool:
    pairs = [(metric, a.scores[metric], b.scores[metric]) for metric in search.metrics]
    return not any(is_better(*_swapped(pair)) for pair in pairs) and any(is_better(*pair) for pair in pairs)


def _swapped(pair: tuple[str, float, float]) -> tuple[str, float, float]:
    return pair[0], pair[2], pair[1]


def middle(order: Sequence[Row]) -> Row:
    """The median trial of a ranking."""
    return order[median_low(range(len(order)))]


def trials_csv(search: Search, found: Sequence[Row]) -> str:
    keys = [domain.key for domain in search.domains]
    scores = [name for name in search.scores if any(name in row.scores for row in found)]
    on_front = {row.name for row in front(search, found)} if search.second_metric else set()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    more = ["front"] if search.second_metric else []
    writer.writerow(["trial", "state", "step", *scores, *more, *keys, "seconds", "id", "cause"])
    for row in found:
        own = [f"{row.scores[name]:.6g}" if name in row.scores else "" for name in scores]
        marks = [int(row.name in on_front)] if search.second_metric else []
        values = [repr(row.values[key]) for key in keys]
        writer.writerow(
            [row.number, row.state, f"{row.step:.0f}", *own, *marks, *values, row.seconds, row.name, row.cause]
        )
    return text.getvalue()


def best_yaml(search: Search, best: Row) -> str:
    """The base configuration with the best values, for launch/train.py: its own schedule, not the search's."""
    scores = ", ".join(f"{name} {value:.4g}" for name, value in best.scores.items())
    values = ", ".join(f"{key}={value:.6g}" for key, value in best.values.items())
    head = f"# {Path(search.base).name} with the best values of a search: {values}.\n"
    head += f"# Trial {best.number} had {scores} at step {best.step:.0f} of {search.last_step()}.\n"
    return head + dump(with_values(Path(search.base), search.overrides, best.values))
