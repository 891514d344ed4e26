"""What a layout is: the names of another project for the layers of one of our networks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from cyclesr_dist.config.schema import SRNet
from cyclesr_dist.nets.build import build_sr

State = dict[str, Tensor]
Names = dict[str, str]
"""Names of layers, ours to theirs; a tensor's name is its layer's, and `.weight` or `.bias`."""


class Held(NamedTuple):
    """The network that a file holds, as its names and shapes tell."""

    sr: SRNet
    scale: int
    differs: str = ""
    """What no network of ours has, as part of a sentence; empty where we have the same."""


def _nothing(state: Mapping[str, Tensor], sr: SRNet, scale: int) -> State:
    return {}


@dataclass(frozen=True)
class Layout:
    """Of one architecture in one project."""

    project: str
    """With the name of the architecture there."""
    held: Callable[[Mapping[str, Tensor]], Held | None]
    """What the tensors of a file are; None where they are none of this layout."""
    names: Callable[[SRNet, int], Names]
    """For our network and its scale."""
    constants: Mapping[str, Tensor] = field(default_factory=dict)
    """Tensors that a file of this layout may hold besides, and that our code has as numbers."""
    derived: Callable[[Mapping[str, Tensor], SRNet, int], State] = _nothing
    """Tensors that a file of this layout holds besides, and that follow from our network and its state, which has the
    file's names: they are written, and passed over in reading."""


def own_names(sr: SRNet, scale: int) -> Names:
    """Of a network whose layers have the other project's names with us, too."""
    with torch.device("meta"):
        keys = build_sr(sr, scale).state_dict()
    return {layer: layer for layer in (key.rpartition(".")[0] for key in keys)}


def inputs_differ(first: Tensor) -> str:
    """Of a kernel (channels, inputs, ...), the first one: what no network of ours has, or nothing."""
    return f"takes {first.shape[1]} input channels; ours takes 3" if first.shape[1] != 3 else ""


def renamed(state: Mapping[str, Tensor], names: Names) -> State:
    """With the name of each tensor's layer changed. KeyError for a layer that `names` does not know."""
    return {_renamed(key, names): tensor for key, tensor in state.items()}


def _renamed(key: str, names: Names) -> str:
    layer, _, part = key.rpartition(".")
    return f"{names[layer]}.{part}"


def count(state: Mapping[str, Tensor], name_of: Callable[[int], str]) -> int:
    """For how many i = 0, 1, ... the file has the tensor `name_of(i)`."""
    return next(i for i in itertools.count() if name_of(i) not in state)
