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
from cyclesr_dist.degradation.fit import KNOTS
from cyclesr_dist.degradation.record import Degradation
from cyclesr_dist.degradation.sample import Sample, Window
from cyclesr_dist.degradation.sentences import (
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
from cyclesr_dist.reports.curves import line_chart
from cyclesr_dist.reports.degradation_charts import kernel_chart, noise_section
from cyclesr_dist.reports.page import charts, commands, details, page, paragraph, section, table
from cyclesr_dist.reports.strips import most_detailed_crop
from cyclesr_dist.runtime.wording import counted

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
        section("Blur", charts(kernel_chart(degradation), _spectra(degradation, sharp, real, seed)) + _reading(), ""),
        section("Noise", noise_section(degradation), "There is no noise to speak of."),
        section("Figures", details("All figures", table(["", "value"], _figures(facts), texts=(0, 1))), ""),
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
        paragraph("HR: the sharp photographs. Real LR: the photographs that are to be enlarged."),
        *(paragraph(text, "lead") for text in (measured(facts), differences(facts), unexplained(facts)) if text),
        *(paragraph(text, "warning") for text in doubts(facts)),
        paragraph(f"{what.removesuffix(':')}{where}:"),
        commands([settings]),
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
    for i, (one, other) in enumerate(_alike(crops_of(sharp.views), crops_of(real.views))):
        size = min(one.size, other.size)
        whole = torch.from_numpy(one.view.copy()).permute(2, 0, 1)[None].float() / 255
        made = (degraded(degradation, whole, seed + i)[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        another = "real LR" if _same_scene(one, other) else "real LR (another photograph)"
        cells = [  # the two to be compared come first: they stay side by side on a narrow page
            _enlarged(one.cut(made, size), "HR, shrunk and translated"),
            _enlarged(other.cut(other.view, size), another),
            _enlarged(one.cut(one.view, size), "HR, shrunk only"),
        ]
        rows.append(f'<div class="panels three">{"".join(cells)}</div>')
    if not rows:
        return ""
    text = (
        "The first picture of a row should look like the second one in everything but what they show: as soft, as "
        "noisy, with the same grain. The third one is the first before the blur and the noise that were measured were "
        "put into it. Each row compares places of about the same brightness."
    )
    return paragraph(text) + "\n".join(rows)


def _enlarged(picture: Window, caption: str) -> str:
    """At its own size in the file; the browser enlarges it without smoothing."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode("ascii")
    height, width = (side * _ZOOM for side in picture.shape[:2])
    return (
        f'<figure><img class="part" src="data:image/png;base64,{data}" width="{width}" height="{height}" '
        f'alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption></figure>'
    )


def crops_of(views: Sequence[Window]) -> list[_Crop]:
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


def _spectra(degradation: Degradation, sharp: Sample, real: Sample, seed: int) -> str:
    side = min(sharp.patches.shape[-1], real.patches.shape[-1])
    synthetic = sharp.patches[..., :side, :side].contiguous()
    of = {
        "real LR": real.patches[..., :side, :side],
        "HR, shrunk only": synthetic,
        "HR, shrunk and translated": degraded(degradation, synthetic, seed),
    }
    series = {name: _spectrum(patches) for name, patches in of.items()}
    return line_chart("Spectra", series, "cycles a px", "power, log10")


def _spectrum(patches: Tensor) -> list[tuple[float, float]]:
    frequency, power = radial(spectra(patches).power.mean(0))
    return list(zip(frequency.tolist(), power.clamp(min=1e-12).log10().tolist(), strict=True))


def _reading() -> str:
    text = (
        "A spectrum says how strong coarse and fine detail are. The translated line should lie on that of real LR. "
        "Blur lowers the right end, noise lifts it. One unit up is "
        "a decade, ten times the power; half a cycle a px is the finest that an image can hold."
    )
    return paragraph(text, "quiet")


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
