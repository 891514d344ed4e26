"""RealPLKSR of neosr and traiNNer-redux: our names are theirs."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from cyclesr_dist.config.schema import SRNet
from cyclesr_dist.models.layouts.base import Held, Layout, count, inputs_differ, own_names
from cyclesr_dist.nets.realplksr import KERNEL, PART


def _held(state: Mapping[str, Tensor]) -> Held | None:
    blocks = count(state, lambda i: f"feats.{i + 1}.channel_mixer.0.weight")
    first, large = state.get("feats.0.weight"), state.get("feats.1.lk.conv.weight")
    last = state.get(f"feats.{blocks + 2}.weight")
    if first is None or last is None or large is None or not blocks or first.dim() != 4 or large.dim() != 4:
        return None
    channels, part = first.shape[0], large.shape[0]
    differs = inputs_differ(first)
    if large.shape[2] != KERNEL or part != channels // PART:
        found = f"{large.shape[2]} x {large.shape[3]} on {part} of {channels} channels"
        differs = f"has kernels of {found}; ours has {KERNEL} x {KERNEL} on a quarter of them"
    elif "feats.1.attn.f.0.weight" not in state:
        differs = "has no element-wise attention; ours has"
    elif "to_img.init_pos" in state:
        differs = "enlarges with DySample; ours with pixel shuffle"
    sr = SRNet(kind="realplksr", channels=channels, blocks=blocks, layer_norm="feats.1.layer_norm.weight" in state)
    return Held(sr, math.isqrt(last.shape[0] // 3), differs)


NEOSR = Layout("RealPLKSR of neosr and traiNNer-redux", _held, own_names)
