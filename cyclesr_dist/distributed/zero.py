"""DeepSpeed: one engine a player, ZeRO stage 0 to 3.

DeepSpeed is imported inside functions: its import takes seconds, and single and DDP runs do not need it.
"""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from cyclesr_dist.config.schema import Optim, Speed
from cyclesr_dist.distributed.player import (
    MakePlayer,
    ParamGroup,
    Player,
    PlayerState,
    TensorDict,
    build_adam,
    load_buffers,
    load_into,
    load_moments,
    read_moments,
    step_counter,
    strip,
    to_cpu,
)
from cyclesr_dist.distributed.world import World


def deepspeed_config(optim: Optim, precision: str, stage: int, rank_batch: int) -> dict[str, Any]:
    """The engine's configuration, derived so that batch, clip and precision have one home each.

    A fresh dict for each engine (deepspeed#1975); the micro-batch alone is set (deepspeed#3228). Mixed precision is
    `torch_autocast`, which matches torch.autocast under DDP: fp32 parameters, and losses computed in fp32.
    """
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": rank_batch,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": optim.clip_norm,
        "zero_optimization": {"stage": stage},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
        "wall_clock_breakdown": False,
    }
    if stage == 3:
        # Everything is small here: let every parameter be partitioned, so that stage 3 is what it says.
        config["zero_optimization"]["stage3_param_persistence_threshold"] = 0
    if precision != "fp32":
        dtype = {"bf16": "bfloat16", "fp16": "float16"}[precision]
        config["torch_autocast"] = {"enabled": True, "dtype": dtype}
    return config


class ZeroPlayer:
    def __init__(
        self,
        module: nn.Module,
        groups: tuple[ParamGroup, ...],
        optim: Optim,
        precision: str,
        stage: int,
        rank_batch: int,
        world: World,
        speed: Speed,
        micro_batch: int | None = None,
    ) -> None:
        import deepspeed

        # DeepSpeed insists on it, also without a launcher, and takes it for the GPU's number.
        os.environ["LOCAL_RANK"] = str(world.local_rank if world.device.index is None else world.device.index)
        if world.device.type == "cpu":
            # DeepSpeed would compile a shared-memory all-reduce when it first runs, for a minute; gloo is there.
            deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        self.module = module.to(world.device)
        self.micro_batch = micro_batch
        self.stage = stage
        self.rank = world.rank
        self.adam = build_adam(self.module, groups, optim, fused=not speed.plain)
        self.initial_lrs = [group["initial_lr"] for group in self.adam.param_groups]
        self.engine = deepspeed.initialize(
            model=self.module,
            optimizer=self.adam,
            config=deepspeed_config(optim, precision, stage, rank_batch),
            dist_init_required=False,
        )[0]

    def __call__(self, *inputs: Any) -> Any:
        return self.engine(*inputs)

    def accumulate(self, part: Callable[[], Tensor]) -> None:
        # Said for each part, and not counted by gradient_accumulation_steps: parts may be of different sizes, and a
        # step that is left out has none. The last is the one of `update`.
        self.engine.set_gradient_accumulation_boundary(False)
        try:
            self.engine.backward(part())
        finally:
            self.engine.set_gradient_accumulation_boundary(True)

    def update(self, loss: Tensor) -> float:
        self.engine.backward(loss)
        # Stage 0 keeps no norm: it clips plain gradients, already averaged by now, in step().
        if self.stage == 0:
            norm = float(_gradient_norm(self.module))
            if not math.isfinite(norm):
                self.engine.optimizer.zero_grad()
                return norm
            self.engine.step()
            return norm
        self.engine.step()  # leaves everything as it is when the norm is not finite
        norm = float(self.engine.get_global_grad_norm())
        return norm if norm >= 0 else math.nan

    def network_norms(self) -> TensorDict:
        return {}

    def loss_scale(self) -> Tensor | None:
        return None

    def set_lr(self, factor: float) -> None:
        for group, lr in zip(self.engine.optimizer.param_groups, self.initial_lrs, strict=True):
            group["lr"] = lr * factor

    def full_params(self, prefix: str) -> TensorDict:
        from deepspeed.utils import safe_get_full_fp32_param

        named = ((name, p) for name, p in self.module.named_parameters() if name.startswith(prefix))
        if self.stage == 3:
            named = ((name, safe_get_full_fp32_param(p)) for name, p in named)
        return strip(prefix, chain(named, self.module.named_buffers()))

    def load(self, saved: PlayerState) -> None:
        if self.stage == 0:
            load_into(self.module, saved)
            load_moments(self.adam, self.module, saved)
            return
        load_buffers(self.module, saved.buffers)
        for name, p in self.module.named_parameters():
            self._load_param(p, saved.params[name].to(self.engine.device))
        self._load_partitioned_moments(saved)

    def state(self) -> PlayerState:
        buffers = to_cpu(self.module.named_buffers())
        params = to_cpu((name, t) for name, t in self.full_params("").items() if name not in buffers)
        if self.stage == 0:
            exp_avg, exp_avg_sq, num_updates = read_moments(self.adam, self.module)
        else:
            exp_avg, exp_avg_sq, num_updates = self._read_partitioned_moments()
        return PlayerState(params, buffers, exp_avg, exp_avg_sq, num_updates)

    def _partitions(self) -> list[Tensor]:
        """The flat fp32 tensors of this rank that Adam works on under stages 1 to 3."""
        zero = self.engine.optimizer
        partitions: list[Tensor] = (
            zero.fp32_partitioned_groups_flat if self.stage == 3 else zero.single_partition_of_fp32_groups
        )
        return partitions

    def _read_partitioned_moments(self) -> tuple[TensorDict, TensorDict, int]:
        from deepspeed.utils import safe_get_full_optimizer_state

        state = self.adam.state.get(self._partitions()[0])
        if not state:
            return {}, {}, 0
        self._link_moments()
        named = list(self.module.named_parameters())
        exp_avg = to_cpu((name, safe_get_full_optimizer_state(p, "exp_avg")) for name, p in named)
        exp_avg_sq = to_cpu((name, safe_get_full_optimizer_state(p, "exp_avg_sq")) for name, p in named)
        return exp_avg, exp_avg_sq, int(state["step"])

    def _load_param(self, p: nn.Parameter, value: Tensor) -> None:
        """Both copies: the one that the network computes with, and the partitioned one that Adam updates."""
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_local_fp32_param

        if self.stage == 3:
            own = self._own_part(value, p.ds_tensor.numel())  # type: ignore[attr-defined]  # DeepSpeed's
            p.ds_tensor.data.copy_(own)  # type: ignore[attr-defined]
            safe_set_local_fp32_param(p, own)
        else:
            p.data.copy_(value)
            safe_set_full_fp32_param(p, value)

    def _load_partitioned_moments(self, saved: PlayerState) -> None:
        from deepspeed.utils import safe_set_full_optimizer_state

        if not saved.num_updates:
            for flat in self._partitions():
                self.adam.state.pop(flat, None)
            return
        for flat in self._partitions():
            self.adam.state[flat] = {
                "step": step_counter(self.adam, saved.num_updates, flat.device),
                "exp_avg": torch.zeros_like(flat),
                "exp_avg_sq": torch.zeros_like(flat),
            }
        self._link_moments()
        for name, p in self.module.named_parameters():
            for key, moments in (("exp_avg", saved.exp_avg), ("exp_avg_sq", saved.exp_avg_sq)):
                value = moments[name].to(self.engine.device)
                if self.stage == 3:
                    self._set_local_moment(p, value, key)
                else:
                    safe_set_full_optimizer_state(p, value, key)

    def _link_moments(self) -> None:
        """Stages 1 and 2: tie parameters to their part of Adam's state.

        DeepSpeed does so once, after the first step of the first parameter group: too early for the other groups, and
        not at all for moments that come from a checkpoint.
        """
        if self.stage != 3:
            self.engine.optimizer._hp_optimizer_states_linked = False
            self.engine.optimizer._lazy_init_hp_params_optimizer_state()

    def _set_local_moment(self, p: nn.Parameter, value: Tensor, key: str) -> None:
        """Stage 3: DeepSpeed's own setter fails where the ranks do not divide a parameter, so slice it here, padded."""
        from deepspeed.utils import safe_get_local_optimizer_state, safe_set_local_optimizer_state

        size = safe_get_local_optimizer_state(p, key).numel()
        safe_set_local_optimizer_state(p, self._own_part(value, size), key)

    def _own_part(self, value: Tensor, size: int) -> Tensor:
        """This rank's `size` elements of a parameter, padded with zeros."""
        flat = value.flatten()
        own = torch.zeros(size, dtype=flat.dtype, device=flat.device)
        start = min(size * self.rank, flat.numel())
        stop = min(start + size, flat.numel())
        own[: stop - start] = flat[start:stop]
        return own


def _gradient_norm(module: nn.Module) -> Tensor:
    return nn.utils.get_total_norm(p.grad for p in module.parameters() if p.grad is not None)


def make_zero_player(
    optim: Optim,
    precision: str,
    stage: int,
    rank_batch: int,
    world: World,
    speed: Speed,
    micro_batch: int | None = None,
) -> MakePlayer:
    """For `backend: deepspeed`."""
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    # DeepSpeed 0.19 calls by its old name what torch 2.13 renamed; nothing a user could act on.
    warnings.filterwarnings("ignore", message=".*all_gather_into_tensor", category=FutureWarning)
    if world.device.type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # otherwise each rank warns that it found no GPU

    def make(module: nn.Module, groups: tuple[ParamGroup, ...]) -> Player:
        return ZeroPlayer(module, groups, optim, precision, stage, rank_batch, world, speed, micro_batch)

    return make
