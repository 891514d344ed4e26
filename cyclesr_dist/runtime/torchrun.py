"""What torchrun is told of a failure: it ends with a block of lines of its own, which then shows our one line last."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path

from cyclesr_dist.runtime.redact import redact

_ERROR_FILE = "TORCHELASTIC_ERROR_FILE"
"""Environment variable of ranks below torchrun: where it looks for the cause when the rank has failed."""


def tell_torchrun(text: str, kind: str = "error") -> None:
    """Leave why this rank failed, as torch.distributed.elastic's own handler does. Call it where the failure began.

    Without torchrun nothing is written; the first text stays.
    """
    name = os.environ.get(_ERROR_FILE)
    if not name or os.path.exists(name):
        return
    # torchrun takes the earliest for the cause, by whole seconds, and ends the other ranks within this one.
    told_at = int(time.time()) - 1
    record = {"message": {"message": redact(f"cyclesr: {kind}: {text}"), "extraInfo": {"timestamp": str(told_at)}}}
    temporary = Path(f"{name}.{os.getpid()}.tmp")
    with suppress(OSError):  # torchrun's folder is gone, and torchrun with it
        temporary.write_text(json.dumps(record), encoding="utf-8")
        os.replace(temporary, name)
