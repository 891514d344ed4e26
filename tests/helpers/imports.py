"""What a process has imported, and how much of it the garbage collector leaves alone."""

from __future__ import annotations

import gc
import sys
from multiprocessing.connection import Connection


def tell_imports(pipe: Connection) -> None:
    """Names of modules, before anything else is imported, and the number of objects."""
    pipe.send((sorted(sys.modules), gc.get_freeze_count()))
