"""A training run: set up, loop, validation, checkpoints, end. `launch/train.py`.

`cyclesr_dist.train(config, run_dir)` calls this folder: it has the name of that function, and Python has one for both.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import cyclesr_dist

if TYPE_CHECKING:
    from cyclesr_dist.config.schema import Config


class _Callable(ModuleType):
    def __call__(
        self, config: Config, run_dir: cyclesr_dist.FilePath, *, resume: bool = False, quiet: bool = False
    ) -> dict[str, Any]:
        return cyclesr_dist._train(config, run_dir, resume=resume, quiet=quiet)


sys.modules[__name__].__class__ = _Callable
