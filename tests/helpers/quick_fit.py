"""Estimates for tests to which it is all one how well they fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def few_steps() -> Iterator[None]:
    """Of the fit, in this process: a tenth of a second instead of some seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cyclesr_dist.degradation.fit.STEPS", 15)
        yield
