"""Fixtures of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.kube_server import Cluster, cluster


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path) as found:
        yield found
