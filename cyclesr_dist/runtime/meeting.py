"""Before ranks meet: for how long they wait for each other, and whether the address to meet at is known at all.

torch retries an unknown host name for minutes without a word that a user would understand, and torchrun does so before
any rank begins.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import PurePath

from cyclesr_dist.errors import ConfigError, CycleSRError

MEETING_SECONDS = "CYCLESR_MEETING_SECONDS"
"""Environment variable: for how long a rank waits for the others to come; 600 without it."""
_JOB_VARIABLES = (
    *("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID"),
    *("PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid", "TORCHELASTIC_RUN_ID"),
)
_AGAIN_SECONDS = 1.0
_LAUNCHER_OPTIONS = {"--master-addr": False, "--rdzv-endpoint": True}
"""Of torchrun and deepspeed; whether a port follows behind a colon. Both are written with `_` as well."""
_LAUNCHER_VARIABLES = {"PET_MASTER_ADDR": False, "PET_RDZV_ENDPOINT": True}
_LAUNCHERS = ("torchrun", "deepspeed", "torch.distributed.run", "torch.distributed.launch", "deepspeed.launcher.runner")


def meeting_seconds() -> float:
    """What the environment variable says. Raises ConfigError for what is no number above 0."""
    text = os.environ.get(MEETING_SECONDS) or "600"
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ConfigError(f"environment variable {MEETING_SECONDS} = {text!r}; allowed: seconds, above 0")
    return seconds


def scheduled_job() -> str:
    """What the scheduler or launcher calls this job, equal on all its ranks; empty where it says nothing."""
    given = (os.environ.get(name, "") for name in _JOB_VARIABLES)
    return next((job for job in given if job not in ("", "none")), "")  # torchrun's --rdzv-id is "none" where not given


def wait_for_address(key: str, host: str, seconds: float) -> None:
    """Wait until `host`, which `key` gives, can be resolved: the name of a pod that is being made comes later.

    Says once that it waits. Raises CycleSRError after so many seconds, and at once when `host` is empty.
    """
    if not host:
        raise ConfigError(f"{key} is empty; give the host of rank 0")
    deadline = time.monotonic() + seconds
    told = False
    while True:
        try:
            socket.getaddrinfo(host, None)
            return
        except OSError as error:
            reason = error.strerror or str(error)
        except UnicodeError:
            raise ConfigError(f"{key} = {host!r} is no host name") from None
        if time.monotonic() >= deadline:
            raise CycleSRError(f"{key} = {host} cannot be resolved ({reason}), after {seconds:g} s")
        if not told:
            print(
                f"cyclesr: warning: {key} = {host} cannot be resolved ({reason}); trying again for {seconds:g} s",
                file=sys.stderr,
                flush=True,
            )
            told = True
        time.sleep(min(_AGAIN_SECONDS, max(0.0, deadline - time.monotonic())))


def launchers_address(command: Sequence[str], environment: Mapping[str, str]) -> tuple[str, str] | None:
    """Where a launcher's command will meet other hosts, after the option or variable that says so; None where it does
    not say."""
    if not any(PurePath(word).name in _LAUNCHERS for word in command[:3]):
        return None
    for place, word in enumerate(command):
        name, equals, value = word.partition("=")
        option = name.replace("_", "-")
        if option in _LAUNCHER_OPTIONS:
            given = value if equals else next(iter(command[place + 1 :]), "")
            return name, _without_port(given) if _LAUNCHER_OPTIONS[option] else given
        if word.endswith(".py"):  # the program's own arguments follow
            break
    for name, has_port in _LAUNCHER_VARIABLES.items():
        if endpoint := environment.get(name):
            return name, _without_port(endpoint) if has_port else endpoint
    return None


def _without_port(endpoint: str) -> str:
    """`host:port`, `[::1]:port` or a host."""
    if endpoint.startswith("["):
        return endpoint[1:].partition("]")[0]
    return endpoint.rpartition(":")[0] if endpoint.count(":") == 1 else endpoint
