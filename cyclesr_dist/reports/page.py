"""What every HTML page of the project is made of: one self-contained file without outside references.

There is no script but the one that `page` is given, which the page's own policy names by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from cyclesr_dist.runtime.files import write_bytes
from cyclesr_dist.runtime.passing import unwritable


def page(title: str, sections: Sequence[str], script: str = "") -> str:
    """A whole document. `sections` are HTML already, `title` is text, `script` is JavaScript."""
    # The policy makes the promise of the first docstring binding: a browser refuses whatever is not in this file.
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    tail = ""
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        policy += f"; script-src 'sha256-{digest}'"
        tail = f"<script>{script}</script>\n"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(sections)
        + f"\n</main>\n{tail}</body>\n</html>\n"
    )


def save_page(path: Path, text: str) -> None:
    """Whole or not at all. Raises InputError."""
    try:
        write_bytes(path, text.encode(errors="replace"))  # JSON can hold half a surrogate pair, which UTF-8 cannot
    except OSError as error:
        raise unwritable(path, error) from error


def section(title: str, body: str, when_empty: str) -> str:
    """A section with a heading; `body` is HTML already."""
    return f"<section>\n<h2>{title}</h2>\n{body or paragraph(when_empty, 'quiet')}\n</section>"


def folded(title: str, body: str, when_empty: str) -> str:
    """A section that a reader unfolds by its heading; `body` is HTML already."""
    inner = body or paragraph(when_empty, "quiet")
    return f"<details><summary><h2>{title}</h2></summary>\n{inner}\n</details>"


def paragraph(text: str, kind: str = "") -> str:
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def details(summary: str, body: str) -> str:
    """What a reader unfolds on demand; `body` is HTML already. Empty where it is."""
    return f"<details><summary>{escape(summary)}</summary>\n{body}\n</details>" if body else ""


def charts(*drawn: str) -> str:
    """Charts side by side where there is room; empty where none is drawn."""
    there = [chart for chart in drawn if chart]
    return '<div class="charts">\n' + "\n".join(there) + "\n</div>" if there else ""


def commands(lines: Sequence[str]) -> str:
    """Command lines to be copied, one below the other; long ones are broken where the page is narrow."""
    return f'<pre class="commands">{escape(chr(10).join(lines))}</pre>' if lines else ""


def duration(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


class Html(str):
    """A cell of a table that is HTML already."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]], texts: Sequence[int] = (0,)) -> str:
    """Cells are text, or `Html`; the first one names its row. It and the columns in `texts` are flush left, the others,
    numbers, flush right; a head is set as its column is. Of the columns in `texts`, lines may be broken."""

    def cell(tag: str, i: int, value: str, scope: str = "") -> str:
        kind = ' class="text"' if i in texts else ""
        plain = value if isinstance(value, Html) else _breakable(value) if i in texts else escape(value)
        return f"<{tag}{kind}{scope}>{plain}</{tag}>"

    top = "".join(cell("th", i, name, ' scope="col"') if name else "<td></td>" for i, name in enumerate(head))
    lines = [
        cell("th", 0, row[0], ' scope="row"') + "".join(cell("td", i, value) for i, value in enumerate(row[1:], 1))
        for row in rows
    ]
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    whole = f"<table>\n<thead><tr>{top}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
    return f'<div class="wide" tabindex="0">{whole}</div>\n'


def _breakable(text: str) -> str:
    """Keys and paths may break after their dots, slashes and underscores, so that a table fits a telephone."""
    return re.sub(r"(?<=\w[._/])(?=\w)", "<wbr>", escape(text)) if text[:1].isalpha() else escape(text)


def signed(value: float, decimals: int = 2) -> str:
    """With its sign, a true minus; a value that rounds to zero has none."""
    text = f"{value:+.{decimals}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "\u2212")


_STYLE = """
:root{color-scheme:light dark;--ink:#23262b;--quiet:#666d76;--paper:#fcfcfa;--rule:#dedfdc;--mark:#fff6df}
@media (prefers-color-scheme:dark){:root{--ink:#e3e4e6;--quiet:#9aa1aa;--paper:#16181b;--rule:#33373c;--mark:#3a3219}}
*{box-sizing:border-box}
body{margin:0;overflow-wrap:anywhere}
body{background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:62rem;margin:0 auto;padding:2rem 1rem 4rem}
h1,h2{font-family:Charter,"Bitstream Charter",Cambria,Georgia,serif;line-height:1.2;font-weight:600}
h1{font-size:2rem;margin:0}
h3{font-size:1rem;margin:1.4rem 0 .6rem}
h2{font-size:1.3rem;margin:3rem 0 1rem;padding-top:1rem;border-top:1px solid var(--rule)}
p{max-width:42rem;margin:.6rem 0}
.facts,.quiet{color:var(--quiet)}
.quiet{font-size:.9rem}
ul.quiet{padding-left:1.1rem;max-width:42rem}
.lead{font-size:1.1rem}
.verdict{border-left:4px solid var(--quiet);padding:.1rem 1rem;margin:1.4rem 0}
.verdict.yes{border-color:#2b9a66}.verdict.no,.verdict.failed{border-color:#d64550}
.verdict.unknown{border-color:#c9962c}
.verdict .answer{font-size:1.5rem;font-weight:600;margin:.3rem 0}
.score{margin:1.2rem 0}.score strong{font-size:2.6rem;font-weight:600}.score span{color:var(--quiet);margin-left:.4rem}
.warning{background:var(--mark);border-left:4px solid #c9962c;padding:.6rem .9rem}
.wide{overflow-x:auto;overflow-wrap:normal}
.wide .chart{min-width:46rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
table+details,.wide+details{margin-top:1rem}
th,td{padding:.45rem .9rem .45rem 0;text-align:right;vertical-align:top;border-bottom:1px solid var(--rule)}
thead th{color:var(--quiet);font-weight:400;font-size:.85rem;white-space:nowrap}
th:first-child{text-align:left}
tbody th{font-weight:400;min-width:9rem}
th small{display:block;color:var(--quiet);font-size:.8rem}
figure{margin:0 0 2rem}
figure img{display:block;max-width:100%;height:auto;border-radius:3px}
.before-after{max-width:36rem}
.before-after .pair{position:relative;line-height:0}
.before-after .pair img{width:100%}
.before-after .pair img+img{position:absolute;inset:0;clip-path:inset(0 0 0 var(--cut,50%))}
.before-after .pair::after{content:"";position:absolute;top:0;bottom:0;left:var(--cut,50%);width:2px}
.before-after .pair::after{background:#fff;box-shadow:0 0 3px #000}
.before-after input{width:100%;margin:.6rem 0 0;accent-color:#2f7fc1;height:1.6rem}
.before-after .ends{display:flex;justify-content:space-between;color:var(--quiet);font-size:.9rem}
.pictures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr));gap:1.8rem 2rem}
td{white-space:nowrap}td.text{white-space:normal}
td.text,th.text{text-align:left;overflow-wrap:break-word}
.wide+.charts,.wide+p,p+.charts,p+.panels,p+figure,p+.pictures,.charts+figure{margin-top:1.6rem}
.pictures>div>figure{margin-bottom:.3rem}
figcaption{color:var(--quiet);font-size:.9rem;margin-top:.3rem}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,24rem),1fr));gap:1.8rem 2rem}
.chart{width:100%;height:auto;font-family:inherit;font-variant-numeric:tabular-nums}
.panels{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,10.5rem),max-content));gap:.6rem}
.panels+.panels{margin-top:1.4rem}
.panels>*{margin:0;min-width:0;max-width:18rem}
.panels.even{grid-template-columns:repeat(auto-fill,minmax(min(100%,10.5rem),1fr))}
.panels.actual{grid-template-columns:repeat(auto-fill,minmax(min(100%,22.5rem),1fr))}
.panels.actual>*{max-width:22.5rem}
.panels img{max-width:100%;height:auto;border-radius:3px}
.panels.even img{width:100%}
.three{max-width:56rem}
.part{image-rendering:pixelated}
.missing{display:grid;place-items:center;min-height:8rem;border:1px dashed var(--rule);color:var(--quiet)}
pre{overflow-x:auto;overflow-wrap:normal;font:13px/1.5 ui-monospace,Menlo,Consolas,monospace}
.commands{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--rule)}
.commands{padding:.6rem .9rem;border-radius:3px}
summary{cursor:pointer;margin:1rem 0}
main>details{border-top:1px solid var(--rule)}
section+details{margin-top:3rem}
summary h2{display:inline-block;margin:0;padding:0;border:0}
@media (max-width:34rem){
table{font-size:.85rem}
th,td{padding-right:.7rem}
thead th{font-size:.8rem;white-space:normal}
tbody th{min-width:0}
.score span{display:block;margin:0}
}
"""
