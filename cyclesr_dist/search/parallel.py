"""Parallel coordinates as inline SVG: an axis for every key and for the score, a line for every trial."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

_WIDTH, _TOP, _HEIGHT, _BOTTOM, _MARGIN = 920, 40, 220, 40, 70
_CHARACTER, _LINE = 6.1, 15
_BEST, _WORST = (47, 127, 193), (190, 150, 110)


@dataclass(frozen=True)
class Axis:
    """Of one key or score; `low` to `high` from the bottom to the top."""

    key: str
    low: float
    high: float
    is_log: bool = False

    def height(self, value: float) -> float:
        """0 at `low`, 1 at `high`."""
        low, high, value = (math.log(v) if self.is_log else v for v in (self.low, self.high, value))
        return 0.5 if high == low else min(1.0, max(0.0, (value - low) / (high - low)))


def parallel_coordinates(title: str, axes: Sequence[Axis], lines: Sequence[Mapping[str, float]]) -> str:
    """One `<svg>` element. `lines` hold a value by key of an axis, the best trial first: it is drawn strongest, on top.
    All text is escaped."""
    names = [axis.key + (" (log)" if axis.is_log else "") for axis in axes]
    margin = max(_MARGIN, *(_CHARACTER * len(name) / 2 for name in (names[0], names[-1])))  # names are centred
    gap = (_WIDTH - 2 * margin) / max(1, len(axes) - 1)
    places = [margin + index * gap for index in range(len(axes))]
    # Long names would touch: each second one is a line lower.
    drop = _LINE if any(_CHARACTER * (len(a) + len(b)) / 2 + 8 > gap for a, b in pairwise(names)) else 0
    body = [f'<text class="chart-title" x="0" y="14" font-size="13" font-weight="600">{escape(title)}</text>']
    for index, (axis, name, x) in enumerate(zip(axes, names, places, strict=True)):
        bottom = _TOP + _HEIGHT
        body.append(
            f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{bottom}" stroke="currentColor" stroke-opacity="0.4"/>'
        )
        body.append(_text(x, bottom + 32 + drop * (index % 2), name))
        body += [_text(x, bottom + 15, f"{axis.low:.4g}"), _text(x, _TOP - 6, f"{axis.high:.4g}")]
    for rank, line in reversed(list(enumerate(lines))):
        points = " ".join(
            f"{x:.1f},{_TOP + _HEIGHT * (1 - axis.height(line[axis.key])):.1f}"
            for axis, x in zip(axes, places, strict=True)
        )
        share = rank / max(1, len(lines) - 1)
        colour = "rgb({},{},{})".format(*(round(b + (w - b) * share) for b, w in zip(_BEST, _WORST, strict=True)))
        width, opacity = (3, 1.0) if rank == 0 else (1.4, 0.75 - 0.35 * share)
        body.append(
            f'<polyline fill="none" stroke="{colour}" stroke-width="{width}" stroke-opacity="{opacity:.2f}" '
            f'points="{points}"/>'
        )
    height = _TOP + _HEIGHT + _BOTTOM + drop
    return (
        f'<svg class="chart" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'role="img" aria-label="{escape(title)}" fill="currentColor" font-size="11">' + "".join(body) + "</svg>"
    )


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" opacity="0.75">{escape(text)}</text>'
