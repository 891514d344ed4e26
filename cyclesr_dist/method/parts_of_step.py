"""Names of what a step does, for a trace by torch's profiler."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch.profiler import record_function

_traced = False


def trace_parts(traced: bool) -> None:
    """Whether parts have their names from now on. Without a trace a name would cost time for nothing."""
    global _traced
    _traced = traced


def part(name: str) -> AbstractContextManager[Any]:
    """Around a part: `name` stands in the trace."""
    return record_function(name) if _traced else nullcontext()
