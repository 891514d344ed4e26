"""`report.html`: what a run did, or has done so far, on one self-contained page (no network; one script, for sliders).

The page is made from the run folder's files alone, and is the same whenever it is made. A file that is missing costs
its section; of a file of JSON lines that a killed run left half-written, the whole lines are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path

from cyclesr_dist.config.systems import SYSTEMS
from cyclesr_dist.reports import run_charts, run_history
from cyclesr_dist.reports.album import SLIDER_SCRIPT, Album
from cyclesr_dist.reports.own_photos import own_photographs
from cyclesr_dist.reports.page import Html, duration, folded, page, paragraph, save_page, section, signed, table
from cyclesr_dist.reports.paper import differences, in_paper
from cyclesr_dist.reports.run_charts import section_of
from cyclesr_dist.reports.run_files import RunFiles, check_run_folder, finite, read_run
from cyclesr_dist.reports.run_pictures import MAX_PICTURES, imitation, pictures, why_none
from cyclesr_dist.reports.run_verdict import PAIRED, score, verdict

__all__ = ["MAX_PICTURES", "write_report"]

_ROWS = {"bicubic": "enlargement without training"} | {name: spec.title for name, spec in SYSTEMS.items()}
_NONE = "\u2013"


def write_report(run_dir: Path) -> Path:
    """Write `report.html` into the run folder from what is there, atomically, and return its path.

    Raises InputError when `run_dir` is not a run folder or cannot be written to, or when its config or summary cannot
    be parsed.
    """
    check_run_folder(run_dir)
    target = run_dir / "report.html"
    save_page(target, _page(read_run(run_dir)))
    return target


# The page


def _page(run: RunFiles) -> str:
    album = Album()
    # What matters most is embedded first: the album has room for so much.
    own, imitated, drawn = own_photographs(run, album), imitation(run, album), pictures(run, album)
    sections = [
        _headline(run),
        *([section("Scores on the test photographs", scores, "")] if (scores := _table_section(run)) else []),
        *([section("Your photographs", own, "")] if own else []),
        section("Pictures", drawn + _notes(album), why_none(run)) if drawn or not own else _notes(album),
        section("How LR photographs are imitated", imitated, "This system does not imitate LR photographs."),
        section("Validation", run_charts.validation(run), "This run has no validation scores."),
        folded("Losses", run_charts.losses(run), "This run has no logged losses."),
        folded("What the translator adds", run_charts.drift(run), "This run has no drift diagnostics."),
        folded("Gradients", run_charts.gradients(run), "This run has no logged gradient norms."),
        folded("Speed", run_charts.speed(run), "This run has no logged throughput."),
        folded("Faults and restarts", run_history.history(run), "This run has no events.jsonl."),
        folded("Environment", run_history.environment(run), "This run has not noted its environment."),
        folded("Configuration", _config(run), "This run has no config.yaml."),
    ]
    return page(f"{run.name} · cyclesr report", [part for part in sections if part], SLIDER_SCRIPT)


def _headline(run: RunFiles) -> str:
    labels = {"system": "system ", "scale": "x", "seed": "seed "}
    facts = {key: f"{label}{run.config[key]}" for key, label in labels.items() if key in run.config}
    if run.track:
        facts = {"system": facts.get("system", ""), "track": f"track {run.track}"} | facts
    words = " · ".join(filter(None, facts.values())) or "System unknown: no config.yaml."
    body = [f"<h1>{escape(run.name)}</h1>", paragraph(words, "facts"), verdict(run), score(run)]
    body.append(paragraph(finished, "lead") if (finished := _finished(run)) else "")
    body.append(paragraph(began) if (began := run_history.origin(run)) else "")
    spec = SYSTEMS.get(str(run.config.get("system")))
    if spec and spec.perceptual and section_of(run, "perceptual").get("source") == "random":
        text = (
            "The perceptual loss of this run used random VGG features, not trained ones (perceptual.source: random). "
        )
        body.append(paragraph(text + "Its scores cannot be compared with those of the paper.", "warning"))
    warnings = run.summary.get("warnings")
    body += [paragraph(str(text), "warning") for text in warnings] if isinstance(warnings, list) else []
    body.append(_small_print(run))
    return "<header>\n" + "\n".join(part for part in body if part) + "\n</header>"


def _finished(run: RunFiles) -> str:
    """What it took; empty where the summary does not tell."""
    steps, seconds, ranks = (finite(run.summary.get(key)) for key in ("steps", "train_seconds", "num_ranks"))
    if run_history.state(run) or not run.summary.get("completed") or steps is None or seconds is None or ranks is None:
        return ""
    return f"Finished: {steps:,.0f} steps in {duration(seconds)} on {ranks:.0f} {'rank' if ranks == 1 else 'ranks'}."


def _small_print(run: RunFiles) -> str:
    lines = []
    seconds = finite(run.summary.get("wall_seconds"))
    if seconds is not None:
        lines.append(f"Took {duration(seconds)}.")
    versions = run.summary.get("versions")
    if isinstance(versions, dict) and versions:
        lines.append("Made with " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".")
    noted = run.summary.get("notes")
    lines += [str(note) for note in noted] if isinstance(noted, list) else []
    lines += run.notes
    return '<ul class="quiet">' + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>" if lines else ""


# Scores


def _winner(table: Mapping[str, Mapping[str, float]], key: str = "psnr") -> str | None:
    """The row with the highest score among those that need no real pairs."""
    rows = [name for name, row in table.items() if name != PAIRED and key in row]
    return max(rows, key=lambda name: table[name][key], default=None)


def _contest(run: RunFiles) -> str:
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
    text = f"Of the rows that need no real pairs, {text}" if PAIRED in table else text
    text += f": {' and '.join(margins)}." if margins else "."
    if system in table and system not in (winner, PAIRED):
        psnr = table[system]["psnr"]
        text += f" The system of this run, {system}, reaches {psnr:.2f} dB ({signed(psnr - best)} dB)."
    if PAIRED in table:
        psnr = table[PAIRED]["psnr"]
        text += f" The supervised reference, {PAIRED}, reaches {psnr:.2f} dB ({signed(psnr - best)} dB)."
    return text


def _table_section(run: RunFiles) -> str:
    scores = run.table
    if not scores:
        return ""
    best = {key: _winner(scores, key) for key in ("psnr", "ssim")}
    base = scores.get("bicubic", {})
    rows = []
    for name, row in scores.items():
        cells: list[str] = [Html(f"{escape(name)}<small>{escape(_ROWS[name])}</small>") if name in _ROWS else name]
        for key, decimals in (("psnr", 2), ("ssim", 4)):
            text = f"{row[key]:.{decimals}f}" if key in row else _NONE
            cells.append(Html(f"<strong>{text}</strong>") if best[key] == name else text)
            has_delta = key in row and key in base and name != "bicubic"
            cells.append(signed(row[key] - base[key], decimals) if has_delta else _NONE)
        rows.append(cells)
    reference = f" {PAIRED} is trained on real pairs and does not compete." if PAIRED in scores else ""
    return (
        paragraph(_contest(run))
        + table(["", "PSNR, dB", "to bicubic", "SSIM", "to bicubic"], rows, texts=())
        + paragraph(f"Means over the test photographs. Bold: the best.{reference}", "quiet")
    )


# The rest


def _notes(album: Album) -> str:
    return "".join(paragraph(note, "quiet") for note in album.notes())


def _config(run: RunFiles) -> str:
    if not run.config_text:
        return ""
    whole = f"<details><summary>config.yaml, resolved</summary>\n<pre>{escape(run.config_text)}</pre></details>"
    if not in_paper(run.track):
        return paragraph(_not_compared(run)) + whole
    rows = [list(row) for row in differences({**run.config, "track": run.track})]
    if not rows:
        return paragraph("In everything that concerns the method, the paper's.") + whole
    title = paragraph("Where the method differs from the paper's configuration for this track:")
    return title + table(["key", "this run", "paper"], rows, texts=(0, 1, 2)) + whole


def _not_compared(run: RunFiles) -> str:
    if run.track:
        text = f"The track {run.track} is not in the paper, so there is no configuration of the paper to compare with."
    else:
        text = "The paper has configurations for its own tracks alone, and this run is not known to be on one of them."
    return text
