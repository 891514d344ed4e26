"""A clean place at a store that may outlive the ranks which met there.

torchrun can start ranks again at the store of those that failed, where their addresses still stand: gloo would dial the
dead, and a stop request of theirs would be heard. Its restart count names no attempt either, as each host counts only
its own failures. So rank 0 draws a name for the attempt and gives it to every rank that asks.

It also says whose store it is. A rank of another job, started with the same address by mistake, leaves; it must neither
take a place in this one, nor be taken for the rank that this one waits for.
"""

from __future__ import annotations

import hashlib
import json
import socket
import time
import uuid
from datetime import timedelta

from torch.distributed import (  # type: ignore[attr-defined]  # not in its __all__
    DistNetworkError,
    DistStoreError,
    PrefixStore,
    Store,
)

from cyclesr_dist.errors import CycleSRError, InputError

_POLL_SECONDS = 0.02
_OWNER = "cyclesr/owner"


def fresh_store(store: Store, rank: int, num_ranks: int, timeout: timedelta, job: str = "") -> Store:
    """A part of `store` that is empty and the same for all ranks now alive. Every rank calls it once, with the same
    name `job` of what they do together.

    Raises CycleSRError when some ranks do not come in time, InputError when the store is another job's.
    """
    # Foreign questions stand at other places: they are not seen at all.
    own = hashlib.sha256(f"{job} {num_ranks}".encode()).hexdigest()[:16]
    place = PrefixStore(f"cyclesr/{own}", store)
    if rank == 0:
        store.set(_OWNER, json.dumps([job, num_ranks, socket.gethostname()]))
        name = _name_for_all(place, num_ranks, timeout)
    else:
        try:
            _check_owner(store, job, rank, num_ranks, timeout)
            name = _ask(place, rank, timeout)
        except DistNetworkError as error:
            raise CycleSRError(
                f"rank {rank} of {num_ranks} waited for rank 0, which has ended; if the run did well without this "
                f"process, another one came as rank {rank}: give each a RANK of its own"
            ) from error
    return PrefixStore(f"cyclesr/{name}", store)


def _check_owner(store: Store, job: str, rank: int, num_ranks: int, timeout: timedelta) -> None:
    deadline = time.monotonic() + timeout.total_seconds()
    try:
        store.wait([_OWNER], timeout)
    except DistStoreError as error:
        raise CycleSRError(f"rank {rank} got no word from rank 0 in {timeout.total_seconds():g} s") from error
    while True:
        owner, size, host = json.loads(store.get(_OWNER))
        if owner != job:
            raise InputError(
                f"rank {rank} of the job ({job}) met rank 0 of another job ({owner}, on {host}) at this address; give "
                "each job a MASTER_PORT of its own, and all ranks of a job the same --run-dir or the same CYCLESR_JOB"
            )
        if size == num_ranks:
            return
        if time.monotonic() > deadline:
            raise InputError(f"WORLD_SIZE = {num_ranks} on rank {rank}, and {size} on rank 0, on {host}")
        time.sleep(_POLL_SECONDS)  # it may be that of an attempt before, with other ranks


def _name_for_all(store: Store, num_ranks: int, timeout: timedelta) -> str:
    name = uuid.uuid4().hex
    deadline = time.monotonic() + timeout.total_seconds()
    missing = set(range(1, num_ranks))
    answered: dict[int, bytes] = {}
    while missing:
        for rank in sorted(missing):
            if store.check([_arrived(name, rank)]):
                missing.remove(rank)
            # The question that stands there may be a dead rank's; the living one's replaces it.
            elif store.check([_question(rank)]) and (asked := store.get(_question(rank))) != answered.get(rank):
                store.set(_answer(asked.decode()), name)
                answered[rank] = asked
        if time.monotonic() > deadline:
            listed = ", ".join(map(str, sorted(missing)))
            raise CycleSRError(f"rank {listed} did not come in {timeout.total_seconds():g} s")
        time.sleep(_POLL_SECONDS if missing else 0)
    return name


def _ask(store: Store, rank: int, timeout: timedelta) -> str:
    own = uuid.uuid4().hex
    store.set(_question(rank), own)
    try:
        store.wait([_answer(own)], timeout)
    except DistStoreError as error:
        raise CycleSRError(f"rank {rank} got no word from rank 0 in {timeout.total_seconds():g} s") from error
    name = store.get(_answer(own)).decode()
    store.set(_arrived(name, rank), "here")
    return name


def _question(rank: int) -> str:
    return f"question/{rank}"


def _answer(question: str) -> str:
    return f"answer/{question}"


def _arrived(name: str, rank: int) -> str:
    return f"arrived/{name}/{rank}"
