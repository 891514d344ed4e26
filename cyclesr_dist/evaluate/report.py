"""`report.html`: what a run did, or has done so far, on one self-contained page (no network; one script, for sliders).

The page is made from the run folder's files alone, and is the same whenever it is made. A file that is missing costs
its section; of a file of JSON lines that a killed run left half-written, the whole lines are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path

from cyclesr_dist.evaluate import run_charts, run_history
from cyclesr_dist.evaluate.album import SLIDER_SCRIPT, Album
from cyclesr_dist.evaluate.page import duration, page, paragraph, save_page, section, signed, table
from cyclesr_dist.evaluate.paper import differences
from cyclesr_dist.evaluate.run_charts import best, section_of
from cyclesr_dist.evaluate.run_files import RunFiles, check_run_folder, finite, read_run

MAX_PICTURES = 12
"""Comparison pictures embedded; the rest stay in the folder."""

_PICTURE_BYTES = 6_500_000
"""Of all pictures as base64: the page stays below 8 MB."""

_ROWS = {
    "bicubic": "enlargement without training",
    "sr_syn": "trained on bicubic pairs",
    "sr_paired": "supervised reference: trained on real pairs",
    "estimated": "trained on the measured degradation",
    "cyclegan": "CycleGAN at HR size",
    "cycle_sr_separate": "CycleGAN first, then SR",
    "cyclesr": "joint, MSE",
    "cyclesrgan": "joint, MSE, perceptual and adversarial",
}
_NONE = "\u2013"
_PAIRED = "sr_paired"
"""The one row that sees real pairs: a yardstick, so it does not take part in the contest."""


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
    album = Album(_PICTURE_BYTES)
    pictures, figure_3 = _pictures(run, album), _figure_3(run, album)
    sections = [
        _headline(run),
        *([section("Scores", scores, "")] if (scores := _table_section(run)) else []),  # of `make demo` alone
        section("Pictures", pictures + _notes(album), "This run has no pictures."),
        section("Validation", run_charts.validation(run), "This run has no validation scores."),
        section("Losses", run_charts.losses(run), "This run has no logged losses."),
        section(
            "The translator", _measured(run) + figure_3 + run_charts.drift(run), "This run has no drift diagnostics."
        ),
        section("Gradients", run_charts.gradients(run), "This run has no logged gradient norms."),
        section("Speed", run_charts.speed(run), "This run has no logged throughput."),
        section("Faults and restarts", run_history.history(run), "This run has no events.jsonl."),
        section("Environment", run_history.environment(run), "This run has not noted its environment."),
        section("Configuration", _config(run), "This run has no config.yaml."),
    ]
    return page(f"{run.name} · cyclesr report", sections, SLIDER_SCRIPT)


def _measured(run: RunFiles) -> str:
    return "".join(paragraph(f"Measured: {text}" if i == 0 else text) for i, text in enumerate(run.measured))


def _headline(run: RunFiles) -> str:
    labels = {"system": "system ", "track": "track ", "scale": "x", "seed": "seed "}
    facts = [f"{label}{run.config[key]}" for key, label in labels.items() if key in run.config]
    body = [f"<h1>{escape(run.name)}</h1>", paragraph(" · ".join(facts) or "System unknown: no config.yaml.", "facts")]
    chosen = best(run)
    if chosen is not None:
        step, psnr = chosen
        where = f"<span>best validation PSNR, at step {step:,.0f}</span>"
        body.append(f'<p class="score"><strong>{psnr:.2f}</strong> dB {where}</p>')
    if standing := run_history.state(run) or _finished(run):
        body.append(paragraph(standing, "failed" if run_history.has_failed(run) else "lead"))
    verdict = run.summary.get("verdict")
    lead = (str(verdict) if verdict else "", _contest(run))
    body += [paragraph(text, "lead") for text in lead if text]
    if section_of(run, "perceptual").get("source") == "random" and run.config.get("system") == "cyclesrgan":
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
    if not run.summary.get("completed") or steps is None or seconds is None or ranks is None:
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


# Table 1


def _winner(table: Mapping[str, Mapping[str, float]], key: str = "psnr") -> str | None:
    """The row with the highest score among those that need no real pairs."""
    rows = [name for name, row in table.items() if name != _PAIRED and key in row]
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
    text = f"Of the rows that need no real pairs, {text}" if _PAIRED in table else text
    text += f": {' and '.join(margins)}." if margins else "."
    if system in table and system not in (winner, _PAIRED):
        psnr = table[system]["psnr"]
        text += f" The system of this run, {system}, reaches {psnr:.2f} dB ({signed(psnr - best)} dB)."
    if _PAIRED in table:
        psnr = table[_PAIRED]["psnr"]
        text += f" The supervised reference, {_PAIRED}, reaches {psnr:.2f} dB ({signed(psnr - best)} dB)."
    return text


def _table_section(run: RunFiles) -> str:
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


def _pictures(run: RunFiles, album: Album) -> str:
    """A slider for each validation photograph, then the strips of `comparisons`."""
    parts = [_photograph(run, album, name.removesuffix(".lr")) for name in run.pictures if name.endswith(".lr")]
    sliders = "\n".join(part for part in parts if part)
    strips = [album.figure(path, path.stem, f"Comparison of {path.stem}") for path in run.comparisons[:MAX_PICTURES]]
    rest = len(run.comparisons) - MAX_PICTURES
    if rest > 0:
        strips.append(paragraph(f"{rest} more are in the folder comparisons.", "quiet"))
    return (f'<div class="pictures">{sliders}</div>\n' if sliders else "") + "\n".join(s for s in strips if s)


def _photograph(run: RunFiles, album: Album, stem: str) -> str:
    found = {name: run.pictures.get(f"{stem}.{name}") for name in ("bicubic", "best", "last", "first", "hr")}
    when = "best" if found["best"] else "last"
    bicubic, chosen, first, hr = found["bicubic"], found[when], found["first"], found["hr"]
    if bicubic is None or chosen is None:
        return ""
    parts = [album.before_after(("bicubic", bicubic), (f"g_l2h, {when} validation", chosen), f"{stem}, centre")]
    later = [(w, path) for w in (when, "last") if (path := found[w]) and first and not _same(first, path)]
    if first is not None and later:  # the first validation may have been the best, or the only one
        until, changed = later[0]
        pair = (("first validation", first), (f"{until} validation", changed))
        parts.append(album.before_after(*pair, f"{stem}, what training changed"))
    if hr is not None:
        pair = ((f"g_l2h, {when} validation", chosen), ("original", hr))
        parts.append(album.before_after(*pair, f"{stem}, against the original"))
    return "\n".join(parts)


def _same(one: Path, other: Path) -> bool:
    try:
        return one.read_bytes() == other.read_bytes()
    except OSError:  # the album says so
        return False


def _figure_3(run: RunFiles, album: Album) -> str:
    """syn, fake_real and fake_real in syn's colours, at the first, the best and the last validation; once where they
    are the same one."""
    found: dict[str, list[str]] = {}
    for when in ("first", "best", "last"):
        path = run.pictures.get(f"figure3.{when}")
        if path is not None:
            found.setdefault(next((str(p) for p in map(Path, found) if _same(p, path)), str(path)), []).append(when)
    named = [(Path(path), f"{' and '.join(whens)} validation") for path, whens in found.items()]
    figures = [album.whole(path, name, f"syn, fake_real, renormalised, at the {name}") for path, name in named]
    text = (
        "As in the paper's Figure 3: synthetic LR, what g_s2r makes of it, and that with the mean and variance of the "
        "synthetic LR, so that only the degradation is left."
    )
    return f'{paragraph(text)}<div class="strips">{"".join(figures)}</div>\n' if any(figures) else ""


def _notes(album: Album) -> str:
    return "".join(paragraph(note, "quiet") for note in album.notes())


def _config(run: RunFiles) -> str:
    if not run.config_text:
        return ""
    rows = [list(row) for row in differences(run.config)]
    whole = f"<details><summary>config.yaml, resolved</summary>\n<pre>{escape(run.config_text)}</pre></details>"
    if not rows:
        return paragraph("In everything that concerns the method, the paper's.") + whole
    title = paragraph("Where the method differs from the paper's configuration for this track:")
    return title + table(["key", "this run", "paper"], rows, texts=(0, 1, 2)) + whole
