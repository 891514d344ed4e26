"""What a run that has ended says of itself: summary, verdict in plain words, where things are, what to do next."""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cyclesr_dist import __version__
from cyclesr_dist.config.metrics import METRICS
from cyclesr_dist.config.schema import Config
from cyclesr_dist.config.systems import spec_of
from cyclesr_dist.data.loader import Sources
from cyclesr_dist.data.overlap import RECORD
from cyclesr_dist.degradation.record import FACTS
from cyclesr_dist.degradation.sentences import finite
from cyclesr_dist.runtime.files import bytes_if_there
from cyclesr_dist.runtime.patterns import root_of
from cyclesr_dist.telemetry.diagnosis import drift_seen, over_bicubic, under_bicubic

_SEEN_DB = 0.1
"""A gain over bicubic enlargement that is more than chance."""
_SEEN_SHARE = 0.02
"""The same of a perceptual distance, as a share of that of bicubic enlargement."""
_MANY_BAD = 0.1
"""Share of steps that were left out, above which a run is no success."""
_FAR_DECADES = 0.12
"""As `degradation/estimate.py` doubts."""


def summary_of(
    config: Config, sources: Sources, numbers: Mapping[str, Any], num_ranks: int, run: Path
) -> dict[str, Any]:
    """summary.json: `numbers` are those of the training loop. `completed` tells a finished run from a stopped one."""
    notes = []
    if spec_of(config.system).perceptual and config.weights.percep and config.perceptual.source == "random":
        notes.append("The perceptual term used random features (perceptual.source: random).")
    found = str(numbers.get("trouble", ""))
    switched_off = bool(config.data.valid_lr) and not config.train.validate_every_steps
    judged = verdict(numbers["best"], _facts(run), config.validate.metric, switched_off=switched_off)
    text, ok = _with_trouble(*judged, found, numbers["best"])
    return {
        "completed": True,
        "verdict": text,
        "verdict_ok": ok,
        "next": [_gentler(config, run) if found else _next(ok, numbers["steps"], run)],
        "system": config.system,
        "track": config.track if simulated(config, sources) else None,
        "seed": config.seed,
        **numbers,
        "num_ranks": num_ranks,
        "versions": {"cyclesr_dist": __version__, "torch": torch.__version__, "python": sys.version.split()[0]},
        "notes": notes,
    }


def trouble(steps: int, bad_steps: int, last_is_bad: bool, diverged: str) -> str:
    """In a sentence, why the end of a run is no success whatever the scores are; empty where there is nothing.

    `bad_steps` of `steps` were left out, `last_is_bad`: the last one; `diverged`: see telemetry/diagnosis.py.
    """
    if last_is_bad or bad_steps > _MANY_BAD * steps:
        last = ", the last one too" if last_is_bad else ""
        return f"{bad_steps} of {steps:,} steps were left out, since their gradients were not finite{last}."
    if diverged:
        return f"The training has diverged: its last losses are {diverged}, of photographs in [0, 1]."
    return ""


def _with_trouble(text: str, ok: bool | None, found: str, best: Mapping[str, Any]) -> tuple[str, bool | None]:
    """The verdict where there was trouble: never a success."""
    if not found:
        return text, ok
    said = text.removeprefix("It worked: ") if ok else text
    if not best:
        return f"It did not work: {found[0].lower() if found[0].isalpha() else found[0]}{found[1:]}", False
    return f"The training went wrong. {found} {said[0].upper()}{said[1:]}", False


def _next(ok: bool | None, steps: int, run: Path) -> str:
    """The command to give now: use the network, or train for longer."""
    if ok is not False:
        return f"cyclesr upscale PHOTOS --model {shlex.quote(str(run))} --out enlarged"
    config, longer = (shlex.quote(str(path)) for path in (run / "config.yaml", run.with_name(f"{run.name}-longer")))
    return f"cyclesr train --config {config} --run-dir {longer} train.steps={4 * steps}"


def _gentler(config: Config, run: Path) -> str:
    """The command for a run with smaller learning rates."""
    path, other = (shlex.quote(str(path)) for path in (run / "config.yaml", run.with_name(f"{run.name}-slower")))
    rates = f"optim.lr_sr={config.optim.lr_sr / 4:g} optim.lr_cyclegan={config.optim.lr_cyclegan / 4:g}"
    return f"cyclesr train --config {path} --run-dir {other} {rates}"


def simulated(config: Config, sources: Sources) -> bool:
    """Whether the LR photographs were made by `cyclesr degrade`: `track` says something of them only then."""
    if sources.lr is not None:
        return any("lr_origin_sha256" in source for source in sources.lr.sources)
    return bool(config.data.valid_lr) and (root_of(Path(config.data.valid_lr)) / RECORD).is_file()


def _facts(run: Path) -> dict[str, Any]:
    """degradation.json of the run folder; empty where nothing was measured."""
    written = bytes_if_there(run / FACTS)
    return {} if written is None else dict(json.loads(written))


def verdict(
    best: Mapping[str, Any], facts: Mapping[str, Any] | None = None, metric: str = "auto", *, switched_off: bool = False
) -> tuple[str, bool | None]:
    """Whether it worked, in up to three sentences; None where nobody can know. `best`: the chosen network's scores;
    `facts`: of the measured degradation; `metric`: what chose it; `switched_off`:
    there are photographs, and `train.validate_every_steps` is 0."""
    if not best:
        remedy = (
            "train.validate_every_steps is 0: set it to a number of steps."
            if switched_off
            else "Set data.valid_lr to some real LR photographs and data.valid_hr to some sharp ones."
        )
        return f"Whether it worked is not known: the run was not validated. {remedy}", None
    seen = drift_seen(best)
    shifted = f" Enlarged photographs come out {seen}." if seen else ""
    if (nearer := under_bicubic(best, metric)) is not None:
        return _by_distance(best, metric, nearer, shifted)
    gain = over_bicubic(best)
    if gain is None:
        text = (
            "Whether it is better than bicubic enlargement is not known: that needs sharp photographs in data.valid_hr."
        )
        return text + shifted, False if seen else None
    name, db = gain
    if not math.isfinite(best[name]) and math.isnan(db):
        return f"It did not work: the network gives no numbers ({name} {best[name]})." + shifted, False
    figures = f"{best[name]:.2f} dB PSNR against {best[name] - db:.2f} dB"
    of = "on the validation photographs"
    if name == "psnr_estimated":
        of = "on sharp photographs that were damaged as yours were measured to be"
    if db < -_SEEN_DB:
        text = f"It did not work: the network is {-db:.2f} dB worse than bicubic enlargement {of} ({figures})."
    elif db < _SEEN_DB:
        text = f"It changed next to nothing: the network is as good as bicubic enlargement {of} ({figures})."
    else:
        start = "It worked, but for a shift" if seen else "It worked"
        text = f"{start}: the network is {db:.2f} dB better than bicubic enlargement {of} ({figures})."
    ok = db >= _SEEN_DB and not seen
    if ok and name == "psnr_estimated" and (doubt := _says_little(facts or {})):
        found = text.removeprefix("It worked: ")
        unknown = "Whether it worked on your photographs is not known."
        return f"{unknown} {found[0].upper()}{found[1:]} {doubt}", None
    return text + shifted, ok


def _by_distance(best: Mapping[str, Any], metric: str, nearer: float, shifted: str) -> tuple[str, bool]:
    """The verdict where a perceptual distance to originals chose the network. `shifted`: a sentence, or empty."""
    title = METRICS[metric].title
    figures = f"{title} {best[metric]:.3f} against {best[f'{metric}_bicubic']:.3f}, lower is better"
    if "psnr" in best and "psnr_bicubic" in best:
        figures += f"; PSNR {best['psnr']:.2f} dB against {best['psnr_bicubic']:.2f} dB"
    of = "its enlargements of the validation photographs"
    if not math.isfinite(nearer):
        return f"It did not work: the network gives no numbers ({metric} {best[metric]}).{shifted}", False
    if nearer < -_SEEN_SHARE:
        return f"It did not work: {of} are farther from the originals than bicubic ones ({figures}).{shifted}", False
    if nearer < _SEEN_SHARE:
        return (
            f"It changed next to nothing: {of} are no nearer to the originals than bicubic ones ({figures}).{shifted}",
            False,
        )
    start = "It worked, but for a shift" if shifted else "It worked"
    return f"{start}: {of} are nearer to the originals than bicubic ones ({figures}).{shifted}", not shifted


def _says_little(facts: Mapping[str, Any]) -> str:
    """Why a score on photographs damaged as measured says little of real ones; empty where it does say something."""
    apart = [finite(facts, "spectrum_distance", key) for key in ("synthetic", "translated")]
    if apart[0] and apart[1] is not None and apart[1] > max(_FAR_DECADES, apart[0] / 2):
        share = max(0.0, 1 - apart[1] / apart[0])
        return (
            f"But what was measured explains only {share:.0%} of what makes your photographs differ: compare the "
            "pictures."
        )
    return ""


def last_lines(config: Config, summary: Mapping[str, Any], run: Path) -> list[str]:
    """For the terminal."""
    best, steps = summary["best"], summary["steps"]
    which = f"of the last step, {steps:,}"
    if best and best["step"] == steps:
        which = f"of the last step, {steps:,}, which is the best"
    elif best:
        which = f"of step {best['step']:,} of {steps:,}, the best; the last one: {run}@last"
    if best.get("estimated"):
        which += f"; {config.system}'s network trained on the measured degradation alone, which is better than its own"
    return [
        f"verdict: {summary['verdict']}",
        f"model: {run / 'model.safetensors'} ({which})",
        f"report: {run / 'report.html'}",
        *(f"next: {command}" for command in summary["next"]),
    ]
