"""The process that loader processes are forked from, started ahead: it imports what they need while this one does."""

from __future__ import annotations

from multiprocessing import forkserver, set_forkserver_preload

from cyclesr_dist.runtime.signals import deaf_children


def start_fork_server(*modules: str) -> None:
    """Start it, unless it runs, and let it import `modules`. This process goes on at once.

    Each process forked from it has them then, and shares their memory with the others. Otherwise each would import them
    again, torch for two seconds.
    """
    set_forkserver_preload([*modules, "cyclesr_dist.runtime.frozen"])
    with deaf_children():  # they outlive a request until this process ends
        forkserver.ensure_running()
