"""Files that come with the package and lie outside it."""

from __future__ import annotations

import sys
from pathlib import Path

_CHECKOUT = Path(__file__).parents[2]


def config_file(name: str) -> Path:
    """One of `configs/`: of the folder that one stands in, of the package's checkout, or as the wheel installed it."""
    folders = [Path("configs")]
    if (_CHECKOUT / "pyproject.toml").is_file():  # beside an installed package there may be anything
        folders.append(_CHECKOUT / "configs")
    last = Path(sys.prefix) / "share" / "cyclesr-dist" / "configs" / name
    return next((folder / name for folder in folders if (folder / name).exists()), last)
