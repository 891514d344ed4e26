"""Estimates for tests to which it is all one how well they fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

WANTED = "TEST_FEW_FIT_STEPS"


@contextmanager
def few_steps() -> Iterator[None]:
    """Of the fit, in this process and in trainings that helpers.runs forks: a tenth of a second, not some seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(WANTED, "1")
        patch.setattr("cyclesr_dist.degradation.fit.STEPS", 15)
        yield
