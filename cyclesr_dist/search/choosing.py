"""Ray Tune's searchers and schedulers, as a search's configuration asks for them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, PopulationBasedTraining, TrialScheduler
from ray.tune.search import BasicVariantGenerator, ConcurrencyLimiter, Searcher

from cyclesr_dist.errors import InputError
from cyclesr_dist.runtime.extras import install_hint
from cyclesr_dist.search.config import Search, mode
from cyclesr_dist.search.progress import read_results
from cyclesr_dist.search.space import Domain


class RememberingASHA(ASHAScheduler):  # type: ignore[misc]  # Ray's class has no types
    """ASHA that knows the results of before a resume: Tune restores trials, but not the scheduler's rungs."""

    def __init__(self, results: Path, **settings: Any) -> None:
        super().__init__(**settings)
        self.results = results

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        super().on_trial_add(tune_controller, trial)
        for record in read_results(self.results).reports:
            if record["trial"] == trial.trial_id:
                value = self._metric_op * record[self._metric]
                self._trial_info[trial.trial_id].on_result(trial, record["own_steps"], value)


def scheduler(search: Search, results: Path) -> TrialScheduler:
    """`results` is the search's results.jsonl."""
    match search.scheduler:
        case "asha":
            return RememberingASHA(
                results,
                time_attr="own_steps",
                metric=search.metric,
                mode=search.mode,
                max_t=search.own_steps(),
                grace_period=search.asha.grace_steps or search.report_steps,
                reduction_factor=search.asha.reduction_factor,
            )
        case "pbt":
            domains = {domain.key: domain for domain in search.domains}
            return PopulationBasedTraining(
                time_attr="own_steps",
                metric=search.metric,
                mode=search.mode,
                perturbation_interval=search.pbt.interval_steps or search.report_steps,
                quantile_fraction=search.pbt.quantile,
                hyperparam_mutations={key: _mutation(domain) for key, domain in domains.items()},
                custom_explore_fn=Clamp(domains),
            )
        case "none":
            return FIFOScheduler()


class Clamp:
    """Keeps what population based training multiplies inside the space."""

    def __init__(self, domains: Mapping[str, Domain]) -> None:
        self.domains = domains

    def __call__(self, config: dict[str, float]) -> dict[str, float]:
        return {
            key: self.domains[key].clamped(value) if key in self.domains else value for key, value in config.items()
        }


def _mutation(domain: Domain) -> Any:
    return list(domain.values) if domain.kind == "choice" else domain.for_ray()


def searcher(search: Search) -> Searcher:
    """Raises InputError when the package that it needs is not installed."""
    limit = search.max_concurrent
    if search.searcher == "random":
        random_state = random.Random(search.seed).randrange(2**31)
        return BasicVariantGenerator(max_concurrent=limit, random_state=random_state)
    try:
        import optuna
        from ray.tune.search.optuna import OptunaSearch
    except ImportError as error:
        raise InputError(f"searcher: optuna needs Optuna: {install_hint('tune')}") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    metrics = list(search.metrics)
    several = len(metrics) > 1
    algorithm = OptunaSearch(
        metric=metrics if several else metrics[0],
        mode=[mode(metric) for metric in metrics] if several else search.mode,
        sampler=optuna.samplers.TPESampler(seed=search.seed),
    )
    return ConcurrencyLimiter(algorithm, max_concurrent=limit) if limit else algorithm
