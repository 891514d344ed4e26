"""What a process has imported."""

from __future__ import annotations

import sys
from multiprocessing.connection import Connection


def tell_imports(pipe: Connection) -> None:
    """Names of modules, before anything else is imported."""
    pipe.send(sorted(sys.modules))
