"""Line charts as inline SVG, without a library or a script.

Text and axes take the page's text colour (`currentColor`); the series colours are mid tones that can be read on light
and on dark paper alike. Lengths are in units of the SVG's own view box.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import cycle

Point = tuple[float, float]

MAX_POINTS = 400
"""Points drawn per series; more are thinned."""

_ON_ANY_PAPER = "#7a8089"
_COLOURS = ("#2f7fc1", "#d0661a", "#2b9a66", "#a765b8", "#d64550", "#a8851d", "#2a97a3", "#84888c")
_WIDTH, _LEFT, _RIGHT, _REFERENCE_RIGHT, _TOP, _PLOT_HEIGHT = 390, 48, 14, 100, 52, 170
"""_LEFT and the _RIGHTs are the least room beside the plot: longer labels get more."""
_LINE, _CHARACTER, _DIGIT = 15, 6.1, 6.9
"""Line height and mean widths, of a character and of a digit, of the 11-unit text."""
_TITLE_PX, _SMALLEST_TITLE_PX, _TITLE_SHARE = 13, 8, 0.66
"""Heights of the title, and the mean width of its characters as a share of that."""
_LONGEST_LABEL = 26
_LONGEST_NAME = int((_WIDTH - 18) / _DIGIT)


def line_chart(
    title: str,
    series: Mapping[str, Sequence[Point]],
    x_label: str,
    y_label: str,
    reference: Mapping[str, float] | None = None,
    *,
    log_x: bool = False,
    log_y: bool = False,
    dots: bool = False,
    marks: Mapping[str, float] | None = None,
) -> str:
    """One `<svg>` element: `series` of (x, y) by name, drawn in the order given, with a legend.

    `reference` are horizontal dashed lines, `marks` vertical dotted ones, both by name, and all in view. Values
    that cannot be drawn (not finite; on a logarithmic axis also zero and below) are left out and counted in the chart.
    A series of one point is a dot, and with `dots` every point is. Series of more than `MAX_POINTS` are thinned so that
    every spike stays. All text is escaped.
    """
    drawable = {name: [p for p in points if _can_draw(p, log_x, log_y)] for name, points in series.items()}
    lines = {name: _thin(points) for name, points in drawable.items() if points}
    num_left_out = sum(map(len, series.values())) - sum(map(len, drawable.values()))
    levels = {name: y for name, y in (reference or {}).items() if _can_draw((1.0, y), False, log_y)}

    bottom = _TOP + _PLOT_HEIGHT
    size = max(_SMALLEST_TITLE_PX, min(_TITLE_PX, _WIDTH / (_TITLE_SHARE * max(1, len(title)))))
    shown = _shortened(title, int(_WIDTH / (_TITLE_SHARE * size)))
    body = [f'<text class="chart-title" x="0" y="14" font-size="{size:.3g}" font-weight="600">{escape(shown)}</text>']
    note = f"{num_left_out} {'value' if num_left_out == 1 else 'values'} not drawn" if num_left_out else ""
    body.append(_text(0, 32, y_label + (" (log)" if log_y else "")) + (_text(_WIDTH, 32, note, "end") if note else ""))
    if lines:
        passed = {name: x for name, x in (marks or {}).items() if _can_draw((x, 1.0), log_x, False)}
        xs = [x for points in lines.values() for x, _ in points] + list(passed.values())
        ys = [y for points in lines.values() for _, y in points] + list(levels.values())
        y_axis = _Axis(min(ys), max(ys), bottom, _TOP, log=log_y)
        x_axis = _Axis(min(xs), max(xs), *_sides(min(xs), max(xs), y_axis, levels, log_x), log=log_x)
        body += _grid(x_axis, y_axis, x_label + (" (log)" if log_x else ""))
        body += _marks(x_axis, passed)
        body += _references(y_axis, levels, x_axis.start, x_axis.end)
        body += [
            (_dots if dots else _line)(points, x_axis, y_axis, colour)
            for points, colour in zip(lines.values(), cycle(_COLOURS), strict=False)
        ]
    else:
        body.append(_text(_WIDTH / 2, (_TOP + bottom) / 2, "no values to draw", "middle"))
    legend, height = _legend(list(lines), bottom + 44)
    return (
        f'<svg class="chart" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{escape(title)}" fill="currentColor" font-size="11">' + "".join(body + legend) + "</svg>"
    )


def standing_alone(chart: str) -> str:
    """A chart of `line_chart` for a file of its own, where no page gives it a text colour: one for any background."""
    return chart.replace("<svg ", f'<svg color="{_ON_ANY_PAPER}" font-family="sans-serif" ', 1)


def _sides(low: float, high: float, y_axis: _Axis, levels: Mapping[str, float], log_x: bool) -> tuple[float, float]:
    """Where the x axis begins and ends, so that no label is cut off at the chart's border."""
    left = max(_LEFT, *(8 + _DIGIT * len(label) for _, label in y_axis.ticks()), 0)
    right: float = _RIGHT
    if levels:
        longest = max(len(_level(name, value)) for name, value in levels.items())
        right = max(_REFERENCE_RIGHT, 8 + _CHARACTER * longest)
    at_the_end = _Axis(low, high, left, _WIDTH - right, log_x).ticks()[-1:]
    return left, _WIDTH - max(right, *(_DIGIT * len(label) / 2 for _, label in at_the_end), 0)


def _level(name: str, value: float) -> str:
    return f"{_shortened(name, _LONGEST_LABEL - 7)} {value:.4g}"


def _shortened(text: str, longest: int) -> str:
    """With its middle left out where it is longer."""
    if len(text) <= longest:
        return text
    head = (longest - 1) // 2
    return f"{text[:head]}\u2026{text[len(text) - (longest - 1 - head) :]}"


class _Axis:
    """Maps values in [low, high], widened a little where they touch or coincide, to positions start..end."""

    def __init__(self, low: float, high: float, start: float, end: float, log: bool) -> None:
        self.log, self.start, self.end = log, start, end
        if log:
            low, high = math.log10(low), math.log10(high)
        if high - low <= 1e-9 * max(abs(low), abs(high)):
            room = 0.5 if log else abs(low) * 0.05 or 0.5
            low, high = low - room, high + room
        elif start > end:  # a vertical axis: keep lines off the frame
            room = (high - low) * 0.05
            low, high = low - room, high + room
        self.low, self.high = low, high

    def __call__(self, value: float) -> float:
        value = math.log10(value) if self.log else value
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[tuple[float, str]]:
        """Round values inside the axis and their labels."""
        if not self.log:
            return _linear_ticks(self.low, self.high)
        decades = range(math.floor(self.low), math.ceil(self.high) + 1)
        for digits in ((1,), (1, 3), (1, 2, 5)):
            values = [d * 10.0**e for e in decades for d in digits if self.low <= math.log10(d * 10.0**e) <= self.high]
            if len(values) >= 3:
                step = math.ceil(len(values) / 7)
                return [(v, f"{v:g}") for v in values[::step]]
        return _linear_ticks(10**self.low, 10**self.high)


def _linear_ticks(low: float, high: float) -> list[tuple[float, str]]:
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    values = [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    if step >= 1000:
        return [(v, f"{v / 1000:g}k" if v else "0") for v in values]
    most = max(map(abs, values), default=0.0)
    digits = max(3, math.ceil(math.log10(most / step)) + 1) if most else 3  # as many as tell the values apart
    return [(v, f"{v:.{decimals}f}" if decimals <= 5 else f"{v:.{digits}g}") for v in values]


def _can_draw(point: Point, log_x: bool, log_y: bool) -> bool:
    return all(map(math.isfinite, point)) and (not log_x or point[0] > 0) and (not log_y or point[1] > 0)


def _thin(points: Sequence[Point]) -> list[Point]:
    """First, last, and the lowest and highest point of each of equal runs in between: at most MAX_POINTS."""
    if len(points) <= MAX_POINTS:
        return list(points)
    num_runs = (MAX_POINTS - 2) // 2
    inner = points[1:-1]
    kept = [points[0]]
    for i in range(num_runs):
        run = range(i * len(inner) // num_runs, (i + 1) * len(inner) // num_runs)
        lowest, highest = min(run, key=lambda j: inner[j][1]), max(run, key=lambda j: inner[j][1])
        kept += [inner[j] for j in sorted({lowest, highest})]
    return [*kept, points[-1]]


def _text(x: float, y: float, text: str, anchor: str = "start", extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" opacity="0.75"{extra}>{escape(text)}</text>'


def _rule(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="currentColor" {style}/>'


def _grid(x_axis: _Axis, y_axis: _Axis, x_label: str) -> list[str]:
    left, right, bottom = x_axis.start, x_axis.end, y_axis.start
    out = [_rule(left, bottom, right, bottom, 'stroke-opacity="0.5"')]
    for value, label in y_axis.ticks():
        y = y_axis(value)
        out += [_rule(left, y, right, y, 'stroke-opacity="0.14"'), _text(left - 6, y + 4, label, "end")]
    for value, label in x_axis.ticks():
        x = x_axis(value)
        out += [_rule(x, bottom, x, bottom + 4, 'stroke-opacity="0.5"'), _text(x, bottom + 16, label, "middle")]
    return [*out, _text(right, bottom + 31, x_label, "end")]


def _marks(x_axis: _Axis, marks: Mapping[str, float]) -> list[str]:
    out = []
    for name, value in marks.items():
        x = x_axis(value)
        out.append(_rule(x, _TOP, x, _TOP + _PLOT_HEIGHT, 'stroke-opacity="0.5" stroke-dasharray="1 3"'))
        fits = x + len(name) * _CHARACTER < x_axis.end
        out.append(_text(x, _TOP - 5, name, "start" if fits else "end"))
    return out


def _references(y_axis: _Axis, levels: Mapping[str, float], left: float, right: float) -> list[str]:
    """Dashed lines, labelled in the right margin; labels of close lines are pushed apart."""
    out, last = [], -math.inf
    by_height = sorted(levels.items(), key=lambda item: -item[1])
    lowest_free = _TOP + _PLOT_HEIGHT + 4 - _LINE * (len(by_height) - 1)
    for i, (name, value) in enumerate(by_height):
        y = y_axis(value)
        out.append(_rule(left, y, right, y, 'stroke-opacity="0.6" stroke-dasharray="5 4"'))
        last = max(last + _LINE - 2, min(y + 4, lowest_free + i * _LINE))
        out.append(_text(right + 6, last, _level(name, value)))
    return out


def _line(points: Sequence[Point], x_axis: _Axis, y_axis: _Axis, colour: str) -> str:
    if len(points) == 1:
        return _dots(points, x_axis, y_axis, colour)
    places = [f"{x_axis(x):.1f},{y_axis(y):.1f}" for x, y in points]
    style = f'fill="none" stroke="{colour}" stroke-width="1.6" stroke-linejoin="round"'
    return f'<polyline {style} points="{" ".join(places)}"/>'


def _dots(points: Sequence[Point], x_axis: _Axis, y_axis: _Axis, colour: str) -> str:
    return "".join(f'<circle cx="{x_axis(x):.1f}" cy="{y_axis(y):.1f}" r="4" fill="{colour}"/>' for x, y in points)


def _legend(names: Sequence[str], top: float) -> tuple[list[str], int]:
    """Swatches and names in as many lines as they need, and the height of the whole chart."""
    out, x, y = [], 0.0, top + 8
    for name, colour in zip(names, cycle(_COLOURS), strict=False):
        name = _shortened(name, _LONGEST_NAME)
        width = 18 + len(name) * _CHARACTER + 14
        if x and x + width > _WIDTH:
            x, y = 0.0, y + _LINE + 2
        out.append(f'<rect x="{x:.1f}" y="{y - 6:.1f}" width="12" height="4" rx="2" fill="{colour}"/>')
        out.append(_text(x + 18, y, name))
        x += width
    return out, math.ceil(y) + 8
