"""SRVGGNetCompact of Real-ESRGAN: our names are its own."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from cyclesr_dist.config.schema import SRNet
from cyclesr_dist.models.layouts.base import Held, Layout, Names


def _held(state: Mapping[str, Tensor]) -> Held | None:
    if "body.0.weight" not in state or "body.1.weight" not in state:
        return None
    places = [key.split(".")[1] for key in state if key.startswith("body.")]
    if len(places) != len(state) or not all(place.isdecimal() for place in places):
        return None
    last = max(map(int, places))
    first, tail = state["body.0.weight"], state.get(f"body.{last}.weight")
    if first.dim() != 4 or tail is None or tail.dim() != 4 or state["body.1.weight"].dim() != 1:
        return None
    channels, inputs = first.shape[:2]
    differs = f"takes {inputs} input channels; ours takes 3" if inputs != 3 else ""
    scale = math.isqrt(tail.shape[0] // 3)
    return Held(SRNet(kind="srvgg", channels=channels, blocks=(last - 2) // 2), scale, differs)


def _names(sr: SRNet, scale: int) -> Names:
    return {f"body.{i}": f"body.{i}" for i in range(2 * sr.blocks + 3)}


REALESRGAN = Layout("SRVGGNetCompact of Real-ESRGAN", _held, _names)
