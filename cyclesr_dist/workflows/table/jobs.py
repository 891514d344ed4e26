"""The runs of a table or a sweep: what is trained under which configuration, one after another or spread by Ray.

Every run is launch/train.py's code in a process of its own: resumed where it stopped, skipped where complete.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cyclesr_dist.config.reader import read, write_resolved
from cyclesr_dist.config.schema import Config, Protocol, System, Track
from cyclesr_dist.config.systems import spec_of
from cyclesr_dist.data.folders import list_images
from cyclesr_dist.data.images import image_size
from cyclesr_dist.distributed.launchers import ALONE
from cyclesr_dist.errors import ConfigError, CycleSRError, InputError
from cyclesr_dist.models.model_name import resolve_model
from cyclesr_dist.models.upscaler import Upscaler
from cyclesr_dist.runtime.children import run_child
from cyclesr_dist.runtime.extras import install_hint
from cyclesr_dist.runtime.user_modules import FOLDER_VARIABLE
from cyclesr_dist.scoring.perceptual.scores import Perceptual, device_of
from cyclesr_dist.scoring.score import evaluate_folder, write_scores
from cyclesr_dist.training.run_folder import read_summary
from cyclesr_dist.workflows.table.config import Table, with_own
from cyclesr_dist.workflows.table.data import TableData

SHARED = "all"
"""In place of a track: sr_syn is trained once a seed, since it sees no track."""


@dataclass(frozen=True)
class Job:
    """One training run, with all it takes to do it on another machine that sees the same folders."""

    name: str
    folder: Path
    config: Config
    tests: dict[str, tuple[str, str]]
    """By track: the LR and the HR folder to score on."""
    protocol: Protocol
    threads: int
    perceptual: tuple[str, ...] = ()
    """Perceptual scores of the table."""
    working_dir: str = field(default_factory=os.getcwd)
    """Of the user: networks of their own may lie there."""

    def scores(self, track: str) -> Path:
        return self.folder / f"scores-{track}.json"

    @property
    def done(self) -> bool:
        return completed(self.folder) and all(has_scores(self.scores(track), self.perceptual) for track in self.tests)


def table_jobs(table: Table, data: TableData, root: Path) -> list[Job]:
    """All runs of the table, seed by seed, so that a stopped table has whole seeds."""
    jobs = []
    for seed in table.seeds:
        for system in table.trained:
            if spec_of(system).data == "hr":  # one for all tracks
                jobs.append(_job(table, data, root, None, system, seed))
                continue
            jobs += [_job(table, data, root, track, system, seed) for track in data.tracks]
    return jobs


def sweep_jobs(table: Table, data: TableData, root: Path) -> dict[tuple[Track, float], Job]:
    """`cyclesr` at every value of weights.mse, with the first seed."""
    jobs = {}
    for track in data.tracks:
        for mse in table.sweep_mse:
            job = _job(table, data, root, track, "cyclesr", table.seeds[0])
            weights = replace(job.config.weights, mse=mse)
            name = f"{track}/mse{mse:g}"
            jobs[track, mse] = replace(
                job, name=name, folder=root / "runs" / name, config=replace(job.config, weights=weights)
            )
    return jobs


def _job(table: Table, data: TableData, root: Path, track: Track | None, system: System, seed: int) -> Job:
    run = table.run
    valid_lr = data.tracks[track].valid_lr if track else data.syn_valid_lr
    sets = replace(
        run.data,
        hr=data.hr,
        lr=data.tracks[track].lr if track else "",
        pairs=data.tracks[track].pairs if track else "",
        valid_hr=str(data.valid_hr),
        valid_lr=str(valid_lr),
    )
    config = replace(run, system=system, seed=seed, data=sets, track=track or run.track)
    if track:
        translator = replace(config.nets.translator, estimate=data.tracks[track].estimate)
        config = replace(config, nets=replace(config.nets, translator=translator))
        chosen = table.tracks.chosen()[track]
        if chosen.mse is not None:
            config = replace(config, weights=replace(config.weights, mse=chosen.mse))
        if chosen.sr is not None:
            config = replace(config, nets=replace(config.nets, sr=chosen.sr))
    config = with_own(table, system, config)
    name = f"{track or SHARED}/{system}/seed{seed}"
    tracks = [track] if track else list(data.tracks)
    tests: dict[str, tuple[str, str]] = {t: (str(data.tracks[t].test_lr), str(data.test_hr)) for t in tracks}
    return Job(name, root / "runs" / name, config, tests, table.protocol, table.cpus_per_run, table.scores)


def run_jobs(
    jobs: Sequence[Job],
    announce: Callable[[str], None],
    ray_address: str | None,
    cpus: int,
    gpus: float,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Do what is not done, with Ray where an address is given ("local" starts one here). Raises CycleSRError when a
    run fails, after the others that had begun have ended, and what `check` raises after each."""
    waiting = [job for job in jobs if not job.done]
    announce(f"{len(jobs)} runs, {len(jobs) - len(waiting)} of them there already")
    outcomes = _with_ray(waiting, ray_address, cpus, gpus) if ray_address else _in_sequence(waiting)
    failed = []
    for number, (job, error) in enumerate(outcomes, 1):
        announce(f"{number}/{len(waiting)} {job.name}: {error or 'done'}")
        if error:
            failed.append(job.name)
        check()
    if failed:
        raise CycleSRError(f"{len(failed)} of {len(waiting)} runs failed: {', '.join(failed)}; see train.log in them")


def _in_sequence(jobs: Sequence[Job]) -> Iterator[tuple[Job, str]]:
    for job in jobs:
        yield job, do(job)


def _with_ray(jobs: Sequence[Job], address: str, cpus: int, gpus: float) -> Iterator[tuple[Job, str]]:
    """As they end. Every run is a task with one retry on another machine, should its own be lost."""
    try:
        import ray
    except ImportError as error:
        raise InputError(f"--ray needs Ray: {install_hint('tune')}") from error
    from cyclesr_dist.search.cluster import connected

    with connected(address):
        task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=1)(do)
        running = {task.remote(job): job for job in jobs}
        while running:
            (ready,), _ = ray.wait(list(running), num_returns=1)
            job = running.pop(ready)
            try:
                yield job, ray.get(ready)
            except ray.exceptions.RayError as error:
                yield job, str(error).strip().splitlines()[-1]


def do(job: Job) -> str:
    """Train and score one run; returns what went wrong, in one line, or nothing."""
    job.folder.mkdir(parents=True, exist_ok=True)
    os.environ[FOLDER_VARIABLE] = job.working_dir
    if completed(job.folder):
        try:
            is_other = read(Config, job.folder / "config.yaml", beside=False) != job.config
        except ConfigError as error:
            return str(error)
        if is_other:
            return f"{job.folder} holds a run with other settings; remove it or choose another --run-dir"
    else:
        code = _train(job)
        if code or not completed(job.folder):
            return f"training failed (exit code {code}): {_last_line(job.folder / 'train.log')}"
    try:
        for track, (lr, hr) in job.tests.items():
            if not has_scores(job.scores(track), job.perceptual):
                model = resolve_model(str(job.folder), allow_module=True)
                take_scores(job.scores(track), model, Path(lr), Path(hr), job.protocol, job.perceptual)
    except CycleSRError as error:
        return str(error)
    return ""


def check_scores(table: Table) -> None:
    """Raise InputError, before anything is trained, where weights of a perceptual score cannot be had or a test
    photograph is too small for one."""
    perceptual, scale = Perceptual(table.scores), table.run.scale
    for path in list_images(Path(table.test_hr)) if table.scores else []:
        width, height = (side // scale * scale for side in image_size(path))
        try:
            perceptual.check_size(height, width)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error


def has_scores(path: Path, perceptual: Sequence[str]) -> bool:
    """Whether `path` holds the scores of a folder, the perceptual ones among them."""
    return path.is_file() and set(perceptual) <= json.loads(path.read_text(encoding="utf-8"))["mean"].keys()


def take_scores(
    path: Path, model: Upscaler, lr: Path, hr: Path, protocol: Protocol, perceptual: tuple[str, ...]
) -> None:
    """Write the scores of a folder to `path`. Raises InputError as `evaluate_folder` does, or for missing weights."""
    besides = Perceptual(perceptual, device_of(model)) if perceptual else None
    write_scores(path, evaluate_folder(model, lr, hr, protocol, perceptual_scores=besides))


def _train(job: Job) -> int:
    config = job.folder / "wanted.yaml"
    write_resolved(job.config, config)
    command = [
        *(sys.executable, "-m", "cyclesr_dist.training", "--config", str(config)),
        *("--run-dir", str(job.folder), "--resume", "--quiet"),
    ]
    threads = {"CYCLESR_NUM_THREADS": str(job.threads), "OMP_NUM_THREADS": str(job.threads)}
    with (job.folder / "train.log").open("a", encoding="utf-8") as log:
        return run_child(command, "cyclesr table", threads | ALONE, log)


def completed(folder: Path) -> bool:
    """Whether a run folder holds a run that trained to its end."""
    return bool(read_summary(folder).get("completed"))


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "no output"
