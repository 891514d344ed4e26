"""One node's part of a search in a Slurm job: `srun python -m cyclesr_dist.slurm.ray_node --config FILE --run-dir DIR`.

The first task starts Ray's head, waits for the others, drives the search, and its exit code is the job's. The others
start Ray and leave, with 0, when the head is gone. Slurm signals every process of a step: what Ray starts must not hear
it (trials are told by the search), and goes with the task that started it.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from cyclesr_dist.distributed.launchers import read_launch
from cyclesr_dist.errors import ConfigError, CycleSRError, Preempted
from cyclesr_dist.runtime.command import guarded, own_process
from cyclesr_dist.runtime.guard import guarded_children
from cyclesr_dist.runtime.interrupts import Interrupted
from cyclesr_dist.runtime.meeting import meeting_seconds
from cyclesr_dist.runtime.signals import deaf_children, taking
from cyclesr_dist.search.main import main as search
from cyclesr_dist.search.run import require_ray

_PAUSE_SECONDS = 1.0
_ALONE_AT = ("127.0.0.1", "6379")
_OF_THE_STEP = ("SLURM_PROCID", "SLURM_STEP", "SLURM_NTASKS", "SLURM_NPROCS", "SLURM_LOCALID", "PMI")
"""What makes a rank of this process, and of whatever it starts."""


def main(argv: Sequence[str] | None = None) -> int:
    """The arguments are those of launch/tune.py. Returns the search's exit code; on other nodes than the first, 0."""
    own_process()
    words = sys.argv[1:] if argv is None else argv
    return guarded(lambda: _run(words), debug=False)


def _run(argv: Sequence[str]) -> int:
    launch = read_launch(os.environ)
    if launch is None:
        raise ConfigError("this is a part of a Slurm job; srun starts it")
    require_ray()
    name, port = (launch.address, head_port(launch.port)) if launch.size > 1 else _ALONE_AT
    place = f"{socket.gethostbyname(name)}:{port}"
    cpus = os.environ.get("SLURM_CPUS_PER_TASK")
    for variable in [variable for variable in os.environ if variable.startswith(_OF_THE_STEP)]:
        del os.environ[variable]
    room = [f"--num-cpus={cpus}"] if cpus else []
    try:
        if launch.rank:
            return _serve(place, room)
        with _ray(f"--node-ip-address={place.partition(':')[0]}", f"--port={port}", *_HEAD, *room) as head:
            _wait_for_nodes(place, launch.size, head)
            return search([*argv, "--address", place], "cyclesr tune")
    except Interrupted as interrupt:
        raise Preempted(f"{interrupt}: this node leaves the search") from interrupt


# Of the user's own: other people's searches may be on this node.
_HEAD = ("--head", "--include-dashboard=false", f"--temp-dir=/tmp/ray-{os.getuid()}")


def head_port(port: str) -> str:
    """Of Ray's head, from 20000 to 29999, made of the port at which ranks of this job would meet.

    Ray has 10001 for its client server and those up to 19999 for workers. It does not start where the head has one.
    """
    return str(20000 + int(port) % 10000)


def _serve(head: str, room: Sequence[str]) -> int:
    """A node of the head's cluster for as long as that lives: while the search saves, too, whatever signal came."""
    _wait_until(lambda: _answers(head), f"Ray's head at {head} does not answer")
    with taking(lambda number, frame: None), _ray(f"--address={head}", *room) as node:
        while _answers(head):
            if node.poll() is not None:
                print(
                    "cyclesr tune: Ray has ended on a node; the search goes on without it", file=sys.stderr, flush=True
                )
                break
            time.sleep(_PAUSE_SECONDS)
    return 0


def _wait_for_nodes(place: str, number: int, head: subprocess.Popen[str]) -> None:
    import ray

    _wait_until(lambda: _answers(place) or head.poll() is not None, f"Ray's head at {place} does not answer")
    _check(head)
    try:
        ray.init(address=place, logging_level=logging.ERROR, log_to_driver=False)
    except Exception as error:  # Ray raises all kinds, plain Exception too
        raise CycleSRError(f"Ray did not start on the first node: {' '.join(str(error).split())[:300]}") from error
    try:
        _wait_until(
            lambda: head.poll() is not None or sum(node["Alive"] for node in ray.nodes()) >= number,
            f"not all {number} nodes have joined Ray",
        )
        _check(head)
    finally:
        ray.shutdown()


def _check(head: subprocess.Popen[str]) -> None:
    """Without a head Ray's own functions wait for minutes."""
    if head.poll() is not None:
        raise CycleSRError(f"Ray did not start on the first node (exit code {head.returncode}); the log above says why")


@contextmanager
def _ray(*words: str) -> Iterator[subprocess.Popen[str]]:
    """Ray's processes on this node, while the block runs. What they print goes to the job's log where they fail."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", *words, "--disable-usage-stats", "--block"]
    with guarded_children():
        with deaf_children():
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, text=True)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def _answers(place: str) -> bool:
    host, _, port = place.rpartition(":")
    with suppress(OSError):
        socket.create_connection((host, int(port)), timeout=_PAUSE_SECONDS).close()
        return True
    return False


def _wait_until(happened: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + meeting_seconds()
    while not happened():
        if time.monotonic() > deadline:
            raise CycleSRError(f"{otherwise} in {meeting_seconds():.0f} s")
        time.sleep(_PAUSE_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
