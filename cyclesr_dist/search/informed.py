"""Ray Tune's Optuna searcher that begins with the results of earlier trials; it needs Optuna."""

from __future__ import annotations

from typing import Any

import optuna
from ray.tune.search.optuna import OptunaSearch


class InformedOptuna(OptunaSearch):  # type: ignore[misc]  # Ray's class has no types
    """`known`: values by key, and a score for each metric, of trials that are over. Ray's own `evaluated_rewards` takes
    one score alone, and a space that Tune must not know."""

    def __init__(self, known: list[tuple[dict[str, float], list[float]]], **settings: Any) -> None:
        self.known = known
        super().__init__(**settings)

    def _setup_study(self, mode: Any) -> None:
        super()._setup_study(mode)
        for values, scores in self.known:
            trial = optuna.trial.create_trial(params=values, distributions=self._space, values=scores)
            self._ot_study.add_trial(trial)
