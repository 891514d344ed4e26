"""Checkpoints written beside training, on the main rank: a step waits for the copy alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from cyclesr_dist.errors import CycleSRError, TrainingError
from cyclesr_dist.models.checkpoint import Checkpoint, write
from cyclesr_dist.training.bad_numbers import is_settled
from cyclesr_dist.training.checkpoint_store import CheckpointStore, prune
from cyclesr_dist.training.run_folder import checkpoint_name


class Saver:
    """One checkpoint at a time. A failure is raised where the ranks next agree: see `failed`."""

    def __init__(
        self,
        checkpoints: CheckpointStore,
        identity: dict[str, Any],
        keep: int,
        written: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        """`written` is told how long each took, from the writing thread."""
        self.checkpoints = checkpoints
        self.identity = identity
        self.keep = keep
        self.written = written
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    @property
    def failed(self) -> bool:
        """Whether `finish` would raise. Any thread may ask."""
        return self._failure is not None

    def begin(self, checkpoint: Checkpoint, first: Callable[[], None] = lambda: None) -> None:
        """Start writing, after the one before is done, with what `first` writes. `checkpoint` must not change any more.

        Raises that one's TrainingError.
        """
        self.finish()
        # Not a daemon: an interpreter that ends in order lets it finish.
        self._thread = threading.Thread(target=self._write, args=(checkpoint, first), name="checkpoint")
        self._thread.start()

    def finish(self) -> None:
        """Wait for what is under way. Raises TrainingError, once, when it could not be written."""
        if self._thread:
            self._thread.join()
            self._thread = None
        if self._failure:
            failure, self._failure = self._failure, None
            raise failure

    def wait(self) -> None:
        """Wait without raising: the run is ending for another reason, or all is well."""
        if self._thread:
            self._thread.join()

    def _write(self, checkpoint: Checkpoint, first: Callable[[], None]) -> None:
        began = time.monotonic()
        try:
            first()
            self.checkpoints.put(
                checkpoint_name(checkpoint.step), lambda folder: write(folder, checkpoint, self.identity)
            )
            best: int | None = checkpoint.best.get("step")  # type: ignore[assignment]  # a whole number
            bad = checkpoint.bad_steps
            prune(self.checkpoints, self.keep, best, lambda step: is_settled(step, bad))
            self.written(time.monotonic() - began)
        except CycleSRError as error:  # a full disk is not bad input: the run may be started again
            self._failure = TrainingError(f"{error}; earlier checkpoints are intact")
        except Exception as error:  # of any kind: it is raised in the training thread
            self._failure = error
