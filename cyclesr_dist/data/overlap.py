"""Whether HR and real LR patches share pixels, as far as the manifests of their sets show it.

The two domains must be of unrelated content: an LR patch whose HR original is in the other set makes the training half
supervised, and its figures wrong.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from cyclesr_dist.data.folders import hr_stem

RECORD = "degradations.json"
"""In a folder of simulated LR: which HR file each was made of, and how (degradation/simulate.py)."""
BOXES = {
    "all": (0, 0, 2, 2),
    "left": (0, 0, 2, 1),
    "right": (0, 1, 2, 2),
    "top": (0, 0, 1, 2),
    "bottom": (1, 0, 2, 2),
}
"""Regions in halves of the image: top, left, bottom, right."""


def shared_photographs(hr: Mapping[str, Any], lr: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Files (HR, LR) of two manifests that show the same part of the same photograph.

    They do if they are the same file, if the LR file was made from the HR file (`degradations.json` told so when the
    set was built), or, where nothing is known of the LR file's origin, if their names match as pairs do: the same
    stem, DIV2K's `0801x4m` and `0801`, or the same scene of two patterns. Files that were cut from different halves
    share no pixel.
    """
    if not _intersect(hr["region"], lr["region"]):
        return []
    by_checksum = {source["hr_sha256"]: source["hr"] for source in hr["sources"]}
    by_stem = {_scene(source, "hr"): source["hr"] for source in hr["sources"]}
    shared = []
    for source in lr["sources"]:
        name, origin = source["lr"], source.get("lr_origin_sha256")
        found = by_checksum.get(source["lr_sha256"]) or (by_checksum.get(origin) if origin else None)
        if found is None and origin is None:
            scene = _scene(source, "lr")
            found = by_stem.get(scene) or by_stem.get(hr_stem(scene))
        if found is not None:
            shared.append((found, name))
    return shared


def describe(shared: list[tuple[str, str]]) -> str:
    """The files in one line."""
    named = ", ".join(f"{hr} and {lr}" for hr, lr in shared[:3])
    return named + (f" and {len(shared) - 3} more" if len(shared) > 3 else "")


def _scene(source: Mapping[str, Any], domain: str) -> str:
    if "scene" in source:  # of a pattern
        return str(source["scene"])
    name: str = source[domain]
    return unicodedata.normalize("NFC", name.rsplit(".", 1)[0])


def _intersect(a: str, b: str) -> bool:
    (top_a, left_a, bottom_a, right_a), (top_b, left_b, bottom_b, right_b) = BOXES[a], BOXES[b]
    return top_a < bottom_b and top_b < bottom_a and left_a < right_b and left_b < right_a
