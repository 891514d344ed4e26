"""`telemetry.profile`: a trace of some steps by torch's profiler, and a snapshot of GPU memory, for chosen ranks.

It looks on: every number of the training is as without. A file that cannot be written costs a warning, no run.
"""

from __future__ import annotations

import gzip
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import torch
from torch.profiler import ProfilerActivity, profile

from cyclesr_dist.config.schema import Profile
from cyclesr_dist.distributed.world import World
from cyclesr_dist.method.parts_of_step import part, trace_parts
from cyclesr_dist.runtime.files import replacing

T = TypeVar("T")

_MOST_ALLOCATIONS = 100_000
"""That a snapshot looks back on."""


_HEAD = 2**20
"""Bytes at the beginning of a trace, in which its processes have their names."""
_PROCESS_NAME = re.compile(rb'("name": "process_name",[^{}]*"args": \{\s*"name": )"[^"]*"')


class Profiler:
    """Of one rank. The loop says which step has ended; nothing happens on ranks that are not chosen, or before and
    after the steps."""

    def __init__(
        self, wanted: Profile, world: World, folder: Path, say: Callable[[str], None], warn: Callable[[str], None]
    ) -> None:
        """Files go into `folder`, which is made."""
        self.first, self.last = wanted.steps or (0, 0)
        chosen = bool(wanted.steps) and (not wanted.ranks or world.rank in wanted.ranks)
        self._left = chosen
        self.rank, self.folder, self.say, self.warn = world.rank, folder, say, warn
        self._cuda = world.device.type == "cuda"
        self._running: profile | None = None
        self._from = 0

    def is_due(self, step: int) -> bool:
        """Whether `stepped` has something to do when `step` steps are done."""
        return self._left and (step >= self.last or (self._running is None and step >= self.first - 1))

    def stepped(self, step: int) -> None:
        """Begin or end the trace. A run that is resumed among the steps traces the rest of them, a later one none."""
        if self._running is not None:
            self._left = False
            self._write(self._stop())
        elif step >= self.last:
            self._left = False
        else:
            self._start(step)

    def waiting(self, items: Iterable[T]) -> Iterator[T]:
        """The same items; the wait for each has its name in the trace."""
        iterator = iter(items)
        while True:
            with part("waiting for a batch"):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def close(self) -> None:
        """A trace that is not at its end is dropped: the run that is resumed makes it."""
        if self._running is not None:
            self._stop()

    def _start(self, step: int) -> None:
        self._from = step + 1
        if self._cuda:
            torch.cuda.memory._record_memory_history(max_entries=_MOST_ALLOCATIONS)
        activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if self._cuda else [])
        self._running = profile(activities=activities)
        self._running.start()
        trace_parts(True)

    def _stop(self) -> profile:
        running, self._running = self._running, None
        assert running is not None
        if self._cuda:
            torch.cuda.synchronize()
        trace_parts(False)
        running.stop()
        return running

    def _write(self, trace: profile) -> None:
        name = f"steps{self._from}-{self.last}.rank{self.rank}"
        written = [self.folder / f"{name}.trace.json.gz"]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(written[0]) as temporary:
                _export(trace, temporary, self.rank)
            if self._cuda:
                written.append(self.folder / f"{name}.memory.pickle")
                with replacing(written[1]) as temporary:
                    torch.cuda.memory._dump_snapshot(str(temporary))  # type: ignore[no-untyped-call]  # torch's own
        except (OSError, RuntimeError) as error:  # RuntimeError: of torch's own writers
            self.warn(f"telemetry.profile: {written[-1]} cannot be written: {error}")
            return
        finally:
            if self._cuda:
                torch.cuda.memory._record_memory_history(enabled=None)
        self.say(f"profile: {written[0]}, opens at ui.perfetto.dev")
        memory = (
            f"{written[1]}, opens at pytorch.org/memory_viz" if self._cuda else "none, a snapshot is of a GPU's alone"
        )
        self.say(f"profile of memory: {memory}")


def _export(trace: profile, path: Path, rank: int) -> None:
    """As gzip. torch writes JSON alone under the name that it is given, and says nothing where it cannot. It calls the
    process and its devices after the program, `python`, on every rank."""
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "trace.json"
        trace.export_chrome_trace(str(plain))
        with plain.open("rb") as source, gzip.open(path, "wb", compresslevel=5) as target:
            target.write(_PROCESS_NAME.sub(rb'\1"rank %d"' % rank, source.read(_HEAD)))
            shutil.copyfileobj(source, target)
