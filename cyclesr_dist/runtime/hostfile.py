"""A hostfile that is not there: `deepspeed --hostfile FILE` then only warns, and trains on this machine alone.

The launcher passes nothing of it on, so its command line is read, by ranks from the processes above them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

import psutil

from cyclesr_dist.errors import InputError

_PROGRAMS = ("deepspeed", "deepspeed.pt", "ds")
_MODULE = "deepspeed.launcher.runner"
_WITHOUT_VALUE = (
    *("--module", "--no_python", "--no_local_rank", "--no_ssh", "--no_ssh_check", "--force_multi", "--save_pid"),
    *("--bind_cores_to_rank", "--quiet", "--help"),
)
_ABBREVIATED = len("--ho")
"""So much of --hostfile is enough for argparse."""


def check_hostfile(command: Sequence[str], folder: str) -> None:
    """Raise InputError when `command`, started in `folder`, is a deepspeed launcher with a --hostfile that is no file.

    Without the switch there is nothing to miss: the launcher's default, /job/hostfile, may be absent.
    """
    name = _hostfile(_launcher_arguments(command))
    if name is None:
        return
    place = os.path.join(folder, name)
    if not os.path.isfile(place):  # what the launcher asks
        looked_for = "" if place == name else f"; looked for {place}"
        raise InputError(
            f"deepspeed --hostfile {name}: no such file{looked_for}; without it training would run on this machine "
            "alone; to do so leave --hostfile out"
        )


def check_launchers_hostfile() -> None:
    """The same for the launcher that started this process. Where no process above can be looked at, nothing happens."""
    if os.environ.get("CROSS_SIZE", "1") != "1":
        return  # it has read one: there are several hosts
    for command, folder in _commands_above():
        check_hostfile(command, folder)


def _commands_above() -> list[tuple[list[str], str]]:
    """Command lines and working directories of the processes above this one, as far as they can be looked at."""
    found: list[tuple[list[str], str]] = []
    with suppress(Exception):  # no /proc, or an odd one: never a reason not to train
        for process in psutil.Process().parents():
            with suppress(psutil.Error, OSError):  # gone, or another user's
                found.append((process.cmdline(), process.cwd()))
    return found


def _launcher_arguments(command: Sequence[str]) -> Sequence[str]:
    """What follows the launcher's name; nothing where the command has none."""
    for i, word in enumerate(command):
        if os.path.basename(word) in _PROGRAMS or word == _MODULE:
            return command[i + 1 :]
    return ()


def _hostfile(arguments: Sequence[str]) -> str | None:
    """The value of the last -H or --hostfile before the script, as argparse reads it; None without one."""
    found, i = None, 0
    while i < len(arguments) and arguments[i].startswith("-"):
        name, equals, value = arguments[i].partition("=")
        if not name.startswith("--") and len(arguments[i]) > 2:  # -Hfile
            name, equals, value = name[:2], "=", value if equals and len(name) == 2 else arguments[i][2:]
        i += 1
        if name == "-q" or (name.startswith("--") and any(flag.startswith(name) for flag in _WITHOUT_VALUE)):
            continue
        if not equals:
            value = arguments[i] if i < len(arguments) else ""
            i += 1
        if value and (name == "-H" or (len(name) >= _ABBREVIATED and "--hostfile".startswith(name))):
            found = value
    return found
