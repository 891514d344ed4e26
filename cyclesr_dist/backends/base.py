"""What a backend is to the rest: players that compute losses and update themselves, and a few collectives.

A *player* is one network trained against the other: G, the generators, or D, the discriminators. It has exactly one
optimizer, one backward and one update a step; that is what DeepSpeed allows and DDP likes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

TensorDict = dict[str, Tensor]


@dataclass
class PlayerState:
    """A player's full training state, the same whatever the backend and the world size. Keys are parameter names."""

    params: TensorDict
    """fp32 parameters."""
    buffers: TensorDict
    exp_avg: TensorDict = field(default_factory=dict)
    """Adam's first moments; empty before the first update."""
    exp_avg_sq: TensorDict = field(default_factory=dict)
    num_updates: int = 0
    """Adam's step counter."""
    loss_scale: dict[str, float] = field(default_factory=dict)
    """fp16 only."""


class Player(Protocol):
    module: nn.Module
    """The plain module: what the other player calls, and what holds the parameters."""

    def __call__(self, *inputs: Any) -> Any:
        """Forward through the backend's wrapper and the chosen precision."""

    def update(self, loss: Tensor) -> float:
        """Backward, average over ranks, unscale, clip, Adam step. Returns the gradient norm before clipping.

        All ranks call it. With fp16 a step whose gradients overflow is left out on all ranks and the norm is inf.
        """

    def set_lr(self, factor: float) -> None:
        """Use `factor` times each parameter group's configured learning rate from now on."""

    def state(self) -> PlayerState:
        """The full state on the CPU. All ranks call it; all get the same."""

    def load_state(self, state: PlayerState) -> None:
        """Take over a state saved by any backend at any world size. All ranks call it."""


@dataclass(frozen=True)
class ParamGroup:
    """Submodules of a player that share a learning rate."""

    prefixes: tuple[str, ...]
    lr: float


class Backend(Protocol):
    def player(self, module: nn.Module, groups: tuple[ParamGroup, ...]) -> Player:
        """Wrap a module and give it Adam over its groups. All ranks call it with equally initialised modules."""

    def global_mean(self, x: Tensor) -> Tensor:
        """Mean over all elements and ranks, differentiable. All ranks call it."""

    def gather(self, x: Tensor) -> Tensor:
        """Concatenate (N, ...) of all ranks in rank order: (ranks * N, ...). No gradient. All ranks call it."""
