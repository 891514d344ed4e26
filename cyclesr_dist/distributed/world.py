"""Who this process is among the ranks: a value, not a singleton.

launchers.py reads it from the environment; without a launcher the process is alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import HashStore, Store  # type: ignore[attr-defined]  # exported, but not in its __all__
from torch.distributed.rendezvous import rendezvous

from cyclesr_dist.distributed.launchers import read_launch
from cyclesr_dist.distributed.rendezvous import fresh_store
from cyclesr_dist.errors import ConfigError, CycleSRError, FailedElsewhere, InputError
from cyclesr_dist.runtime.meeting import meeting_seconds, scheduled_job, wait_for_address
from cyclesr_dist.runtime.torchrun import tell_torchrun

T = TypeVar("T")
_COLLECTIVE_TIMEOUT = timedelta(minutes=10)
_left: list[object] = []
"""The process group that this process was in last. It is kept until the next `World.join`; `World.leave` says why."""
JOB_VARIABLE = "CYCLESR_JOB"
"""Environment variable: a name for the job, where the ranks have different run folders."""


@dataclass(frozen=True)
class World:
    """`num_ranks` processes, of which this is `rank`; `device` is where its tensors live."""

    rank: int = 0
    num_ranks: int = 1
    local_rank: int = 0
    local_num_ranks: int = 1

    @staticmethod
    def from_env() -> World:
        """What the launcher's variables say. Other libraries then find torchrun's, whichever launcher it was.

        Raises ConfigError when one is missing, contradicts another or is not a number.
        """
        launch = read_launch(os.environ)
        if launch is None:
            return World()
        os.environ |= launch.variables()
        return World(launch.rank, launch.size, launch.local_rank, launch.local_size)

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """Of the GPUs that it sees, the one with its number on its host. If it sees one, that one: some launchers show
        every rank its own. `placement.check_launch` finds out whether ranks share it."""
        if not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device("cuda", 0 if torch.cuda.device_count() == 1 else self.local_rank)

    def join(self, job: str = "") -> Store:
        """Meet the other ranks: create the process group. All ranks call it, once, also when alone.

        Returns the store that they met at. `job` is a name for what they do together, equal on all of them. Raises
        CycleSRError when some do not come, InputError when the ranks of another job are at this address.
        On CPU a rank takes its share of the cores, or as many threads as CYCLESR_NUM_THREADS says.
        """
        if self.device.type == "cuda":
            if (self.device.index or 0) < torch.cuda.device_count():  # else the ranks meet to be refused together
                torch.cuda.set_device(self.device)
        else:
            cores = len(os.sched_getaffinity(0))
            # Not OMP_NUM_THREADS: torchrun sets it to 1 unasked.
            threads = os.environ.get("CYCLESR_NUM_THREADS", "")
            torch.set_num_threads(
                max(1, int(threads)) if threads.isdecimal() else max(1, cores // self.local_num_ranks)
            )
        backend = "cpu:gloo,cuda:nccl" if self.device.type == "cuda" else "gloo"
        _left.clear()
        store = self._meet(job)
        try:
            dist.init_process_group(
                backend, store=store, rank=self.rank, world_size=self.num_ranks, timeout=_COLLECTIVE_TIMEOUT
            )
        except RuntimeError as error:  # torch's for a peer that is gone, and gloo's and NCCL's own
            raise CycleSRError(
                f"rank {self.rank} of {self.num_ranks} lost the others while they met: {_first_line(error)}"
            ) from error
        return store

    def _meet(self, job: str) -> Store:
        if self.num_ranks == 1:
            return HashStore()  # without a launcher there is no address to meet at
        seconds = meeting_seconds()
        wait_for_address("MASTER_ADDR", os.environ.get("MASTER_ADDR", ""), seconds)
        timeout = timedelta(seconds=seconds)
        try:
            store, _, _ = next(rendezvous("env://", self.rank, self.num_ranks, timeout=timeout))
            return fresh_store(store, self.rank, self.num_ranks, timeout, _job_here(job))
        except (dist.DistError, ValueError) as error:
            place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
            taken = "; give each job a MASTER_PORT of its own" if "EADDRINUSE" in str(error) else ""
            raise CycleSRError(
                f"rank {self.rank} of {self.num_ranks} cannot meet the others at {place}: {_first_line(error)}{taken}"
            ) from error

    def leave(self) -> None:
        """Take the process group apart, if there is one."""
        if dist.is_initialized():
            # DistributedDataParallel, freed after this, drops its reference with the GIL held. If that were the last
            # one, it would wait there for gloo's threads, which need the GIL to release the last collective's tensors.
            _left.append(dist.group.WORLD)
            dist.destroy_process_group()

    def together(self, run: Callable[[], T]) -> T:
        """Call `run` on every rank; if it fails on any, fail on all. All ranks call it.

        Without this one rank would leave and the others would wait for it in their next collective. The main rank
        raises the lowest failing rank's error, the others FailedElsewhere, so that the user reads one line. Exceptions
        that are no CycleSRError are bugs and raised where they are, with their traceback.
        """
        result: T | None = None
        own: Exception | None = None
        try:
            result = run()
        except Exception as error:  # every kind must reach the other ranks before it is raised again
            own = error
        reports = self.gather_objects(None if own is None else (str(own) or repr(own), getattr(own, "exit_code", 1)))
        failed = [(rank, report) for rank, report in enumerate(reports) if report is not None]
        if not failed:
            return result  # type: ignore[return-value]  # run() returned it
        first, (message, exit_code) = failed[0]
        if own is not None and (first == self.rank == 0 or not isinstance(own, CycleSRError)):
            raise own
        if self.is_main:
            named = InputError if exit_code == InputError.exit_code else CycleSRError
            failure = named(f"{message} (on rank {first})")
            failure.began_here = False
            raise failure
        if first == self.rank:
            tell_torchrun(message)
        raise FailedElsewhere(message, exit_code)

    def told_once(self, error: CycleSRError) -> CycleSRError:
        """What to raise for an error that all ranks have found out by themselves: the main rank prints it."""
        return error if self.is_main else FailedElsewhere(str(error), error.exit_code)

    def gather_objects(self, value: T) -> list[T]:
        """Everybody's value, in rank order. All ranks call it."""
        if self.num_ranks == 1:
            return [value]
        values: list[T] = [value] * self.num_ranks
        dist.all_gather_object(values, value)
        return values

    def mean(self, values: list[float]) -> list[float]:
        """Element-wise mean over ranks. All ranks call it."""
        if self.num_ranks == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor)
        return [float(v) for v in tensor / self.num_ranks]

    def gather_numbers(self, values: list[float]) -> list[list[float]]:
        """Everybody's `values`, as many on each, in rank order. All ranks call it."""
        if self.num_ranks == 1:
            return [values]
        own = torch.tensor(values, dtype=torch.float64)
        rows = [torch.empty_like(own) for _ in range(self.num_ranks)]
        dist.all_gather(rows, own)
        return [row.tolist() for row in rows]

    def totals(self, *counts: int) -> list[int]:
        """Sums over ranks. All ranks call it."""
        if self.num_ranks == 1:
            return list(counts)
        tensor = torch.tensor(counts, dtype=torch.int64)
        dist.all_reduce(tensor)
        return [int(count) for count in tensor]

    def share(self, value: T) -> T:
        """The main rank's value. All ranks call it."""
        if self.num_ranks == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def share_tensors(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The main rank's CPU tensors, whatever the others give. All ranks call it."""
        if self.num_ranks == 1:
            return tensors
        layout = self.share({name: (tuple(t.shape), t.dtype) for name, t in tensors.items()})
        shared = {}
        for name, (shape, dtype) in layout.items():
            shared[name] = tensors[name].contiguous() if self.is_main else torch.empty(shape, dtype=dtype)
            dist.broadcast(shared[name], src=0)
        return shared

    def barrier(self) -> None:
        if self.num_ranks > 1:
            dist.barrier()

    def rank_batch(self, global_batch: int) -> int:
        """Samples of this rank in each step. Raises ConfigError when the world size does not divide the batch."""
        if global_batch % self.num_ranks:
            fits = [n for n in range(1, global_batch + 1) if global_batch % n == 0]
            near = sorted(fits, key=lambda n: abs(n - self.num_ranks))[:3]
            up = -(-global_batch // self.num_ranks) * self.num_ranks
            raise ConfigError(
                f"global_batch = {global_batch} is not divisible by the {self.num_ranks} ranks; "
                f"use {' or '.join(str(n) for n in sorted(near))} ranks, or global_batch={up}"
            )
        return global_batch // self.num_ranks


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _job_here(job: str) -> str:
    """`job`, and what the launcher or scheduler calls it: the same run may be started twice."""
    return ", ".join(filter(None, (os.environ.get(JOB_VARIABLE) or job, scheduled_job())))
