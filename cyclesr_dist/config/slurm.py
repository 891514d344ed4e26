"""The `slurm` section of a configuration: what `launch/submit.py --target slurm` asks of a Slurm cluster.

Nodes, GPUs, cores, memory, environment and preparation are those of the section `cluster`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from cyclesr_dist.config.marks import Range, check_marks
from cyclesr_dist.errors import ConfigError

_NAMES = r"[A-Za-z0-9_][-A-Za-z0-9_.@/+]*(,[A-Za-z0-9_][-A-Za-z0-9_.@/+]*)*"
_TIME = r"(?:(?P<days>\d+)-)?(?P<first>\d+)(?::(?P<second>\d+))?(?::(?P<third>\d+))?"
_OPTION = r"--[a-z][-a-z0-9]*(=.*)?"
_OURS = (
    *("job-name", "nodes", "ntasks", "ntasks-per-node", "output", "error", "open-mode", "signal", "requeue"),
    *("no-requeue", "chdir", "array", "wrap", "test-only", "parsable", "export", "comment", "n", "o", "e", "a"),
)
"""Options that the script itself has, and cannot do without."""


@dataclass(frozen=True)
class Slurm:
    account: str = ""
    """That the time is charged to; empty: the user's default."""
    partition: str = ""
    """One, or several with commas between; empty: the cluster's default."""
    qos: str = ""
    """Quality of service; empty: the default."""
    time: str = ""
    """Limit of one stretch, as sbatch takes it: minutes, `hours:minutes:seconds`, `days-hours:minutes:seconds`. The run
    saves ahead of it and queues again. Empty: the partition's."""
    min_nodes: Annotated[int, Range(minimum=0, maximum=100_000)] = 0
    """The run begins, and goes on, on so many nodes or more, up to `cluster.nodes`; 0: on all of those."""
    warning_seconds: Annotated[int, Range(minimum=1, maximum=65535)] = 120
    """So long ahead of the time limit the ranks are asked to save. Above `train.grace_seconds`."""
    options: tuple[str, ...] = ()
    """Further options of sbatch in their long form, `--constraint=a100` or `--gres=gpu:a100:4`; they come last, and
    win."""
    prologue: tuple[str, ...] = ()
    """Lines of bash that the job runs first, on its first node: modules, a virtual environment. The ranks inherit the
    variables."""
    python: str = ""
    """The interpreter of the ranks. Empty: the one that submits, which all nodes must see; in a container `python`."""
    container: str = ""
    """Image that the ranks run in: a file, or an address that the runtime takes. Empty: none."""
    container_runtime: Literal["apptainer", "pyxis"] = "apptainer"
    """What runs `container`: a program on the nodes, or the plugin that gives srun `--container-image`."""
    mounts: tuple[str, ...] = ()
    """Folders that the container sees at the same place, beside the one where the run was submitted."""


def check_slurm(s: Slurm) -> None:
    """Raise ConfigError naming the key, the value and what is allowed."""
    check_marks(s, "slurm.")
    for key in ("account", "partition", "qos"):
        value = getattr(s, key)
        if value and not re.fullmatch(_NAMES, value):
            raise ConfigError(
                f"slurm.{key} = {value!r}; allowed: letters, digits, -, _, ., @, / and +, a letter or digit first, "
                "several with commas between"
            )
    for key in ("time", "python", "container"):
        _check_line(f"slurm.{key}", getattr(s, key))
    for key in ("options", "prologue", "mounts"):
        for i, value in enumerate(getattr(s, key)):
            _check_line(f"slurm.{key}[{i}]", value)
    seconds = time_seconds(s.time)
    if seconds is not None and seconds <= s.warning_seconds:
        raise ConfigError(
            f"slurm.time = {s.time} is no longer than slurm.warning_seconds = {s.warning_seconds}: nothing would be "
            "trained"
        )
    for i, option in enumerate(s.options):
        _check_option(f"slurm.options[{i}]", option)
    for i, mount in enumerate(s.mounts):
        if not mount.startswith("/") or any(character in mount for character in ":,"):
            raise ConfigError(f"slurm.mounts[{i}] = {mount!r}; allowed: an absolute path without : and ,")
    if s.mounts and not s.container:
        raise ConfigError(f"slurm.mounts = {list(s.mounts)} without slurm.container; allowed: [], nothing is hidden")


def time_seconds(text: str) -> int | None:
    """Of a limit as sbatch has it; None where it is empty. Raises ConfigError for any other text."""
    if not text:
        return None
    found = re.fullmatch(_TIME, text, re.ASCII)
    if not found:
        raise ConfigError(
            f"slurm.time = {text!r}; allowed: minutes, minutes:seconds, hours:minutes:seconds, days-hours, "
            "days-hours:minutes, days-hours:minutes:seconds"
        )
    numbers = [int(found[name]) for name in ("first", "second", "third") if found[name] is not None]
    if found["days"] is not None:
        hours, minutes, seconds = [*numbers, 0, 0][:3]
        return ((int(found["days"]) * 24 + hours) * 60 + minutes) * 60 + seconds
    if len(numbers) == 3:
        return (numbers[0] * 60 + numbers[1]) * 60 + numbers[2]
    return numbers[0] * 60 + ([*numbers, 0][1])


def _check_line(key: str, value: str) -> None:
    if any(character in value for character in "\x00\n\r"):
        raise ConfigError(f"{key} = {value!r}; allowed: one line")


def _check_option(key: str, option: str) -> None:
    if not re.fullmatch(_OPTION, option):
        raise ConfigError(f"{key} = {option!r}; allowed: an option of sbatch in its long form, --name or --name=value")
    name = option.removeprefix("--").partition("=")[0]
    if name in _OURS:
        raise ConfigError(f"{key} = {option!r}: the script has its own; allowed: any other option of sbatch")
