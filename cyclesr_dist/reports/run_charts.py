"""The curves of a run, by section of its report. Each function returns HTML, empty where there is nothing to draw."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from html import escape
from itertools import pairwise
from statistics import median
from typing import Any

from cyclesr_dist.config.metrics import ASKED_FOR, METRICS, lower_is_better
from cyclesr_dist.config.reader import OBJECT_NAME
from cyclesr_dist.reports.curves import Point, line_chart
from cyclesr_dist.reports.page import duration, paragraph, table
from cyclesr_dist.reports.run_files import RunFiles, finite, keys_under, points
from cyclesr_dist.reports.slow_run import sentences, slow_run


def section_of(run: RunFiles, key: str) -> Mapping[str, Any]:
    value = run.config.get(key)
    return value if isinstance(value, dict) else {}


def best(run: RunFiles) -> Point | None:
    """(step, PSNR) of the validation that `chosen_by` chooses: the summary's, or else the first of the best in
    validation.jsonl."""
    stated = run.summary.get("best")
    if isinstance(stated, dict):
        step, psnr = finite(stated.get("step")), finite(stated.get("psnr"))
        if step is not None and psnr is not None:
            return step, psnr
    metric = chosen_by(run)
    scored = {step: value for step, value in points(run.validation, metric) if math.isfinite(value)}
    having = {step: value for step, value in points(run.validation, "psnr") if math.isfinite(value)}
    steps = sorted(scored.keys() & having.keys())
    at = (min if lower_is_better(metric) else max)(steps, key=scored.__getitem__, default=None)
    return None if at is None else (at, having[at])


def chosen_by(run: RunFiles) -> str:
    """The score of ours that chooses the best network; `psnr` where the configuration leaves it open or names one of
    the user's own, whose description is not looked up."""
    metric = section_of(run, "validate").get("metric")
    return metric if isinstance(metric, str) and metric in METRICS else "psnr"


def _charts(charts: Iterable[str]) -> str:
    drawn = list(charts)
    return '<div class="charts">\n' + "\n".join(drawn) + "\n</div>" if drawn else ""


def validation(run: RunFiles) -> str:
    charts = []
    for key in (name for name, spec in METRICS.items() if "pairs" in spec.needs or spec.asked_for):
        if key in ASKED_FOR:
            series = {name: found for name in (key, f"{key}_bicubic") if (found := points(run.validation, name))}
        else:
            series = {name: points(run.validation, name) for name in keys_under(run.validation, key)}
        if not any(series.values()):
            continue
        chosen = best(run) if key == "psnr" else None
        if chosen is not None:
            series["best"] = [chosen]
        charts.append(line_chart(METRICS[key].title, series, "step", METRICS[key].unit, marks=phases(run)))
    free = {name: points(run.validation, name) for name in keys_under(run.validation, "spectrum_")}
    if any(free.values()):
        charts.append(
            line_chart("Distances of spectra, without pairs", free, "step", "decades", log_y=True, marks=phases(run))
        )
    for key in ("agreement", *own_metrics(run)):
        if found := points(run.validation, key):
            title, unit = title_and_unit(key)
            charts.append(line_chart(title, {key: found}, "step", unit, marks=phases(run)))
    return _what_they_are(run) + _charts(charts) if charts else ""


def own_metrics(run: RunFiles) -> list[str]:
    """Names of the user's own metrics. Their descriptions are not looked up: that would run code that a run names."""
    return [key for key in keys_under(run.validation, "") if OBJECT_NAME.fullmatch(key)]


def title_and_unit(key: str) -> tuple[str, str]:
    """Of the chart of a score; one of the user's own goes by its name."""
    return (METRICS[key].title, METRICS[key].unit) if key in METRICS else (key, "score")


def _what_they_are(run: RunFiles) -> str:
    items = [
        f"<li>{name}: {escape(spec.text)} {'Higher' if spec.larger_is_better else 'Lower'} is better.</li>"
        for name, spec in METRICS.items()
        if points(run.validation, name)
    ]
    text = paragraph("Measured on the validation photographs, which training does not see.")
    return text + ("<ul>\n" + "\n".join(items) + "\n</ul>" if items else "")


def _group(term: str) -> str:
    """The chart of a loss term (names as in objectives.py); empty for the drift, which is no loss."""
    if term.startswith("drift"):
        return ""
    if term in ("g", "total"):  # the generators' sum goes by the player's name
        return "Weighted total, equation (3)"
    if term.startswith(("adv_", "cyc", "id")):
        return "Translator terms, equation (2)"
    if term in ("mse", "l1", "advsr", "percep", "texture"):
        return "SR terms, equation (4)"
    return "Discriminators" if term.startswith("d_") else "Other terms"


def losses(run: RunFiles) -> str:
    groups: dict[str, dict[str, list[Point]]] = {}
    for key in keys_under(run.metrics, "loss."):
        term = key.removeprefix("loss.")
        groups.setdefault(_group(term), {})[term] = points(run.metrics, key)
    return _charts(
        line_chart(title, groups[title], "step", "loss", log_y=True, marks=phases(run))
        for title in (*(_group(term) for term in ("adv_", "mse", "d_", "total", "other")),)
        if title in groups
    )


def phases(run: RunFiles) -> dict[str, float]:
    """Where the log first says so of each phase but the first: losses jump there by design."""
    marks: dict[str, float] = {}
    for before, after in pairwise(run.metrics):
        name = str(after.get("phase"))
        if before.get("phase") != after.get("phase"):
            marks.setdefault(name, float(after["step"]))
    return marks


def gradients(run: RunFiles) -> str:
    charts = []
    limit = finite(section_of(run, "optim").get("clip_norm"))
    clip = {"clipped at": limit} if limit is not None else None
    for prefix, title, reference in (("grad_norm.", "by player", clip), ("network_norm.", "by network", None)):
        norms = {key.removeprefix(prefix): points(run.metrics, key) for key in keys_under(run.metrics, prefix)}
        if norms:
            charts.append(
                line_chart(
                    f"Gradient norms {title}",
                    norms,
                    "step",
                    "norm before clipping",
                    reference,
                    log_y=True,
                    marks=phases(run),
                )
            )
    rates = points(run.metrics, "lr_factor")
    if rates:
        charts.append(
            line_chart("Learning rate", {"of the configured one": rates}, "step", "factor", marks=phases(run))
        )
    return _charts(charts)


_PARTS = {
    "step": "the step itself",
    "data_wait": "waiting for batches",
    "validation": "validation, pictures included",
    "checkpoint": "copying state for checkpoints",
}


def speed(run: RunFiles) -> str:
    """Throughput, and where the time went."""
    charts, text = [], ""
    rate = points(run.metrics, "patches_per_second")
    if rate:
        charts.append(line_chart("Throughput", {"patches per second": rate}, "step", "patches/s", marks=phases(run)))
        known = [value for _, value in rate if math.isfinite(value)]
        text = paragraph(f"Median throughput: {median(known):.4g} patches per second.") if known else ""
    text += paragraph(" ".join(why)) if (why := sentences(slow_run(run))) else ""
    parts = {key.removeprefix("seconds."): points(run.metrics, key) for key in keys_under(run.metrics, "seconds.")}
    if parts:
        text += _time_table({name: sum(value for _, value in of) for name, of in parts.items()})
        charts.append(line_chart("Time by part, between two logs", parts, "step", "s", log_y=True, marks=phases(run)))
    memory = {key.removeprefix("memory_mb."): points(run.metrics, key) for key in keys_under(run.metrics, "memory_mb.")}
    if memory:
        charts.append(line_chart("Memory of the main rank", memory, "step", "MiB"))
    return text + _charts(charts)


def _time_table(totals: dict[str, float]) -> str:
    whole = sum(totals.values()) or 1.0
    rows = [
        [_PARTS.get(name, name), duration(value), f"{100 * value / whole:.1f}%"]
        for name, value in sorted(totals.items(), key=lambda item: -item[1])
    ]
    return table(["part of the loop, on the main rank", "in all", "share"], rows)


def drift(run: RunFiles) -> str:
    keys = keys_under(run.metrics, "drift.") + keys_under(run.metrics, "loss.drift")
    if not keys:
        return ""
    series = {key.removeprefix("loss.").removeprefix("drift."): points(run.metrics, key) for key in keys}
    text = (
        "What g_s2r (the network that makes LR photographs look real) adds to a shrunk photograph, syn, to make "
        "fake_real of it; in [0, 1]. A mean away from zero is a shift of brightness. "
        "The standard deviation should come near that of the real degradation."
    )
    return paragraph(text) + _charts(
        [line_chart("fake_real \u2212 syn", series, "step", "in [0, 1]", {"no shift": 0.0}, marks=phases(run))]
    )
