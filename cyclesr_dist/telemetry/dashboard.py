"""The Grafana dashboard, as a plain dict for its JSON. Every query is made of the definitions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cyclesr_dist.telemetry import definitions as d

_SCHEMA = 39  # Grafana 10.4 and later
_WIDTH, _HEIGHT, _STAT_HEIGHT = 8, 8, 4
_CHOSEN = '{run=~"$run"}'
_WINDOW = "[$__rate_interval]"


@dataclass(frozen=True)
class _Panel:
    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    """Query and legend."""
    description: str = ""
    stat: bool = False
    log: bool = False


def dashboard() -> dict[str, Any]:
    """One dashboard for all runs, with variables for the Prometheus, the run and the rate window."""
    panels: list[dict[str, Any]] = []
    x = y = 0
    for title, row in _ROWS.items():
        panels.append({"type": "row", "title": title, "collapsed": False, "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}})
        x, y, height = 0, y + 1, 0
        for panel in row:
            width, height = (4, _STAT_HEIGHT) if panel.stat else (_WIDTH, _HEIGHT)
            if x + width > 24:
                x, y = 0, y + height
            panels.append(_panel(panel, {"x": x, "y": y, "w": width, "h": height}))
            x += width
        y += height
    for number, panel_json in enumerate(panels, 1):
        panel_json["id"] = number
    return {
        "uid": "cyclesr-training",
        "title": "cyclesr training",
        "tags": ["cyclesr"],
        "schemaVersion": _SCHEMA,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_DATASOURCE, _RUN]},
        "panels": panels,
    }


def queries(of: dict[str, Any] | None = None) -> Iterator[tuple[str, str]]:
    """Title and query of everything that a dashboard shows."""
    for panel in (of or dashboard())["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def resolved(query: str, run: str = ".*", window: str = "1m") -> str:
    """A query with its variables filled in, as Grafana would send it."""
    return query.replace("$run", run).replace("$__rate_interval", window)


def _panel(panel: _Panel, place: dict[str, int]) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    targets = [
        {"refId": chr(ord("A") + i), "datasource": source, "expr": query, "legendFormat": legend}
        for i, (query, legend) in enumerate(panel.queries)
    ]
    defaults: dict[str, Any] = {"unit": panel.unit}
    if panel.log:
        defaults["custom"] = {"scaleDistribution": {"type": "log", "log": 10}}
    return {
        "type": "stat" if panel.stat else "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": source,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {"reduceOptions": {"calcs": ["lastNotNull"]}} if panel.stat else {"tooltip": {"mode": "multi"}},
        "targets": targets,
    }


def _each(metric: d.Definition, *labels: str, function: str = "max") -> tuple[tuple[str, str], ...]:
    """One line for each run and label value, over ranks."""
    legend = " ".join(f"{{{{{label}}}}}" for label in ("run", *labels))
    return ((f"{function} by ({', '.join(('run', *labels))}) ({metric}{_CHOSEN})", legend),)


def _rate(metric: d.Definition, *labels: str, function: str = "sum") -> tuple[tuple[str, str], ...]:
    legend = " ".join(f"{{{{{label}}}}}" for label in ("run", *labels))
    return ((f"{function} by ({', '.join(('run', *labels))}) (rate({metric}{_CHOSEN}{_WINDOW}))", legend),)


def _quantiles(metric: d.Definition) -> tuple[tuple[str, str], ...]:
    of = f"sum by (run, le) (rate({metric.bucket}{_CHOSEN}{_WINDOW}))"
    return tuple((f"histogram_quantile({q}, {of})", f"{{{{run}}}} {name}") for q, name in _QUANTILES)


def _mean(metric: d.Definition) -> tuple[tuple[str, str], ...]:
    """Over all there has been: rare events have no rate."""
    return ((f"sum by (run) ({metric.sum}{_CHOSEN}) / (sum by (run) ({metric.count}{_CHOSEN}) > 0)", "{{run}}"),)


def _terms(title: str, terms: str) -> _Panel:
    query = f'max by (run, term) ({d.LOSS}{{run=~"$run", term=~"{terms}"}})'
    return _Panel(title, "none", ((query, "{{run}} {{term}}"),), "Unweighted, mean over ranks.", log=True)


_QUANTILES = ((0.5, "median"), (0.95, "95 %"))
_WAIT = f"sum by (run) (rate({d.DATA_WAIT_SECONDS.sum}{_CHOSEN}{_WINDOW}))"
_STEP = f"sum by (run) (rate({d.STEP_SECONDS.sum}{_CHOSEN}{_WINDOW}))"

_ROWS = {
    "Now": (
        _Panel("Step", "none", _each(d.STEP), stat=True),
        _Panel(
            "Done",
            "percentunit",
            ((f"max by (run) ({d.STEP}{_CHOSEN}) / max by (run) ({d.STEPS_PLANNED}{_CHOSEN})", "{{run}}"),),
            stat=True,
        ),
        _Panel("Time left", "s", _each(d.REMAINING), stat=True),
        _Panel("Phase", "none", ((f"max by (run, phase) ({d.PHASE}{_CHOSEN}) == 1", "{{run}} {{phase}}"),), stat=True),
        _Panel(
            "Ranks seen of all",
            "percentunit",
            ((f"count by (run) ({d.WORLD_SIZE}{_CHOSEN}) / max by (run) ({d.WORLD_SIZE}{_CHOSEN})", "{{run}}"),),
            stat=True,
        ),
        _Panel(
            "Age of the checkpoint",
            "s",
            ((f"time() - max by (run) ({d.LAST_CHECKPOINT}{_CHOSEN})", "{{run}}"),),
            stat=True,
        ),
    ),
    "Scores": (
        _Panel(
            "PSNR on real LR",
            "dB",
            ((f'max by (run) ({d.VALIDATION}{{run=~"$run", score="psnr"}})', "{{run}}"),),
        ),
        _Panel(
            "Other scores",
            "none",
            ((f'max by (run, score) ({d.VALIDATION}{{run=~"$run", score!~"psnr.*"}})', "{{run}} {{score}}"),),
        ),
        _Panel(
            "Drift of the translator",
            "none",
            _each(d.DRIFT, "kind"),
            "What g_s2r changes, in [0, 1]. A mean away from zero is a shift of brightness, colour one of a hue.",
        ),
    ),
    "Losses": (
        _terms("Translator terms, equation (2)", "adv_.*|cyc_.*|id_.*|spectrum"),
        _terms("SR terms, equation (4)", "mse|mse_estimated|l1|advsr|percep|texture"),
        _terms("Discriminators", "d_.*"),
    ),
    "Gradients": (
        _Panel("Norm by player, before clipping", "none", _each(d.GRAD_NORM, "player"), log=True),
        _Panel("Norm by network, before clipping", "none", _each(d.NETWORK_GRAD_NORM, "network"), log=True),
        _Panel(
            "Clipped steps",
            "percentunit",
            (
                (
                    f"max by (run, player) (rate({d.CLIPPED}{_CHOSEN}{_WINDOW})) / on (run) group_left () "
                    f"(max by (run) (rate({d.STEPS}{_CHOSEN}{_WINDOW})) > 0)",
                    "{{run}} {{player}}",
                ),
            ),
        ),
        _Panel("Learning rate", "none", _each(d.LEARNING_RATE, "group")),
        _Panel("Loss scale", "none", _each(d.LOSS_SCALE, "player"), "1 without fp16."),
        _Panel("Steps without an update", "none", _each(d.SKIPPED, "reason"), "Since the process started."),
    ),
    "Speed": (
        _Panel("Patches a second", "none", _each(d.THROUGHPUT)),
        _Panel("Step", "s", _quantiles(d.STEP_SECONDS), "Without the wait for its batch."),
        _Panel("Wait for a batch", "s", _quantiles(d.DATA_WAIT_SECONDS)),
        _Panel(
            "Share of the time that waits for batches",
            "percentunit",
            ((f"{_WAIT} / ({_WAIT} + {_STEP} > 0)", "{{run}}"),),
        ),
        _Panel(
            "Stragglers: forward passes of each rank",
            "s",
            (
                (
                    f"rate({d.FORWARD_SECONDS}{_CHOSEN}{_WINDOW}) / (rate({d.STEPS}{_CHOSEN}{_WINDOW}) > 0)",
                    "{{run}} {{rank}}",
                ),
            ),
            "Seconds a step. No rank waits for another in them, so a slow one stands out, as it does not in steps.",
        ),
        _Panel(
            "Stragglers: wait of each rank for its batch",
            "s",
            (
                (
                    f"rate({d.DATA_WAIT_SECONDS.sum}{_CHOSEN}{_WINDOW})"
                    f" / (rate({d.DATA_WAIT_SECONDS.count}{_CHOSEN}{_WINDOW}) > 0)",
                    "{{run}} {{rank}}",
                ),
            ),
            "Seconds a step.",
        ),
        _Panel("Model FLOPs a second", "flops", _each(d.MODEL_FLOPS), "All ranks; counted on a step."),
        _Panel("FLOPs of a rank's step", "none", _each(d.STEP_FLOPS)),
        _Panel("MFU", "percentunit", _each(d.MFU), "Share of what the devices can do, measured when the run started."),
        _Panel("Validation", "s", _mean(d.VALIDATION_SECONDS), "Mean; training waits for it."),
    ),
    "Machines and data": (
        _Panel("Memory, largest rank", "bytes", _each(d.MEMORY, "kind")),
        _Panel("Patches by domain", "none", _rate(d.PATCHES, "domain"), "A second, all ranks."),
        _Panel("Photographs seen by the best rank", "none", _each(d.PHOTOGRAPHS, "domain")),
        _Panel("Corrupt samples", "none", _each(d.CORRUPT_SAMPLES)),
        _Panel("Checkpoint: copy, for which training waits", "s", _mean(d.CHECKPOINT_COPY_SECONDS)),
        _Panel("Checkpoint: written beside training", "s", _mean(d.CHECKPOINT_SECONDS)),
        _Panel("Restarts", "none", _each(d.RESTARTS)),
        _Panel("Gone back to a checkpoint", "none", _each(d.ROLLBACKS)),
        _Panel("Epoch", "none", _each(d.EPOCH)),
        _Panel("Versions", "none", _each(d.BUILD_INFO, *d.BUILD_INFO.labels)),
        _Panel("Settings", "none", _each(d.RUN_INFO, *d.RUN_INFO.labels)),
    ),
}

_DATASOURCE = {"type": "datasource", "name": "datasource", "label": "Prometheus", "query": "prometheus"}
_RUN = {
    "type": "query",
    "name": "run",
    "label": "Run",
    "datasource": {"type": "prometheus", "uid": "${datasource}"},
    "definition": f"label_values({d.WORLD_SIZE}, run)",
    "query": {"query": f"label_values({d.WORLD_SIZE}, run)", "refId": "run"},
    "refresh": 2,
    "multi": True,
    "includeAll": True,
    "allValue": ".*",
    "current": {"text": "All", "value": "$__all"},
}
