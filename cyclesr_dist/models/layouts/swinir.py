"""SwinIR: our names are its own. Its files hold tables of the windows, too, which our code makes as it needs them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from cyclesr_dist.config.schema import SRNet, Upsampler
from cyclesr_dist.models.layouts.base import Held, Layout, State, count, inputs_differ, own_names
from cyclesr_dist.nets.swinir import HEADS, LAYERS, WINDOW, relative_positions, separations

_TABLE = "layers.0.residual_group.blocks.0.attn.relative_position_bias_table"
_PATCH_WINDOWS = 8
"""Along a side of the patches, 64 x 64 px, that a file's table is made for."""


def _held(state: Mapping[str, Tensor]) -> Held | None:
    blocks = count(state, lambda i: f"layers.{i}.residual_group.blocks.0.norm1.weight")
    first, table = state.get("conv_first.weight"), state.get(_TABLE)
    if first is None or table is None or first.dim() != 4 or table.dim() != 2:
        return None
    channels = first.shape[0]
    upsampler, scale = _enlarging(state)
    sr = SRNet(kind="swinir", channels=channels, blocks=blocks, upsampler=upsampler or "pixelshuffle")
    return Held(sr, scale, inputs_differ(first) or _differs(state, upsampler, table, channels))


def _enlarging(state: Mapping[str, Tensor]) -> tuple[Upsampler | None, int]:
    """The upsampler, and the scale."""
    if "conv_up1.weight" in state:
        return "nearest+conv", 2 ** count(state, lambda n: f"conv_up{n + 1}.weight")
    enlarging = state.get("upsample.0.weight")
    if enlarging is None:
        return None, 1
    if "conv_before_upsample.0.weight" not in state:
        return "pixelshuffledirect", math.isqrt(enlarging.shape[0] // 3)
    stages = count(state, lambda n: f"upsample.{2 * n}.weight")
    return "pixelshuffle", 3 if enlarging.shape[0] == 9 * enlarging.shape[1] else 2**stages


def _differs(state: Mapping[str, Tensor], upsampler: str | None, table: Tensor, channels: int) -> str:
    layers = count(state, lambda i: f"layers.0.residual_group.blocks.{i}.norm1.weight")
    hidden = state.get("layers.0.residual_group.blocks.0.mlp.fc1.bias")
    if not upsampler:
        return "does not enlarge"
    if table.shape != ((2 * WINDOW - 1) ** 2, HEADS) or layers != LAYERS:
        window = (math.isqrt(table.shape[0]) + 1) // 2
        return (
            f"has {layers} layers a block, {table.shape[1]} heads and windows of {window} x {window}; ours has "
            f"{LAYERS}, {HEADS} and {WINDOW} x {WINDOW}"
        )
    if "conv_after_body.0.weight" in state:
        return "has three convolutions behind each block; ours has one"
    if hidden is not None and hidden.shape[0] != 2 * channels:
        return f"has {hidden.shape[0]} hidden features a layer; ours has 2 * {channels}"
    return ""


def _derived(state: Mapping[str, Tensor], sr: SRNet, scale: int) -> State:
    found = {}
    cpu = torch.device("cpu")
    for block in range(sr.blocks):
        for layer in range(LAYERS):
            prefix = f"layers.{block}.residual_group.blocks.{layer}"
            found[f"{prefix}.attn.relative_position_index"] = relative_positions(cpu)
            if layer % 2:
                found[f"{prefix}.attn_mask"] = separations(_PATCH_WINDOWS, _PATCH_WINDOWS, cpu)
    return found


AUTHORS = Layout("SwinIR", _held, own_names, derived=_derived)
