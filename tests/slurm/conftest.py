"""Fixtures of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from helpers.slurm import Slurm, slurm


@pytest.fixture(scope="session")
def cluster() -> Iterator[Slurm]:
    with slurm() as found:
        yield found
