"""events.jsonl of a run folder: each start with its environment, each end with its reason. It is never cut back."""

from __future__ import annotations

import json
import os
import platform
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib import metadata
from typing import Any

import torch

from cyclesr_dist import __version__
from cyclesr_dist.distributed.world import World
from cyclesr_dist.errors import Preempted, TrainingError
from cyclesr_dist.runtime.files import bytes_if_there
from cyclesr_dist.runtime.redact import redact
from cyclesr_dist.training.changes import Change
from cyclesr_dist.training.run_folder import RunFolder, append_line, end_line

_PACKAGES = ("deepspeed", "numpy", "pillow", "webdataset")


class Journal:
    """Written by the main rank alone; on others, and before `started`, everything here does nothing."""

    def __init__(self, folder: RunFolder, world: World) -> None:
        self.folder = folder
        self.world = world
        self._open = False

    def started(self, step: int, num_steps: int) -> int:
        """Note a start at `step` of `num_steps`. Returns how many were before. Raises TrainingError on a full disk."""
        if not self.world.is_main:
            return 0
        before = _num_starts(self.folder)
        end_line(self.folder.events)
        self._open = True
        ranks = self.world.num_ranks
        self.note("started", step=step, num_steps=num_steps, num_ranks=ranks, environment=environment(self.world))
        return before

    def changed(self, step: int, found: Sequence[Change]) -> None:
        """Note what is not as in the run that wrote the checkpoint of `step`."""
        if found:
            values = {change.key: [change.before, change.after] for change in found}
            self.note("changed", step=step, changes=values)

    def note(self, event: str, **more: Any) -> None:
        if self._open:
            append_line(self.folder.events, {"event": event, "at": round(time.time(), 3), **more})

    def ended(self, error: BaseException | None = None) -> None:
        """The last entry of this process: finished, stopped in order, or failed for `error`'s reason."""
        if error is None:
            kind, reason = "finished", {}
        else:
            kind = "stopped" if isinstance(error, Preempted) else "failed"
            reason = {"reason": redact(str(error)) or type(error).__name__}
        try:
            self.note(kind, **reason)
        except TrainingError as full:  # the reason itself is on its way to the terminal
            print(f"cyclesr: warning: {full}", file=sys.stderr)
        self._open = False


def environment(world: World) -> dict[str, Any]:
    """What a reader of a report wants to know of the machine of the main rank."""
    on_gpu = world.device.type == "cuda"
    versions = {"cyclesr_dist": __version__, "torch": torch.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):  # not installed the usual way: no reason not to train
            versions[package] = metadata.version(package)
    return {
        "host": socket.gethostname(),
        "system": f"{platform.system()} {platform.release()}",
        "device": torch.cuda.get_device_name(world.device) if on_gpu else f"CPU, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "versions": versions | ({"cuda": torch.version.cuda} if on_gpu else {}),
    }


def _num_starts(folder: RunFolder) -> int:
    starts = 0
    for line in (bytes_if_there(folder.events) or b"").decode(errors="replace").splitlines():
        try:
            starts += json.loads(line)["event"] == "started"
        except (ValueError, KeyError, TypeError):  # the half line of a process that was killed
            continue
    return starts
