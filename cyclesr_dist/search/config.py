"""Configuration of a search: what is varied around which training configuration, and on what resources."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from cyclesr_dist.config.cluster import Cluster, check_cluster
from cyclesr_dist.config.credentials import refuse_signatures
from cyclesr_dist.config.marks import Amount, Count, Positive, Range, Removed, check_marks
from cyclesr_dist.config.metrics import ASKED_FOR, METRICS, MetricName, metric_of
from cyclesr_dist.config.paths import with_paths
from cyclesr_dist.config.reader import ObjectName, check_range, read, to_dict
from cyclesr_dist.config.schema import Config, Listening, check_listening, load
from cyclesr_dist.config.shipped import config_file
from cyclesr_dist.config.slurm import Slurm, check_slurm
from cyclesr_dist.config.systems import spec_of
from cyclesr_dist.errors import ConfigError
from cyclesr_dist.search.space import Domain, parse_space
from cyclesr_dist.training.schedule import Schedule

_REPORTS = 8
_ALL = 1_000_000


@dataclass(frozen=True)
class ASHA:
    """Asynchronous successive halving: at each rung, trials that are not among the best are stopped."""

    grace_steps: Count = 0
    """First rung, in steps of the trial's own; 0: the first report."""
    reduction_factor: Annotated[float, Range(above=1)] = 3.0
    """Of so many trials at a rung one goes on; rungs are so much apart."""


@dataclass(frozen=True)
class PBT:
    """Population based training: bad trials go on from copies of good ones, with changed values."""

    interval_steps: Count = 0
    """Between two such looks; 0: every report."""
    quantile: Annotated[float, Range(above=0, maximum=0.5)] = 0.25
    """Share of trials that count as bad, and as good."""

    REMOVED: ClassVar[Mapping[str, Removed]] = {
        "resample": Removed(0.25, "a value is drawn anew with a chance of 0.25, else multiplied by 0.8 or 1.2")
    }


@dataclass(frozen=True)
class Workers:
    """The ranks of each trial, and what each of them is given by Ray."""

    num: Positive = 1
    """Ranks of a trial."""
    cpus: Positive = 1
    """CPU cores of each."""
    gpus: Amount = 0.0
    """GPUs of each; 0.5: two share one."""


@dataclass(frozen=True)
class Search:
    """Of a search: what is varied around which training configuration, and on what resources."""

    base: str = ""
    """Training configuration that every trial starts from. A relative path is looked for beside the file that names it,
    then in the working directory, then among the shipped configurations; one of the command line not beside the file.
    Its data must be seen from all machines of the cluster under the same path or URL."""
    overrides: tuple[str, ...] = ()
    """`key.sub=value` on top of it."""
    space: dict[str, Any] = field(default_factory=dict)
    """What is varied: `weights.mse: {loguniform: [1, 1000]}`; also `uniform`, `choice` and `grid`."""
    metric: MetricName | ObjectName = "psnr"
    """Validation score by which trials are compared and, inside a trial, checkpoints; or a MetricSpec of yours."""
    second_metric: MetricName | None = None
    """A score to trade the first against (`searcher: optuna` with `scheduler: none`): the search looks for the front.
    lpips, dists and niqe are perceptual, and spectrum_hr, which needs no weights and next to no time."""
    searcher: Literal["random", "optuna"] = "random"
    """`random`: draws and grids. `optuna`: TPE, which learns from the trials before."""
    scheduler: Literal["asha", "pbt", "none"] = "asha"
    """`asha` stops bad trials early, `pbt` trains a population, `none` lets all trials end."""
    num_samples: Positive = 1
    """Draws from the space. Grids are gone through once for each. A resumed search may have more."""
    steps: Positive = 0
    """Length of a whole trial: its `train.steps`. Must be given."""
    shared_steps: Count = 0
    """The first so many steps of all trials are trained once, with `base`'s own values, and every trial goes on from
    there. For what the keys hardly touch: weights.mse and the pretraining, in which g_l2h is apart."""
    report_every_steps: Count = 0
    """Validation and checkpoint in a trial, of which `steps` and `shared_steps` are multiples; 0: eight in a trial."""
    seed: Count = 0
    """Of the draws. Trials have the seed of `base`."""
    asha: ASHA = field(default_factory=ASHA)
    pbt: PBT = field(default_factory=PBT)
    workers: Workers = field(default_factory=Workers)
    max_concurrent: Count = 0
    """Trials at a time; 0: as many as the cluster holds."""
    max_failures: Count = 3
    """How often a trial that has lost a process or a machine is begun again from its last checkpoint."""
    storage: str = ""
    """Where trials keep checkpoints: a folder that all machines share, or a URL (s3://bucket/searches); empty: the run
    folder."""
    pictures: Count = 1
    """Validation photographs of which the page shows the best, the median and the worst trial; 0: none."""
    telemetry: Listening = field(default_factory=Listening)
    """`/metrics` of the search itself, by trial. Trials have none of their own."""
    cluster: Cluster = field(default_factory=Cluster)
    """For `launch/submit.py` alone: a Ray cluster of the search's own."""
    slurm: Slurm = field(default_factory=Slurm)
    """For `launch/submit.py --target slurm-search` alone."""

    @cached_property
    def domains(self) -> tuple[Domain, ...]:
        return parse_space(self.space, Path(self.base), self.overrides)

    @property
    def num_trials(self) -> int:
        return self.num_samples * math.prod(len(d.values) for d in self.domains if d.kind == "grid")

    @property
    def mode(self) -> Literal["max", "min"]:
        return mode(self.metric)

    @property
    def metrics(self) -> tuple[str, ...]:
        return (self.metric,) if self.second_metric is None else (self.metric, self.second_metric)

    @property
    def scores(self) -> tuple[str, ...]:
        """All that trials may report."""
        return tuple(dict.fromkeys((*METRICS, *self.metrics)))

    @property
    def report_steps(self) -> int:
        return self.report_every_steps or max(1, self.own_steps() // _REPORTS)

    def own_steps(self) -> int:
        """Of a whole trial: all but the shared ones."""
        return self.last_step() - self.shared_steps

    def base_config(self) -> Config:
        return load(self.base, self.overrides)

    def last_step(self) -> int:
        """Where a whole trial ends (cycle_sr_separate has two rounds of `steps`)."""
        config = self.base_config()
        return Schedule(
            replace(config.train, steps=self.steps, max_steps=0), 1, spec_of(config.system).rounds
        ).num_steps

    def trial_overrides(self) -> list[str]:
        """What the search sets in every trial's configuration."""
        every = self.report_steps
        return [
            f"train.steps={self.steps}",
            f"train.validate_every_steps={every}",
            f"train.checkpoint_every_steps={every}",
            f"train.keep_checkpoints={_ALL}",  # the trial removes those it has reported
            "train.checkpoints=",
            f"validate.metric={self.metric}",
            *self._taken_besides(),
            "telemetry.port=0",  # ranks of several trials share a machine; the search exports for them
            "telemetry.push_gateway=",
            "telemetry.trackers=[]",
            "telemetry.profile.steps=[]",  # a trial's folder does not stay
        ]

    def _taken_besides(self) -> list[str]:
        """`second_metric`, where trials take it only if they are asked for it."""
        if self.second_metric not in ASKED_FOR:
            return []
        scores = dict.fromkeys((*self.base_config().validate.scores, self.second_metric))
        return [f"validate.scores=[{', '.join(scores)}]"]


def mode(score: str) -> Literal["max", "min"]:
    return "max" if metric_of("metric", score).larger_is_better else "min"


def worst(score: str) -> float:
    """What a trial that failed is given, so that searchers and schedulers turn away from it: a finite number."""
    return metric_of("metric", score).worst


def is_better(score: str, a: float, b: float) -> bool:
    return a > b if mode(score) == "max" else a < b


def load_search(path: Path, overrides: Sequence[str] = ()) -> Search:
    """Read a search's YAML file with overrides; `base` becomes absolute.

    Raises ConfigError naming file, key, value and what is allowed.
    """
    search = read(Search, path, overrides)
    if not search.base:
        raise ConfigError(f"{path}: base is empty; give the training configuration that trials start from")
    given_here = any(text.partition("=")[0].strip() == "base" for text in overrides)
    search = replace(search, base=str(_base_file(search.base, path, given_here)))
    check_marks(search)
    refuse_signatures(to_dict(search), "it in the file of `base`; what a search is given itself, Ray keeps as it is")
    check_cluster(search.cluster)
    check_slurm(search.slurm)
    check_listening(search.telemetry)
    own = search.own_steps()
    check_range("shared_steps", search.shared_steps, maximum=search.last_step() - 1)
    check_range("report_every_steps", search.report_every_steps, maximum=own)
    check_range("asha.grace_steps", search.asha.grace_steps, maximum=own)
    check_range("pbt.interval_steps", search.pbt.interval_steps, maximum=own)
    for metric in search.metrics:
        metric_of("metric", metric)
    _check_base(search)
    _check_combination(search)
    return search


def _base_file(base: str, path: Path, given_here: bool) -> Path:
    """Where the file is that `base` of the search file `path`, or of the command line, names. Raises ConfigError."""
    beside = [] if given_here else [path.absolute().parent / base]
    places = list(dict.fromkeys([*beside, Path.cwd() / base, config_file(base).absolute()]))
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        asked = "override" if given_here else f"{path}:"
        raise ConfigError(f"{asked} base = {base!r}: no such file; looked for {', '.join(map(str, places))}")
    return found


def _check_base(search: Search) -> None:
    config = load(search.base, [*search.overrides, *search.trial_overrides()])
    if not config.data.valid_lr:
        raise ConfigError(
            f"data.valid_lr of {search.base} is empty: without validation no trial reports {search.metric}"
        )
    if config.backend == "single" and search.workers.num > 1:
        raise ConfigError(
            f"workers.num = {search.workers.num} needs backend=ddp or deepspeed in {search.base}, not single"
        )
    if config.global_batch % search.workers.num:
        raise ConfigError(
            f"workers.num = {search.workers.num} does not divide global_batch = {config.global_batch} of {search.base}"
        )


def _check_combination(search: Search) -> None:
    domains = search.domains
    if search.shared_steps % search.report_steps:
        raise ConfigError(
            f"shared_steps = {search.shared_steps} is no multiple of report_every_steps = {search.report_steps}: "
            "trials go on from a checkpoint"
        )
    if search.searcher == "optuna":
        _refuse_grid(domains, "searcher: optuna")
        if search.scheduler == "pbt":
            raise ConfigError("searcher: optuna and scheduler: pbt both choose values; allowed: one of them")
    if search.scheduler == "pbt":
        _refuse_grid(domains, "scheduler: pbt")
        check_range("num_samples with scheduler: pbt", search.num_samples, minimum=4)
        for domain in domains:
            if not domain.key.startswith(("weights.", "optim.")):
                raise ConfigError(
                    f"space.{domain.key}: scheduler: pbt changes values in a running trial; allowed: weights.*, optim.*"
                )
    if search.second_metric is not None:
        if search.second_metric == search.metric:
            raise ConfigError(f"second_metric = {search.second_metric} is metric, too")
        if search.searcher != "optuna" or search.scheduler != "none":
            raise ConfigError("second_metric needs searcher: optuna and scheduler: none: others compare by one score")


def _refuse_grid(domains: Sequence[Domain], why: str) -> None:
    for domain in domains:
        if domain.kind == "grid":
            raise ConfigError(f"space.{domain.key}.grid with {why}; allowed: choice, uniform, loguniform")


def absolute(config: Config) -> Config:
    """With local paths absolute: ranks run in folders of their own."""
    return with_paths(config, lambda path: str(Path(path).absolute()))
