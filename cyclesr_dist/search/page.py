"""The page of a search: what was found, the score by each key, parallel coordinates, pictures, all trials."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from cyclesr_dist.config.metrics import metric_of
from cyclesr_dist.reports.album import Album
from cyclesr_dist.reports.curves import Point, line_chart
from cyclesr_dist.reports.page import Html, page, paragraph, section, table
from cyclesr_dist.search.config import Search
from cyclesr_dist.search.parallel import Axis, parallel_coordinates
from cyclesr_dist.search.results import Row, front, ranked, steps_trained

_NONE = "\u2013"


def html(
    search: Search,
    found: Sequence[Row],
    records: Sequence[Mapping[str, Any]],
    pictures: Mapping[str, bytes],
    no_pictures: str,
) -> str:
    order = ranked(search, found)
    sections = [_head(search, found, order)]
    if order:
        charts = "".join(_by_key(search, order, domain) for domain in search.domains)
        if search.second_metric:
            charts += _trade(search, order)
        sections.append(section("Score by key", f'<div class="charts">{charts}</div>', ""))
        sections.append(section("All keys together", _parallel(search, order), ""))
        curves = line_chart("Validation", _curves(search, order, records), "step", _label(search.metric))
        sections.append(section("Score by step", f'<div class="charts">{curves}</div>', ""))
        why = no_pictures or "No pictures were asked for."
        album = Album()
        strips = "".join(
            album.strip(png, name, f"{name}: LR, and what the best, median and worst trial make of it")
            for name, png in pictures.items()
        )
        notes = "".join(paragraph(note, "quiet") for note in album.notes())
        sections.append(section("Best, median, worst, on validation photographs", strips + notes, why))
    sections.append(section("Trials", _table(search, found, order), "No trial has begun."))
    return page(f"Search for {', '.join(d.key for d in search.domains)}", sections)


def _head(search: Search, found: Sequence[Row], order: Sequence[Row]) -> str:
    keys = ", ".join(domain.key for domain in search.domains)
    steps, whole = steps_trained(search, found)
    counts: dict[str, int] = defaultdict(int)
    for row in found:
        counts[row.state] += 1
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    parts = [
        f"<h1>Search for {escape(keys)}</h1>",
        paragraph(f"{Path(search.base).name}: {len(found)} trials, {states}", "facts"),
    ]
    if order:
        values = ", ".join(f"{key} = {value:.4g}" for key, value in order[0].values.items())
        score = order[0].scores[search.metric]
        parts.append(
            f'<p class="score"><strong>{score:.4g}</strong><span>{escape(_label(search.metric))}, on validation '
            f"photographs, with {escape(values)} (trial {order[0].number})</span></p>"
        )
    parts.append(paragraph(f"{steps:.0f} steps were trained, {steps / whole:.0%} of all trials at full length."))
    return "<header>\n" + "\n".join(parts) + "\n</header>"


def _label(metric: str) -> str:
    unit = metric_of("metric", metric).unit
    return f"{metric}, {unit}" if unit and unit.lower() != metric else metric


def _by_key(search: Search, order: Sequence[Row], domain: Any) -> str:
    """Whole trials, and apart from them those that were stopped: at other steps scores are others."""
    groups: dict[str, list[Point]] = {"whole trials": [], "stopped early": []}
    for row in order:
        name = "whole trials" if row.state == "finished" else "stopped early"
        groups[name].append((float(row.values[domain.key]), row.scores[search.metric]))
    series = {name: sorted(points) for name, points in groups.items() if points}
    return line_chart(
        f"{search.metric} by {domain.key}", series, domain.key, _label(search.metric), log_x=domain.is_log, dots=True
    )


def _trade(search: Search, order: Sequence[Row]) -> str:
    assert search.second_metric is not None
    best = {row.name for row in front(search, order)}
    groups: dict[str, list[Point]] = {"on the front": [], "beaten in both": []}
    for row in order:
        name = "on the front" if row.name in best else "beaten in both"
        groups[name].append((row.scores[search.metric], row.scores[search.second_metric]))
    series = {name: sorted(points) for name, points in groups.items() if points}
    title = f"{search.metric} against {search.second_metric}"
    return line_chart(title, series, _label(search.metric), _label(search.second_metric), dots=True)


def _parallel(search: Search, order: Sequence[Row]) -> str:
    axes = [Axis(d.key, d.low, d.high, d.is_log) for d in search.domains]
    for metric in search.metrics:
        values = [row.scores[metric] for row in order]
        axes.append(Axis(metric, min(values), max(values)))
    lines = [{**row.values, **row.scores} for row in order]
    return f'<div class="wide">{parallel_coordinates("Trials, the best one strongest", axes, lines)}</div>'


def _curves(search: Search, order: Sequence[Row], records: Sequence[Mapping[str, Any]]) -> dict[str, list[Point]]:
    """Of the best trials, by step; of what was reported twice the last."""
    curves = {}
    for row in order[:8]:
        points = {r["step"]: r[search.metric] for r in records if r["trial"] == row.name and "failed" not in r}
        curves[f"trial {row.number}"] = sorted(points.items())
    return curves


def _table(search: Search, found: Sequence[Row], order: Sequence[Row]) -> str:
    keys = [domain.key for domain in search.domains]
    place = {row.name: index for index, row in enumerate(order)}
    lines = []
    for row in sorted(found, key=lambda row: place.get(row.name, len(place) + row.number)):
        scores = [f"{row.scores[m]:.4f}" if m in row.scores else _NONE for m in search.metrics]
        values = [f"{row.values[key]:.5g}" for key in keys]
        cause = f"<small>{escape(row.cause)}</small>" if row.cause else ""
        lines.append([Html(f"{row.number}{cause}"), row.state, f"{row.step:.0f}", *scores, *values])
    return table(["trial", "state", "step", *search.metrics, *keys], lines, texts=(0, 1)) if lines else ""
