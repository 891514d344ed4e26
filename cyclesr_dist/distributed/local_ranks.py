"""Real processes as ranks of this machine, joined over gloo: for tests and `cyclesr bench scaling`."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any

from cyclesr_dist.runtime.lifeline import end_with_parent

_RANK_TIMEOUT_SECONDS = 240


def run_ranks(fn: Callable[..., Any], num_ranks: int, *args: Any) -> list[Any]:
    """Call `fn(world, *args)` in `num_ranks` processes joined over gloo; return the results in rank order.

    `fn` must be importable (a module-level function) and its result picklable. Raises RuntimeError with the ranks'
    tracebacks when any fails, and ends the others.
    """
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    # Of a fork server, which has imported what was told to multiprocessing.set_forkserver_preload.
    context = multiprocessing.get_context("forkserver")
    environment = dict(os.environ)  # the fork server's own is that of its start
    receivers: list[Connection] = []
    processes = []
    for rank in range(num_ranks):
        receiver, sender = context.Pipe(duplex=False)
        told = (environment | _variables(rank, num_ranks, port), sender, fn, args)
        process = context.Process(target=_rank_main, args=told, daemon=True)
        process.start()
        sender.close()
        receivers.append(receiver)
        processes.append(process)
    results: dict[int, Any] = {}
    failures: list[str] = []
    waiting = dict(zip(receivers, range(num_ranks), strict=True))
    while waiting and not failures:
        ready = wait(list(waiting), _RANK_TIMEOUT_SECONDS)
        if not ready:
            failures.append(f"ranks {sorted(waiting.values())} did not finish in {_RANK_TIMEOUT_SECONDS} s")
        for receiver in receivers:
            if receiver not in ready:
                continue
            rank = waiting.pop(receiver)
            try:
                ok, value = pickle.loads(receiver.recv_bytes())
            except EOFError:
                ok, value = False, "ended without a result"
            if ok:
                results[rank] = value
            else:
                failures.append(f"rank {rank}: {value}")
    for process in processes:
        if failures:
            process.kill()
        process.join()
    if failures:
        raise RuntimeError("\n".join(failures))
    return [results[rank] for rank in range(num_ranks)]


def _variables(rank: int, num_ranks: int, port: int) -> dict[str, str]:
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(num_ranks),
        "LOCAL_WORLD_SIZE": str(num_ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def _rank_main(environment: dict[str, str], sender: Connection, fn: Callable[..., Any], args: Any) -> None:
    end_with_parent()
    os.environ.clear()
    os.environ.update(environment)
    try:
        from cyclesr_dist.distributed.world import World

        world = World.from_env()
        world.join()
        result = fn(world, *args)
        world.leave()
        # Plain pickle sends tensors by value; the connection's own would share memory of a process about to end.
        sender.send_bytes(pickle.dumps((True, result)))
    except BaseException:  # a rank's every failure is reported to the parent
        sender.send_bytes(pickle.dumps((False, traceback.format_exc())))
