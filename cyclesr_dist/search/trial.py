"""One trial: a whole training run, with as many ranks as the search says, in the placement group that Tune reserved.

Rank 0 is a child of Tune's own actor, which has the first bundle; every other rank is a child of an actor in a bundle
of its own. At each validation the trial reports, with the run's own checkpoint, so that another machine can go on from
it after a loss, and other trials can with population based training.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.util.placement_group import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from cyclesr_dist.distributed.launchers import ALONE
from cyclesr_dist.distributed.world import JOB_VARIABLE
from cyclesr_dist.errors import InputError
from cyclesr_dist.runtime.user_modules import FOLDER_VARIABLE
from cyclesr_dist.search.config import Search, worst
from cyclesr_dist.search.rank import Rank, meeting_place
from cyclesr_dist.search.samples import Known, changed
from cyclesr_dist.search.space import overrides_of
from cyclesr_dist.training.run_folder import RunFolder, checkpoint_name

_POLL_SECONDS = 0.1
# For ranks to leave by themselves after the last report, and for one's failure to reach the others.
_PATIENCE_SECONDS = 20.0
_CHECKPOINT_SECONDS = 600.0
_ASK_SECONDS = 1.0


class LostProcessError(RuntimeError):
    """A rank was killed or its machine is gone: Tune begins the trial again from its last checkpoint."""


class Trial(tune.Trainable):  # type: ignore[misc]  # Ray's class has no types
    """`config` holds the values of the search's keys. By `tune.with_parameters` come `search`, `base` (the training
    configuration as YAML, with absolute paths), `settings` (the search's overrides of it), `last_step`, where a whole
    trial ends, `shared`, the checkpoint that it begins from, if there is one, and `working_dir`, where the search was
    started: networks of the user's own may lie there, and `samples`, the shard sets that the search began with. The
    files that the search was read from need not be here.

    Every step is one report: the validation's scores, drift and loss terms at its `step`, `patches_per_second`. A trial
    whose training fails ends with the worst score and the cause in `failed`; only a lost process is an error for Tune.
    """

    def setup(
        self,
        config: dict[str, float],
        search: Search,
        base: str,
        settings: list[str],
        last_step: int,
        shared: Any,
        working_dir: str,
        samples: list[Known],
    ) -> None:
        self.search, self.base, self.settings, self.last_step = search, base, settings, last_step
        self.working_dir, self.samples = working_dir, samples
        self.values = dict(config)
        self.first: Rank | None = None
        self.others: list[Any] = []
        self.asked: list[Any] = []
        self.asked_at = 0.0
        self.reported = self.begun_at = 0
        self.staged: Path | None = None
        if shared is not None:
            with shared.as_directory() as folder:
                self.load_checkpoint(folder)
            self.begun_at = self.reported

    def step(self) -> dict[str, Any]:
        if self.first is None or self.first.process is None:
            if cause := changed(self.samples):
                return self._failed(cause)
            self._start()
        while True:
            if report := self._new_report():
                if cause := _without_number(report, self.search.metrics):
                    return self._failed(cause)
                self._stage(int(report["step"]))
                return report | {
                    "own_steps": report["step"] - self.begun_at,
                    "done": report["step"] >= self.last_step,
                }
            if cause := self._failure():
                return self._failed(cause)
            time.sleep(_POLL_SECONDS)

    def _failed(self, cause: str) -> dict[str, Any]:
        """The last report of a trial that cannot go on."""
        scores = {score: worst(score) for score in self.search.metrics}
        steps = {"step": self.reported, "own_steps": self.reported - self.begun_at}
        return scores | steps | {"failed": cause, "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """The run's newest reported checkpoint and its best model so far; beside them what tells of a failure."""
        if self.staged is not None:
            shutil.copytree(self.staged, checkpoint_dir, dirs_exist_ok=True)
        if self.first is not None:
            for path in (self.first.log, RunFolder(self.first.run_dir).bad_steps):
                if path.is_file():
                    shutil.copy2(path, checkpoint_dir)
        (Path(checkpoint_dir) / "trial.json").write_text(json.dumps({"step": self.reported, "values": self.values}))

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Go on from there, with this trial's own values."""
        self.cleanup()
        self.first, self.others, self.asked, self.staged = None, [], [], None
        loaded = Path(checkpoint_dir)
        self.reported = int(json.loads((loaded / "trial.json").read_text())["step"])
        if (loaded / "checkpoints").is_dir():
            self.first = Rank()
            self.first.run_dir.mkdir()
            for name in ("checkpoints", "model.safetensors"):
                (shutil.copytree if (loaded / name).is_dir() else shutil.copy2)(
                    loaded / name, self.first.run_dir / name
                )

    def cleanup(self) -> None:
        ray.wait([other.end.remote() for other in self.others], num_returns=len(self.others), timeout=_PATIENCE_SECONDS)
        for other in self.others:
            ray.kill(other)
        if self.first is not None:
            self.first.end(_PATIENCE_SECONDS if self.reported >= self.last_step else 0.0)

    def _start(self) -> None:
        search = self.search
        self.first = self.first or Rank()
        group = get_current_placement_group()
        for index in range(1, search.workers.num):
            place = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index)
            actor = ray.remote(Rank).options(
                num_cpus=search.workers.cpus, num_gpus=search.workers.gpus, scheduling_strategy=place
            )
            self.others.append(actor.remote())
        address, port = meeting_place()
        overrides = [*self.settings, f"train.max_steps={self.last_step}", *overrides_of(self.values)]
        self.first.start(self.base, overrides, self._environment(0, address, port))
        started = [
            other.start.remote(self.base, overrides, self._environment(rank, address, port))
            for rank, other in enumerate(self.others, 1)
        ]
        with _losses():
            ray.get(started)

    def _environment(self, rank: int, address: str, port: int) -> dict[str, str]:
        workers = self.search.workers
        alone = {} if workers.num > 1 else ALONE
        # Ray shows each worker its own GPUs alone, so each is the first on a machine of its own.
        together = {
            "RANK": str(rank),
            "WORLD_SIZE": str(workers.num),
            "LOCAL_RANK": "0",
            "LOCAL_WORLD_SIZE": "1",
            "MASTER_ADDR": address,
            "MASTER_PORT": str(port),
            JOB_VARIABLE: f"trial {address}:{port}",  # each rank has a run folder of its own
        }
        threads = {"CYCLESR_NUM_THREADS": str(workers.cpus), "OMP_NUM_THREADS": str(workers.cpus)}
        return (alone or together) | threads | {FOLDER_VARIABLE: self.working_dir}

    def _new_report(self) -> dict[str, Any] | None:
        """The next validation that has not been reported."""
        assert self.first is not None
        folder = RunFolder(self.first.run_dir)
        fresh = [record for record in _records(folder.validation) if record["step"] > self.reported]
        if not fresh:
            return None
        report = dict(fresh[0])
        for logged in _records(folder.metrics):
            if logged["step"] <= report["step"]:
                last = {
                    k: v for k, v in logged.items() if k.startswith(("drift.", "loss.")) or k == "patches_per_second"
                }
                report |= last
        return report

    def _stage(self, step: int) -> None:
        """Keep the checkpoint of a reported step until the next one. The run may be ahead by many."""
        assert self.first is not None
        folder = RunFolder(self.first.run_dir)
        written = folder.checkpoints / checkpoint_name(step)
        deadline = time.monotonic() + _CHECKPOINT_SECONDS
        while not written.is_dir():  # it is written beside training, after the validation
            if (code := self.first.exit_code()) not in (None, 0) or time.monotonic() > deadline:
                raise LostProcessError(f"no checkpoint of step {step} (exit code {code}): {self.first.last_words()}")
            time.sleep(_POLL_SECONDS)
        staged = self.first.folder / f"reported-{step}"
        shutil.copytree(written, staged / "checkpoints" / written.name, copy_function=os.link)
        shutil.copy2(folder.model, staged)
        for path in folder.checkpoints.glob("step-*"):
            if path.name < written.name:
                shutil.rmtree(path)
        if self.staged is not None:
            shutil.rmtree(self.staged)
        self.staged, self.reported = staged, step

    def _failure(self) -> str:
        """Why the training cannot go on, in one line; empty while it can. Raises LostProcessError for what is no fault
        of the configuration."""
        assert self.first is not None
        codes = self._exit_codes()
        if not any(codes) and codes[0] is None:
            return ""
        if not any(codes):
            if self._new_report():
                return ""  # it is read next
            return f"the training ended at step {self.reported} of {self.last_step} without a validation"
        codes = self._settled()
        words = self.first.last_words().replace(f"{self.first.run_dir}/", "") or "no output"
        if InputError.exit_code in codes:
            return words
        bad = RunFolder(self.first.run_dir).bad_steps
        if bad.is_file():
            return f"the numbers went bad: {words}"
        raise LostProcessError(f"exit codes of the ranks {codes}: {words}")

    def _exit_codes(self) -> list[int | None]:
        """Of all ranks; None while they run. The others are asked once a second."""
        assert self.first is not None
        own = self.first.exit_code()
        if not self.asked and self.others and time.monotonic() - self.asked_at > _ASK_SECONDS:
            self.asked = [other.exit_code.remote() for other in self.others]
            self.asked_at = time.monotonic()
        if not self.asked:
            return [own]
        answered, _ = ray.wait(self.asked, num_returns=len(self.asked), timeout=0)
        with _losses():
            codes: list[int | None] = ray.get(answered)
        if len(answered) == len(self.asked):
            self.asked = []
        return [own, *codes]

    def _settled(self) -> list[int | None]:
        """The exit codes once the other ranks have heard of a failure and left."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            codes = self._exit_codes()
            if (len(codes) > len(self.others) and None not in codes) or time.monotonic() > deadline:
                return codes
            time.sleep(_POLL_SECONDS)


@contextmanager
def _losses() -> Iterator[None]:
    """An actor that does not answer any more is a lost process."""
    try:
        yield
    except ray.exceptions.RayActorError as error:
        raise LostProcessError(f"a worker is gone: {str(error).splitlines()[0]}") from error


def _without_number(report: Mapping[str, Any], metrics: Sequence[str]) -> str:
    """Which score is no number, such as that of a network which gives none; empty where all are."""
    bad = [f"{name} is {report[name]}" for name in metrics if not math.isfinite(report[name])]
    return f"the validation of step {report['step']} gave no number: {', '.join(bad)}" if bad else ""


def _records(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file of JSON lines that is being written."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1] if line]
