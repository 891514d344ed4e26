"""Where else numbers and pictures may go: TensorBoard, Weights & Biases, MLflow, each a few lines behind one interface.

Imported only when asked for. They are for looking at: one that fails in the middle of a run is left out with a warning.
"""

from __future__ import annotations

import json
import os
import shlex
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cyclesr_dist.config.reader import to_show
from cyclesr_dist.config.schema import Config
from cyclesr_dist.errors import ConfigError, CycleSRError, InputError
from cyclesr_dist.runtime.extras import install_hint
from cyclesr_dist.runtime.files import bytes_if_there, write_text
from cyclesr_dist.runtime.redact import redact
from cyclesr_dist.runtime.user_modules import ours_or_yours
from cyclesr_dist.telemetry.record import StepRecord, ValidationRecord

Picture = NDArray[np.uint8]
"""(H, W, 3), RGB."""
_VALIDATION = "validation/"
_PROJECT = "cyclesr"
"""Where the environment names none."""


class Tracker(Protocol):
    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers by name, with `/` between groups: loss/mse, validation/psnr."""

    def picture(self, step: int, name: str, image: Picture) -> None:
        """A strip as training/pictures.py draws it."""

    def close(self) -> None:
        """Let everything out."""


class Sent:
    """What a service had of a run when it was resumed, for those that cannot take a point back.

    The steps since the checkpoint are trained again: their points are there. Made before the run folder is cut back.
    """

    def __init__(self, folder: Path, resumed: bool) -> None:
        self.logged = _last_step(folder / "metrics.jsonl") if resumed else 0
        self.validated = _last_step(folder / "validation.jsonl") if resumed else 0

    def without(self, step: int, values: Mapping[str, float]) -> dict[str, float]:
        """Those of `values` that it has not."""
        seen = {True: self.validated, False: self.logged}
        return {name: value for name, value in values.items() if step > seen[name.startswith(_VALIDATION)]}


def _last_step(path: Path) -> int:
    """Of a file of JSON lines; 0 for none."""
    last = 0
    for line in (bytes_if_there(path) or b"").decode(errors="replace").splitlines():
        try:
            last = max(last, int(json.loads(line)["step"]))
        except (ValueError, KeyError, TypeError):  # the half line of a process that was killed
            continue
    return last


def _pieces(folder: Path, run_id: str) -> list[str]:
    """How to upload a run that was resumed offline: W&B begins a folder of the same run then."""
    pieces = sorted((folder / "wandb").glob(f"offline-run-*-{run_id}"))
    if len(pieces) < 2:
        return []
    command = shlex.join(["wandb", "sync", *(str(piece) for piece in pieces)])
    return [f"W&B has this run in {len(pieces)} pieces, which belong together (wandb 0.30 or newer): {command}"]


class TensorBoard:
    """Event files in `tensorboard/` of the run folder. A resumed run hides what it writes again."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], start: int, known: dict[str, str]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1 if start else None)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def picture(self, step: int, name: str, image: Picture) -> None:
        self.writer.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        self.writer.close()


class WandB:
    """One run; its own environment variables say where, as whom, and of what project."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], start: int, known: dict[str, str]) -> None:
        import wandb

        self.wandb = wandb
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            name=folder.name,
            dir=str(folder),
            id=known.get("wandb"),
            resume="allow",
            config=dict(settings),
        )
        self.run.define_metric("*", step_metric="step")  # its own counter cannot go back after a resume
        self.sent = Sent(folder, resumed="wandb" in known)
        known["wandb"] = str(self.run.id)
        self.notes = _pieces(folder, known["wandb"]) if self.run.offline else []

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        if fresh := self.sent.without(step, values):
            self.run.log({"step": step, **fresh})

    def picture(self, step: int, name: str, image: Picture) -> None:
        if step > self.sent.validated:
            self.run.log({"step": step, name: self.wandb.Image(image)})

    def close(self) -> None:
        self.run.finish()


class MLflow:
    """One run; MLFLOW_TRACKING_URI says where, MLFLOW_EXPERIMENT_NAME of what experiment."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], start: int, known: dict[str, str]) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient()
        self.sent = Sent(folder, resumed="mlflow" in known)
        if "mlflow" in known:
            self.run_id = known["mlflow"]
            self.client.update_run(self.run_id, status="RUNNING")
            return
        project = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
        experiment = self.client.get_experiment_by_name(project)
        number = experiment.experiment_id if experiment else self.client.create_experiment(project)
        self.run_id = known["mlflow"] = self.client.create_run(number, run_name=folder.name).info.run_id
        self.client.log_dict(self.run_id, dict(settings), "config.json")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in self.sent.without(step, values).items():
            self.client.log_metric(self.run_id, name, value, step=step, synchronous=False)

    def picture(self, step: int, name: str, image: Picture) -> None:
        if step > self.sent.validated:
            self.client.log_image(self.run_id, image, key=name, step=step, synchronous=False)

    def close(self) -> None:
        from mlflow import flush_async_logging

        flush_async_logging()
        self.client.set_terminated(self.run_id)


class Trackers:
    """Those of `telemetry.trackers`, as one. None of them may stop a training."""

    patience_seconds = 15.0
    """For the end."""

    def __init__(self, named: Mapping[str, Tracker], warn: Callable[[str], None]) -> None:
        self.named = dict(named)
        self.warn = warn

    @property
    def notes(self) -> list[str]:
        """What the user should know of them, a line each."""
        return [line for tracker in self.named.values() for line in getattr(tracker, "notes", ())]

    def logged(self, record: StepRecord) -> None:
        self.scalars(record.step, grouped(record.line(), leave_out=("step",)))

    def validated(self, record: ValidationRecord) -> None:
        self.scalars(record.step, {f"{_VALIDATION}{name}": value for name, value in record.scores.items()})

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._each(lambda tracker: tracker.scalars(step, values))

    def picture(self, step: int, name: str, image: Picture) -> None:
        self._each(lambda tracker: tracker.picture(step, name, image))

    def close(self) -> None:
        """Of each, wait a while and no longer: a run that was told to stop has little time."""
        closing = threading.Thread(target=lambda: self._each(lambda tracker: tracker.close()), daemon=True)
        closing.start()
        closing.join(self.patience_seconds)
        if closing.is_alive():
            names = ", ".join(self.named)
            self.warn(f"telemetry.trackers: {names}: not everything was taken in {self.patience_seconds:g} s")
        self.named = {}

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self.named.items()):
            try:
                call(tracker)
            except (Exception, SystemExit) as error:  # its network, its disk, its own code: nothing training needs
                del self.named[name]
                first = redact((str(error) or type(error).__name__).splitlines()[0])
                self.warn(f"telemetry.trackers: {name} is left out from now on: {first}")


def open_trackers(config: Config, folder: Path, start: int, warn: Callable[[str], None]) -> Trackers:
    """For a run in `folder` that begins at step `start`. On the main rank alone.

    Raises ConfigError when a package is missing, InputError when a tracker cannot be begun.
    """
    ids = folder / "trackers.json"
    known: dict[str, str] = json.loads(bytes_if_there(ids) or b"{}")
    settings = to_show(config)
    named: dict[str, Tracker] = {}
    for name in config.telemetry.trackers:
        try:
            named[name] = tracker_class(name)(folder.resolve(), settings, start, known)
        except CycleSRError:
            raise
        except ImportError as error:
            how = install_hint(name) if name in TRACKERS else "install what it imports"
            raise ConfigError(f"telemetry.trackers names {name}, which is not installed ({error}); {how}") from error
        except Exception as error:  # each library has its own kinds
            first = (str(error) or type(error).__name__).splitlines()[0]
            raise InputError(f"telemetry.trackers: {name} cannot be begun: {first}") from error
        if not all(isinstance(text, str) for text in known.values()):
            raise ConfigError(f"telemetry.trackers: {name} keeps {known!r:.200}; allowed: names to text")
    if known:
        write_text(ids, json.dumps(known) + "\n")
    return Trackers(named, warn)


TrackerClass = Callable[[Path, Mapping[str, Any], int, dict[str, str]], Tracker]
"""(run folder, settings as config.yaml has them, first step, names to text that trackers.json keeps) -> tracker."""
TRACKERS: dict[str, TrackerClass] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "mlflow": MLflow,
}
_METHODS = ("scalars", "picture", "close")


def tracker_class(name: str) -> TrackerClass:
    """One of ours, or of yours (`package.module:Class`). Raises ConfigError when it is neither."""
    return ours_or_yours(
        "telemetry.trackers",
        name,
        TRACKERS,
        "package.module:Class",
        f"a class with {', '.join(_METHODS)}",
        lambda found: all(hasattr(found, method) for method in _METHODS),
    )


def grouped(values: Mapping[str, Any], leave_out: Sequence[str] = ()) -> dict[str, float]:
    """The numbers of a line of metrics.jsonl, `loss.mse` as `loss/mse`."""
    return {
        name.replace(".", "/", 1): float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and name not in leave_out
    }
