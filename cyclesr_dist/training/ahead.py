"""What a run's configuration lets begin before torch is imported, which takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cyclesr_dist.config.schema import Config

_LOADER = "cyclesr_dist.data.loader"


def read_ahead(load_config: Callable[[], Config], *, trains: bool = True) -> Callable[[], Config]:
    """Call `load_config` now and, where the run `trains`, start the process that its loader processes are forked from.

    Returns what gives the configuration, or raises what `load_config` raised: when all ranks listen
    (`World.together`).
    """
    try:
        config = load_config()
    except Exception as error:  # every kind is the other ranks' to hear of
        failure = error

        def fail() -> Config:
            raise failure

        return fail
    if trains and config.data.workers:
        from cyclesr_dist.runtime.fork_server import start_fork_server

        start_fork_server(_LOADER)
    return lambda: config
