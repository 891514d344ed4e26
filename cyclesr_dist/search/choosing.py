"""Ray Tune's searchers and schedulers, as a search's configuration asks for them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
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
    """ASHA that knows the results of before a resume, or of before more samples were asked for: Tune restores trials,
    but not the scheduler's rungs."""

    def __init__(self, results: Path, **settings: Any) -> None:
        super().__init__(**settings)
        self.results = results
        self.knows_before = False

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        super().on_trial_add(tune_controller, trial)
        if self.knows_before:
            return
        self.knows_before = True
        for record in read_results(self.results).reports:  # also of trials of earlier rounds, which are not added
            value = self._metric_op * record[self._metric]
            before = SimpleNamespace(trial_id=record["trial"])
            self._brackets[0].on_result(before, record["own_steps"], value)


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


class LaterVariants(BasicVariantGenerator):  # type: ignore[misc]  # Ray's class has no types
    """The draws of one long search, without its first `num_before` trials."""

    def __init__(self, num_before: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.num_before = num_before

    def add_configurations(self, experiments: Any) -> None:
        """Tune calls it as the search begins, not when it is restored: what is drawn here is not drawn again."""
        super().add_configurations(experiments)
        for _ in range(self.num_before):
            next(self._iterators[0])


def searcher(search: Search, before: int, results: Path) -> Searcher:
    """For the samples of `search` after the first `before`, which results.jsonl tells of.

    Raises InputError when the package that it needs is not installed.
    """
    limit = search.max_concurrent
    if search.searcher == "random":
        random_state = random.Random(search.seed).randrange(2**31)
        num_before = before * search.num_trials // search.num_samples
        return LaterVariants(num_before, max_concurrent=limit, random_state=random_state)
    try:
        import optuna
    except ImportError as error:
        raise InputError(f"searcher: optuna needs Optuna: {install_hint('tune')}") from error
    from cyclesr_dist.search.informed import InformedOptuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    metrics = list(search.metrics)
    several = len(metrics) > 1
    algorithm = InformedOptuna(
        known=_known(search, results) if before else [],
        metric=metrics if several else metrics[0],
        mode=[mode(metric) for metric in metrics] if several else search.mode,
        sampler=optuna.samplers.TPESampler(seed=search.seed + before),  # the first draws are not drawn again
    )
    return ConcurrencyLimiter(algorithm, max_concurrent=limit) if limit else algorithm


def _known(search: Search, results: Path) -> list[tuple[dict[str, float], list[float]]]:
    """Values and scores of the trials of before, each at its last report, as Optuna is told of them."""
    last = {record["trial"]: record for record in read_results(results).reports}
    return [(dict(record["values"]), [record[metric] for metric in search.metrics]) for record in last.values()]
