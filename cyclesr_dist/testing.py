"""For tests, ours and those of plug-ins: real processes as ranks, a tiny configuration, tiny shard sets."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np

_RANK_TIMEOUT_SECONDS = 240


def run_ranks(fn: Callable[..., Any], num_ranks: int, *args: Any) -> list[Any]:
    """Call `fn(world, *args)` in `num_ranks` processes joined over gloo; return the results in rank order.

    `fn` must be importable (a module-level function) and its result picklable. Raises RuntimeError with the ranks'
    tracebacks when any fails, and ends the others.
    """
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    receivers: list[Connection] = []
    processes = []
    for rank in range(num_ranks):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_rank_main, args=(rank, num_ranks, port, sender, fn, args), daemon=True)
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


def _rank_main(rank: int, num_ranks: int, port: int, sender: Connection, fn: Callable[..., Any], args: Any) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(num_ranks),
        "LOCAL_WORLD_SIZE": str(num_ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    try:
        from cyclesr_dist.world import World

        world = World.from_env()
        world.join()
        result = fn(world, *args)
        world.leave()
        # Plain pickle sends tensors by value; the connection's own would share memory of a process about to end.
        sender.send_bytes(pickle.dumps((True, result)))
    except BaseException:  # a rank's every failure is reported to the parent
        sender.send_bytes(pickle.dumps((False, traceback.format_exc())))


def tiny_overrides() -> list[str]:
    """Config overrides for networks and batches that train in milliseconds; no BatchNorm in them."""
    return [
        "global_batch=4",
        "nets.translator.kind=residual",
        "nets.translator.channels=4",
        "nets.translator.blocks=1",
        "nets.translator.noise_channels=1",
        "nets.d_lr.channels=4",
        "nets.d_lr.layers=1",
        "nets.d_h.channels=4",
        "nets.d_h.layers=2",
        "nets.sr.kind=compact",
        "nets.sr.channels=4",
        "nets.sr.blocks=1",
        "pool.size=6",
        "shards.patch=8",
        "shards.stride=8",
        "perceptual.source=random",
        "perceptual.layer=2",
    ]


def write_photos(folder: Path, count: int, height: int, width: int, seed: int) -> Path:
    """Smooth coloured noise, which compresses and blurs somewhat like photographs. Returns the folder."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        coarse = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.int16)
        noisy = smooth + rng.integers(-12, 13, smooth.shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"photo{i}.png")
    return folder
