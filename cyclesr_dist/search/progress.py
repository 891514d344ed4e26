"""What a search shows while it runs: lines in the terminal, `/metrics`, and results.jsonl, which a resumed one reads.

A Tune callback, so it runs in the process that drives the search.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune

from cyclesr_dist.runtime.files import write_text
from cyclesr_dist.search.config import Search, is_better
from cyclesr_dist.telemetry import definitions as d
from cyclesr_dist.telemetry.endpoint import Endpoint
from cyclesr_dist.telemetry.series import Series

_KEPT = ("loss.", "drift.")


class SearchProgress(tune.Callback):  # type: ignore[misc]  # Ray's class has no types
    """All it knows stands in results.jsonl: Tune pickles it, and a resumed search unpickles it."""

    def __init__(self, search: Search, results: Path, quiet: bool) -> None:
        self.search, self.results, self.quiet = search, results, quiet
        self.metrics: TrialMetrics | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return SearchProgress, (self.search, self.results, self.quiet)

    def setup(self, *args: Any, **info: Any) -> None:
        """Tune calls it as the search begins."""
        search = self.search
        self.num_trials = search.num_trials
        self.last_step, self.own_steps = search.last_step(), search.own_steps()
        self.numbers: dict[str, int] = {}
        self.steps: dict[str, float] = {}
        self.over: set[str] = set()
        self.best: Best | None = None
        self.began = time.monotonic()
        self.steps_before = 0.0
        self.metrics = TrialMetrics(search)
        mend(self.results)
        before = read_results(self.results)
        for name in before.values:
            self._number(name)
        for record in before.reports:
            self.steps[record["trial"]] = record["own_steps"]
            if record["done"]:
                self.over.add(record["trial"])
            if "failed" not in record:
                self._compare(record["trial"], record, record["values"])
        self.steps_before = sum(self.steps.values())

    def say(self, line: str) -> None:
        if not self.quiet:
            print(f"cyclesr tune: {line}", flush=True)

    def warn(self, line: str) -> None:
        """Also with --quiet."""
        print(f"cyclesr tune: warning: {line}", file=sys.stderr, flush=True)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: Mapping[str, Any], **_: Any
    ) -> None:
        name, step = trial.trial_id, float(result["step"])
        values = dict(result["config"])  # those of trial.config may be meant for its next steps
        number = self._number(name)
        self.steps[name] = float(result["own_steps"])
        named = _scores(self.search, result)
        kept = {k: v for k, v in result.items() if k in named or k.startswith(_KEPT) or k == "failed"}
        record = {
            "trial": name,
            "step": step,
            "own_steps": result["own_steps"],
            "done": bool(result.get("done")),
            "values": values,
            "seconds": result["time_total_s"],
            **kept,
        }
        self._write(record)
        if cause := result.get("failed"):
            self.over.add(name)
            self.warn(f"trial {number} failed with {_shown(values)}: {cause}")
            return
        self._compare(name, result, values)
        if self.metrics:
            self.metrics.reported(name, result, self.best)
        scores = " ".join(f"{score} {result[score]:.5g}" for score in self.search.metrics)
        self.say(
            f"trial {number}/{self.num_trials} step {step:.0f}/{self.last_step} {scores} "
            f"with {_shown(values)}; "
            f"{self._best()}; {self._left(trials)}"
        )

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._count(trials)
        step = self.steps.get(trial.trial_id, 0)
        if step < self.own_steps and trial.trial_id not in self.over:
            self.say(f"trial {self._number(trial.trial_id)} stopped after {step:.0f} steps: others are better")
        self.over.add(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Only after its last retry."""
        self.over.add(trial.trial_id)
        self._count(trials)
        self.warn(f"trial {self._number(trial.trial_id)} given up after {self.search.max_failures} retries")

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self.warn(f"trial {self._number(trial.trial_id)} lost a process: it goes on from its last checkpoint")

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        if trial.trial_id not in self.numbers:
            self._number(trial.trial_id)
            self._write({"trial": trial.trial_id, "values": _values(trial)})
        self._count(trials)

    def on_experiment_end(self, trials: list[Any], **_: Any) -> None:
        self._count(trials)
        if self.metrics:
            self.metrics.close()

    def _count(self, trials: list[Any]) -> None:
        if self.metrics:
            self.metrics.counted(trials)

    def _write(self, record: Mapping[str, Any]) -> None:
        record = {**record, "at": round(time.time(), 3)}
        with self.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def _number(self, name: str) -> int:
        return self.numbers.setdefault(name, len(self.numbers) + 1)

    def _compare(self, name: str, scores: Mapping[str, Any], values: Mapping[str, float]) -> None:
        """The best is sought where trials have come furthest: scores of different steps cannot be compared."""
        new = Best(
            float(scores["step"]), float(scores[self.search.metric]), f"trial {self._number(name)}, {_shown(values)}"
        )
        old = self.best
        if (
            old is None
            or new.step > old.step
            or (new.step == old.step and is_better(self.search.metric, new.value, old.value))
        ):
            self.best = new

    def _best(self) -> str:
        return f"best {self.best.value:.5g} ({self.best.whose})" if self.best else "no score yet"

    def _left(self, trials: list[Any]) -> str:
        """At most, since trials may be stopped early."""
        done = sum(self.steps.values()) - self.steps_before
        seconds = time.monotonic() - self.began
        going = sum(self.own_steps - self.steps.get(t.trial_id, 0) for t in trials if t.trial_id not in self.over)
        known = self.numbers.keys() | {t.trial_id for t in trials}
        to_come = max(0, self.num_trials - len(known)) * self.own_steps
        left = (going + to_come) * seconds / done if done > 0 else float("inf")
        return f"{len(self.over)} of {self.num_trials} over, at most {_duration(left)} left"


@dataclass(frozen=True)
class Best:
    """So far."""

    step: float
    value: float
    whose: str


class TrialMetrics:
    """`/metrics` of the search on `telemetry.port`; with port 0 nothing listens."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self.series = Series(d.SEARCH)
        self.endpoint = Endpoint(search.telemetry, 0, self.series.registry)

    def reported(self, name: str, result: Mapping[str, Any], best: Best | None) -> None:
        self.series.set(d.TRIAL_STEP, result["step"], name)
        for score in _scores(self.search, result):
            self.series.set(d.TRIAL_VALIDATION, result[score], name, score)
        if "patches_per_second" in result:
            self.series.set(d.TRIAL_THROUGHPUT, result["patches_per_second"], name)
        if best:
            self.series.set(d.SEARCH_BEST, best.value, self.search.metric)

    def counted(self, trials: list[Any]) -> None:
        states = [str(trial.status).lower() for trial in trials]
        for state in ("pending", "running", "paused", "terminated", "error"):
            self.series.set(d.SEARCH_TRIALS, states.count(state), state)

    def close(self) -> None:
        self.endpoint.close()


@dataclass(frozen=True)
class Results:
    """results.jsonl."""

    values: dict[str, dict[str, float]]
    """Of every trial that has begun, in order."""
    reports: list[dict[str, Any]]
    """In order; `trial`, `step`, `own_steps`, `done`, `values`, `seconds`, `at` (the clock), scores; `failed`: why."""


def read_results(path: Path) -> Results:
    """A half-written last line is left out."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []
    records = [json.loads(line) for line in lines if line]
    values: dict[str, dict[str, float]] = {}
    for record in records:
        values[record["trial"]] = record["values"]  # the newest: population based training changes them
    return Results(values, [record for record in records if "step" in record])


def mend(path: Path) -> None:
    """Cut off the half line that a killed search left."""
    if path.is_file():
        text = path.read_text(encoding="utf-8")
        write_text(path, text[: text.rfind("\n") + 1])


def _scores(search: Search, result: Mapping[str, Any]) -> list[str]:
    return [name for name in (*search.scores, "spectrum_syn") if name in result]


def _values(trial: Any) -> dict[str, float]:
    return dict(trial.config)


def _shown(values: Mapping[str, float]) -> str:
    return " ".join(f"{key}={value:.4g}" for key, value in values.items())


def _duration(seconds: float) -> str:
    if seconds == float("inf"):
        return "an unknown time"
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
