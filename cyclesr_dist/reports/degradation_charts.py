"""The measured degradation in pictures: its kernel and its noise, for `cyclesr estimate` and for a run's report.

Lengths are LR px.
"""

from __future__ import annotations

from html import escape

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cyclesr_dist.degradation.fit import KNOTS, variance_at
from cyclesr_dist.degradation.record import Degradation
from cyclesr_dist.degradation.sentences import blur_px, figure, has_noise
from cyclesr_dist.reports.curves import line_chart
from cyclesr_dist.reports.page import charts, paragraph
from cyclesr_dist.runtime.wording import counted

_CURVE_POINTS = 101


def noise_chart(degradation: Degradation) -> str:
    def percent(brightness: Tensor) -> list[float]:
        return [100 * value for value in variance_at(degradation.variance, brightness).sqrt().tolist()]

    line = torch.linspace(0, 1, _CURVE_POINTS)
    series = {"noise": list(zip(line.tolist(), percent(line), strict=True))}
    for knot, value in zip(KNOTS, percent(torch.tensor(KNOTS)), strict=True):
        series[f"{figure(value, 2)}% at {knot:g}"] = [(knot, value)]
    return line_chart(
        "Noise over brightness", series, "brightness", "standard deviation, % of the range", {"no noise:": 0}
    )


_KERNEL_LEFT, _KERNEL_TOP, _KERNEL_PX, _CHART_PX = 0, 30, 200, 390
_BAR_LEFT, _BAR_PX, _BAR_STEPS = 226, 14, 50
_ZERO, _MOST, _BELOW = (241, 241, 238), (29, 84, 150), (176, 70, 14)
_SHOWN = 0.03  # of the largest value: rows and columns with less at the kernel's border are not drawn
_SMALLEST_DRAWN, _LARGEST_WITH_NUMBERS = 5, 9
_LEAST_NUMBER = 0.005


def kernel_chart(degradation: Degradation) -> str:
    """The mean kernel as an `<svg>` of enlarged pixels, a colour scale and its width, and the same in words."""
    kernel = np.asarray(degradation.facts["kernel"], np.float64)
    drawn = _without_border(kernel)
    side = len(drawn)
    cell = _KERNEL_PX / side
    most, least = float(drawn.max()), min(0.0, float(drawn.min()))
    limit = max(most, -least)
    body = ['<text class="chart-title" x="0" y="14" font-size="13" font-weight="600">Kernel</text>']
    for (row, column), value in np.ndenumerate(drawn):
        x, y = _KERNEL_LEFT + column * cell, _KERNEL_TOP + row * cell
        colour = _colour(float(value) / limit)
        body.append(
            f'<rect x="{x:.2f}" y="{y:.2f}" width="{cell:.2f}" height="{cell:.2f}" fill="{_rgb(colour)}" '
            'stroke="#84888c" stroke-opacity="0.3" stroke-width="0.5"/>'
        )
        if side <= _LARGEST_WITH_NUMBERS and abs(value) >= _LEAST_NUMBER:
            ink = "#ffffff" if sum(colour) < 3 * 140 else "#23262b"
            body.append(_text(x + cell / 2, y + cell / 2 + 4, _percent(float(value)), "middle", ink))
    body += _scale(most, least, limit)
    width = blur_px(degradation.facts)
    line_y = _KERNEL_TOP + _KERNEL_PX + 16
    if width > 0:
        middle, half = _KERNEL_LEFT + _KERNEL_PX / 2, min(width, side) * cell / 2
        ends = "".join(f'<path d="M{middle + s * half:.1f} {line_y - 4}v8"/>' for s in (-1, 1))
        bar = f'<path d="M{middle - half:.1f} {line_y}h{2 * half:.1f}"/>'
        body.append(f'<g stroke="currentColor" stroke-width="1.5">{bar}{ends}</g>')
    body.append(
        _text(_BAR_LEFT, line_y + 4, f"width {figure(width, 1)} px" if width > 0 else "no width: it does not blur")
    )
    words = _in_words(kernel, width)
    return (
        f'<figure style="margin:0"><svg class="chart" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_CHART_PX} '
        f'{line_y + 14}" role="img" aria-label="{escape(words)}" fill="currentColor" font-size="11">{"".join(body)}'
        f"</svg><figcaption>{escape(_under_kernel(degradation))}</figcaption></figure>"
    )


def _without_border(kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """The middle of it, an odd side, outside of which there is hardly anything."""
    half = len(kernel) // 2
    line = np.abs(np.arange(len(kernel)) - half)
    ring = np.maximum(line[:, None], line)
    reach = int(ring[np.abs(kernel) >= _SHOWN * np.abs(kernel).max()].max())
    reach = min(half, max(reach, _SMALLEST_DRAWN // 2))
    return kernel[half - reach : half + reach + 1, half - reach : half + reach + 1]


def _colour(share: float) -> tuple[int, int, int]:
    """Of a value in -1..1: zero is nearly white, positive ones blue, negative ones orange."""
    end = _MOST if share >= 0 else _BELOW
    red, green, blue = (round(a + (b - a) * abs(share)) for a, b in zip(_ZERO, end, strict=True))
    return red, green, blue


def _rgb(colour: tuple[int, int, int]) -> str:
    return "#" + "".join(f"{value:02x}" for value in colour)


def _scale(most: float, least: float, limit: float) -> list[str]:
    """A bar from the smallest value, or 0, up to the largest."""
    step = _KERNEL_PX / _BAR_STEPS

    def y_of(value: float) -> float:
        return _KERNEL_TOP + (most - value) / (most - least) * _KERNEL_PX

    out = []
    for i in range(_BAR_STEPS):
        value = most + (i + 0.5) / _BAR_STEPS * (least - most)
        place = f'x="{_BAR_LEFT}" y="{_KERNEL_TOP + i * step:.2f}" width="{_BAR_PX}" height="{step + 0.3:.2f}"'
        out.append(f'<rect {place} fill="{_rgb(_colour(value / limit))}"/>')
    for value in dict.fromkeys((most, 0.0, least)):
        if value in (most, 0.0) or y_of(value) - y_of(0.0) > 12:  # labels must not touch
            out.append(_text(_BAR_LEFT + _BAR_PX + 6, y_of(value) + 4, f"{_percent(value)}%"))
    return out


def _text(x: float, y: float, text: str, anchor: str = "start", ink: str = "") -> str:
    fill = f' fill="{ink}"' if ink else ' opacity="0.75"'
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{fill}>{escape(text)}</text>'


def _percent(value: float) -> str:
    return f"{100 * value:.0f}".replace("-", "\u2212")


def _in_words(kernel: NDArray[np.float64], width: float) -> str:
    half = len(kernel) // 2
    places = {"centre": (0, 0), "beside it": (0, 1), "below it": (1, 0), "diagonally": (1, 1)}
    named = ", ".join(
        f"{name} {_percent(float(kernel[half + y, half + x]))}%" for name, (y, x) in places.items() if max(y, x) <= half
    )
    lowest = f" The lowest value is {_percent(float(kernel.min()))}%." if kernel.min() < -_LEAST_NUMBER else ""
    wide = f"is {figure(width, 1)} px wide" if width > 0 else "does not blur"
    return f"The kernel {wide}: {named}.{lowest}"


def _under_kernel(degradation: Degradation) -> str:
    text = "What each LR pixel takes from itself and its neighbours, in %; all of it sums to 100. "
    if _without_border(np.asarray(degradation.facts["kernel"], np.float64)).min() < -_LEAST_NUMBER:
        text += "Orange is below zero: it is subtracted. "
    if blur_px(degradation.facts) > 0:
        text += "The width is that of the Gaussian nearest to it, at half its height."
    if len(degradation.kernels) > 1:
        text += (
            f" This is the mean; photographs differ, so one of {len(degradation.kernels)} kernels is drawn for each."
        )
    return text


def noise_words(degradation: Degradation) -> str:
    """Where the noise is from."""
    noise = degradation.facts.get("noise", {})
    count = int(noise.get("flat_patches", 0))
    where = f"{counted(count, 'flat patch')} of real LR, where hardly anything but noise is to be seen"
    if noise.get("kind") == "patches":
        text = f"Its grain is not Gaussian and is taken as it is from {where}."
    elif count:
        text = f"It is Gaussian and drawn anew for every image; its levels and colours are those of {where}."
    else:
        text = "It is Gaussian and drawn anew for every image. Real LR has no flat patch to see its colours in."
    return text


def noise_section(degradation: Degradation, *before: str) -> str:
    """The noise, with other charts before it; alone it is empty where there is none to speak of, which a chart would
    make look like some."""
    if not has_noise(degradation.facts):
        return charts(*before)
    return charts(*before, noise_chart(degradation)) + paragraph(noise_words(degradation), "quiet")
