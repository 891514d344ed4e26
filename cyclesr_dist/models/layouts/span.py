"""SPAN: our names are its own. Its files hold the merged kernels beside the parts that they are made of."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from cyclesr_dist.config.schema import SRNet
from cyclesr_dist.models.layouts.base import Held, Layout, State, count, inputs_differ, own_names
from cyclesr_dist.nets.span import merged

_NO_NORM = "no_norm"
"""What a file has whose network takes colours as they are."""
_PARTS = ("sk", "conv.0", "conv.1", "conv.2")


def _held(state: Mapping[str, Tensor]) -> Held | None:
    blocks = count(state, lambda i: f"block_{i + 1}.c1_r.sk.weight")
    first, last = state.get("conv_1.sk.weight"), state.get("upsampler.0.weight")
    if first is None or last is None or not blocks or first.dim() != 4:
        return None
    sr = SRNet(kind="span", channels=first.shape[0], blocks=blocks, mean_shift=_NO_NORM not in state)
    return Held(sr, math.isqrt(last.shape[0] // 3), inputs_differ(first))


def _derived(state: Mapping[str, Tensor], sr: SRNet, scale: int) -> State:
    found = {} if sr.mean_shift else {_NO_NORM: torch.zeros(1)}
    for name in state:
        if name.endswith(".sk.weight"):
            convolution = name.removesuffix(".sk.weight")
            parts = [
                (state[f"{convolution}.{part}.weight"].float(), state[f"{convolution}.{part}.bias"].float())
                for part in _PARTS
            ]
            weight, bias = merged(*parts)
            found |= {f"{convolution}.eval_conv.weight": weight, f"{convolution}.eval_conv.bias": bias}
    return found


AUTHORS = Layout("SPAN", _held, own_names, derived=_derived)
