"""A search from its configuration to what was found: check, train the trials, write the files."""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from cyclesr_dist.config.reader import dump
from cyclesr_dist.errors import CycleSRError, InputError, Preempted
from cyclesr_dist.runtime.extras import install_hint
from cyclesr_dist.runtime.files import write_text
from cyclesr_dist.runtime.lease import Lease, held
from cyclesr_dist.runtime.signals import Insistence, requests, taking
from cyclesr_dist.runtime.user_modules import FOLDER_VARIABLE
from cyclesr_dist.runtime.wording import counted
from cyclesr_dist.search.config import Search, absolute
from cyclesr_dist.search.identity import Identity, claim, recognise
from cyclesr_dist.search.samples import known
from cyclesr_dist.search.storage_claim import claimed


def require_ray() -> None:
    """Say at once what is missing. Raises InputError."""
    try:
        import ray  # noqa: F401
    except ImportError as error:
        raise InputError(f"a search needs Ray: {install_hint('tune')}") from error


def run_search(
    search: Search,
    run_dir: Path,
    address: str | None,
    *,
    resume: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
) -> None:
    """Search, and write best.yaml, trials.csv, report.html and summary.json into `run_dir`.

    Raises ConfigError and InputError before any trial begins, Preempted when it is interrupted, CycleSRError when no
    trial gave a score.
    """
    from cyclesr_dist.search.cluster import check_training, connected, is_elsewhere, ready_nodes
    from cyclesr_dist.telemetry.access import check_endpoint

    check_endpoint(search.telemetry)
    storage = search.storage or str((run_dir / "ray").absolute())
    working_dir = os.environ.get(FOLDER_VARIABLE) or os.getcwd()
    config = absolute(search.base_config())
    base = dump(config, signatures=True)
    alone = not is_elsewhere(address)
    begun, identity = (False, None) if dry_run else recognise(search, run_dir, resume)
    if alone and not begun:
        check_training(search, base, working_dir, here=True)
    with ExitStack() as opened:
        leases: list[Lease] = []
        if not dry_run:
            leases += [opened.enter_context(held(run_dir, f"run folder {run_dir}", when_lost=_interrupt))]
            if search.storage:  # else it is in the run folder
                leases += [opened.enter_context(claimed(storage, run_dir.absolute().name, _interrupt))]
            begun, identity = recognise(search, run_dir, resume)  # what was waited for may have left a search
            if resume and not begun:
                print("cyclesr tune: no search yet: starting from the beginning", file=sys.stderr)
        opened.enter_context(connected(address))
        opened.enter_context(_requests_as_sigint())  # in this order: Ray takes SIGTERM when it is begun
        nodes = ready_nodes(search.workers, storage)
        if not (alone or begun):
            check_training(search, base, working_dir)
        if identity is None:  # a dry run
            print(dump(search), end="")
            trials, steps = counted(search.num_trials, "trial"), counted(search.last_step(), "step")
            print(f"# {trials} of at most {steps} on {counted(len(nodes), 'node')}; none begun")
            return
        claim(search, run_dir, identity)
        parameters = {"base": base, "working_dir": working_dir, "samples": known(config, search, identity.data)}
        _search(search, run_dir, storage, parameters, begun, identity, quiet, leases)


def _search(
    search: Search,
    run_dir: Path,
    storage: str,
    parameters: dict[str, Any],
    resume: bool,
    identity: Identity,
    quiet: bool,
    leases: list[Lease],
) -> None:
    """One experiment of Tune for each time that `num_samples` was given: Tune cannot add trials to one that is over."""
    from ray import tune

    from cyclesr_dist.search.choosing import scheduler, searcher
    from cyclesr_dist.search.progress import SearchProgress, read_results
    from cyclesr_dist.search.results import num_unfinished, rows

    results = run_dir.absolute() / "results.jsonl"
    name = run_dir.absolute().name
    shared = _shared(search, name, storage, parameters, resume, quiet) if search.shared_steps else None
    found: list[Any] = []
    before = 0
    for num_samples, place in identity.places(name):
        this_round = replace(search, num_samples=num_samples)
        number = num_samples if search.searcher == "random" else num_samples - before  # of those some were drawn before
        found += _fit(
            search,
            place,
            storage,
            resume,
            parameters | {"last_step": search.last_step(), "shared": shared},
            param_space={domain.key: domain.for_ray() for domain in search.domains},
            tune_config=tune.TuneConfig(
                search_alg=searcher(this_round, before, results),
                scheduler=scheduler(search, results),
                num_samples=number,
                trial_dirname_creator=_trial_id,
            ),
            callbacks=[SearchProgress(search, results, quiet)],
        )
        if num_unfinished(this_round, rows(search, found, read_results(results))):
            break  # it was told to stop
        before = num_samples
    for lease in leases:
        lease.hold(sure=True)
    _write(search, run_dir, storage, found, quiet)


def _shared(search: Search, name: str, storage: str, parameters: dict[str, Any], resume: bool, quiet: bool) -> Any:
    """Train the shared steps, or find them done. Returns a Ray checkpoint, raises CycleSRError."""
    from ray import tune

    if not quiet:
        print(f"cyclesr tune: the {search.shared_steps} steps that all trials share", flush=True)
    config = tune.TuneConfig(trial_dirname_creator=_trial_id)
    own = parameters | {"last_step": search.shared_steps, "shared": None}
    (result,) = _fit(search, f"{name}-shared", storage, resume, own, param_space={}, tune_config=config, callbacks=[])
    metrics = result.metrics or {}
    if cause := metrics.get("failed") or result.error:
        raise CycleSRError(f"the shared steps failed: {str(cause).strip().splitlines()[-1]}")
    if metrics.get("step") != search.shared_steps:
        raise Preempted(
            f"step {metrics.get('step', 0)} of {search.shared_steps} shared ones is done; --resume continues"
        )
    return result.checkpoint


def _fit(
    search: Search,
    name: str,
    storage: str,
    resume: bool,
    parameters: dict[str, Any],
    *,
    param_space: dict[str, Any],
    tune_config: Any,
    callbacks: list[Any],
) -> Any:
    """Tune's results of the experiment `name` in `storage`, begun or resumed. Raises InputError for a name in use."""
    from ray import tune

    from cyclesr_dist.search.cluster import bundles
    from cyclesr_dist.search.trial import Trial

    trainable = tune.with_resources(
        tune.with_parameters(Trial, search=search, settings=search.trial_overrides(), **parameters),
        bundles(search.workers),
    )
    place = f"{storage.rstrip('/')}/{name}"
    begun = tune.Tuner.can_restore(place)
    if begun and not resume:
        raise InputError(f"{place} already holds a search; use another --run-dir, or remove it")
    if begun:
        tuner = tune.Tuner.restore(place, trainable, resume_errored=True)
    else:
        tuner = tune.Tuner(
            trainable,
            param_space=param_space,
            tune_config=tune_config,
            run_config=tune.RunConfig(
                name=name,
                storage_path=storage,
                callbacks=callbacks,
                failure_config=tune.FailureConfig(max_failures=search.max_failures),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1, num_to_keep=_num_kept(search)),
                verbose=0,
            ),
        )
    warnings.filterwarnings("ignore", message="Consider boosting PBT performance")  # a trial's time is its training
    return tuner.fit()


def _num_kept(search: Search) -> int | None:
    """Checkpoints of each trial. Of a population all: trials that are ahead are copied from where others are."""
    return None if search.scheduler == "pbt" else 2


def _trial_id(trial: Any) -> str:
    name: str = trial.trial_id
    return name


def _write(search: Search, run_dir: Path, storage: str, found: Any, quiet: bool) -> None:
    """The files of the result. Raises Preempted when some trials are unfinished, CycleSRError when none succeeded."""
    from cyclesr_dist.search.page import html
    from cyclesr_dist.search.pictures import strips
    from cyclesr_dist.search.progress import read_results
    from cyclesr_dist.search.results import (
        best_yaml,
        failures,
        middle,
        num_unfinished,
        ranked,
        rows,
        steps_trained,
        trials_csv,
    )

    records = read_results(run_dir / "results.jsonl")
    trials = rows(search, found, records)
    order = ranked(search, trials)
    write_text(run_dir / "trials.csv", trials_csv(search, trials))
    shown: dict[str, Any] = {}
    if order:
        write_text(run_dir / "best.yaml", best_yaml(search, order[0]))
        for label, row in (("best", order[0]), ("median", middle(order)), ("worst", order[-1])):
            if row.checkpoint:
                shown[f"{label}\n{search.metric} {row.scores[search.metric]:.4g}"] = row.checkpoint
    pictures, why = strips(absolute(search.base_config()), shown, search.pictures)
    write_text(run_dir / "report.html", html(search, trials, records.reports, pictures, why))
    unfinished = num_unfinished(search, trials)
    trained, whole = steps_trained(search, trials)
    summary = {
        "completed": not unfinished,
        "metric": search.metric,
        "best": {"trial": order[0].number, "values": dict(order[0].values), **order[0].scores} if order else {},
        "trials": {state: sum(row.state == state for row in trials) for state in sorted({row.state for row in trials})},
        "failed": sum(row.has_failed for row in trials),
        "steps": trained,
        "steps_without_stopping": whole,
    }
    write_text(run_dir / "summary.json", json.dumps(summary, indent=1) + "\n")
    if unfinished:
        raise Preempted(f"{unfinished} of {search.num_trials} trials are unfinished; --resume continues")
    if not order:
        raise CycleSRError(f"no trial succeeded: {failures(trials)}; each one's cause is in {run_dir / 'trials.csv'}")
    if any(row.has_failed for row in trials):
        print(
            f"cyclesr tune: warning: {failures(trials)}; each one's cause is in {run_dir / 'trials.csv'}, its log "
            f"beside its checkpoint in {storage}",
            file=sys.stderr,
        )
    if quiet:
        return
    values = " ".join(f"{key}={value:.6g}" for key, value in order[0].values.items())
    print(f"cyclesr tune: best {search.metric} {order[0].scores[search.metric]:.4f} with {values}")
    print(f"cyclesr tune: {run_dir / 'best.yaml'}, trials.csv and report.html are written")


def _interrupt() -> None:
    """Tune ends the search; `_search` then says why."""
    os.kill(os.getpid(), signal.SIGINT)


@contextmanager
def _requests_as_sigint() -> Iterator[None]:
    """Tune saves and leaves on SIGINT, and at once on a second one. Its own handler is called, also where a shell has
    had SIGINT ignored."""
    insistence, asked = Insistence(), False

    def taken(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        insists = insistence.counts(number)
        if asked and not insists:
            return
        asked = True
        handler = signal.getsignal(signal.SIGINT)
        if not callable(handler):
            raise KeyboardInterrupt
        handler(signal.SIGINT, frame)

    with taking(taken, [number for number in requests() if number != signal.SIGINT]):
        yield
