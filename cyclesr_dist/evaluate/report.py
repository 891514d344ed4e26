"""`report.html`: what a run did, on one self-contained page (no network, no scripts).

The page is made from the run folder's files alone, and is the same whenever it is made. A file that is missing costs
its section; of a file of JSON lines that a killed run left half-written, the whole lines are used.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import yaml
from PIL import Image

from cyclesr_dist.errors import InputError
from cyclesr_dist.evaluate.curves import Point, line_chart
from cyclesr_dist.evaluate.page import figure, page, paragraph, section, signed
from cyclesr_dist.files import replacing

MAX_PICTURES = 12
"""Comparison pictures embedded; the rest stay in the folder."""

_SOURCES = ("config.yaml", "metrics.jsonl", "validation.jsonl", "summary.json")
_ROWS = {
    "bicubic": "enlargement without training",
    "sr_syn": "trained on bicubic pairs",
    "sr_paired": "supervised reference: trained on real pairs",
    "cyclegan": "CycleGAN at HR size",
    "cycle_sr_separate": "CycleGAN first, then SR",
    "cyclesr": "joint, MSE",
    "cyclesrgan": "joint, MSE, perceptual and adversarial",
}
_NONE = "\u2013"
_PAIRED = "sr_paired"
"""The one row that sees real pairs: a yardstick, so it does not take part in the contest."""


@dataclass(frozen=True)
class _Run:
    """The contents of a run folder; missing files are empty."""

    name: str
    config_text: str
    config: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]
    validation: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]
    pictures: Sequence[Path]
    table: Mapping[str, Mapping[str, float]]
    """Rows with a finite PSNR in dB; `ssim` where there is one."""
    notes: list[str] = field(default_factory=list)
    """What had to be left out while reading."""


def check_run_folder(run_dir: Path) -> None:
    """Raise InputError unless `run_dir` is a folder that holds at least one of a run's files."""
    if not run_dir.is_dir():
        raise InputError(f"{run_dir}: {'is a file' if run_dir.exists() else 'no such folder'}; a run folder is needed")
    if not any((run_dir / name).is_file() for name in _SOURCES):
        raise InputError(f"{run_dir}: is not a run folder (it holds none of {', '.join(_SOURCES)})")


def write_report(run_dir: Path) -> Path:
    """Write `report.html` into the run folder from what is there, atomically, and return its path.

    Raises InputError when `run_dir` is not a run folder or cannot be written to, or when its config or summary cannot
    be parsed.
    """
    check_run_folder(run_dir)
    page = _page(_read(run_dir))
    target = run_dir / "report.html"
    try:
        with replacing(target) as temporary:
            # `replace`: JSON can hold half a surrogate pair, which UTF-8 cannot
            temporary.write_text(page, encoding="utf-8", errors="replace", newline="\n")
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror})") from error
    return target


# Reading


def _read(run_dir: Path) -> _Run:
    notes: list[str] = []
    config_text = _read_text(run_dir / "config.yaml")
    try:
        config = yaml.safe_load(config_text) or {}
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{run_dir / 'config.yaml'}: not valid YAML ({' '.join(str(error).split())})") from error
    try:
        summary = json.loads(_read_text(run_dir / "summary.json") or "{}")
    except json.JSONDecodeError as error:
        raise InputError(f"{run_dir / 'summary.json'}: not valid JSON ({error})") from error
    for name, value in (("config.yaml", config), ("summary.json", summary)):
        if not isinstance(value, dict):
            raise InputError(f"{run_dir / name}: holds a {type(value).__name__}; a mapping is needed")
    return _Run(
        name=run_dir.resolve().name,
        config_text=config_text,
        config=config,
        metrics=_read_lines(run_dir / "metrics.jsonl", notes),
        validation=_read_lines(run_dir / "validation.jsonl", notes),
        summary=summary,
        pictures=sorted((run_dir / "comparisons").glob("*.png")),
        table=_table(summary.get("table")),
        notes=notes,
    )


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") if path.is_file() else ""
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error


def _read_lines(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    """The JSON objects of a file, one a line, that have a step; other lines are counted in `notes`."""
    if not path.is_file():
        return []
    rows: list[dict[str, Any]] = []
    skipped = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:  # JSONDecodeError, and UnicodeDecodeError where the cut went through a character
            row = None
        if isinstance(row, dict) and _number(row.get("step")) is not None:
            rows.append(row)
        else:
            skipped.append(number)
    if skipped:
        where = f"line {skipped[0]}" if len(skipped) == 1 else f"{len(skipped)} lines, the first is line {skipped[0]},"
        notes.append(
            f"{path.name}: {where} could not be read and was skipped (a killed run leaves its last line half-written)."
        )
    return rows


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _finite(value: object) -> float | None:
    number = _number(value)
    return number if number is not None and math.isfinite(number) else None


def _table(raw: object) -> dict[str, dict[str, float]]:
    table = {}
    for name, row in raw.items() if isinstance(raw, dict) else ():
        scores = {key: _finite(row.get(key)) for key in ("psnr", "ssim")} if isinstance(row, dict) else {}
        if scores.get("psnr") is not None:
            table[str(name)] = {key: value for key, value in scores.items() if value is not None}
    return table


# The page


def _page(run: _Run) -> str:
    sections = [
        _headline(run),
        section("Scores", _table_section(run), "This run has no table of scores."),
        section("Pictures", _pictures(run), "This run has no comparison pictures."),
        section("Validation", _validation(run), "This run has no validation scores."),
        section("Losses", _losses(run), "This run has no logged losses."),
        section("Gradients and speed", _speed(run), "This run has no logged gradient norms or throughput."),
        section("Drift of the translator", _drift(run), "This run has no drift diagnostics."),
        section("Configuration", _config(run), "This run has no config.yaml."),
    ]
    return page(f"{run.name} · cyclesr report", sections)


def _headline(run: _Run) -> str:
    labels = {"system": "system ", "track": "track ", "scale": "x", "seed": "seed "}
    facts = [f"{label}{run.config[key]}" for key, label in labels.items() if key in run.config]
    body = [f"<h1>{escape(run.name)}</h1>", paragraph(" · ".join(facts) or "System unknown: no config.yaml.", "facts")]
    best = _best(run)
    if best is not None:
        step, psnr = best
        where = f"<span>best validation PSNR, at step {step:,.0f}</span>"
        body.append(f'<p class="score"><strong>{psnr:.2f}</strong> dB {where}</p>')
    verdict = run.summary.get("verdict")
    lead = (str(verdict) if verdict else "", _contest(run))
    body += [paragraph(text, "lead") for text in lead if text]
    if _section_of(run, "perceptual").get("source") == "random" and run.config.get("system") == "cyclesrgan":
        text = (
            "The perceptual loss of this run used random VGG features, not trained ones (perceptual.source: random). "
        )
        body.append(paragraph(text + "Its scores cannot be compared with those of the paper.", "warning"))
    warnings = run.summary.get("warnings")
    body += [paragraph(str(text), "warning") for text in warnings] if isinstance(warnings, list) else []
    body.append(_small_print(run))
    return "<header>\n" + "\n".join(part for part in body if part) + "\n</header>"


def _small_print(run: _Run) -> str:
    lines = []
    seconds = _finite(run.summary.get("wall_seconds"))
    if seconds is not None:
        lines.append(f"Took {_duration(seconds)}.")
    versions = run.summary.get("versions")
    if isinstance(versions, dict) and versions:
        lines.append("Made with " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".")
    noted = run.summary.get("notes")
    lines += [str(note) for note in noted] if isinstance(noted, list) else []
    lines += run.notes
    return '<ul class="quiet">' + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>" if lines else ""


def _duration(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _section_of(run: _Run, key: str) -> Mapping[str, Any]:
    value = run.config.get(key)
    return value if isinstance(value, dict) else {}


def _best(run: _Run) -> Point | None:
    """(step, PSNR) of the best validation: the summary's, or else the first of the highest in validation.jsonl."""
    stated = run.summary.get("best")
    if isinstance(stated, dict):
        step, psnr = _finite(stated.get("step")), _finite(stated.get("psnr"))
        if step is not None and psnr is not None:
            return step, psnr
    scored = [p for p in _points(run.validation, "psnr") if math.isfinite(p[1])]
    return max(scored, key=lambda p: p[1], default=None)


# Table 1


def _winner(table: Mapping[str, Mapping[str, float]], key: str = "psnr") -> str | None:
    """The row with the highest score among those that need no real pairs."""
    rows = [name for name, row in table.items() if name != _PAIRED and key in row]
    return max(rows, key=lambda name: table[name][key], default=None)


def _contest(run: _Run) -> str:
    """In plain words: which row won, by how much, where this run's system is, and the supervised reference."""
    table = run.table
    winner = _winner(table)
    if winner is None:
        return ""
    best = table[winner]["psnr"]
    margins = [
        f"{signed(best - table[name]['psnr']).lstrip('+')} dB over {name}"
        for name in ("bicubic", "sr_syn")
        if name in table and name != winner
    ]
    system = str(run.config.get("system"))
    text = f"{winner} wins with {best:.2f} dB"
    text = f"Of the rows that need no real pairs, {text}" if _PAIRED in table else text
    text += f": {' and '.join(margins)}." if margins else "."
    if system in table and system not in (winner, _PAIRED):
        psnr = table[system]["psnr"]
        text += f" The system of this run, {system}, reaches {psnr:.2f} dB ({signed(psnr - best)} dB)."
    if _PAIRED in table:
        psnr = table[_PAIRED]["psnr"]
        text += f" The supervised reference, {_PAIRED}, reaches {psnr:.2f} dB ({signed(psnr - best)} dB)."
    return text


def _table_section(run: _Run) -> str:
    table = run.table
    if not table:
        return ""
    best = {key: _winner(table, key) for key in ("psnr", "ssim")}
    base = table.get("bicubic", {})
    lines = []
    for name, row in table.items():
        label = f"{escape(name)}<small>{escape(_ROWS[name])}</small>" if name in _ROWS else escape(name)
        cells = [f'<th scope="row">{label}</th>']
        for key, decimals in (("psnr", 2), ("ssim", 4)):
            score = f"{row[key]:.{decimals}f}" if key in row else _NONE
            cells.append(f"<td><strong>{score}</strong></td>" if best[key] == name else f"<td>{score}</td>")
            delta = (
                signed(row[key] - base[key], decimals) if key in row and key in base and name != "bicubic" else _NONE
            )
            cells.append(f"<td>{delta}</td>")
        lines.append("<tr>" + "".join(cells) + "</tr>")
    head = "".join(f'<th scope="col">{text}</th>' for text in ("", "PSNR, dB", "to bicubic", "SSIM", "to bicubic"))
    reference = f" {_PAIRED} sees real pairs and is out of the contest." if _PAIRED in table else ""
    return (
        f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n'
        + "\n".join(lines)
        + "\n</tbody>\n</table></div>\n"
        + paragraph(f"Bold: the best.{reference}", "quiet")
    )


# Pictures and curves


def _pictures(run: _Run) -> str:
    figures, unreadable = [], []
    for path in run.pictures[:MAX_PICTURES]:
        try:
            with Image.open(path, formats=["PNG"]) as image:
                width, height = image.size
        except OSError:
            unreadable.append(path.name)
            continue
        figures.append(figure(path.read_bytes(), width, height, path.stem, f"Comparison of {path.stem}"))
    rest = len(run.pictures) - MAX_PICTURES
    if rest > 0:
        figures.append(paragraph(f"{rest} more are in the folder comparisons.", "quiet"))
    if unreadable:
        figures.append(paragraph(f"Not a PNG, left out: {', '.join(unreadable)}.", "quiet"))
    return "\n".join(figures)


def _points(rows: Sequence[Mapping[str, Any]], key: str) -> list[Point]:
    pairs = ((_number(row["step"]), _number(row.get(key))) for row in rows)
    return [(step, value) for step, value in pairs if step is not None and value is not None]


def _keys(rows: Iterable[Mapping[str, Any]], prefix: str) -> list[str]:
    """Keys under `prefix`, in the order of their first appearance."""
    return list(dict.fromkeys(key for row in rows for key in row if key.startswith(prefix)))


def _charts(charts: Iterable[str]) -> str:
    drawn = list(charts)
    return '<div class="charts">\n' + "\n".join(drawn) + "\n</div>" if drawn else ""


def _validation(run: _Run) -> str:
    charts = []
    for key, title, unit in (("psnr", "PSNR on real LR", "dB"), ("ssim", "SSIM on real LR", "SSIM")):
        series = {name: _points(run.validation, name) for name in _keys(run.validation, key)}
        if not any(series.values()):
            continue
        best = _best(run) if key == "psnr" else None
        if best is not None:
            series["best"] = [best]
        lines = {name: row[key] for name, row in run.table.items() if key in row}
        charts.append(line_chart(title, series, "step", unit, lines))
    free = {name: _points(run.validation, name) for name in _keys(run.validation, "spectrum_")}
    if any(free.values()):
        charts.append(line_chart("Distances of spectra, without pairs", free, "step", "decades"))
    agreement = _points(run.validation, "agreement")
    if agreement:
        charts.append(line_chart("Disagreement of g_l2h and g_r2s", {"agreement": agreement}, "step", "in [0, 1]"))
    return _charts(charts)


def _group(term: str) -> str:
    """The chart of a loss term (names as in objectives.py); empty for the drift, which is no loss."""
    if term.startswith("drift"):
        return ""
    if term == "total":
        return "Weighted total, equation (3)"
    if term.startswith(("adv_", "cyc", "id")):
        return "Translator terms, equation (2)"
    if term in ("mse", "l1", "advsr", "percep", "texture"):
        return "SR terms, equation (4)"
    return "Discriminators" if term.startswith("d_") else "Other terms"


def _losses(run: _Run) -> str:
    groups: dict[str, dict[str, list[Point]]] = {}
    for key in _keys(run.metrics, "loss."):
        term = key.removeprefix("loss.")
        groups.setdefault(_group(term), {})[term] = _points(run.metrics, key)
    return _charts(
        line_chart(title, groups[title], "step", "loss", log_y=True, marks=_joint(run))
        for title in (*(_group(term) for term in ("adv_", "mse", "d_", "total", "other")),)
        if title in groups
    )


def _joint(run: _Run) -> dict[str, float]:
    """Where the log first says `joint` after another phase: the losses jump there by design."""
    phases = [(row["step"], row.get("phase")) for row in run.metrics]
    steps = [float(b[0]) for a, b in pairwise(phases) if a[1] != b[1] and b[1] == "joint"]
    return {"joint": steps[0]} if steps else {}


def _speed(run: _Run) -> str:
    charts, text = [], ""
    norms = {key.removeprefix("grad_norm."): _points(run.metrics, key) for key in _keys(run.metrics, "grad_norm.")}
    if norms:
        limit = _finite(_section_of(run, "optim").get("clip_norm"))
        clip = {"clipped at": limit} if limit is not None else None
        charts.append(line_chart("Gradient norms", norms, "step", "norm before clipping", clip, log_y=True))
    speed = _points(run.metrics, "patches_per_second")
    if speed:
        charts.append(line_chart("Throughput", {"patches per second": speed}, "step", "patches/s"))
        finite = [value for _, value in speed if math.isfinite(value)]
        text = paragraph(f"Median throughput: {median(finite):.4g} patches per second.") if finite else ""
    rates = {key.removeprefix("lr."): _points(run.metrics, key) for key in _keys(run.metrics, "lr.")}
    if rates:
        charts.append(line_chart("Learning rate", rates, "step", "rate"))
    return text + _charts(charts)


def _drift(run: _Run) -> str:
    keys = _keys(run.metrics, "drift.") + _keys(run.metrics, "loss.drift")
    if not keys:
        return ""
    series = {key.removeprefix("loss."): _points(run.metrics, key) for key in keys}
    text = (
        "What the translator adds to a synthetic LR image, in [0, 1]. A mean away from zero is a shift of brightness. "
        "The standard deviation should come near that of the real degradation."
    )
    return paragraph(text) + _charts(
        [line_chart("fake_real \u2212 syn", series, "step", "in [0, 1]", {"no shift": 0.0})]
    )


def _config(run: _Run) -> str:
    if not run.config_text:
        return ""
    return f"<details><summary>config.yaml, resolved</summary>\n<pre>{escape(run.config_text)}</pre></details>"
