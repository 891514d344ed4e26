"""Who may write a folder: one process at a time, also where several hosts see it and no lock of the kernel works.

Everyone who wants the folder puts a claim of their own below it and then lists the claims. Who finds no other one has
the folder; who finds others withdraws, all but the one with the lowest name, who waits until the others have. Of two
claims the later one is always seen by its maker, so there are never two owners, and nothing is asked of the storage but
that a list shows what was written before it.

An owner rewrites its claim every few seconds. A claim that has not changed while somebody watched it for `seconds` is
removed: no two clocks are compared. A claim whose process is gone is removed at once where that can be known. An owner
that was stopped for long finds its claim gone, or others beside it, before it writes anything again.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from cyclesr_dist.errors import ConfigError, CycleSRError, InputError, UnreachableError
from cyclesr_dist.runtime.exit_codes import at_leaving, not_at_leaving
from cyclesr_dist.runtime.meeting import scheduled_job
from cyclesr_dist.runtime.passing import failed, patiently
from cyclesr_dist.runtime.process_identity import began, lives, machine

T = TypeVar("T")

SECONDS = "CYCLESR_LEASE_SECONDS"
"""Environment variable: after how many seconds without a sign of life an owner on another host loses a folder."""
FOLDER = ".lease"
JOB = ".job"
"""The same of a command that starts trainings."""
_DEFAULT_SECONDS, _LEAST_SECONDS = 60.0, 1.0
_BEATS = 12  # in that time
_LOCK_SECONDS = 5.0
_MOST_UNSEEN = 10
"""Times that a claim is missing from the list after it was written, as in a bucket behind `s3://bucket//folder`."""
_RETRIES = 4  # of a disk that fails: 2 to 3 seconds, which is less than between two beats


class LeaseLostError(CycleSRError):
    """Somebody else has the folder by now (exit code 1)."""


class Place(Protocol):
    """Where claims lie: a few small files. Every method raises InputError when the storage does not do it."""

    poll_seconds: float
    local: bool
    """Whether asking costs next to nothing."""

    def names(self) -> list[str]: ...

    def read(self, name: str) -> str | None:
        """None when it is not there."""

    def write(self, name: str, text: str) -> None: ...

    def remove(self, name: str) -> None:
        """Also when it is not there any more."""


@dataclass(frozen=True)
class Owner:
    """The process behind a claim, as others see it."""

    host: str
    pid: int
    began: str
    """See process_identity.py; empty where it is not known."""
    machine: str
    """Equal where process numbers mean the same; empty where that is not known."""
    job: str
    seconds: float
    """Without a sign of life for so long, it is given up."""

    def __str__(self) -> str:
        job = f", job {self.job}" if self.job else ""
        return f"process {self.pid} on {self.host}{job}"

    @property
    def is_here(self) -> bool:
        return bool(self.machine) and self.machine == machine()

    @property
    def is_gone(self) -> bool:
        """Whether the process is known to have ended."""
        return self.is_here and bool(self.began) and not lives(self.pid, self.began)


@dataclass(frozen=True)
class _Claim:
    owner: Owner
    holds: bool
    """Whether it has the folder, or only wants it."""
    text: str


@dataclass
class _Watched:
    text: str
    since: float
    changed: bool = False


class Lease:
    """One process's claim on one place. `what` names it in messages. All methods may be called from any thread."""

    def __init__(self, place: Place, what: str, when_lost: Callable[[], None] = lambda: None) -> None:
        """`when_lost` is called from another thread, once, when it is found out beside the work."""
        self.place = place
        self.when_lost = when_lost
        self.what = what
        self.seconds = lease_seconds()
        self._name = f"{uuid.uuid4().hex}.json"
        self._owner = Owner(
            socket.gethostname(), os.getpid(), began(os.getpid()), machine(), scheduled_job(), self.seconds
        )
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._holds = False
        self._beat = 0
        self._written_at = 0.0
        self._lost: LeaseLostError | None = None

    def take(self) -> None:
        """Get the place. Waits, and says so, for an owner on another host that may be gone.

        Raises InputError when a process of this machine has it, UnreachableError when one elsewhere keeps it.
        """
        try:
            self._contend()
        except BaseException:
            self.release()
            raise
        at_leaving(self.release)
        threading.Thread(target=self._keep, name="lease", daemon=True).start()

    def _contend(self) -> None:
        watched: dict[str, _Watched] = {}
        began, told, claimed = time.monotonic(), False, False
        unseen = 0
        while True:
            others = self._living_others(watched)
            if claimed and self._name not in self.place.names():
                claimed, unseen = False, unseen + 1
                if unseen > _MOST_UNSEEN:
                    raise InputError(f"{self.what}: what is written there is not listed there; give another place")
                time.sleep(self.place.poll_seconds)
            if claimed and not others:
                with suppress(LeaseLostError):
                    self._holds = True
                    self._renew()
                    break
                self._holds = claimed = False
            elif not others:
                self._write()
                claimed = True
                continue  # and look again: whoever came before is seen now
            elif claimed and (any(claim.holds for claim in others.values()) or min(others) < self._name):
                self.place.remove(self._name)
                claimed = False
            elif claimed and _now() - self._written_at > self.seconds / _BEATS:
                self._write()
            for name, claim in others.items():
                waited = time.monotonic() - began
                if claim.holds and watched[name].changed:
                    self._refuse(claim.owner, waited)
                if not told and (not claim.owner.is_here or waited > 2 * claim.owner.seconds / _BEATS):
                    told = True
                    print(
                        f"cyclesr: waiting for {self.what}: {claim.owner} has it; without a sign of life from there it "
                        f"is free in {claim.owner.seconds:g} s",
                        file=sys.stderr,
                        flush=True,
                    )
            time.sleep(self.place.poll_seconds)

    def hold(self, *, sure: bool = False) -> None:
        """Raise LeaseLostError unless the place is still this process's. Call it before anything is written there.

        It is asked for when the last sign of life is old, or `sure` is wanted. Raises InputError when it does not
        answer.
        """
        if self._lost:
            raise self._lost
        if not sure and (not self.place.local or _now() - self._written_at < self.seconds / 2):
            return  # nobody can have given it up
        with self._lock:
            if self._closed.is_set():
                return
            try:
                self._renew()
            except LeaseLostError as error:
                self._lost = error
                raise
            except InputError:  # a full disk, or storage that is away: asked for is only what is known of it
                if self._name not in self.place.names():
                    self._lost = self._loss()
                    raise self._lost from None
                if sure and _now() - self._written_at > self.seconds / 2:
                    raise

    @property
    def lost(self) -> bool:
        """Whether it is known to be another's by now."""
        return self._lost is not None

    def release(self) -> None:
        """Give the place up; others may take it at once. May be called twice, and before `take`."""
        not_at_leaving(self.release)
        self._closed.set()
        if not self._lock.acquire(timeout=_LOCK_SECONDS):
            return  # the storage does not answer: whoever is next waits for the stated time
        try:
            if self._written_at and not self._lost:
                with suppress(InputError):  # as above
                    self.place.remove(self._name)
        finally:
            self._lock.release()

    def _keep(self) -> None:
        while not self._closed.wait(self.seconds / _BEATS):
            with self._lock:
                if self._closed.is_set():
                    return
                try:
                    self._renew()
                except LeaseLostError as error:
                    self._lost = error
                    self.when_lost()
                    return
                except InputError:  # away for now: `hold` finds out what has become of it before anything is written
                    continue

    def _renew(self) -> None:
        """Give a sign of life. Raises LeaseLostError when the place is another's."""
        before = self._written_at
        if self._name not in self.place.names():
            raise self._loss()
        self._write()
        if _now() - before > self.seconds / 2 and (others := self._others()):
            # It may have been given up, and this has just put the claim back.
            self.place.remove(self._name)
            raise self._loss(next(iter(others.values())).owner)

    def _write(self) -> None:
        self._beat += 1
        at = _now()
        self.place.write(self._name, json.dumps({**asdict(self._owner), "holds": self._holds, "beat": self._beat}))
        self._written_at = at

    def _loss(self, owner: Owner | None = None) -> LeaseLostError:
        if owner is None:
            with suppress(InputError):
                owner = next((claim.owner for claim in self._others().values()), None)
        now = f"{owner} has it now" if owner else "its claim was removed"
        return LeaseLostError(
            f"lost {self.what}: {now}, since this process gave no sign of life for {self.seconds:g} s; it stops and "
            "writes nothing more there"
        )

    def _refuse(self, owner: Owner, waited: float) -> None:
        text = f"{self.what} is in use by {owner}; wait until it has ended, or stop it"
        if owner.is_here:
            raise InputError(text)
        if waited > owner.seconds:  # at first it may be one that is told to stop and saves
            raise UnreachableError(text)

    def _others(self) -> dict[str, _Claim]:
        found = {}
        for name in sorted(self.place.names()):
            if name != self._name and (text := self.place.read(name)) is not None:
                found[name] = _parsed(text)
        return found

    def _living_others(self, watched: dict[str, _Watched]) -> dict[str, _Claim]:
        """Remove the claims that are known to be dead, and return the others."""
        living, now = {}, time.monotonic()
        for name, claim in self._others().items():
            seen = watched.setdefault(name, _Watched(claim.text, now))
            if seen.text != claim.text:
                seen.text, seen.since, seen.changed = claim.text, now, True
            if claim.owner.is_gone or now - seen.since > claim.owner.seconds:
                self.place.remove(name)
            else:
                living[name] = claim
        return living


class LocalPlace:
    """Claims in a hidden folder below `folder`, on any disk that hosts share."""

    poll_seconds = 0.1
    local = True

    def __init__(self, folder: Path, name: str = FOLDER) -> None:
        self.folder = folder / name

    def names(self) -> list[str]:
        try:
            return [name for name in self._patiently(lambda: os.listdir(self.folder)) if name.endswith(".json")]
        except FileNotFoundError:
            return []
        except NotADirectoryError as error:
            raise self._not_writable(error) from error
        except OSError as error:
            raise failed(f"{self.folder}: cannot be listed ({error.strerror})", error) from error

    def read(self, name: str) -> str | None:
        try:
            return self._patiently(lambda: (self.folder / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise failed(f"{self.folder / name}: cannot be read ({error.strerror})", error) from error

    def write(self, name: str, text: str) -> None:
        temporary = self.folder / f".{name}.tmp"

        def replace() -> None:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, self.folder / name)

        for again in (True, True, False):
            try:
                self._patiently(replace)
                return
            except FileNotFoundError as error:  # who withdrew has removed the folder just now
                if not again:
                    raise self._not_writable(error) from error
            except OSError as error:
                raise self._not_writable(error) from error

    def _not_writable(self, error: OSError) -> InputError:
        return failed(f"{self.folder.parent} is not writable: {error.strerror or error}", error)

    def _patiently(self, call: Callable[[], T]) -> T:
        return patiently(call, _RETRIES)

    def remove(self, name: str) -> None:
        try:
            for path in (self.folder / name, self.folder / f".{name}.tmp"):
                self._patiently(partial(path.unlink, missing_ok=True))
            if self.folder.is_dir():
                with suppress(OSError):  # others have claims there
                    self.folder.rmdir()
        except OSError as error:
            raise failed(f"{self.folder / name}: cannot be removed ({error.strerror})", error) from error


@contextmanager
def held(folder: Path, what: str, name: str = JOB, when_lost: Callable[[], None] = lambda: None) -> Iterator[Lease]:
    """Have `folder`, which is made, while the block runs. `name` tells apart who may be in one folder at a time: a
    training has FOLDER, a command that starts trainings another. Raises as `Lease.take`.
    """
    lease = Lease(LocalPlace(folder, name), what, when_lost)
    lease.take()
    try:
        yield lease
    finally:
        lease.release()


def living_owner(folder: Path, name: str = JOB) -> Owner | None:
    """Whose process of this machine has `folder` by `held`; None where there is none. Raises InputError."""
    place = LocalPlace(folder, name)
    claims = [_parsed(text) for each in place.names() if (text := place.read(each)) is not None]
    here = (claim.owner for claim in claims if claim.holds and claim.owner.is_here and not claim.owner.is_gone)
    return next(here, None)


def lease_seconds() -> float:
    """What the environment says, or 60. Raises ConfigError."""
    text = os.environ.get(SECONDS, "")
    try:
        seconds = float(text or _DEFAULT_SECONDS)
    except ValueError:
        seconds = 0.0
    if not _LEAST_SECONDS <= seconds < float("inf"):
        raise ConfigError(f"environment variable {SECONDS} = {text!r}: must be a number of at least {_LEAST_SECONDS:g}")
    return seconds


def _parsed(text: str) -> _Claim:
    """What cannot be read is somebody unknown, who is waited for."""
    try:
        known = json.loads(text)
        owner = Owner(**{key: known[key] for key in Owner.__dataclass_fields__})
        return _Claim(owner, bool(known["holds"]), text)
    except (ValueError, KeyError, TypeError):
        return _Claim(Owner("an unknown host", 0, "", "", "", lease_seconds()), True, text)


def _now() -> float:
    """Also counts while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
