"""Photographs of one's own, before and after: parts at full size, from `upscaled/` of a run folder."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from urllib.parse import quote

import numpy as np
from PIL import Image

from cyclesr_dist.data.images import read_rgb8
from cyclesr_dist.errors import InputError
from cyclesr_dist.reports.album import Album
from cyclesr_dist.reports.page import paragraph
from cyclesr_dist.reports.run_files import UPSCALED, RunFiles, Upscaled
from cyclesr_dist.reports.strips import RGB8, Crop, most_detailed_crop

MAX_PHOTOS = 8
PART_PX = 360
"""Side of a part: what a telephone shows at full size."""
_LOOKED_AT_PX = 1024  # longest side of what the most detailed part is looked for in


def own_photographs(run: RunFiles, album: Album) -> str:
    """HTML: of at most MAX_PHOTOS photographs the most detailed part, bicubic and g_l2h behind a slider."""
    parts = [_photograph(photo, album) for photo in run.upscaled[:MAX_PHOTOS]]
    shown = [part for part in parts if part]
    if not shown:
        return ""
    text = (
        "Photographs of your own, enlarged. Left of the line: bicubic, which is enlargement without training. Right of "
        "it: what this run makes of them. Each is a part of the photograph at full size (100%)."
    )
    rest = len(run.upscaled) - MAX_PHOTOS
    more = paragraph(f"{rest} more are in the folder {UPSCALED}.", "quiet") if rest > 0 else ""
    return f'{paragraph(text)}<div class="pictures">{"".join(shown)}</div>{more}\n'


def own_photographs_of(runs: Mapping[str, RunFiles], album: Album) -> str:
    """HTML: the same part of the same photograph by each run; `no picture` where a run has it not."""
    found = {name: {photo.name: photo for photo in run.upscaled} for name, run in runs.items()}
    parts = []
    for stem in list(dict.fromkeys(stem for photos in found.values() for stem in photos))[:MAX_PHOTOS]:
        photos = {name: of.get(stem) for name, of in found.items()}
        before = next((photo.before for photo in photos.values() if photo and photo.before), None)
        pictures = {name: _read(photo.after, album) if photo else None for name, photo in photos.items()}
        sizes = [picture.shape for picture in pictures.values() if picture is not None]
        bicubic = _read(before, album) if before else None
        if not sizes:
            continue
        crop = _part(next(p for p in (bicubic, *pictures.values()) if p is not None and p.shape == sizes[0]))
        row = {"bicubic": bicubic, **pictures} if bicubic is not None else pictures
        cells = [(name, _cut(p, crop) if p is not None and p.shape == sizes[0] else None) for name, p in row.items()]
        parts.append(f"<h3>{escape(stem)}</h3>{album.row(cells, stem, 'actual')}")
    text = "The same part of each photograph at full size (100%), by each run."
    return paragraph(text) + "".join(parts) if parts else ""


def _photograph(photo: Upscaled, album: Album) -> str:
    after = _read(photo.after, album)
    if after is None:
        return ""
    before = _read(photo.before, album) if photo.before else None
    if before is not None and before.shape != after.shape:
        before = None
    crop = _part(after if before is None else before)
    if before is None:
        figure = album.figure(_cut(after, crop), photo.name, f"{photo.name}: enlarged by this run")
    else:
        pair = (("bicubic", _cut(before, crop)), ("this run", _cut(after, crop)))
        figure = album.before_after(*pair, photo.name, most_px=crop[2])
    size = f"{after.shape[1]:,} x {after.shape[0]:,} px"
    link = f'<a href="{escape(quote(f"{UPSCALED}/{photo.after.name}"))}">the whole photograph</a>'
    return f'<div>{figure}<p class="quiet">Open {link} ({size}).</p></div>' if figure else ""


def _read(path: Path, album: Album) -> RGB8 | None:
    try:
        return read_rgb8(path)
    except InputError:
        album.unreadable.append(f"{path.parent.name}/{path.name}")
        return None


def _part(picture: RGB8) -> Crop:
    """The most detailed square of PART_PX, looked for in a smaller copy: photographs may be large."""
    height, width = picture.shape[:2]
    step = -(-max(height, width) // _LOOKED_AT_PX)
    small = np.asarray(Image.fromarray(picture).reduce(step)) if step > 1 else picture
    y, x, _ = most_detailed_crop(small, max(1, PART_PX // step))
    size = min(PART_PX, height, width)
    return min(y * step, height - size), min(x * step, width - size), size


def _cut(picture: RGB8, crop: Crop) -> RGB8:
    y, x, size = crop
    return picture[y : y + size, x : x + size]
