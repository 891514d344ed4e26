"""Everything one training run is made of."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from cyclesr_dist.config.schema import Config
from cyclesr_dist.data.loader import Sources
from cyclesr_dist.distributed.world import World
from cyclesr_dist.method.systems.base import System
from cyclesr_dist.models.checkpoint import Checkpoint
from cyclesr_dist.runtime.stopping import StopRequest
from cyclesr_dist.telemetry.diagnosis import Diagnosis
from cyclesr_dist.telemetry.progress import Progress
from cyclesr_dist.telemetry.prometheus import Metrics
from cyclesr_dist.telemetry.record import Sink
from cyclesr_dist.telemetry.trackers import Trackers
from cyclesr_dist.training.checkpoint_store import CheckpointStore
from cyclesr_dist.training.journal import Journal
from cyclesr_dist.training.ownership import Ownership
from cyclesr_dist.training.pace import Pace
from cyclesr_dist.training.profiling import Profiler
from cyclesr_dist.training.run_folder import RunFolder
from cyclesr_dist.training.schedule import Schedule
from cyclesr_dist.training.sinks import RecordFiles, Warnings
from cyclesr_dist.training.validation import Validator
from cyclesr_dist.training.work import Work


@dataclass(kw_only=True)
class Run:
    """`training/setup.py` makes one; `training/loop.py` moves it forward."""

    config: Config
    world: World
    folder: RunFolder
    sources: Sources
    system: System
    validator: Validator
    schedule: Schedule
    checkpoints: CheckpointStore
    identity: dict[str, Any]
    """Of its checkpoints; see models/checkpoint.py."""
    saved: Checkpoint | None
    """Where it goes on from; None: from the beginning."""
    stop: StopRequest
    journal: Journal
    ownership: Ownership
    diagnosis: Diagnosis
    metrics: Metrics
    pace: Pace
    work: Work
    profiler: Profiler
    trackers: Trackers
    """None but on the main rank."""
    progress: Progress
    closing: ExitStack = field(default_factory=ExitStack)

    @property
    def sinks(self) -> tuple[Sink, ...]:
        """Those that are told of every logged step and validation, in this order."""
        files: tuple[Sink, ...] = (
            (RecordFiles(self.folder, self.ownership), self.trackers) if self.world.is_main else ()
        )
        return (self.metrics, *files, self.progress, Warnings(self.diagnosis, self.progress))

    def close(self) -> None:
        """Ports, trackers and the terminal's view. May be called twice."""
        self.closing.close()
