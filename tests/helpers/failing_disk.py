"""A disk that fails as a network disk does, by a library that is loaded before the C library (failing_disk.c)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


class FailingDisk:
    """For processes that are started with `environment`."""

    def __init__(self, folder: Path) -> None:
        """Skips the test where there is no C compiler."""
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            pytest.skip("no C compiler")
        folder.mkdir(parents=True, exist_ok=True)
        library = folder / "failing_disk.so"
        source = Path(__file__).with_suffix(".c")
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
        self.control = folder / "fault"
        self.environment = {"LD_PRELOAD": str(library), "CYCLESR_TEST_FAULT": str(self.control)}

    @classmethod
    def of_this_process(cls) -> FailingDisk:
        """In a process that was started with the environment of one."""
        disk = cls.__new__(cls)
        disk.control = Path(os.environ["CYCLESR_TEST_FAULT"])
        return disk

    def fail(self, error: int, part_of_path: str, times: int = 1_000_000) -> None:
        """The next accesses to files with `part_of_path` in their path fail."""
        self._hits.unlink(missing_ok=True)
        self.control.write_text(f"{error} {times} {part_of_path}")

    @property
    def num_failures(self) -> int:
        """Accesses that failed."""
        return self._hits.stat().st_size if self._hits.exists() else 0

    @property
    def _hits(self) -> Path:
        return self.control.with_name("fault.hits")
