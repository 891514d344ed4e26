"""EDSR: the names of BasicSR, and those of its authors (EDSR-PyTorch), which keep the mean shift as layers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from cyclesr_dist.config.schema import SRNet
from cyclesr_dist.models.layouts.base import Held, Layout, Names, count
from cyclesr_dist.nets.edsr import DIV2K_MEAN

_MEAN = 255 * torch.tensor(DIV2K_MEAN)
_COLOURS = torch.eye(3).view(3, 3, 1, 1)


def _names(head: str, block: str, body: str, up: str, tail: str, sr: SRNet, scale: int) -> Names:
    names = {"head": head, f"body.{sr.blocks}": body.format(blocks=sr.blocks), "tail": tail}
    for i in range(sr.blocks):
        names |= {f"body.{i}.body.{2 * k}": block.format(i=i, n=k + 1, place=2 * k) for k in range(2)}
    stages = 1 if scale == 3 else scale.bit_length() - 1
    return names | {f"up.{2 * n}": f"{up}.{2 * n}" for n in range(stages)}


def _held(head: str, block: str, up: str, state: Mapping[str, Tensor]) -> Held | None:
    before, after = block.split("{i}")
    blocks = count(state, lambda i: f"{before}{i}{after}.weight")
    first, enlarging = state.get(f"{head}.weight"), state.get(f"{up}.0.weight")
    if first is None or enlarging is None or not blocks or first.dim() != 4:
        return None
    channels, inputs = first.shape[:2]
    stages = count(state, lambda n: f"{up}.{2 * n}.weight")
    scale = 3 if enlarging.shape[0] == 9 * channels else 2**stages
    differs = f"takes {inputs} input channels; ours takes 3" if inputs != 3 else ""
    return Held(SRNet(kind="edsr", channels=channels, blocks=blocks, mean_shift=True), scale, differs)


BASICSR = Layout(
    "EDSR of BasicSR",
    partial(_held, "conv_first", "body.{i}.conv1", "upsample"),
    partial(_names, "conv_first", "body.{i}.conv{n}", "conv_after_body", "upsample", "conv_last"),
)
AUTHORS = Layout(
    "EDSR of EDSR-PyTorch",
    partial(_held, "head.0", "body.{i}.body.0", "tail.0"),
    partial(_names, "head.0", "body.{i}.body.{place}", "body.{blocks}", "tail.0", "tail.1"),
    {"sub_mean.weight": _COLOURS, "sub_mean.bias": -_MEAN, "add_mean.weight": _COLOURS, "add_mean.bias": _MEAN},
)
