"""What every HTML page of the project is made of: one self-contained file without scripts or outside references."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape


def page(title: str, sections: Sequence[str]) -> str:
    """A whole document. `sections` are HTML already, `title` is text."""
    # The policy makes the promise of the first docstring binding: a browser refuses whatever is not in this file.
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(sections)
        + "\n</main>\n</body>\n</html>\n"
    )


def section(title: str, body: str, when_empty: str) -> str:
    """A section with a heading; `body` is HTML already."""
    return f"<section>\n<h2>{title}</h2>\n{body or paragraph(when_empty, 'quiet')}\n</section>"


def paragraph(text: str, kind: str = "") -> str:
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def figure(png: bytes, width: int, height: int, caption: str, alternative: str) -> str:
    """A picture inside the page, with its caption."""
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<figure><div class="wide"><img src="data:image/png;base64,{data}" width="{width}" height="{height}" '
        f'style="min-width:min({width}px,46rem)" alt="{escape(alternative)}"></div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def signed(value: float, decimals: int = 2) -> str:
    """With its sign, a true minus; a value that rounds to zero has none."""
    text = f"{value:+.{decimals}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "\u2212")


_STYLE = """
:root{color-scheme:light dark;--ink:#23262b;--quiet:#666d76;--paper:#fcfcfa;--rule:#dedfdc;--mark:#fff6df}
@media (prefers-color-scheme:dark){:root{--ink:#e3e4e6;--quiet:#9aa1aa;--paper:#16181b;--rule:#33373c;--mark:#3a3219}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:62rem;margin:0 auto;padding:2rem 1rem 4rem}
h1,h2{font-family:Charter,"Bitstream Charter",Cambria,Georgia,serif;line-height:1.2;font-weight:600}
h1{font-size:2rem;margin:0;overflow-wrap:anywhere}
h2{font-size:1.3rem;margin:3rem 0 1rem;padding-top:1rem;border-top:1px solid var(--rule)}
p{max-width:42rem;margin:.6rem 0}
.facts,.quiet{color:var(--quiet)}
.quiet{font-size:.9rem}
ul.quiet{padding-left:1.1rem;max-width:42rem}
.lead{font-size:1.1rem}
.score{margin:1.2rem 0}.score strong{font-size:2.6rem;font-weight:600}.score span{color:var(--quiet);margin-left:.4rem}
.warning{background:var(--mark);border-left:4px solid #c9962c;padding:.6rem .9rem}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.45rem .9rem .45rem 0;text-align:right;vertical-align:top;border-bottom:1px solid var(--rule)}
thead th{color:var(--quiet);font-weight:400;font-size:.85rem;white-space:nowrap}
tbody th{text-align:left;font-weight:400;min-width:9rem}
th small{display:block;color:var(--quiet);font-size:.8rem}
figure{margin:0 0 2rem}
figure img{display:block;max-width:100%;height:auto;border-radius:3px}
figcaption{color:var(--quiet);font-size:.9rem;margin-top:.3rem}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:1.8rem 2rem}
.chart{width:100%;max-width:34rem;height:auto;font-family:inherit;font-variant-numeric:tabular-nums}
pre{overflow-x:auto;font:13px/1.5 ui-monospace,Menlo,Consolas,monospace}
summary{cursor:pointer}
"""
