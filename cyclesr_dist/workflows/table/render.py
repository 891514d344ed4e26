"""`table.md` and `table.html` from the content of `table.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from cyclesr_dist.config.metrics import METRICS
from cyclesr_dist.reports.album import Album
from cyclesr_dist.reports.curves import line_chart
from cyclesr_dist.reports.page import Html, details, folded, page, paragraph, section, signed, table
from cyclesr_dist.workflows.table.results import best

_NONE = "\u2013"
_DISTORTION = "RMSE in 0..255, of the mean PSNR"
_CONTEST = ("bicubic", "sr_syn")
_SCORES = ("system", "PSNR, dB", "to bicubic", "SSIM", "luma, dB")
_REST = ("gap closed", "in luma", "seconds", "peak MiB")
_EXPLAINED = (
    "Bold: the best, underlined: the second best of the systems that need no real pairs; sr_paired is the reference "
    "that needs them. PSNR and SSIM are means over seeds ± their standard deviation. Gap closed: how much of the way "
    "from sr_syn to sr_paired, in RGB and in luma. Seconds and peak memory are of one training run."
)


def markdown(content: Mapping[str, Any], images: str = "") -> str:
    """The tables and charts alone, for a document; `images` stands before the names of the charts' files."""
    parts = []
    for track, rows in content["tracks"].items():
        parts.append(f"### {track}")
        parts.append(_markdown_table(_head(content), _rows(rows, _perceptual(content), "**{}**", "<u>{}</u>")))
        if track in planes(content):
            parts.append(f"![{_plane_title(content, track)}]({images}{plane_file(track)})")
    parts.append(_explained(content))
    for part in _parts(content):
        if part.rows:
            parts += [f"### {part.title}", *filter(None, [part.text]), _markdown_table(part.head, part.rows)]
    return "\n\n".join(parts) + "\n"


def html(content: Mapping[str, Any], title: str, pictures: Mapping[str, Sequence[Path]]) -> str:
    """A self-contained page. `pictures` are PNG files of comparison strips, by track."""
    album = Album()
    facts = (
        f"scores on test photographs · protocol {content['protocol']} · seeds {', '.join(map(str, content['seeds']))}"
    )
    runs = content["runs"]
    head = [f"<h1>{escape(title)}</h1>", paragraph(facts, "facts")]
    head += [paragraph(f"Track {track}: {_won(rows)}", "lead") for track, rows in content["tracks"].items()]
    if runs["done"] < runs["of"]:
        head.append(paragraph(f"{runs['done']} of {runs['of']} runs are done; the others are missing here.", "warning"))
    sections = ["<header>\n" + "\n".join(head) + "\n</header>"]
    for track, rows in content["tracks"].items():
        cells = _rows(rows, _perceptual(content), "<strong>{}</strong>", "<u>{}</u>")
        body = _html_table(_head(content), cells) + paragraph(_explained(content), "quiet")
        body += planes(content).get(track, "")
        body += "\n".join(
            album.strip(path, path.stem, f"Comparison of {path.stem}") for path in pictures.get(track, ())
        )
        said = [
            paragraph(f"{name}: {text}", "warning") for name, row in rows.items() for text in row.get("warnings", [])
        ]
        body += details(f"Warnings of the runs ({len(said)})", "".join(said))
        sections.append(section(f"Track {escape(track)}", body, ""))
    sections.append("".join(paragraph(note, "quiet") for note in album.notes()))
    for part in _parts(content):
        text = paragraph(part.text) if part.text else ""
        sections.append(folded(part.title, text + _html_table(part.head, part.rows) if part.rows else "", part.without))
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    sections.append(paragraph(f"Made with {versions}.", "quiet"))
    return page(title, sections)


def _won(rows: Mapping[str, Any]) -> str:
    """In plain words, which system is the best without pairs, and by how much."""
    means = {name: row["psnr"]["mean"] for name, row in rows.items() if "psnr" in row and name != "sr_paired"}
    if not means:
        return "none of the systems that need no real pairs has been scored."
    own = max(means.values())
    first = [name for name, mean in means.items() if f"{mean:.3f}" == f"{own:.3f}"]
    others = [name for name in _CONTEST if name in means and name not in first]
    margins = [f"{signed(own - means[name])} dB to {name}" for name in others]
    than = f": {', '.join(margins)}" if margins else ""
    verb = "is" if len(first) == 1 else "are"
    return f"{' and '.join(first)} {verb} the best without real pairs, {own:.2f} dB{than}."


def planes(content: Mapping[str, Any]) -> dict[str, str]:
    """SVG charts by track, of the tracks that have two systems or more with a perceptual score: distortion to the
    right, the first perceptual score upwards (the plane of Blau and Michaeli 2018). A system's points are its seeds."""
    charts = {}
    for name in _perceptual(content)[:1]:
        for track, rows in content["tracks"].items():
            points = {system: found for system, row in rows.items() if (found := _points(row, name))}
            if len(points) > 1:
                title = _plane_title(content, track)
                charts[track] = line_chart(
                    title, points, _DISTORTION, f"{METRICS[name].title}, lower is better", dots=True
                )
    return charts


def plane_file(track: str) -> str:
    return f"plane-{track}.svg"


def _plane_title(content: Mapping[str, Any], track: str) -> str:
    return f"{METRICS[_perceptual(content)[0]].title} against distortion, track {track}"


def _points(row: Mapping[str, Any], name: str) -> list[tuple[float, float]]:
    means = row.get("seeds") or {"": {key: row[key]["mean"] for key in ("psnr", name) if key in row}}
    having = (scores for scores in means.values() if "psnr" in scores and name in scores)
    return [(255 / 10 ** (scores["psnr"] / 20), scores[name]) for scores in having]


def _perceptual(content: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(content.get("scores", ()))


def _head(content: Mapping[str, Any]) -> tuple[str, ...]:
    return (*_SCORES, *(METRICS[name].title for name in _perceptual(content)), *_REST)


def _explained(content: Mapping[str, Any]) -> str:
    lower = [METRICS[name].title for name in _perceptual(content)]
    return _EXPLAINED + (f" {', '.join(lower)}: lower is better." if lower else "")


def _rows(rows: Mapping[str, Any], perceptual: Sequence[str], bold: str, second: str) -> list[tuple[str, list[str]]]:
    marks = {key: best(dict(rows), key) for key in ("psnr", "ssim", *perceptual)}
    lines = []
    for system, row in rows.items():

        def cell(key: str, decimals: int, system: str = system, row: Mapping[str, Any] = row) -> str:
            stat = row.get(key)
            if not stat:
                return _NONE
            text = f"{stat['mean']:.{decimals}f}" + (f" ± {stat['std']:.{decimals}f}" if stat["n"] > 1 else "")
            if system in marks[key][:1]:
                return bold.format(text)
            return second.format(text) if system in marks[key][1:] else text

        delta = row.get("to_bicubic")
        luma = row.get("psnr_y")
        lines.append(
            (
                system,
                [
                    cell("psnr", 3),
                    signed(delta, 3) if delta is not None and system != "bicubic" else _NONE,
                    cell("ssim", 4),
                    f"{luma['mean']:.3f}" if luma else _NONE,
                    *(cell(name, 4) for name in perceptual),
                    *(_share(system, row.get(name)) for name in ("gap_closed", "gap_closed_y")),
                    f"{row['train_seconds']:.0f}" if "train_seconds" in row else _NONE,
                    f"{row['peak_memory_mb']:.0f}" if "peak_memory_mb" in row else _NONE,
                ],
            )
        )
    return lines


def _share(system: str, gap: float | None) -> str:
    ends = ("bicubic", "sr_syn", "sr_paired")
    return f"{100 * gap:.0f}%" if gap is not None and system not in ends else _NONE


_NAMES = ("system", "track", "way", "score")
_CORRELATIONS = "Spearman's rank correlation with PSNR, 1 being perfect."
_INFERENCE_HEAD = ("system", "networks", "parameters", "seconds a photograph", "peak MiB")
_STAGES_HEAD = ("track", "way", "PSNR, dB", "seconds a photograph", "peak MiB")
_CORRELATIONS_HEAD = ("track", "score", "over checkpoints", "over runs", "lost by choosing with it, dB", "runs")


@dataclass(frozen=True)
class _Part:
    """A table behind those of the tracks."""

    title: str
    head: Sequence[str]
    rows: Sequence[tuple[str, list[str]]]
    without: str
    """What the page says where there are no rows."""
    text: str = ""


def _parts(content: Mapping[str, Any]) -> tuple[_Part, ...]:
    inference, stages, found = (content.get(name, {}) for name in ("inference", "stages", "correlations"))
    return (
        _Part("At inference", _INFERENCE_HEAD, _inference_rows(inference), "Not measured."),
        _Part("One stage or two", _STAGES_HEAD, _stages_rows(stages), "Not measured."),
        _Part("Scores without pairs", _CORRELATIONS_HEAD, _correlations_rows(found), "None.", _CORRELATIONS),
    )


def _inference_rows(costs: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    return [
        (system, [f"{c['networks']}", f"{c['parameters']:,}", f"{c['seconds']:.3f}", f"{c['peak_memory_mb']:.0f}"])
        for system, c in costs.items()
    ]


def _stages_rows(stages: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    names = {"one_stage": "one stage: g_l2h", "two_stages": "two: g_r2s, then sr_syn"}
    return [
        (track, [names[way], f"{m['psnr']:.3f}", f"{m['seconds']:.3f}", f"{m['peak_memory_mb']:.0f}"])
        for track, ways in stages.items()
        for way, m in ways.items()
    ]


def _correlations_rows(found: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    def number(values: Mapping[str, float], key: str) -> str:
        return f"{values[key]:.2f}" if key in values else _NONE

    return [
        (track, [score, *(number(v, key) for key in ("checkpoints", "runs", "loss_db")), f"{v['num_runs']:.0f}"])
        for track, scores in found.items()
        for score, v in scores.items()
    ]


def _markdown_table(head: Sequence[str], rows: Sequence[tuple[str, list[str]]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join(lines + ["| " + " | ".join((first, *rest)) + " |" for first, rest in rows])


def _html_table(head: Sequence[str], rows: Sequence[tuple[str, list[str]]]) -> str:
    """Cells are HTML already; they hold numbers and names of ours alone. Columns of names are flush left."""
    texts = [i for i, name in enumerate(head) if name in _NAMES]
    return table(head, [[Html(cell) for cell in (first, *rest)] for first, rest in rows], texts)
