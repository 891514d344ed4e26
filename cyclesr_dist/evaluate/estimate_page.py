"""`degradation.html`: what `cyclesr estimate` found, on one self-contained page, to be looked at before it is used.

Pictures are (h, w, 3) uint8 RGB on the LR grid. Lengths are LR px.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import permutations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor

from cyclesr_dist.degradation.apply import degraded
from cyclesr_dist.degradation.fit import KNOTS, variance_at
from cyclesr_dist.degradation.record import Degradation
from cyclesr_dist.degradation.sample import Sample, Window
from cyclesr_dist.degradation.sentences import (
    blur_px,
    counted,
    differences,
    doubts,
    figure,
    finite,
    has_noise,
    measured,
    unexplained,
    what_follows,
)
from cyclesr_dist.degradation.spectra import radial, spectra
from cyclesr_dist.evaluate.curves import line_chart
from cyclesr_dist.evaluate.page import page, paragraph, section, table
from cyclesr_dist.evaluate.strips import most_detailed_crop

PAGE = "degradation.html"
_ROWS, _CROP_PX, _ZOOM = 3, 96, 3
_SMOOTH_PX = 2  # radius of the mean that keeps noise from passing for detail
_THUMBNAIL_PX = 16
_SAME_SCENE = 0.9  # correlation of two thumbnails
_NONE = "\u2013"
_CURVE_POINTS = 101

Facts = dict[str, Any]


def estimate_page(degradation: Degradation, sharp: Sample, real: Sample) -> str:
    """The whole document. `sharp` and `real` are the samples that it was estimated from, both on the LR grid."""
    facts = degradation.facts
    seed = int(facts.get("seed", 0))
    sections = [
        _headline(facts),
        section("Side by side", _pictures(degradation, sharp, real, seed), "The samples hold no pictures."),
        section("Blur", _charts(_kernel(degradation), _spectra(degradation, sharp, real, seed)) + _reading(), ""),
        section("Noise", _noise(degradation), "There is no noise to speak of."),
        section("Figures", table(["", "value"], _figures(facts), texts=(0, 1)), ""),
    ]
    return page("Degradation · cyclesr estimate", sections)


def _headline(facts: Facts) -> str:
    looked_at = facts.get("looked_at", {})
    seen = [
        f"{looked_at[name]['photographs']} of {counted(looked_at[name]['of'], f'{name.upper()} photograph')}"
        for name in ("hr", "lr")
        if name in looked_at
    ]
    small = " · ".join([*seen, f"x{facts.get('scale')}", f"seed {facts.get('seed')}"])
    what, settings = what_follows(facts, "FOLDER")
    where = " (FOLDER is the one that holds this page)" if "FOLDER" in settings else ""
    parts = [
        "<h1>From shrunk HR to real LR</h1>",
        paragraph(small, "facts"),
        *(paragraph(text, "lead") for text in (measured(facts), differences(facts), unexplained(facts)) if text),
        *(paragraph(text, "warning") for text in doubts(facts)),
        paragraph(f"{what.removesuffix(':')}{where}:"),
        f'<pre style="white-space:pre-wrap">{escape(settings)}</pre>',
    ]
    return "<header>\n" + "\n".join(parts) + "\n</header>"


# Pictures


@dataclass(frozen=True)
class _Crop:
    view: Window
    y: int
    x: int
    size: int
    detail: float
    brightness: float
    thumbnail: NDArray[np.float64]

    def cut(self, picture: Window, size: int) -> Window:
        return picture[self.y : self.y + size, self.x : self.x + size]


def _pictures(degradation: Degradation, sharp: Sample, real: Sample, seed: int) -> str:
    rows = []
    for i, (one, other) in enumerate(_alike(_crops(sharp.views), _crops(real.views))):
        size = min(one.size, other.size)
        whole = torch.from_numpy(one.view.copy()).permute(2, 0, 1)[None].float() / 255
        made = (degraded(degradation, whole, seed + i)[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        another = "real LR" if _same_scene(one, other) else "real LR (another photograph)"
        cells = [
            _enlarged(one.cut(one.view, size), "HR, shrunk"),
            _enlarged(one.cut(made, size), "the same, translated"),
            _enlarged(other.cut(other.view, size), another),
        ]
        columns = f"repeat(3,minmax(0,{size * _ZOOM}px))"
        rows.append(f'<div style="display:grid;grid-template-columns:{columns};gap:.5rem">{"".join(cells)}</div>')
    if not rows:
        return ""
    text = (
        "The middle pictures should look like the right ones in everything but what they show: as soft, as noisy, with "
        "the same grain. Each row compares places of about the same brightness."
    )
    return paragraph(text) + "\n".join(rows)


def _enlarged(picture: Window, caption: str) -> str:
    """At its own size in the file; the browser enlarges it without smoothing."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode("ascii")
    height, width = (side * _ZOOM for side in picture.shape[:2])
    return (
        f'<figure style="margin:0 0 1rem"><img src="data:image/png;base64,{data}" width="{width}" height="{height}" '
        f'style="image-rendering:pixelated" alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption></figure>'
    )


def _crops(views: Sequence[Window]) -> list[_Crop]:
    """The most detailed place of each view."""
    found = []
    for view in views:
        smooth = np.asarray(Image.fromarray(view).filter(ImageFilter.BoxBlur(_SMOOTH_PX)))
        y, x, size = most_detailed_crop(smooth, _CROP_PX)
        place = smooth[y : y + size, x : x + size].mean(-1)
        detail = float(np.abs(np.diff(place, axis=0)).mean() + np.abs(np.diff(place, axis=1)).mean())
        grey = Image.fromarray(view).convert("L").resize((_THUMBNAIL_PX, _THUMBNAIL_PX), Image.Resampling.BOX)
        thumbnail = np.asarray(grey, np.float64)
        thumbnail = thumbnail - thumbnail.mean()
        thumbnail /= max(float(np.linalg.norm(thumbnail)), 1e-9)
        found.append(_Crop(view, y, x, size, detail, float(place.mean()), thumbnail))
    return found


def _alike(sharp: Sequence[_Crop], real: Sequence[_Crop]) -> list[tuple[_Crop, _Crop]]:
    """Up to three pairs from dark to bright, equally bright each, of different scenes where there are such."""
    own, other = _detailed(sharp), _detailed(real)
    count = min(_ROWS, len(own), len(other))
    chosen = [own[int((i + 0.5) / count * len(own))] for i in range(count)]

    def unlike(others: Sequence[_Crop]) -> tuple[int, float]:
        pairs = list(zip(chosen, others, strict=True))
        return sum(_same_scene(*pair) for pair in pairs), sum(abs(a.brightness - b.brightness) for a, b in pairs)

    partners = min(permutations(other, count), key=unlike)
    return list(zip(chosen, partners, strict=True))


def _detailed(crops: Sequence[_Crop]) -> list[_Crop]:
    """The half with more detail, at least three, by brightness."""
    kept = sorted(crops, key=lambda crop: -crop.detail)[: max(_ROWS, (len(crops) + 1) // 2)]
    return sorted(kept, key=lambda crop: crop.brightness)


def _same_scene(one: _Crop, other: _Crop) -> bool:
    return float((one.thumbnail * other.thumbnail).sum()) > _SAME_SCENE


# Charts


def _charts(*charts: str) -> str:
    return '<div class="charts">\n' + "\n".join(charts) + "\n</div>"


def _spectra(degradation: Degradation, sharp: Sample, real: Sample, seed: int) -> str:
    side = min(sharp.patches.shape[-1], real.patches.shape[-1])
    synthetic = sharp.patches[..., :side, :side].contiguous()
    of = {
        "real LR": real.patches[..., :side, :side],
        "HR, shrunk": synthetic,
        "the same, translated": degraded(degradation, synthetic, seed),
    }
    series = {name: _spectrum(patches) for name, patches in of.items()}
    return line_chart("Spectra", series, "cycles a px", "power, log10")


def _spectrum(patches: Tensor) -> list[tuple[float, float]]:
    frequency, power = radial(spectra(patches).power.mean(0))
    return list(zip(frequency.tolist(), power.clamp(min=1e-12).log10().tolist(), strict=True))


def _noise_curve(degradation: Degradation) -> str:
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


def _kernel(degradation: Degradation) -> str:
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


def _reading() -> str:
    text = (
        "The translated line should lie on that of real LR. Blur lowers the right end, noise lifts it. One unit up is "
        "a decade, ten times the power; half a cycle a px is the finest that an image can hold."
    )
    return paragraph(text, "quiet")


def _noise(degradation: Degradation) -> str:
    """Empty where there is none to speak of, which a chart would make look like some."""
    if not has_noise(degradation.facts):
        return ""
    noise = degradation.facts.get("noise", {})
    count = int(noise.get("flat_patches", 0))
    where = f"{counted(count, 'flat patch')} of real LR, where hardly anything but noise is to be seen"
    if noise.get("kind") == "patches":
        text = f"Its grain is not Gaussian and is taken as it is from {where}."
    elif count:
        text = f"It is Gaussian and drawn anew for every image; its levels and colours are those of {where}."
    else:
        text = "It is Gaussian and drawn anew for every image. Real LR has no flat patch to see its colours in."
    return _charts(_noise_curve(degradation)) + paragraph(text, "quiet")


# Figures


def _figures(facts: Facts) -> list[list[str]]:
    noise = facts.get("noise", {})
    rows = [
        ["Blur: width at half height", _in_px(finite(facts, "blur", "width_px"))],
        ["Blur: standard deviation", _in_px(finite(facts, "blur", "std_px"))],
        ["Blur: spread among photographs", _or_none(finite(facts, "blur", "spread"))],
    ]
    for knot in KNOTS:
        level = finite(facts, "noise", "std_at", f"{knot:g}")
        rows.append([f"Noise at brightness {knot:g}", _NONE if level is None else f"{figure(100 * level, 2)}%"])
    rows.append(["Noise: spread among photographs", _or_none(finite(facts, "noise", "spread"))])
    correlation = noise.get("colour_correlation")
    if correlation and has_noise(facts):
        pairs = {"red and green": (0, 1), "green and blue": (1, 2), "red and blue": (0, 2)}
        named = {name: float(correlation[a][b]) for name, (a, b) in pairs.items()}
        text = ", ".join(f"{name} {figure(value, 2)}" for name, value in named.items()).replace(" -", " \u2212")
        rows.append(["Noise: correlation of colours", text if any(named.values()) else "cannot be told"])
    rows.append(["JPEG", _jpeg(facts.get("jpeg"), facts.get("jpeg_quality"))])
    for key, name in (("synthetic", "Spectrum of shrunk HR"), ("translated", "Spectrum of translated LR")):
        distance = finite(facts, "spectrum_distance", key)
        rows.append([f"{name} to real LR", _NONE if distance is None else f"{figure(distance, 2)} decades"])
    looked_at = facts.get("looked_at", {})
    for name in ("hr", "lr"):
        if name in looked_at:
            one = looked_at[name]
            text = f"{counted(one['patches'], 'patch')} of {counted(one['photographs'], 'photograph')}"
            rows.append([f"Looked at, {name.upper()}", f"{text}, of {one['of']:,} there"])
    if "patch_px" in looked_at:
        rows.append(["Side of a patch", f"{looked_at['patch_px']} px"])
    return [*rows, ["Scale", f"x{facts.get('scale')}"], ["Made with", str(facts.get("made_with", _NONE))]]


def _in_px(value: float | None) -> str:
    return _NONE if value is None else f"{figure(value, 2)} px"


def _or_none(value: float | None) -> str:
    return "cannot be told" if value is None else figure(value, 2)


def _jpeg(jpeg: Any, quality: Any) -> str:
    if quality is None:
        return "not found"
    if not isinstance(jpeg, dict):
        return f"quality {quality}"
    where = "by the files' headers" if jpeg.get("from") == "files" else "by the pixels"
    share = finite(jpeg, "share")
    grid = jpeg.get("grid")
    parts = [f"quality {quality}, {where}"]
    if share is not None and not math.isclose(share, 1):
        parts.append(f"in {share:.0%} of the photographs")
    if grid:
        parts.append(
            "blocks start at the corner" if not any(grid) else f"blocks start at row {grid[0]}, column {grid[1]}"
        )
    return ", ".join(parts)
