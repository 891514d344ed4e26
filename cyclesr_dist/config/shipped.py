"""Files that come with the package and lie outside it."""

from __future__ import annotations

import sys
from pathlib import Path


def config_file(name: str) -> Path:
    """One of `configs/`: of the checkout that one stands in, or as the wheel installed it."""
    here = Path("configs") / name
    return here if here.exists() else Path(sys.prefix) / "share" / "cyclesr-dist" / "configs" / name
