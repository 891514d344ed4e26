"""Pictures inside a page: as WebP, within a budget of bytes, and as a pair with a slider between."""

from __future__ import annotations

import base64
import io
from html import escape
from pathlib import Path

from PIL import Image

SLIDER_SCRIPT = (
    "addEventListener('input',e=>{const f=e.target.closest('.before-after');"
    "if(f)f.style.setProperty('--cut',e.target.value+'%')})"
)
"""The one script of a page with sliders."""

_QUALITY = 90  # where lossless does not fit


class Album:
    """Embeds pictures until `limit_bytes` of page are used: lossless while they fit, then lossy, then not at all."""

    def __init__(self, limit_bytes: int) -> None:
        self.left = limit_bytes
        self.unreadable: list[str] = []
        self.left_out: list[str] = []

    def picture(self, path: Path, alternative: str, style: str = "") -> str:
        """An `<img>`; empty where the file is no PNG or there is no room left, which the album then knows."""
        try:
            with Image.open(path, formats=["PNG"]) as opened:
                image = opened.convert("RGB")
        except OSError:
            self.unreadable.append(path.name)
            return ""
        for lossless in (True, False):
            data = _webp(image, lossless)
            if len(data) <= self.left:
                self.left -= len(data)
                extra = f' style="{style.format(width=image.width)}"' if style else ""
                return (
                    f'<img src="data:image/webp;base64,{data}" width="{image.width}" height="{image.height}"{extra} '
                    f'alt="{escape(alternative)}">'
                )
        self.left_out.append(path.name)
        return ""

    def figure(self, path: Path, caption: str, alternative: str) -> str:
        """At its own size, which scrolls where the page is narrower."""
        image = self.picture(path, alternative, "min-width:min({width}px,46rem)")
        return (
            f'<figure><div class="wide" tabindex="0">{image}</div><figcaption>{escape(caption)}</figcaption></figure>'
            if image
            else ""
        )

    def whole(self, path: Path, caption: str, alternative: str) -> str:
        """As wide as the page has room for."""
        image = self.picture(path, alternative, "width:{width}px")
        return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>" if image else ""

    def before_after(self, before: tuple[str, Path], after: tuple[str, Path], caption: str) -> str:
        """Two pictures of one size, (name, file) each, of which a slider shows the left part of the one and the right
        part of the other. It moves with the mouse, a finger or the arrow keys."""
        images = [self.picture(path, f"{caption}: {name}") for name, path in (before, after)]
        if not all(images):
            return ""
        label = f"{caption}: {before[0]} left of the line, {after[0]} right of it"
        return (
            f'<figure class="before-after"><div class="pair">{"".join(images)}</div>'
            f'<input type="range" min="0" max="100" value="50" aria-label="{escape(label)}">'
            f'<div class="ends"><span>{escape(before[0])}</span><span>{escape(after[0])}</span></div>'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )

    def notes(self) -> list[str]:
        lines = []
        if self.unreadable:
            lines.append(f"Not a PNG, left out: {', '.join(self.unreadable)}.")
        if self.left_out:
            lines.append(f"No room on the page for: {', '.join(self.left_out)}.")
        return lines


def _webp(image: Image.Image, lossless: bool) -> str:
    file = io.BytesIO()
    image.save(file, "WEBP", lossless=lossless, quality=100 if lossless else _QUALITY, method=3)
    return base64.b64encode(file.getvalue()).decode("ascii")
