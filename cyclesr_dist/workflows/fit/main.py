"""`cyclesr fit`: look, measure, choose, pack, train, enlarge, judge. Begun again, it goes on where it was."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cyclesr_dist.config.schema import load
from cyclesr_dist.degradation.record import FACTS
from cyclesr_dist.degradation.record import load as load_degradation
from cyclesr_dist.errors import FailedElsewhere, InputError
from cyclesr_dist.reports.run_files import UPSCALED
from cyclesr_dist.reports.run_report import write_report
from cyclesr_dist.runtime.files import write_text
from cyclesr_dist.runtime.lease import Lease, held
from cyclesr_dist.runtime.tally import Tally
from cyclesr_dist.runtime.wording import counted
from cyclesr_dist.training.run_folder import read_summary
from cyclesr_dist.workflows.fit.commands import run
from cyclesr_dist.workflows.fit.machine import Machine, seconds_a_step, this_machine
from cyclesr_dist.workflows.fit.photos import (
    Folders,
    Split,
    check_apart,
    check_run_folder,
    exchanged,
    lay_out,
    look,
    recorded,
    split,
)
from cyclesr_dist.workflows.fit.settings import choose

SETTINGS, ESTIMATE = "fit.yaml", "estimate"
CPU_HOURS, GPU_HOURS = 0.25, 2.0


@dataclass(frozen=True)
class Wanted:
    hr: Path
    lr: Path
    run: Path
    scale: int
    hours: float | None
    quiet: bool


def fit(wanted: Wanted) -> int:
    """Returns the exit code: 1 where photographs could not be read; all is done with the others.

    Raises InputError for folders that cannot be used, FailedElsewhere when a command fails: it has said why.
    """
    at = Folders(wanted.run)
    if (wanted.run / "config.yaml").exists() and not at.of("").exists():
        raise InputError(f"--run-dir {wanted.run}: holds a run that cyclesr fit did not begin; give another folder")
    check_run_folder(wanted.run, wanted.hr, wanted.lr)
    _step(1, "looking at the photographs and at this machine")
    known, tallies = recorded(at), (Tally(), Tally())
    hr, lr = (
        look(folder, wanted.scale, name, tally, known)
        for folder, name, tally in zip((wanted.hr, wanted.lr), ("hr", "lr"), tallies, strict=True)
    )
    check_apart(hr, lr)
    chosen = split(hr, lr)
    with held(wanted.run, f"run folder {wanted.run}") as lease:
        _fit(wanted, at, chosen, lease)
    num_failed = sum(len(tally.failed) for tally in tallies)
    if num_failed:
        failed = counted(num_failed, "photograph")
        print(f"{failed} could not be read, as named at the start", file=sys.stderr, flush=True)
    return 1 if num_failed else 0


def _fit(wanted: Wanted, at: Folders, chosen: Split, lease: Lease) -> None:
    machine = this_machine()
    for line in _seen(chosen, machine):
        _say(line)
    if warning := exchanged(chosen):
        print(f"warning: {warning}", file=sys.stderr, flush=True)
    lay_out(chosen, at)
    quiet = ["--quiet"] if wanted.quiet else []

    lease.hold(sure=True)
    _step(2, "measuring what makes the LR photographs differ")
    if not (wanted.run / ESTIMATE / FACTS).is_file():
        folders = ["--hr", str(at.of("train_hr")), "--lr", str(at.of("train_lr"))]
        out = ["--out", str(wanted.run / ESTIMATE), "--scale", str(wanted.scale), "--overwrite"]
        run(["estimate", *folders, *out, *quiet])

    lease.hold(sure=True)
    _step(3, "choosing the settings")
    settings = _settings(wanted, chosen, machine)

    lease.hold(sure=True)
    _step(4, "packing and training")
    packed = ["--hr", str(at.of("train_hr")), "--lr", str(at.of("train_lr")), "--out", str(wanted.run / "data")]
    # A change of the settings makes other patches.
    run(["shards", "build", *packed, "--config", str(settings), "--overwrite", *quiet])
    ranks = max(1, machine.gpus)
    launcher = ["torchrun", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    # Whoever changes the settings' file means it.
    how = ["--run-dir", str(wanted.run), "--resume-with-changes", *quiet]
    run(["train", "--config", str(settings), *how], launcher)

    lease.hold(sure=True)
    _step(5, "enlarging the LR photographs that were held back" if chosen.held_back else "enlarging LR photographs")
    of, enlarged = str(at.of("valid_lr")), wanted.run / UPSCALED
    run(["upscale", of, "--model", str(wanted.run), "--out", str(enlarged), "--overwrite", *quiet])
    scale = ["--scale", str(wanted.scale)]
    run(["upscale", of, "--model", "bicubic", *scale, "--out", str(enlarged / "bicubic"), "--overwrite", *quiet])
    lease.hold(sure=True)
    write_report(wanted.run)
    for line in _ending(wanted, chosen):
        print(line, flush=True)


def _settings(wanted: Wanted, chosen: Split, machine: Machine) -> Path:
    """The file of them, which is made once: a person may have changed it since."""
    path = wanted.run / SETTINGS
    if path.is_file():
        if load(path).scale != wanted.scale:
            raise InputError(f"--scale {wanted.scale}: {path} has scale {load(path).scale}; give another --run-dir")
        _say(f"{path} is there and is used as it is" + (", without --hours" if wanted.hours is not None else ""))
        return path
    hours = wanted.hours if wanted.hours is not None else GPU_HOURS if machine.gpus else CPU_HOURS
    _say(f"time: {hours:g} hours (--hours)")
    timed = partial(seconds_a_step, degradation=load_degradation(wanted.run / ESTIMATE))
    write_text(path, choose(chosen, machine, wanted.scale, hours, wanted.run, timed, _say))
    config = load(path)
    net = config.nets.sr
    _say(
        f"{path}: network {net.channels} x {net.blocks}, {config.train.steps:,} steps, "
        f"patches of {config.shards.patch} px"
    )
    return path


def _seen(chosen: Split, machine: Machine) -> list[str]:
    lines = []
    for name, train, valid in (("HR", chosen.train_hr, chosen.valid_hr), ("LR", chosen.train_lr, chosen.valid_lr)):
        sides = sorted(photo.side for photo in train)
        kept = {photo.path for photo in valid} - {photo.path for photo in train}
        total = len(train) + len(kept)
        held = f", {len(kept)} of them held back" if kept else ", none held back: there are too few"
        span = f"{sides[0]}" if sides[0] == sides[-1] else f"{sides[0]} to {sides[-1]}"
        lines.append(f"{name}: {counted(total, 'photograph')}{held}; smaller side {span} px")
    return [*lines, f"machine: {machine}"]


def _ending(wanted: Wanted, chosen: Split) -> list[str]:
    summary = read_summary(wanted.run)
    if not summary:
        raise FailedElsewhere(f"{wanted.run} has no summary", 1)
    own = "held-back LR photographs" if chosen.held_back else "LR photographs (also trained on)"
    facts = json.loads((wanted.run / ESTIMATE / FACTS).read_text(encoding="utf-8"))
    doubts = [f"doubt: {text}" for text in facts.get("doubts", ())]
    return [
        "",
        *doubts,
        f"verdict: {summary['verdict']}",
        f"your {own}, enlarged: {wanted.run / UPSCALED}",
        f"look at: {wanted.run / 'report.html'}",
        *(f"next: {command}" for command in summary["next"]),
        f"longer and better: cyclesr fit with --hours and another --run-dir, or train.steps in {wanted.run / SETTINGS}",
    ]


def _step(number: int, text: str) -> None:
    print(f"{number}/5 {text}", flush=True)


def _say(text: str) -> None:
    print(f"  {text}", flush=True)
