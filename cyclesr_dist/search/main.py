"""`python launch/tune.py`: check, search, write what was found."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from cyclesr_dist.cli.guard import add_common_arguments, guarded
from cyclesr_dist.configfile import dump, read, write_resolved
from cyclesr_dist.errors import ConfigError, CycleSRError, InputError, Preempted
from cyclesr_dist.files import write_text
from cyclesr_dist.modules import FOLDER_VARIABLE
from cyclesr_dist.search.config import Search, absolute, load_search

_EPILOG = """\
exit codes: 0 done, 75 stopped (start it again with --resume), 2 bad config or input, 1 anything else.

examples:
  python launch/tune.py --config configs/tune_demo.yaml
  python launch/tune.py --config configs/tune_demo.yaml --address auto num_samples=50 workers.gpus=1"""


def build_parser(prog: str = "launch/tune.py") -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Search loss weights and other numbers, each trial a training run, on a Ray cluster.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", required=True, type=Path, help="search configuration (YAML)")
    parser.add_argument("--run-dir", type=Path, metavar="DIR", help="default: runs/<name of the config file>")
    parser.add_argument(
        "--address",
        metavar="A",
        help="Ray cluster: auto, host:port, ray://host:port; default: $RAY_ADDRESS, or one here",
    )
    parser.add_argument("--resume", action="store_true", help="go on with the search in the run folder")
    parser.add_argument("--dry-run", action="store_true", help="check everything, print the search, begin nothing")
    add_common_arguments(parser)
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value", help="override of the search configuration")
    return parser


def main(argv: Sequence[str] | None = None, prog: str = "launch/tune.py") -> int:
    """Returns the exit code: 0 done, 75 stopped, 2 bad config or input, 1 otherwise."""
    args = build_parser(prog).parse_intermixed_args(argv)
    return guarded(lambda: _run(args), debug=args.debug)


def _run(args: argparse.Namespace) -> int:
    for text in args.overrides:
        if "=" not in text:
            raise ConfigError(f"argument {text!r} is no override; expected key.sub=value")
    search = load_search(args.config, args.overrides)
    run_dir: Path = args.run_dir or Path("runs") / args.config.stem
    try:
        import ray  # noqa: F401  # to say at once what is missing
    except ImportError as error:
        raise InputError("a search needs Ray: pip install 'cyclesr-dist[tune]'") from error
    if args.address and args.address.startswith("ray://"):
        from cyclesr_dist.search.client import run_on_head as run
    else:
        run = run_search
    run(search, run_dir, args.address, resume=args.resume, dry_run=args.dry_run, quiet=args.quiet)
    return 0


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
    from cyclesr_dist.search.cluster import check_training, connected, ready_nodes

    storage = search.storage or str((run_dir / "ray").absolute())
    working_dir = os.environ.get(FOLDER_VARIABLE) or os.getcwd()
    known = {"base": dump(absolute(search.base_config())), "working_dir": working_dir}
    if not dry_run:
        resume = _prepare(search, run_dir, resume)
    with connected(address), _sigterm_as_sigint():  # in this order: Ray takes SIGTERM when it is begun
        nodes = ready_nodes(search.workers, storage)
        if not resume:
            check_training(search, **known)
        if dry_run:
            print(dump(search), end="")
            print(
                f"# {search.num_trials} trials of at most {search.last_step()} steps on {len(nodes)} nodes; none begun"
            )
            return
        _search(search, run_dir, storage, known, resume, quiet)


def _prepare(search: Search, run_dir: Path, resume: bool) -> bool:
    """Claim the run folder; whether there is something to resume. Raises InputError and ConfigError."""
    held = run_dir / "search.yaml"
    begun = held.exists()
    if begun and not resume:
        raise InputError(f"run folder {run_dir} already holds a search; use --resume, or another --run-dir")
    if begun and not _same(read(Search, held), search):
        raise ConfigError(
            f"{run_dir} holds a search with other settings (search.yaml); remove it or choose another --run-dir"
        )
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        write_resolved(search, held)
    except OSError as error:
        raise InputError(f"run folder {run_dir} is not writable: {error.strerror or error}") from error
    if resume and not begun:
        print("cyclesr tune: no search yet: starting from the beginning", file=sys.stderr)
    return begun


def _same(a: Search, b: Search) -> bool:
    """Whether they are one search. The folder of `base` may have another name where it is resumed."""
    return Path(a.base).name == Path(b.base).name and replace(a, base=b.base) == b


def _search(search: Search, run_dir: Path, storage: str, known: dict[str, Any], resume: bool, quiet: bool) -> None:
    from ray import tune

    from cyclesr_dist.search.choosing import scheduler, searcher
    from cyclesr_dist.search.live import Live

    results = run_dir.absolute() / "results.jsonl"
    name = run_dir.absolute().name
    shared = _shared(search, name, storage, known, resume, quiet) if search.shared_steps else None
    found = _fit(
        search,
        name,
        storage,
        resume,
        known | {"last_step": search.last_step(), "shared": shared},
        param_space={domain.key: domain.for_ray() for domain in search.domains},
        tune_config=tune.TuneConfig(
            search_alg=searcher(search),
            scheduler=scheduler(search, results),
            num_samples=search.num_samples,
            trial_dirname_creator=_trial_id,
        ),
        callbacks=[Live(search, results, quiet)],
    )
    _write(search, run_dir, found, quiet)


def _shared(search: Search, name: str, storage: str, known: dict[str, Any], resume: bool, quiet: bool) -> Any:
    """Train the shared steps, or find them done. Returns a Ray checkpoint, raises CycleSRError."""
    from ray import tune

    if not quiet:
        print(f"cyclesr tune: the {search.shared_steps} steps that all trials share", flush=True)
    config = tune.TuneConfig(trial_dirname_creator=_trial_id)
    known = known | {"last_step": search.shared_steps, "shared": None}
    (result,) = _fit(search, f"{name}-shared", storage, resume, known, param_space={}, tune_config=config, callbacks=[])
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
    known: dict[str, Any],
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
        tune.with_parameters(Trial, search=search, settings=search.trial_overrides(), **known), bundles(search.workers)
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


def _write(search: Search, run_dir: Path, found: Any, quiet: bool) -> None:
    """The files of the result. Raises Preempted when some trials are unfinished, CycleSRError when none has a score."""
    from cyclesr_dist.search.live import read_results
    from cyclesr_dist.search.page import html
    from cyclesr_dist.search.pictures import strips
    from cyclesr_dist.search.results import best_yaml, middle, ranked, rows, steps_trained, trials_csv

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
    unfinished = sum(row.state == "unfinished" for row in trials) + search.num_trials - len(trials)
    trained, whole = steps_trained(search, trials)
    summary = {
        "completed": not unfinished,
        "metric": search.metric,
        "best": {"trial": order[0].number, "values": dict(order[0].values), **order[0].scores} if order else {},
        "trials": {state: sum(row.state == state for row in trials) for state in sorted({row.state for row in trials})},
        "steps": trained,
        "steps_without_stopping": whole,
    }
    write_text(run_dir / "summary.json", json.dumps(summary, indent=1) + "\n")
    if unfinished:
        raise Preempted(f"{unfinished} of {search.num_trials} trials are unfinished; --resume continues")
    if not order:
        raise CycleSRError(f"no trial gave a score: {trials[0].cause if trials else 'none has begun'}")
    if quiet:
        return
    values = " ".join(f"{key}={value:.6g}" for key, value in order[0].values.items())
    print(f"cyclesr tune: best {search.metric} {order[0].scores[search.metric]:.4f} with {values}")
    print(f"cyclesr tune: {run_dir / 'best.yaml'}, trials.csv and report.html are written")


@contextmanager
def _sigterm_as_sigint() -> Iterator[None]:
    """Tune saves and leaves on SIGINT alone."""
    before = signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
