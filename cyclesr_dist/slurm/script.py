"""The batch script of a plan.

It is whole: with `--dry-run > job.sh` and `sbatch job.sh` the same job begins. Every value is quoted, for sbatch in its
own lines, for bash behind them.
"""

from __future__ import annotations

import hashlib
import shlex
from pathlib import PurePath

from cyclesr_dist.errors import Preempted
from cyclesr_dist.slurm.plan import Plan

MARK = "cyclesr-dist:"
"""What the comment of every job of ours begins with; a checksum of the script follows."""
EXIT = "exit-"
"""What files with the exit code of a job are called, its number behind."""


def render(plan: Plan) -> str:
    """The script, with a comment by which the same job is known again."""
    body, options = _body(plan), _options(plan)
    checksum = hashlib.sha256("\n".join([*options, body]).encode()).hexdigest()[:16]
    head = "".join(f"#SBATCH {_option(text)}\n" for text in [f"comment={MARK}{checksum}", *options])
    return f"#!/bin/bash\n{head}{body}"


def comment_of(script: str) -> str:
    """That which `render` has put into it."""
    return next(line.rpartition("=")[2] for line in script.split("\n") if line.startswith("#SBATCH --comment="))


def _options(plan: Plan) -> list[str]:
    cluster, slurm = plan.cluster, plan.slurm
    least, most = plan.nodes
    found = [
        f"job-name={plan.name}",
        f"nodes={most}" if least == most else f"nodes={least}-{most}",
        f"ntasks-per-node={plan.tasks_per_node}",
        f"cpus-per-task={_cpus(plan)}",
        f"mem={round(cluster.memory_gib * 1024)}M",
    ]
    if cluster.gpus_per_node:
        found.append(f"gres=gpu:{cluster.gpus_per_node}")
    for name in ("account", "partition", "qos", "time"):
        if value := getattr(slurm, name):
            found.append(f"{name}={value}")
    pattern = str(plan.own_folder).replace("%", "%%")
    return [
        *found,
        f"chdir={plan.folder}",
        f"output={pattern}/%j.log",
        "open-mode=append",
        "requeue",
        f"signal=USR1@{slurm.warning_seconds}",
        "export=ALL",
        *slurm.options,  # sbatch takes the last of two
    ]


def _option(text: str) -> str:
    text = text if text.startswith("-") else f"--{text}"
    name, equals, value = text.partition("=")
    return f"{name}{equals}{_quoted(value)}" if equals else text


def _quoted(value: str) -> str:
    """For a line of sbatch's: quotes group, and a backslash keeps what follows, within quotes as well."""
    if value and all(character.isalnum() or character in "-_.,:@/+%" for character in value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _body(plan: Plan) -> str:
    own = shlex.quote(str(plan.own_folder))
    parts = ["", *(_file(plan, name, text) for name, text in plan.files.items()), *_environment(plan)]
    if plan.cluster.prepare:
        parts += [
            "# Before the ranks, once.",
            f"srun --nodes=1 --ntasks=1 {shlex.join(_contained(plan, plan.cluster.prepare))}",
            "code=$?",
            '[ "$code" -eq 0 ] || { ' + _leave(own) + "; }",
        ]
    return "\n".join([*parts, *_ranks(plan), *_ending(own)]) + "\n"


def _file(plan: Plan, name: str, text: str) -> str:
    path = shlex.quote(str(plan.own_folder / name))
    end = "END_OF_FILE"
    while end in text.split("\n"):
        end += "_"
    return f"cat > {path} <<'{end}'\n{text.rstrip(chr(10))}\n{end}"


def _environment(plan: Plan) -> list[str]:
    cluster = plan.cluster
    found: list[str] = []
    if PurePath(plan.python).is_absolute():  # `cyclesr` of the same environment
        found.append(f'export PATH={shlex.quote(str(PurePath(plan.python).parent))}:"$PATH"')
    found += plan.slurm.prologue
    variables = {"CYCLESR_NUM_THREADS": str(_cpus(plan))} if not plan.uses_ray else {}
    variables |= (
        {"NCCL_SOCKET_IFNAME": "^lo,docker", "NCCL_DEBUG": "WARN"}
        if cluster.gpus_per_node
        else {"DS_ACCELERATOR": "cpu"}
    )
    found += [f"export {name}={shlex.quote(value)}" for name, value in (variables | cluster.env).items()]
    if plan.uses_ray:  # others on the cluster could have it run what they like
        found.append('export RAY_AUTH_MODE=token RAY_AUTH_TOKEN="$(od -An -tx1 -N32 /dev/urandom | tr -d " \\n")"')
    return found


def _ranks(plan: Plan) -> list[str]:
    count = "" if plan.tasks_per_node == 1 else f" * {plan.tasks_per_node}"
    options = [
        '--nodes="$SLURM_JOB_NUM_NODES"',
        f'--ntasks="$((SLURM_JOB_NUM_NODES{count}))"',
        f"--ntasks-per-node={plan.tasks_per_node}",
        f"--cpus-per-task={_cpus(plan)}",
        "--kill-on-bad-exit=0",
        f"--wait={plan.patience_seconds}",
    ]
    words = _contained(plan, (plan.python, "-m", plan.module, *plan.arguments))
    return [
        "# Ranks that fail tell the others, which then leave by themselves; srun ends those that do not.",
        f"srun {' '.join(options)} \\\n    {shlex.join(words)}",
        "code=$?",
    ]


def _ending(own: str) -> list[str]:
    code = Preempted.exit_code
    return [
        f"# {code}: stopped and saved. Refused where the job was told not to come again (--delete).",
        f'if [ "$code" -eq {code} ] && scontrol requeue "$SLURM_JOB_ID"; then exit {code}; fi',
        _leave(own),
    ]


def _leave(own: str) -> str:
    return f'echo "$code" > {own}/{EXIT}"$SLURM_JOB_ID"; exit "$code"'


def _contained(plan: Plan, words: tuple[str, ...]) -> list[str]:
    """The words as srun takes them: in the container, if there is one."""
    slurm = plan.slurm
    if not slurm.container:
        return [*words]
    places = list(dict.fromkeys([str(plan.folder), *slurm.mounts]))
    if slurm.container_runtime == "pyxis":
        mounts = ",".join(f"{place}:{place}" for place in places)
        return [
            f"--container-image={slurm.container}",
            f"--container-mounts={mounts}",
            f"--container-workdir={plan.folder}",
            *words,
        ]
    binds = [f"--bind={place}:{place}" for place in places]
    gpus = ["--nv"] if plan.cluster.gpus_per_node else []
    return ["apptainer", "exec", *gpus, *binds, f"--pwd={plan.folder}", slurm.container, *words]


def _cpus(plan: Plan) -> int:
    """Cores of a task."""
    return max(1, int(plan.cluster.cpus) // plan.tasks_per_node)
