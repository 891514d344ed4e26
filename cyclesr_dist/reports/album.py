"""Pictures inside a page: as WebP, within a budget of bytes, alone, side by side or as a pair with a slider between."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cyclesr_dist.reports.strips import panels_of

SLIDER_SCRIPT = (
    "addEventListener('input',e=>{const f=e.target.closest('.before-after');"
    "if(f)f.style.setProperty('--cut',e.target.value+'%')})"
)
"""The one script of a page with sliders."""

BYTES = 6_500_000
"""Of all pictures of a page as base64: it stays below 8 MB."""

_QUALITY = 90  # where lossless does not fit
_EFFORT = 25  # of lossless WebP, 0 to 100: 100 takes four times as long for photographs no smaller
_LOSSY_SHARE = 0.3  # of the bytes, kept for what comes last: better lossy than left out

Picture = Path | bytes | NDArray[np.uint8]
"""A PNG file, its bytes, or (H, W, 3) uint8 RGB."""


class Album:
    """Embeds pictures until `limit_bytes` of page are used: lossless while they fit, then lossy, then not at all."""

    def __init__(self, limit_bytes: int = BYTES) -> None:
        self.left = limit_bytes
        self._kept = _LOSSY_SHARE * limit_bytes
        self.unreadable: list[str] = []
        self.left_out: list[str] = []

    def picture(self, source: Picture, alternative: str) -> str:
        """An `<img>`; empty where the file is no PNG or there is no room left, which the album then knows."""
        image = self._opened(source, alternative)
        return self._embedded(image, _name(source, alternative), alternative) if image else ""

    def figure(self, source: Picture, caption: str, alternative: str) -> str:
        """At its own size, or as wide as there is room."""
        image = self.picture(source, alternative)
        if not image:
            return ""
        return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"

    def strip(self, source: Path | bytes, caption: str, alternative: str) -> str:
        """A comparison strip, panel by panel, in as many rows as it takes where the page is narrow."""
        image, name = self._opened(source, caption), _name(source, caption)
        if image is None:
            return ""
        panels = [Image.fromarray(np.ascontiguousarray(panel)) for panel in panels_of(np.asarray(image))]
        several = len(panels) > 1
        cells = [
            self._embedded(panel, name, f"{alternative}, {i} of {len(panels)}" if several else alternative)
            for i, panel in enumerate(panels, 1)
        ]
        if not all(cells):
            return ""
        body = f'<div class="panels">{"".join(cells)}</div>' if several else cells[0]
        return f"<figure>{body}<figcaption>{escape(caption)}</figcaption></figure>"

    def row(self, pictures: Sequence[tuple[str, Picture | None]], caption: str, kind: str = "even") -> str:
        """(name, picture) side by side, equally wide, or with `kind` actual in parts of their own size; where one is
        None, a box says so. Empty where there is none at all."""
        cells = [
            self.figure(source, name, f"{caption}: {name}") if source is not None else "" for name, source in pictures
        ]
        if not any(cells):
            return ""
        boxes = [
            cell or f'<figure><div class="missing">no picture</div><figcaption>{escape(name)}</figcaption></figure>'
            for cell, (name, _) in zip(cells, pictures, strict=True)
        ]
        return f'<div class="panels {kind}">{"".join(boxes)}</div>'

    def before_after(
        self, before: tuple[str, Picture], after: tuple[str, Picture], caption: str, most_px: int | None = None
    ) -> str:
        """Two pictures of one size, (name, picture) each, of which a slider shows the left part of the one and the
        right part of the other, at most `most_px` wide. It moves with the mouse, a finger or the arrow keys."""
        images = [self.picture(source, f"{caption}: {name}") for name, source in (before, after)]
        if not all(images):
            return ""
        label = f"{caption}: {before[0]} left of the line, {after[0]} right of it"
        style = f' style="max-width:{most_px}px"' if most_px else ""
        return (
            f'<figure class="before-after"{style}><div class="pair">{"".join(images)}</div>'
            f'<input type="range" min="0" max="100" value="50" aria-label="{escape(label)}">'
            f'<div class="ends"><span>{escape(before[0])}</span><span>{escape(after[0])}</span></div>'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )

    def notes(self) -> list[str]:
        lines = []
        if self.unreadable:
            lines.append(f"Not a PNG, left out: {', '.join(dict.fromkeys(self.unreadable))}.")
        if self.left_out:
            lines.append(f"No room on the page for: {', '.join(dict.fromkeys(self.left_out))}.")
        return lines

    def _opened(self, source: Picture, name: str) -> Image.Image | None:
        if isinstance(source, np.ndarray):
            return Image.fromarray(np.ascontiguousarray(source))
        try:
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=["PNG"]) as opened:
                return opened.convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):  # what Pillow raises of a broken file
            self.unreadable.append(_name(source, name))
            return None

    def _embedded(self, image: Image.Image, name: str, alternative: str) -> str:
        for lossless in (True, False):
            data = _webp(image, lossless)
            if len(data) <= self.left - (self._kept if lossless else 0):
                self.left -= len(data)
                return (
                    f'<img src="data:image/webp;base64,{data}" width="{image.width}" height="{image.height}" '
                    f'alt="{escape(alternative)}">'
                )
        self.left_out.append(name)
        return ""


def _name(source: Picture, otherwise: str) -> str:
    return source.name if isinstance(source, Path) else otherwise


def same_size(one: Path, other: Path) -> bool:
    """Whether a slider can lie between two PNG files."""
    try:
        with Image.open(one, formats=["PNG"]) as a, Image.open(other, formats=["PNG"]) as b:
            return a.size == b.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return True  # the album says what is wrong with them


def _webp(image: Image.Image, lossless: bool) -> str:
    file = io.BytesIO()
    image.save(file, "WEBP", lossless=lossless, quality=_EFFORT if lossless else _QUALITY, method=3)
    return base64.b64encode(file.getvalue()).decode("ascii")
