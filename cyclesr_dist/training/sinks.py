"""Two of those that are told of a step: the files of the run folder, and the warnings drawn from it."""

from __future__ import annotations

from cyclesr_dist.telemetry.diagnosis import Diagnosis
from cyclesr_dist.telemetry.progress import Progress
from cyclesr_dist.telemetry.record import StepRecord, ValidationRecord
from cyclesr_dist.training.ownership import Ownership
from cyclesr_dist.training.run_folder import RunFolder, append_line


class RecordFiles:
    """metrics.jsonl and validation.jsonl, on the main rank.

    Raises TrainingError on a full disk, LeaseLostError when the folder is another run's by now.
    """

    def __init__(self, folder: RunFolder, ownership: Ownership) -> None:
        self.folder = folder
        self.ownership = ownership

    def logged(self, record: StepRecord) -> None:
        self.ownership.hold()
        append_line(self.folder.metrics, record.line())

    def validated(self, record: ValidationRecord) -> None:
        self.ownership.hold()
        append_line(self.folder.validation, record.line())


class Warnings:
    """What `diagnosis` finds goes to the terminal, each once a run."""

    def __init__(self, diagnosis: Diagnosis, progress: Progress) -> None:
        self.diagnosis, self.progress = diagnosis, progress

    def logged(self, record: StepRecord) -> None:
        for line in self.diagnosis.logged(record.step, record.losses, record.drift):
            self.progress.warn(line)

    def validated(self, record: ValidationRecord) -> None:
        for line in self.diagnosis.validated(record.step, record.scores):
            self.progress.warn(line)
