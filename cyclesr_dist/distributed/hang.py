"""What a rank was doing when it, or another one, hung: the stacks of its threads, and torch's flight recorder, which
keeps the last collectives of a process group. Both go into a folder that the run names, a file of each rank.

The flight recorder's file is what `torchfrtrace` reads. NCCL's watchdog writes the same one when a collective times
out, which it may not survive.
"""

from __future__ import annotations

import faulthandler
import os
import threading
import traceback
from pathlib import Path
from typing import Any

import torch

from cyclesr_dist.runtime.redact import redact

_LAST_COLLECTIVES = "2000"
FILES = "hang.rank*.txt"
_PREFIX = "collectives.rank"
_SECONDS = 3.0
"""For files of a process whose disk may be what hangs."""


def record_collectives(folder: Path) -> None:
    """Have torch keep the last collectives, and NCCL write them into `folder` when one times out. Ahead of the process
    group; what the user has set stays."""
    wanted = {
        ("TORCH_FR_BUFFER_SIZE", "TORCH_NCCL_TRACE_BUFFER_SIZE"): _LAST_COLLECTIVES,
        ("TORCH_NCCL_DUMP_ON_TIMEOUT",): "1",
        ("TORCH_FR_DUMP_TEMP_FILE", "TORCH_NCCL_DEBUG_INFO_TEMP_FILE"): str(folder.resolve() / _PREFIX),
    }
    for names, value in wanted.items():  # the second of two names is that of torch before 2.9, which still counts
        known = next((os.environ[name] for name in names if name in os.environ), "")
        if not known or known.endswith(f"/{_PREFIX}"):  # of another run in this process
            os.environ[names[0]] = value


class Evidence:
    """Nothing is written before `folder` is set, which is made."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.folder: Path | None = None

    def hint(self, cause: str, error: BaseException | None = None) -> str:
        """Write what there is to see in this process, and return where, as the end of a line; empty where nothing can
        be written. Any thread may call it. `error`: what broke a collective off."""
        if self.folder is None:
            return ""
        folder, written = self.folder, threading.Event()

        def write() -> None:
            if _write(folder, self.rank, cause, error):
                written.set()

        writing = threading.Thread(target=write, name="evidence", daemon=True)
        writing.start()
        writing.join(_SECONDS)
        return f"; where each rank was: {folder}/{FILES}" if written.is_set() else ""


def _write(folder: Path, rank: int, cause: str, error: BaseException | None) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"hang.rank{rank}.txt").open("w", encoding="utf-8") as file:
            file.write(f"{redact(cause)}\n\n")
            if error is not None:
                file.write(redact("".join(traceback.format_exception(error))) + "\n")
            file.write("Threads of this rank, each with its innermost call first:\n\n")
            file.flush()
            faulthandler.dump_traceback(file)
        for dump in _recorders():
            (folder / f"{_PREFIX}{rank}").write_bytes(dump)
    except OSError:  # the disk may be the reason; the cause itself is on its way to the terminal
        return False
    return True


def _recorders() -> list[bytes]:
    """What flight recorders have, as torch pickles it: NCCL's where there is one, else gloo's."""
    c10d: Any = torch._C._distributed_c10d
    names = ("_dump_nccl_trace", "_dump_fr_trace") if torch.cuda.is_available() else ("_dump_fr_trace",)
    return [getattr(c10d, name)() for name in names if hasattr(c10d, name)][:1]
