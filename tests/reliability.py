"""Rounds of random faults against one run that must survive them all; writes the table of docs/reliability.md.

python tests/reliability.py --rounds 50 --into docs/reliability.md
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import platform
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import torch
from helpers import write_photos
from helpers.data import TinyData
from helpers.failing_disk import FailingDisk
from helpers.processes import SUPERVISE, TRAIN, below, kill, launcher, marked, ranks, words
from helpers.waiting import until
from safetensors.torch import load_file

from cyclesr_dist.cli.main import main as cyclesr
from cyclesr_dist.errors import InputError
from cyclesr_dist.models.checkpoint import FILES, verify
from cyclesr_dist.workflows.table.document import insert

_HANG_SECONDS = 60.0
_EVERY = 3


@dataclass
class Tally:
    rounds: Counter[str] = field(default_factory=Counter)
    losses: Counter[str] = field(default_factory=Counter)
    hangs: Counter[str] = field(default_factory=Counter)
    orphans: Counter[str] = field(default_factory=Counter)
    wrong_codes: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, list[float]] = field(default_factory=dict)


SIGNALS = ("SIGTERM", "SIGHUP", "SIGUSR1")
DAMAGED, SUPERVISOR = "newest checkpoint damaged, then a rank killed", "the supervisor killed"
MOMENT, AWAY = "the disk of the shards fails for a moment, then SIGTERM", "the disk of the shards stays away"
FULL = "no descriptor left"
SECOND, FOREIGN = "a second owner comes, then SIGTERM", "a rank of another job comes, then SIGTERM"
FAULTS = (
    "a rank killed", "the launcher killed", SUPERVISOR, *SIGNALS, DAMAGED, MOMENT, AWAY, FULL, SECOND, FOREIGN
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=FAULTS, help="one fault alone")
    parser.add_argument("--into", type=Path, help="Markdown file with the marks of the table")
    args = parser.parse_args()
    random.seed(args.seed)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup has it ignored, and the runs would inherit that
    with tempfile.TemporaryDirectory(prefix="cyclesr-reliability-") as name:
        root = Path(name)
        overrides = make_data(root / "data")
        disk = FailingDisk(root / "disk")
        tally = Tally()
        for number in range(args.rounds):
            fault = args.only or FAULTS[number % len(FAULTS)]
            backend = ("ddp", "deepspeed")[number // len(FAULTS) % 2]
            one_round(root / "run", overrides, fault, backend, disk, tally)
            print(f"round {number + 1}: {fault} ({backend}), newest step {newest_whole(root / 'run')}", flush=True)
        identical, steps = compare(root, overrides)
    text = table(args, tally, identical, steps)
    print(text)
    if args.into:
        insert(args.into, "reliability", text)
    return 0 if identical and not (tally.losses + tally.hangs + tally.orphans + tally.wrong_codes) else 1


def make_data(root: Path) -> list[str]:
    """Photographs, shards, and a configuration of milliseconds a step."""
    write_photos(root / "hr", 3, 64, 96, seed=0)
    write_photos(root / "clean", 2, 64, 96, seed=1)
    (root / "config.yaml").write_text("system: cyclesr\nema_decay: 0.9\nshards: {patch: 8, stride: 8}\n")
    degrade = ["degrade", "--hr", str(root / "clean"), "--track", "mild", "--seed", "0", "--out", str(root / "lr")]
    build = ["shards", "build", "--hr", str(root / "hr"), "--lr", str(root / "lr"), "--out", str(root / "shards")]
    build += ["--pairs-hr", str(root / "clean"), "--config", str(root / "config.yaml")]
    for command in (degrade, build):
        if cyclesr([*command, "--quiet"]):
            raise SystemExit("the data could not be made")
    more = [f"train.checkpoint_every_steps={_EVERY}", "train.validate_every_steps=7", "train.epochs=1000000"]
    return [*TinyData(root).overrides, *more, "train.lost_rank_seconds=15", "data.workers=1"]


def job(run_dir: Path, overrides: list[str], backend: str, *more: str) -> list[str]:
    name = "deepspeed" if backend == "deepspeed" else "torchrun"
    config = run_dir.parent / "data/config.yaml"
    command = [*launcher(name), TRAIN, "--config", str(config), "--run-dir", str(run_dir), "--quiet", "--resume"]
    # The arithmetic of both backends differs in the last bit; that of one run must not change on the way.
    return [*SUPERVISE, *command, *overrides, "backend=ddp", *more]


def one_round(run_dir: Path, overrides: list[str], fault: str, backend: str, disk: FailingDisk, tally: Tally) -> None:
    disk.control.unlink(missing_ok=True)
    before, mark = newest_whole(run_dir), uuid.uuid4().hex
    said = run_dir.with_name("stderr")
    with said.open("w") as stderr:
        process = subprocess.Popen(
            job(run_dir, overrides, backend), stdout=subprocess.DEVNULL, stderr=stderr, start_new_session=True,
            env=os.environ | disk.environment | {"OMP_NUM_THREADS": "1", "MARK": mark},
        )  # fmt: skip
    until(lambda: len(ranks(process)) == 2)
    if random.random() < 0.75:  # some checkpoints later; else in the middle of the start
        at = time.monotonic()
        until(lambda: newest_whole(run_dir) > before or time.monotonic() - at > 2 * _HANG_SECONDS, 3 * _HANG_SECONDS)
    threading.Event().wait(random.uniform(0, 4))
    expected = strike(process, run_dir, fault, disk, tally)
    at = time.monotonic()
    tally.rounds[fault] += 1
    try:
        code = process.wait(_HANG_SECONDS)
        while fault == SUPERVISOR and marked(mark) and time.monotonic() - at < _HANG_SECONDS:
            threading.Event().wait(0.1)
        tally.seconds.setdefault(fault, []).append(time.monotonic() - at)
        if code not in expected:
            tally.wrong_codes[fault] += 1
            print(f"{fault} ({backend}): exit code {code}, not one of {expected}\n{said.read_text()}", flush=True)
        tally.orphans[fault] += bool(marked(mark))
    except subprocess.TimeoutExpired:
        tally.hangs[fault] += 1
    kill(marked(mark))
    process.wait()
    # A damaged newest one is passed over for the one before, which was whole when the fault came.
    allowed = before - _EVERY if fault == DAMAGED else before
    tally.losses[fault] += newest_whole(run_dir) < allowed


def strike(
    process: subprocess.Popen[bytes], run_dir: Path, fault: str, disk: FailingDisk, tally: Tally
) -> tuple[int, ...]:
    """Do it; returns the exit codes that are right."""
    living = ranks(process)
    if fault == MOMENT:
        disk.fail(errno.EIO, "/data/shards/", times=3)
        until(lambda: disk.num_failures == 3)
    elif fault == SECOND:
        until(lambda: list((run_dir / ".lease").glob("*.json")))
        tally.wrong_codes[fault] += intruder(run_dir, run_dir, {}) != 2
    elif fault == FOREIGN:
        place = {name: living[0].environ()[name] for name in ("MASTER_ADDR", "MASTER_PORT")}
        as_rank = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "CYCLESR_MEETING_SECONDS": "15"} | place
        # 1: torchrun's store, of which a rank that is not its own sees another part
        tally.wrong_codes[fault] += intruder(run_dir, run_dir.with_name("other"), as_rank) not in (1, 2)
    if fault in (MOMENT, SECOND, FOREIGN):
        process.terminate()
        return (75,)
    if fault == AWAY:
        disk.fail(errno.ESTALE, "/data/shards/")
        return (1,)
    if fault == FULL:  # of the main rank, which writes the checkpoints
        _, hard = resource.prlimit(living[0].pid, resource.RLIMIT_NOFILE)
        resource.prlimit(living[0].pid, resource.RLIMIT_NOFILE, (3, hard))
        return (1,)
    if fault in SIGNALS:
        process.send_signal(signal.Signals[fault])
        return (75,)
    if fault == SUPERVISOR:
        process.kill()
        return (-signal.SIGKILL,)
    if fault == "the launcher killed":
        agents = [p for p in below(process.pid) if p not in living.values()]
        launchers = [p for p in agents if any(word in " ".join(words(p)) for word in ("torchrun", "deepspeed"))]
        random.choice([p for p in launchers if "multiprocessing" not in " ".join(words(p))]).kill()
        return (1, 75)  # ranks that had not begun have nothing to save
    if fault == DAMAGED and (kept := sorted((run_dir / "checkpoints").glob("step-*"))):
        path = kept[-1] / random.choice(FILES)
        if path.exists():
            os.truncate(path, path.stat().st_size // 2)
    random.choice(list(living.values())).kill()
    return (1,)


def intruder(run_dir: Path, own_dir: Path, variables: dict[str, str]) -> int:
    """Start a training where one is, and return its exit code."""
    config = run_dir.parent / "data/config.yaml"
    command = [sys.executable, TRAIN, "--config", str(config), "--run-dir", str(own_dir), "--quiet", "--resume"]
    overrides = [*TinyData(run_dir.parent / "data").overrides, "backend=ddp", "train.epochs=1000000"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | variables
    done = subprocess.run([*command, *overrides], env=environment, capture_output=True, timeout=300, check=False)
    return done.returncode


def newest_whole(run_dir: Path) -> int:
    for folder in sorted((run_dir / "checkpoints").glob("step-*"), reverse=True):
        try:
            verify(folder)
        except InputError:
            continue
        return int(folder.name[-8:])
    return 0


def compare(root: Path, overrides: list[str]) -> tuple[bool, int]:
    """Bring the run to an end, repeat it without faults, and compare every tensor of both last checkpoints."""
    steps = newest_whole(root / "run") + 5
    for name in ("run", "undisturbed"):
        subprocess.run(
            job(root / name, overrides, "ddp", f"train.max_steps={steps}"), check=True, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    survivor, other = (
        load_file(root / name / f"checkpoints/step-{steps:08d}/tensors.safetensors") for name in ("run", "undisturbed")
    )
    same = survivor.keys() == other.keys() and all(torch.equal(t, survivor[key]) for key, t in other.items())
    logs = [[json.loads(line)["step"] for line in (root / n / "metrics.jsonl").open()] for n in ("run", "undisturbed")]
    shutil.rmtree(root / "undisturbed")
    return same and logs[0] == logs[1], steps


def table(args: argparse.Namespace, tally: Tally, identical: bool, steps: int) -> str:
    only = f' --only "{args.only}"' if args.only else ""
    lines = [
        f"`python tests/reliability.py --rounds {args.rounds} --seed {args.seed}{only} --into docs/reliability.md`: "
        f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, 2 ranks, torchrun and deepspeed in "
        "turn, a loader process a rank.",
        "",
        "| fault | rounds | losses | hangs | processes left | wrong exit code | seconds to the end, median (most) |",
        "|---|---|---|---|---|---|---|",
    ]
    for fault in [args.only] if args.only else FAULTS:
        times = sorted(tally.seconds.get(fault, [0.0]))
        counts = [c[fault] for c in (tally.rounds, tally.losses, tally.hangs, tally.orphans, tally.wrong_codes)]
        lines.append(f"| {fault} | {' | '.join(map(str, counts))} | {times[len(times) // 2]:.1f} ({times[-1]:.1f}) |")
    said = "equal in every bit to" if identical else "**not equal to**"
    lines += [
        "",
        f"After all rounds, at step {steps}, the run is {said} one that nothing disturbed: parameters, moments,",
    ]
    lines += ["pools, moving average, and the steps logged."]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
