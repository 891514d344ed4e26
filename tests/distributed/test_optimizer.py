"""Adam, or AdamW where weights decay: what each parameter group has, and what a step does."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cyclesr_dist.config.schema import Optim
from cyclesr_dist.distributed.player import ParamGroup, build_adam

GROUPS = (ParamGroup(("a.",), 0.1), ParamGroup(("b.",), 0.01))


def networks() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict(
        {
            "a": nn.Sequential(nn.Conv2d(1, 2, 3), nn.InstanceNorm2d(2, affine=True), nn.PReLU(2)),
            "b": nn.Conv2d(2, 1, 1, bias=False),
        }
    )


def test_without_decay_it_is_adam_with_a_group_a_learning_rate() -> None:
    adam = build_adam(networks(), GROUPS, Optim())
    assert type(adam) is torch.optim.Adam
    assert [group["initial_lr"] for group in adam.param_groups] == [0.1, 0.01]


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_takes_its_share_off_weight_tensors_alone(fused: bool) -> None:
    module = networks()
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    adam = build_adam(module, GROUPS, Optim(weight_decay=0.5), fused=fused)
    for group in adam.param_groups:
        group["lr"] = group["initial_lr"] * 0.5  # as the schedule does
    for p in module.parameters():
        p.grad = torch.zeros_like(p)
    adam.step()
    kept = {name: float((p.detach() / before[name]).nan_to_num(1).mean()) for name, p in module.named_parameters()}
    expected = dict.fromkeys(kept, 1.0) | {"a.0.weight": 1 - 0.1 * 0.5 * 0.5, "b.weight": 1 - 0.01 * 0.5 * 0.5}
    assert kept == pytest.approx(expected)
    assert all(group["fused"] is fused for group in adam.param_groups)
