"""One process, or DistributedDataParallel around it: the same player, since DDP changes only who averages gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from inspect import signature
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cyclesr_dist.config.schema import Optim, Speed
from cyclesr_dist.distributed.player import (
    MakePlayer,
    ParamGroup,
    Player,
    PlayerState,
    TensorDict,
    build_adam,
    load_into,
    load_moments,
    networks,
    read_moments,
    strip,
    to_cpu,
)
from cyclesr_dist.distributed.world import World

_AUTOCAST_DTYPE = {"bf16": torch.bfloat16, "fp16": torch.float16}


class PlainPlayer:
    """Adam, autocast, GradScaler and gradient norm clipping of plain PyTorch."""

    def __init__(
        self,
        module: nn.Module,
        groups: tuple[ParamGroup, ...],
        optim: Optim,
        precision: str,
        world: World,
        ddp: bool,
        speed: Speed,
        micro_batch: int | None = None,
    ) -> None:
        self.module = module.to(world.device)
        self.micro_batch = micro_batch
        self._accumulated = False
        self.adam = build_adam(module, groups, optim, fused=not speed.plain)
        self.params = [p for p in module.parameters() if p.requires_grad]
        self.clip_norm = optim.clip_norm
        self.device = world.device
        self.dtype = _AUTOCAST_DTYPE.get(precision)
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=precision == "fp16")
        self.wrapped = _data_parallel(module) if ddp else module
        self._clipped_by: float | None = None

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, self.dtype) if self.dtype else nullcontext()

    def __call__(self, *inputs: Any) -> Any:
        with self._autocast():
            return self.wrapped(*inputs)

    def accumulate(self, part: Callable[[], Tensor]) -> None:
        # DDP asks in forward, too, whether it is to exchange gradients.
        with self.wrapped.no_sync() if isinstance(self.wrapped, DistributedDataParallel) else nullcontext():
            self._backward(part())
        self._accumulated = True

    def _backward(self, loss: Tensor) -> None:
        if not self._accumulated:
            self.adam.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch's own annotation

    def update(self, loss: Tensor) -> float:
        self._backward(loss)
        self._accumulated = False
        self.scaler.unscale_(self.adam)
        norm = float(nn.utils.clip_grad_norm_(self.params, self.clip_norm))
        self._clipped_by = min(1.0, self.clip_norm / (norm + 1e-6))  # as clip_grad_norm_ does
        if math.isfinite(norm) or self.scaler.is_enabled():  # the scaler leaves out such a step by itself
            self.scaler.step(self.adam)
        self.scaler.update()
        return norm

    def network_norms(self) -> TensorDict:
        if self._clipped_by is None:
            return {}
        factor, self._clipped_by = self._clipped_by, None
        by_network = {
            name: [p.grad for p in net.parameters() if p.grad is not None]
            for name, net in networks(self.module).items()
        }
        return {name: nn.utils.get_total_norm(grads) / factor for name, grads in by_network.items() if grads}

    def loss_scale(self) -> Tensor | None:
        if not self.scaler.is_enabled():
            return None
        return self.scaler._get_scale_async()  # get_scale() would wait for the device

    def set_lr(self, factor: float) -> None:
        for group in self.adam.param_groups:
            group["lr"] = group["initial_lr"] * factor

    def load(self, saved: PlayerState) -> None:
        load_into(self.module, saved)
        load_moments(self.adam, self.module, saved)
        self._load_loss_scale(saved.loss_scale)

    def state(self) -> PlayerState:
        exp_avg, exp_avg_sq, num_updates = read_moments(self.adam, self.module)
        return PlayerState(
            params=to_cpu(self.module.named_parameters()),
            buffers=to_cpu(self.module.named_buffers()),
            exp_avg=exp_avg,
            exp_avg_sq=exp_avg_sq,
            num_updates=num_updates,
            loss_scale={k: float(v) for k, v in self.scaler.state_dict().items()},
        )

    def _load_loss_scale(self, saved: dict[str, float]) -> None:
        if saved and self.scaler.is_enabled():
            counts = {key: int(saved[key]) for key in ("growth_interval", "_growth_tracker")}
            self.scaler.load_state_dict(saved | counts)

    def full_params(self, prefix: str) -> TensorDict:
        return strip(prefix, chain(self.module.named_parameters(), self.module.named_buffers()))


def _data_parallel(module: nn.Module) -> nn.Module:
    """DDP that leaves buffers alone.

    They are BatchNorm statistics of each rank's own samples; broadcasting them in forward breaks a module that is
    called more than once before its backward.
    """
    new_name = "forward_sync_buffers" in signature(DistributedDataParallel.__init__).parameters  # torch 2.13
    switch: dict[str, Any] = {"forward_sync_buffers" if new_name else "broadcast_buffers": False}
    return DistributedDataParallel(module, gradient_as_bucket_view=True, **switch)


def make_plain_player(
    optim: Optim, precision: str, world: World, ddp: bool, speed: Speed, micro_batch: int | None = None
) -> MakePlayer:
    """For `backend: single` (ddp=False) and `backend: ddp`."""

    def make(module: nn.Module, groups: tuple[ParamGroup, ...]) -> Player:
        return PlainPlayer(module, groups, optim, precision, world, ddp, speed, micro_batch)

    return make
