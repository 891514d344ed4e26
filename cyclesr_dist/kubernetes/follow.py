"""Watches a submitted run to its end: states of the pods, the log of rank 0, the exit code."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import urllib3
from kubernetes.client.exceptions import ApiException

from cyclesr_dist.errors import CycleSRError, InputError
from cyclesr_dist.kubernetes.api import Api, Manifest
from cyclesr_dist.kubernetes.pod import RUN
from cyclesr_dist.kubernetes.states import failed_before, failure_code, job_state, leads, main_container, pod_state

WATCH_SECONDS = 10
PAUSE_SECONDS = 0.5
LOG_PAUSE_SECONDS = 1.0
_LAST_LINES_SECONDS = 15.0
PATIENCE = 30  # failed attempts in a row, some seconds apart
_LAST_LINES = 50


class _Deleted(InputError):
    """There is nothing to follow any more."""


def follow(
    api: Api, job: Manifest, say: Callable[[str], None], warn: Callable[[str], None], write: Callable[[str], None]
) -> int:
    """`say` takes news of the pods, `warn` what has gone wrong, `write` the log of rank 0, all line by line.

    Returns 0 when the job has succeeded, 2 when it failed for bad input, else 1. Raises InputError when the job is
    deleted meanwhile, CycleSRError when the cluster does not answer for minutes, or refuses to.
    """
    news = _News(api, say, warn, write)
    label = f"{RUN}={job['metadata']['name']}"
    failures = 0
    try:
        while True:
            try:
                found = _look(api, job, label, news)
                failures = 0
            except _Deleted:
                raise
            except CycleSRError as error:  # a server that restarts, a token that has expired
                failures += 1
                if failures > PATIENCE:
                    raise CycleSRError(f"{error}; the run may go on: call again to follow it") from error
                warn(f"{error}; trying again")
                news.stopped.wait(min(failures, 10))
                continue
            if found is None:
                news.stopped.wait(PAUSE_SECONDS)  # a server may end every watch at once
            else:
                news.finish()
                state, reason = job_state(found)
                tell = say if state == "succeeded" else warn
                tell(f"{job['kind']} {job['metadata']['name']} {state}{': ' * bool(reason)}{reason}")
                return 0 if state == "succeeded" else failure_code(found, list(news.pods.values()))
    finally:
        news.stopped.set()


def _look(api: Api, job: Manifest, label: str, news: _News) -> Manifest | None:
    """List, then watch for a while. The job when it has ended."""
    pods, version = api.pods(label)
    for pod in pods:
        news.seen(pod)
    if ended := _ended(api, job):
        for pod in api.pods(label)[0]:  # what a pod left with may be newer than the list before
            news.seen(pod)
        return ended
    for kind, pod in api.watch_pods(label, version, WATCH_SECONDS):
        if kind != "DELETED":
            news.seen(pod)
        if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed") and _ended(api, job):
            break  # the next list has the last state of every pod
    return None


def _ended(api: Api, job: Manifest) -> Manifest | None:
    found = api.get(job)
    if found is None:
        raise _Deleted(f"{job['kind']} {job['metadata']['name']} has been deleted")
    return found if job_state(found)[0] in ("succeeded", "failed") else None


class _News:
    """Says what has changed, once."""

    def __init__(
        self, api: Api, say: Callable[[str], None], warn: Callable[[str], None], write: Callable[[str], None]
    ) -> None:
        self.api = api
        self.say = say
        self.warn = warn
        self.write = write
        self.pods: dict[str, dict[str, Any]] = {}
        self.stopped = threading.Event()
        self._said: dict[str, str] = {}
        self._logs: dict[str, threading.Thread] = {}

    def seen(self, pod: dict[str, Any]) -> None:
        name, state = pod["metadata"]["name"], pod_state(pod)
        self.pods[name] = pod
        if self._said.get(name) != state:
            self._said[name] = state
            self.say(f"pod {name}: {state}")
        if name in self._logs:
            return
        if before := failed_before(pod):
            self._begin(name, self._copy_end, before)
        elif (pod.get("status") or {}).get("phase") in ("Running", "Succeeded", "Failed") and leads(pod):
            self._begin(name, self._copy_log, main_container(pod))

    def _begin(self, pod: str, copy: Callable[[str, str], None], container: str) -> None:
        self._logs[pod] = threading.Thread(target=copy, args=(pod, container), daemon=True)
        self._logs[pod].start()

    def finish(self) -> None:
        """Let the logs come to their end, if it is near."""
        deadline = time.monotonic() + _LAST_LINES_SECONDS
        for thread in self._logs.values():
            thread.join(max(0.0, deadline - time.monotonic()))

    def _copy_end(self, pod: str, container: str) -> None:
        """Of a container that has failed before the pod's own began."""
        try:
            lines = self.api.last_lines(pod, container, _LAST_LINES)
        except (ApiException, urllib3.exceptions.HTTPError) as error:
            self._no_more(pod, error)
            return
        self.warn(f"pod {pod}: container {container} has failed; the end of its log:")
        for line in lines:
            self.write(line)

    def _copy_log(self, pod: str, container: str) -> None:
        """To the log's end. A broken connection is opened again, and what was seen is passed over."""
        last, same = "", 0  # the newest line's time, and how many lines had it
        failures = 0
        while not self.stopped.is_set():
            catching_up, ahead = bool(last), same
            try:
                for stamp, line in self.api.log_lines(pod, container, last):
                    failures = 0
                    if catching_up and stamp <= last:
                        ahead -= stamp == last
                        if stamp < last or ahead >= 0:
                            continue
                    catching_up = False
                    if stamp > last:
                        last, same = stamp, 0
                    same += stamp == last  # two streams make one log: a line may be older than the one before
                    self.write(line)
                if self._over(pod):
                    return
            except urllib3.exceptions.ReadTimeoutError:
                failures = 0  # nothing to say for minutes, or the machine is gone: which, the next attempt tells
            except (ApiException, urllib3.exceptions.HTTPError) as error:
                status = error.status if isinstance(error, ApiException) else None
                failures += 1
                if status in (403, 404) or (status == 400 and self._over(pod)) or failures > PATIENCE:
                    self._no_more(pod, error)
                    return
            self.stopped.wait(LOG_PAUSE_SECONDS)

    def _no_more(self, pod: str, error: Exception) -> None:
        self.warn(f"no more of the log of pod {pod}: {' '.join(str(error).split())[:200]}")

    def _over(self, pod: str) -> bool:
        """Whether the log ended because the container did, and not the connection."""
        return (self.pods[pod].get("status") or {}).get("phase") in ("Succeeded", "Failed")
