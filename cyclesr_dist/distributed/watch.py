"""A thread beside each rank's training that hears what collectives cannot tell: a stop, a failure, a silent rank.

All ranks meet at the store that torch.distributed made: each says every second that it lives; the main rank, which
looks at all of them, declares a rank lost that has been silent for too long; the first failure stands there for
everybody to read. A rank that cannot reach the store for as long is itself cut off. In all these cases the training
thread may be stuck in a collective for ever, so after a moment the process is ended here.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import asdict, dataclass

from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]  # not in its __all__

from cyclesr_dist.distributed.hang import FILES, Evidence
from cyclesr_dist.distributed.world import World
from cyclesr_dist.errors import CycleSRError, FailedElsewhere, Preempted
from cyclesr_dist.runtime.exit_codes import cause as leave_cause
from cyclesr_dist.runtime.exit_codes import leave_now
from cyclesr_dist.runtime.redact import redact
from cyclesr_dist.runtime.stopping import StopRequest
from cyclesr_dist.runtime.torchrun import tell_torchrun

_TICK_SECONDS = 1.0
# For the training thread to notice by itself that its peers are gone, and for the first cause to arrive.
_PATIENCE_SECONDS = 6.0
_STOP, _FAILED = "stop", "failed"


@dataclass(frozen=True)
class Cause:
    """Why a run failed, by the first rank that knew."""

    rank: int
    text: str
    exit_code: int

    def __str__(self) -> str:
        return f"rank {self.rank} failed first: {self.text}"


class Watch:
    """Alone there is nothing to watch, and no thread."""

    def __init__(self, store: Store, world: World, stop: StopRequest) -> None:
        self.world = world
        self.stop = stop
        self.silence_seconds = 45.0
        """The configuration sets it as soon as it is read."""
        self.cause: Cause | None = None
        self.evidence = Evidence(world.rank)
        """Of ranks that hang; the run says where it may be written."""
        self._closed = threading.Event()
        self._answered = time.monotonic()
        self._beats: dict[int, tuple[bytes, float]] = {}
        if world.num_ranks == 1:
            return
        # A connection of its own, as the training thread may wait in the other.
        self._store = PrefixStore("watch", store.clone())  # type: ignore[attr-defined]
        for target in (self._talk, self._listen):
            threading.Thread(target=target, name=f"watch{target.__name__}", daemon=True).start()

    def close(self) -> None:
        """Stop watching: the rank leaves in order."""
        self._closed.set()

    def failed(self, error: BaseException) -> BaseException:
        """Report a failure of this rank, and return what to raise: the first cause, wherever it was.

        A broken connection is rarely the cause, so that of another rank is waited for.
        """
        if self.world.num_ranks == 1 or isinstance(error, FailedElsewhere | Preempted):
            return error
        if not isinstance(error, CycleSRError) and _is_broken_connection(error):
            deadline = time.monotonic() + _PATIENCE_SECONDS
            while self.cause is None and time.monotonic() < deadline:
                time.sleep(0.1)
            text = f"lost another rank ({str(error).splitlines()[0]})"
            if _is_hang(text):
                text += self.evidence.hint(text, error)
        else:
            text = str(error) if isinstance(error, CycleSRError) else f"{type(error).__name__}: {error}"
        own = Cause(self.world.rank, redact(text), getattr(error, "exit_code", 1))
        first = self.cause or self._report(own)
        leave_cause(str(first))
        if first.rank == self.world.rank:
            return error if not _is_broken_connection(error) else _of_another_rank(text)
        # The main rank prints it; the others leave without a word.
        return _of_another_rank(str(first)) if self.world.is_main else FailedElsewhere(str(first), first.exit_code)

    def _report(self, own: Cause) -> Cause:
        """Put the cause where all ranks see it, unless one is there. Returns the one that is there."""
        if self._answered < time.monotonic() - 3 * _TICK_SECONDS:
            return own  # the store does not answer: asking it again would never return
        try:
            text = self._store.compare_set(_FAILED, "", json.dumps(asdict(own)))
            return Cause(**json.loads(text))
        except Exception:  # whatever the store raises when its host is gone: then there is nobody to tell
            return own

    def _talk(self) -> None:
        told, count = False, 0
        while not self._closed.wait(_TICK_SECONDS):
            count += 1
            try:
                self._store.set(_beat(self.world.rank), str(count))
                if self.stop.requested and not told:
                    self._store.set(_STOP, f"{self.stop.reason} on rank {self.world.rank}")
                    told = True
                elif not told and self._store.check([_STOP]):
                    self.stop.request(self._store.get(_STOP).decode())
                    told = True
                if self._store.check([_FAILED]):
                    self.cause = Cause(**json.loads(self._store.get(_FAILED)))
                if self.world.is_main:
                    self._look_at_all()
                self._answered = time.monotonic()
            except Exception:  # a store whose host is gone fails in many ways; `_listen` counts the seconds
                continue

    def _listen(self) -> None:
        while not self._closed.wait(_TICK_SECONDS):
            silent = time.monotonic() - self._answered
            if silent > self.silence_seconds:
                self.cause = Cause(self.world.rank, f"cut off: no answer from rank 0's host for {silent:.0f} s", 1)
                tell_torchrun(self.cause.text)
                self._end()
            elif self.cause is not None and not self._closed.wait(_PATIENCE_SECONDS):
                self._end()

    def _look_at_all(self) -> None:
        now = time.monotonic()
        keys = [_beat(rank) for rank in range(self.world.num_ranks)]
        for rank, key in enumerate(keys):
            beat = self._store.get(key) if self._store.check([key]) else b""
            known, since = self._beats.get(rank, (b"", now))
            self._beats[rank] = (known, since) if beat == known else (beat, now)
            if beat and beat == known and now - since > self.silence_seconds:
                lost = Cause(rank, f"silent for {now - since:.0f} s: its host or process is gone", 1)
                if self._report(lost) == lost:
                    tell_torchrun(str(lost))  # in place of that rank

    def _end(self) -> None:
        """The training thread is stuck, or was when another rank failed."""
        assert self.cause is not None
        text = str(self.cause)
        if _is_hang(text):
            text += self.evidence.hint(text)
        leave_cause(text)
        if self.world.is_main or self.cause.rank == self.world.rank:
            print(f"cyclesr: error: {text}", file=sys.stderr, flush=True)
        leave_now(self.cause.exit_code)


def _of_another_rank(text: str) -> CycleSRError:
    error = CycleSRError(text)
    error.began_here = False
    return error


def _is_hang(cause: str) -> bool:
    """And not yet said where its evidence is."""
    return any(word in cause.lower() for word in ("silent for", "cut off", "timed out")) and FILES not in cause


def _beat(rank: int) -> str:
    return f"beat/{rank}"


def _is_broken_connection(error: BaseException) -> bool:
    """What gloo and NCCL raise on a rank whose peer has left."""
    if not isinstance(error, RuntimeError):
        return False
    text = str(error).lower()
    return any(word in text for word in ("connection", "gloo", "nccl", "socket", "peer", "timed out"))
