"""What a backend is to the rest: a maker of players, which compute losses and update themselves.

A *player* is one network trained against the other: G, the generators, or D, the discriminators. It has exactly one
optimizer and one update a step, and one backward, or one a part of the batch; that is what DeepSpeed allows and DDP
likes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW

from cyclesr_dist.config.schema import Optim

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
    micro_batch: int | None
    """Samples that pass through it at once, the same on all ranks; None: all of the rank's. Steps keep to it."""

    def __call__(self, *inputs: Any) -> Any:
        """Forward through the backend's wrapper and the chosen precision."""

    def accumulate(self, part: Callable[[], Tensor]) -> None:
        """Forward and backward of a part of the loss. Its gradient waits on this rank for that of the next `update`.

        Ranks exchange nothing, but with ZeRO stages 2 and 3, which keep a gradient where it belongs. All ranks call it.
        """

    def update(self, loss: Tensor) -> float:
        """Backward, add what was accumulated, average over ranks, unscale, clip, Adam step. Returns the gradient norm
        before clipping.

        All ranks call it. The norm is of averaged gradients, so it is the same on all. When it is not finite,
        parameters and moments stay as they are (with fp16 the loss scale is lowered).
        """

    def network_norms(self) -> TensorDict:
        """Gradient norm of each network in the last update, before clipping, as scalars on the device.

        Once after each update; empty where nothing was updated since, and where gradients are partitioned.
        """

    def loss_scale(self) -> Tensor | None:
        """What the loss is multiplied by in backward, as a scalar on the device; None: by nothing."""

    def set_lr(self, factor: float) -> None:
        """Use `factor` times each parameter group's configured learning rate from now on."""

    def full_params(self, prefix: str) -> TensorDict:
        """Whole parameters and buffers whose names start with `prefix`, without the prefix. All ranks call it.

        They may be the live tensors: read them, do not keep them.
        """

    def load(self, saved: PlayerState) -> None:
        """Take over a state that `state` gave, of any backend and world size. All ranks call it."""

    def state(self) -> PlayerState:
        """The full state on the CPU. All ranks call it; all get the same."""


@dataclass(frozen=True)
class ParamGroup:
    """Submodules of a player that share a learning rate."""

    prefixes: tuple[str, ...]
    lr: float

    def params(self, module: nn.Module) -> list[nn.Parameter]:
        """The module's parameters whose names start with one of the prefixes, in order."""
        return [p for name, p in module.named_parameters() if name.startswith(self.prefixes)]


def build_adam(module: nn.Module, groups: tuple[ParamGroup, ...], optim: Optim, fused: bool = False) -> Adam:
    """The paper's Adam, a parameter group each; AdamW, two each, where weights decay (Loshchilov and Hutter 2019).

    Every parameter group keeps its `initial_lr` for the schedule.
    """
    grouped = [g.params(module) for g in groups]
    num_grouped = sum(map(len, grouped))
    assert num_grouped == len(list(module.parameters())), "each parameter belongs to exactly one group"
    settings = [{"params": p, "lr": g.lr, "initial_lr": g.lr} for p, g in zip(grouped, groups, strict=True)]
    betas = (optim.beta1, optim.beta2)
    if not optim.weight_decay:
        return Adam(settings, betas=betas, fused=fused)
    return AdamW(
        [part for group in settings for part in _by_decay(group, optim.weight_decay)], betas=betas, fused=fused
    )


def _by_decay(group: dict[str, Any], weight_decay: float) -> list[dict[str, Any]]:
    """A parameter group in two: weight tensors, which decay, and what has one dimension, which does not.

    A bias, a norm's scale or a PReLU's slope has no large value that decay could keep a network from.
    """
    parts = (
        {"params": [p for p in group["params"] if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in group["params"] if p.ndim <= 1], "weight_decay": 0.0},
    )
    return [group | part for part in parts if part["params"]]  # DeepSpeed takes no empty group


def read_moments(adam: Adam, module: nn.Module) -> tuple[TensorDict, TensorDict, int]:
    """Adam's first and second moments by parameter name, and its step counter; empty before the first update."""
    started = [(name, adam.state[p]) for name, p in module.named_parameters() if p in adam.state]
    exp_avg = to_cpu((name, s["exp_avg"]) for name, s in started)
    exp_avg_sq = to_cpu((name, s["exp_avg_sq"]) for name, s in started)
    return exp_avg, exp_avg_sq, int(started[0][1]["step"]) if started else 0


def load_moments(adam: Adam, module: nn.Module, saved: PlayerState) -> None:
    """The reverse of `read_moments`, for an Adam that holds the module's own parameters."""
    for name, p in module.named_parameters():
        if name in saved.exp_avg:
            adam.state[p] = {
                "step": step_counter(adam, saved.num_updates, p.device),
                "exp_avg": saved.exp_avg[name].to(p.device, copy=True),
                "exp_avg_sq": saved.exp_avg_sq[name].to(p.device, copy=True),
            }
        else:
            adam.state.pop(p, None)


def step_counter(adam: Adam, num_updates: int, device: torch.device) -> Tensor:
    """As Adam keeps it: beside the parameter when it is fused, else on the CPU."""
    return torch.tensor(float(num_updates), device=device if adam.defaults["fused"] else "cpu")


def load_into(module: nn.Module, saved: PlayerState) -> None:
    """Copy saved parameters and buffers into a module whose parameters are whole on every rank."""
    module.load_state_dict(saved.params | saved.buffers, strict=True)


def load_buffers(module: nn.Module, saved: TensorDict) -> None:
    """Copy saved buffers into a module; one of another size takes the place of what was there."""
    for path, child in module.named_modules():
        for name, buffer in list(child.named_buffers(recurse=False)):
            key = f"{path}.{name}" if path else name
            if name == "jpeg" and key not in saved:  # of a measured degradation; states of before have none
                continue
            value = saved[key]
            if value.shape == buffer.shape:
                buffer.copy_(value)
            else:
                setattr(child, name, value.to(buffer.device, buffer.dtype, copy=True))


def networks(module: nn.Module) -> dict[str, nn.Module]:
    """The networks that a player is made of, by name: the discriminators lie in a ModuleDict of their own."""
    found: dict[str, nn.Module] = {}
    for name, child in module.named_children():
        found |= dict(child.items()) if isinstance(child, nn.ModuleDict) else {name: child}
    return found


def strip(prefix: str, tensors: Iterable[tuple[str, Tensor]]) -> TensorDict:
    """The tensors whose names start with `prefix`, named without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors if name.startswith(prefix)}


def to_cpu(tensors: Iterable[tuple[str, Tensor]]) -> TensorDict:
    """Detached fp32 copies on the CPU (integer buffers keep their type)."""
    return {
        name: t.detach().to("cpu", torch.float32 if t.is_floating_point() else t.dtype, copy=True)
        for name, t in tensors
    }


class MakePlayer(Protocol):
    def __call__(self, module: nn.Module, groups: tuple[ParamGroup, ...]) -> Player:
        """Wrap an objective module and give it Adam over its groups. All ranks call it with equal modules."""
