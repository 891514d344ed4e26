"""The folder of a run: prepared once, appended to, cut back when a run resumes. Only the main rank touches it."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

from cyclesr_dist.errors import InputError, TrainingError
from cyclesr_dist.models.model_name import LAST_FILE, MODEL_FILE
from cyclesr_dist.runtime.files import bytes_if_there, is_file, is_folder, write_text
from cyclesr_dist.runtime.passing import failed, patiently

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # pathlib makes one slash of two
SEARCH = "search.yaml"
"""What the folder of a search has, and no run's."""


class RunFolder:
    """Paths and line files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.metrics = path / "metrics.jsonl"
        self.validation = path / "validation.jsonl"
        self.model = path / MODEL_FILE
        self.last = path / LAST_FILE
        self.config = path / "config.yaml"
        self.summary = path / "summary.json"
        self.bad_steps = path / "bad_steps.jsonl"
        self.events = path / "events.jsonl"
        self.log = path / "log.txt"
        self.profile = path / "profile"
        self.logs = path / "logs"
        self.pictures = path / "pictures"
        self.trackers = path / "trackers.json"
        self.micro_batch = path / "micro_batch.json"
        self.targets = path / "prometheus_targets.json"

    def rank_log(self, rank: int) -> Path:
        return self.logs / f"rank{rank}.log"

    def keys(self, rank: int) -> Path:
        return self.path / f"keys.rank{rank}.jsonl"

    def holds_run(self) -> bool:
        """Raises InputError when that cannot be found out."""
        return is_file(self.config) or is_folder(self.checkpoints)

    def prepare(self, resume: bool) -> None:
        """Make the folder, or refuse it: InputError when it is a URL, holds a search, or a run and `resume` is off, or
        cannot be written."""
        if _URL.match(str(self.path)):
            raise InputError(
                f"run folder {self.path}: a URL is no folder; give one on this machine, and train.checkpoints=URL to "
                "keep checkpoints behind a URL"
            )
        if is_file(self.path / SEARCH):
            raise InputError(f"run folder {self.path} holds a search, which has files of the same names; use another")
        if self.holds_run() and not resume:
            raise InputError(
                f"run folder {self.path} already holds a run; use --resume (in Python resume=True), or another folder"
            )
        try:
            patiently(self._try_to_write)
        except OSError as error:
            raise failed(f"run folder {self.path} is not writable: {error.strerror or error}", error) from error

    def _try_to_write(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.path):
            pass

    def cut_back(self, step: int) -> None:
        """Drop what was logged after `step` steps, and a half-written last line: a resumed run writes it again.

        The keys of all ranks are cut, also of ranks that the resumed run no longer has.
        """
        for path in (self.metrics, self.validation, *self.path.glob("keys.rank*.jsonl")):
            _cut_back(path, step)

    def start_keys(self, rank: int, step: int) -> None:
        """The same for one rank's keys, on a host that may not share the main rank's disk. Raises InputError."""
        try:
            patiently(lambda: self.path.mkdir(parents=True, exist_ok=True))
        except OSError as error:
            raise failed(f"run folder {self.path} is not writable: {error.strerror or error}", error) from error
        _cut_back(self.keys(rank), step)


def checkpoint_name(step: int) -> str:
    return f"step-{step:08d}"


def _cut_back(path: Path, step: int) -> None:
    if (written := bytes_if_there(path)) is not None:
        kept = [line for line in written.decode(errors="replace").splitlines() if _step_of(line) <= step]
        write_text(path, "".join(line + "\n" for line in kept))


def read_summary(folder: Path) -> dict[str, Any]:
    """summary.json of a run folder; empty if there is none."""
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return summary if isinstance(summary, dict) else {}


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


def end_line(path: Path) -> None:
    """Begin a new line after what a killed process left half-written. Raises TrainingError."""
    try:
        patiently(lambda: _end_line(path))
    except OSError as error:
        raise TrainingError(f"{path} cannot be written: {error}") from error


def _end_line(path: Path) -> None:
    if path.is_file() and (written := path.read_bytes()) and not written.endswith(b"\n"):
        with path.open("a") as file:
            file.write("\n")


def append_line(path: Path, record: dict[str, Any]) -> None:
    """Raises TrainingError when it cannot be written, for instance to a full disk."""

    def write() -> None:
        with path.open("a") as file:
            file.write(json.dumps(record) + "\n")

    try:
        patiently(write, before=lambda: _end_line(path))
    except OSError as error:
        raise TrainingError(f"{path} cannot be written: {error}; checkpoints are intact") from error
