"""Faults, restarts and the machine of a run, from events.jsonl and bad_steps.jsonl."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cyclesr_dist.reports.page import paragraph, table
from cyclesr_dist.reports.run_files import RunFiles, finite

MAX_ROWS = 50
_SAID = {
    "started": "started",
    "finished": "finished",
    "stopped": "stopped, saved",
    "failed": "failed",
    "rolled_back": "went back",
    "changed": "went on with changes",
    "began_from": "began with networks",
}


def state(run: RunFiles) -> str:
    """In a sentence, how the run stands; empty where events.jsonl does not tell."""
    if not run.events:
        return ""
    last = run.events[-1]
    step = reached(run)
    match last.get("event"):
        case "finished":
            return ""
        case "stopped":
            return f"Stopped: {last.get('reason')}"
        case "failed":
            where = f"at {step}" if step else "before the first logged step"
            return f"Failed {where}: {last.get('reason')}"
    return f"Still going, or killed without a word; last logged: {step or 'no step yet'}."


def reached(run: RunFiles) -> str:
    """`step 590 of 600`, without the end where it is not known; empty where no step is logged."""
    if not run.metrics:
        return ""
    starts = [event for event in run.events if event.get("event") == "started"]
    of = finite(starts[-1].get("num_steps")) if starts else None
    return f"step {run.metrics[-1]['step']:,.0f}" + (f" of {of:,.0f}" if of is not None else "")


def origin(run: RunFiles) -> str:
    """What its networks began with, in a sentence; empty where it was chance."""
    found = [str(event.get("text")) for event in run.events if event.get("event") == "began_from"]
    return f"Began with {found[-1]}." if found else ""


def has_failed(run: RunFiles) -> bool:
    return bool(run.events) and run.events[-1].get("event") == "failed"


def history(run: RunFiles) -> str:
    """Starts, ends, steps that were left out."""
    parts = []
    starts = sum(event.get("event") == "started" for event in run.events)
    if starts:
        again = f"Restarted {starts - 1} times." if starts != 2 else "Restarted once."
        parts.append(paragraph("Started once." if starts == 1 else again))
        rows = [_row(event, before) for before, event in zip([{}, *run.events], run.events, strict=False)]
        parts.append(table(["when (UTC)", "what", "at step", ""], rows[-MAX_ROWS:], texts=(0, 1, 3)))
    if run.bad_steps:
        rows = [[f"{b['step']:,.0f}", _norms(b), _samples(b)] for b in run.bad_steps]
        parts.append(paragraph(f"Steps left out for gradients that are not finite: {len(rows)}."))
        parts.append(table(["step", "gradient norms", "HR samples"], rows[-MAX_ROWS:], texts=(0, 1, 2)))
    return "\n".join(parts)


def environment(run: RunFiles) -> str:
    """Of the last start."""
    found = next((event for event in reversed(run.events) if isinstance(event.get("environment"), dict)), None)
    if found is None:
        return ""
    about: Mapping[str, Any] = found["environment"]
    versions = about.get("versions")
    rows = [["ranks", str(found.get("num_ranks"))]]
    rows += [[key, str(value)] for key, value in about.items() if key != "versions"]
    rows += [[name, str(value)] for name, value in versions.items()] if isinstance(versions, dict) else []
    return table(["main rank", ""], rows, texts=(0, 1))


def _row(event: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    at, step = finite(event.get("at")), finite(event.get("step"))
    name = str(event.get("event"))
    detail = str(event.get("reason") or event.get("text") or "")
    if name == "started":
        ranks = event.get("num_ranks")
        detail = "1 rank" if ranks == 1 else f"{ranks} ranks"
        if before.get("event") in ("started", "began_from", "changed", "rolled_back"):
            detail += "; the start before ended without a word"
    if name == "changed" and isinstance(changes := event.get("changes"), dict):
        detail = ", ".join(_change(key, values) for key, values in changes.items())
    return [
        datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S") if at is not None else "",
        _SAID.get(name, name),
        f"{step:,.0f}" if step is not None else "",
        detail,
    ]


def _change(key: str, values: object) -> str:
    return f"{key} {values[0]} -> {values[1]}" if isinstance(values, list) and len(values) == 2 else key


def _norms(bad: Mapping[str, Any]) -> str:
    norms = bad.get("grad_norm")
    return ", ".join(f"{name} {value}" for name, value in norms.items()) if isinstance(norms, dict) else ""


def _samples(bad: Mapping[str, Any]) -> str:
    ranks = bad.get("ranks")
    keys = [str(key) for rank in ranks for key in rank.get("hr", ())] if isinstance(ranks, list) else []
    return ", ".join(keys[:4]) + (f" and {len(keys) - 4} more" if len(keys) > 4 else "")
