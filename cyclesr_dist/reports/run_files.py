"""What a run folder holds, read so that a report can be made of it: whole lines of a run still going, no more.

A file that is missing is empty; of a file of JSON lines that a killed run left half-written, the whole lines are used.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cyclesr_dist.degradation.record import ARRAYS, FACTS, Degradation, load
from cyclesr_dist.degradation.sentences import sentences
from cyclesr_dist.errors import InputError
from cyclesr_dist.reports.curves import Point
from cyclesr_dist.runtime.files import bytes_if_there, is_file
from cyclesr_dist.runtime.redact import redact

UPSCALED = "upscaled"
_SOURCES = ("config.yaml", "metrics.jsonl", "validation.jsonl", "summary.json")


@dataclass(frozen=True)
class Upscaled:
    """A photograph enlarged by g_l2h, and by bicubic where that was kept."""

    name: str
    after: Path
    before: Path | None


@dataclass(frozen=True)
class RunFiles:
    """The contents of a run folder; missing files are empty."""

    name: str
    config_text: str
    config: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]
    validation: Sequence[Mapping[str, Any]]
    events: Sequence[Mapping[str, Any]]
    """Starts and ends; see training/journal.py."""
    bad_steps: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]
    comparisons: Sequence[Path]
    pictures: Mapping[str, Path]
    """By name without `.png`; see training/pictures.py."""
    table: Mapping[str, Mapping[str, float]]
    """Rows with a finite PSNR in dB; `ssim` where there is one."""
    measured: Sequence[str] = ()
    """What degradation.json says, in sentences; empty where the run measured nothing."""
    degradation: Degradation | None = None
    """What the run measured, with its arrays."""
    upscaled: Sequence[Upscaled] = ()
    """Photographs of one's own, enlarged; in name order."""
    notes: list[str] = field(default_factory=list)
    """What had to be left out while reading."""

    @property
    def track(self) -> str | None:
        """How the LR photographs were simulated; None where they are real, or where nothing says.

        config.yaml alone says nothing: its `track` has a default. Only the demo's run, which has a table, made the
        photographs by it.
        """
        stated = self.summary.get("track") or (self.config.get("track") if self.table else None)
        return str(stated) if stated else None

    @property
    def system(self) -> str:
        return str(self.config.get("system", ""))


def check_run_folder(run_dir: Path) -> None:
    """Raise InputError unless `run_dir` is a folder that holds at least one of a run's files."""
    if not run_dir.is_dir():
        raise InputError(f"{run_dir}: {'is a file' if run_dir.exists() else 'no such folder'}; a run folder is needed")
    if not any(is_file(run_dir / name) for name in _SOURCES):
        raise InputError(f"{run_dir}: is not a run folder (it holds none of {', '.join(_SOURCES)})")


def read_run(run_dir: Path) -> RunFiles:
    notes: list[str] = []
    config_text = redact(_read_text(run_dir / "config.yaml"))  # of an earlier version, it may hold more
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
    return RunFiles(
        name=run_dir.resolve().name,
        config_text=config_text,
        config=config,
        metrics=_read_lines(run_dir / "metrics.jsonl", notes),
        validation=_read_lines(run_dir / "validation.jsonl", notes),
        summary=summary,
        events=_read_lines(run_dir / "events.jsonl", notes, needs="event"),
        bad_steps=_read_lines(run_dir / "bad_steps.jsonl", notes),
        comparisons=sorted((run_dir / "comparisons").glob("*.png")),
        pictures={path.stem: path for path in sorted((run_dir / "pictures").glob("*.png"))},
        table=_table(summary.get("table")),
        measured=_measured(run_dir / FACTS, notes),
        degradation=_degradation(run_dir, notes),
        upscaled=_upscaled(run_dir / UPSCALED),
        notes=notes,
    )


def _read_text(path: Path) -> str:
    try:
        return (bytes_if_there(path) or b"").decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error


def _measured(path: Path, notes: list[str]) -> list[str]:
    if (written := bytes_if_there(path)) is None:
        return []
    try:
        return sentences(json.loads(written))
    except (ValueError, TypeError, KeyError, AttributeError):
        notes.append(f"{path.name} could not be read and was left out.")
        return []


def _degradation(run_dir: Path, notes: list[str]) -> Degradation | None:
    if not all(is_file(run_dir / name) for name in (FACTS, ARRAYS)):
        return None
    try:
        return load(run_dir)
    except InputError:
        notes.append(f"{ARRAYS} could not be read and was left out.")
        return None


def _upscaled(folder: Path) -> list[Upscaled]:
    before = {path.stem: path for path in _png_files(folder / "bicubic")}
    return [Upscaled(path.stem, path, before.get(path.stem)) for path in _png_files(folder)]


def _png_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix.lower() == ".png" and path.is_file())


def _read_lines(path: Path, notes: list[str], needs: str = "step") -> list[dict[str, Any]]:
    """The JSON objects of a file, one a line, that have a step (or what `needs` says); other lines are counted in
    `notes`."""
    rows: list[dict[str, Any]] = []
    skipped = []
    for at, line in enumerate((bytes_if_there(path) or b"").split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:  # JSONDecodeError, and UnicodeDecodeError where the cut went through a character
            row = None
        if isinstance(row, dict) and (number(row.get("step")) is not None if needs == "step" else needs in row):
            rows.append(row)
        else:
            skipped.append(at)
    if skipped:
        where = f"line {skipped[0]}" if len(skipped) == 1 else f"{len(skipped)} lines, the first is line {skipped[0]},"
        notes.append(
            f"{path.name}: {where} could not be read and was skipped (a killed run leaves its last line half-written)."
        )
    return rows


def number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def finite(value: object) -> float | None:
    found = number(value)
    return found if found is not None and math.isfinite(found) else None


def _table(raw: object) -> dict[str, dict[str, float]]:
    table = {}
    for name, row in raw.items() if isinstance(raw, dict) else ():
        scores = {key: finite(row.get(key)) for key in ("psnr", "ssim")} if isinstance(row, dict) else {}
        if scores.get("psnr") is not None:
            table[str(name)] = {key: value for key, value in scores.items() if value is not None}
    return table


def points(rows: Sequence[Mapping[str, Any]], key: str) -> list[Point]:
    pairs = ((number(row["step"]), number(row.get(key))) for row in rows)
    return [(step, value) for step, value in pairs if step is not None and value is not None]


def keys_under(rows: Iterable[Mapping[str, Any]], prefix: str) -> list[str]:
    """Keys under `prefix`, in the order of their first appearance."""
    return list(dict.fromkeys(key for row in rows for key in row if key.startswith(prefix)))
