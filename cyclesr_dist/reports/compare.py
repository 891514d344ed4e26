"""`cyclesr compare`: several runs side by side on one self-contained page."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path
from statistics import median

from cyclesr_dist.config.metrics import ASKED_FOR, METRICS
from cyclesr_dist.reports import run_history
from cyclesr_dist.reports.album import SLIDER_SCRIPT, Album, same_size
from cyclesr_dist.reports.curves import line_chart
from cyclesr_dist.reports.own_photos import own_photographs_of
from cyclesr_dist.reports.page import duration, folded, page, paragraph, save_page, section, table
from cyclesr_dist.reports.paper import flat, shown
from cyclesr_dist.reports.run_charts import best, chosen_by, own_metrics, phases, title_and_unit
from cyclesr_dist.reports.run_files import RunFiles, check_run_folder, finite, keys_under, points, read_run
from cyclesr_dist.reports.run_verdict import in_short

_NONE = "\u2013"
_TITLES = {
    "drift.mean": ("Mean of fake_real \u2212 syn", "in [0, 1]"),
    "drift.colour": ("Colour of fake_real \u2212 syn", "in [0, 1]"),
    "drift.std": ("Standard deviation of fake_real \u2212 syn", "in [0, 1]"),
    "patches_per_second": ("Throughput", "patches/s"),
}
"""Title and unit by key, of what is neither a loss nor a score."""
_WHERE = ("telemetry.", "train.checkpoints")  # keys that say where, not what


def write_comparison(run_dirs: Sequence[Path], out: Path) -> None:
    """Write the page. Raises InputError when a folder is no run's, cannot be read, or `out` cannot be written."""
    for run_dir in run_dirs:
        check_run_folder(run_dir)
    save_page(out, _page(_named_apart([read_run(run_dir) for run_dir in run_dirs], run_dirs)))


Runs = dict[str, RunFiles]


def _named_apart(runs: Sequence[RunFiles], folders: Sequence[Path]) -> Runs:
    """By the folders' names, or where two are the same by as much of their paths as tells them apart."""
    parts = [folder.resolve().parts for folder in folders]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(p[-depth:]) for p in parts]
        if len(set(names)) == len(names):
            return dict(zip(names, runs, strict=True))
    return {f"{run.name} ({i})": run for i, run in enumerate(runs, 1)}  # the same folder twice


def _page(runs: Runs) -> str:
    album = Album()
    own, drawn = own_photographs_of(runs, album), _pictures(runs, album)
    names = " · ".join(runs)
    head = f"<header>\n<h1>{len(runs)} runs</h1>\n{paragraph(names, 'facts')}\n</header>"
    sections = [
        head,
        section("At a glance", _facts(runs), ""),
        *([section("Your photographs", own, "")] if own else []),
        section("Pictures of validation photographs", drawn + _notes(album), _nothing("pictures")),
        section(
            "Validation",
            _curves(runs, "validation", _scores(runs)),
            _nothing("validation scores"),
        ),
        folded("Losses", _curves(runs, "metrics", _loss_keys(runs), log_y=True), _nothing("logged losses")),
        folded(
            "Drift of the translator",
            _curves(runs, "metrics", ("drift.mean", "drift.colour", "drift.std")),
            _nothing("drift"),
        ),
        folded("Speed", _curves(runs, "metrics", ("patches_per_second",)), _nothing("logged throughput")),
        folded("Differences of configuration", _config(runs), "The runs have the same configuration."),
    ]
    return page(f"{names} · cyclesr compare", sections, SLIDER_SCRIPT)


def _scores(runs: Runs) -> list[str]:
    """Of ours first; those of the users' own behind."""
    return list(dict.fromkeys([*METRICS, *(key for run in runs.values() for key in own_metrics(run))]))


def _nothing(what: str) -> str:
    return f"The runs have no {what}."


def _facts(runs: Runs) -> str:
    rows = [[name, *(find(run) for run in runs.values())] for name, find in _FACTS.items()]
    told = [row for row in rows if any(cell != _NONE for cell in row[1:])]
    return table(["", *runs], told, texts=range(len(runs) + 1))


def _test_psnr(run: RunFiles) -> str:
    own = run.table.get(run.system)
    return f"{own['psnr']:.2f}" if own else _NONE


def _notes(album: Album) -> str:
    return "".join(paragraph(note, "quiet") for note in album.notes())


def _steps(run: RunFiles) -> str:
    return f"{run.metrics[-1]['step']:,.0f}" if run.metrics else _NONE


def _best_psnr(run: RunFiles) -> str:
    chosen = best(run)
    if not chosen:
        return _NONE
    metric = chosen_by(run)
    return f"{chosen[1]:.2f} at {chosen[0]:,.0f}" + ("" if metric == "psnr" else f", chosen by {METRICS[metric].title}")


def _best_ssim(run: RunFiles) -> str:
    values = [value for _, value in points(run.validation, "ssim") if math.isfinite(value)]
    return f"{max(values):.4f}" if values else _NONE


def _best_perceptual(name: str, run: RunFiles) -> str:
    values = [value for _, value in points(run.validation, name) if math.isfinite(value)]
    return f"{min(values):.4f}" if values else _NONE


def _throughput(run: RunFiles) -> str:
    values = [value for _, value in points(run.metrics, "patches_per_second") if math.isfinite(value)]
    return f"{median(values):.4g}" if values else _NONE


def _time(run: RunFiles) -> str:
    seconds = finite(run.summary.get("train_seconds"))
    return duration(seconds) if seconds is not None else _NONE


def _waiting(run: RunFiles) -> str:
    wait, step = (sum(v for _, v in points(run.metrics, f"seconds.{part}")) for part in ("data_wait", "step"))
    return f"{100 * wait / (wait + step):.1f}%" if wait + step else _NONE


def _faults(run: RunFiles) -> str:
    starts = sum(event.get("event") == "started" for event in run.events)
    return f"{max(0, starts - 1)}, {len(run.bad_steps)}" if run.events else _NONE


def _state(run: RunFiles) -> str:
    return run_history.state(run) or ("finished" if run.summary.get("completed") else _NONE)


_FACTS: Mapping[str, Callable[[RunFiles], str]] = {
    "did it work": in_short,
    "PSNR on test photographs, dB": _test_psnr,
    "PSNR on validation photographs, dB": _best_psnr,
    "best SSIM on validation photographs": _best_ssim,
    **{f"best {METRICS[name].title} on validation photographs": partial(_best_perceptual, name) for name in ASKED_FOR},
    "system": lambda run: str(run.config.get("system", _NONE)),
    "track": lambda run: run.track or _NONE,
    "seed": lambda run: str(run.config.get("seed", _NONE)),
    "steps": _steps,
    "patches a second, median": _throughput,
    "time training": _time,
    "of it waiting for data": _waiting,
    "restarts, bad steps": _faults,
    "state": _state,
}


def _loss_keys(runs: Runs) -> list[str]:
    """Of all runs, in order of appearance, without the weighted sum: weights may differ."""
    found = dict.fromkeys(key for run in runs.values() for key in keys_under(run.metrics, "loss."))
    return [key for key in found if key not in ("loss.g", "loss.total")]


def _curves(runs: Runs, source: str, keys: Sequence[str], log_y: bool = False) -> str:
    """A chart for each key, a line for each run; phases are marked where they begin alike."""
    charts = []
    began = [phases(run) for run in runs.values()]
    marks = began[0] if all(other == began[0] for other in began) else {}
    for key in keys:
        series = {name: points(getattr(run, source), key) for name, run in runs.items()}
        series = {name: line for name, line in series.items() if line}
        if series:
            title, unit = _title_and_unit(key)
            charts.append(line_chart(title, series, "step", unit, log_y=log_y, marks=marks))
    return '<div class="charts">\n' + "\n".join(charts) + "\n</div>" if charts else ""


def _title_and_unit(key: str) -> tuple[str, str]:
    if key.startswith("loss."):
        return key.removeprefix("loss."), "loss"
    return _TITLES[key] if key in _TITLES else title_and_unit(key)


def _pictures(runs: Runs, album: Album) -> str:
    """Of the photographs that any run has: two runs behind one slider where both have it, else side by side."""
    stems = {name.removesuffix(".last") for run in runs.values() for name in run.pictures if name.endswith(".last")}
    sliders, rows = [], []
    for stem in sorted(stems - {"figure3", "translated"}):
        chosen = {name: _picture(run, stem) for name, run in runs.items()}
        (first, one), (second, other) = list(chosen.items())[:2]
        if len(chosen) == 2 and one and other and same_size(one, other):
            sliders.append(album.before_after((first, one), (second, other), stem))
        else:
            bicubic = next(
                (run.pictures[f"{stem}.bicubic"] for run in runs.values() if f"{stem}.bicubic" in run.pictures), None
            )
            row = album.row([*([("bicubic", bicubic)] if bicubic else []), *chosen.items()], stem)
            rows.append(f"<h3>{escape(stem)}</h3>{row}" if row else "")
    shown = "\n".join(filter(None, sliders))
    return (f'<div class="pictures">{shown}</div>' if shown else "") + "\n".join(filter(None, rows))


def _picture(run: RunFiles, stem: str) -> Path | None:
    return run.pictures.get(f"{stem}.best", run.pictures.get(f"{stem}.last"))


def _config(runs: Runs) -> str:
    """Keys whose values are not the same in all."""
    configs = [flat(run.config) for run in runs.values()]
    keys = dict.fromkeys(key for config in configs for key in config if not key.startswith(_WHERE))
    rows = [[key, *(shown(c[key]) if key in c else _NONE for c in configs)] for key in keys]
    different = [row for row in rows if len(set(row[1:])) > 1]
    return table(["key", *runs], different, texts=range(len(runs) + 1)) if different else ""
