"""A degradation that is learned in one direction, without a way back: what `high_to_low`, `dsgan` and `pdm` share.

    L = λ_adv L_adv + λ_content L_content

L_adv is LSGAN's with d_r alone; L_content, which keeps fake_real near what it is made of, is each system's own.
docs/decisions/0009-rivals.md says where this differs from the papers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cyclesr_dist.config.schema import Weights
from cyclesr_dist.config.systems import Phase
from cyclesr_dist.method.losses.adversarial import lsgan_generator
from cyclesr_dist.method.types import Fakes, Losses
from cyclesr_dist.method.whole_batch import WholeBatch

Made = Callable[[Tensor, Tensor], Tensor]
"""syn and HR -> what the degradation is given beside its noise, (N, C, h, w)."""
Content = Callable[[Tensor, Tensor], Tensor]
"""fake_real and all that it was made of, (N, C + E, h, w) with the noise -> L_content."""


class OneWay(nn.Module):
    """One degradation, named as its network, under the loss above. Images are in [0, 1]."""

    def __init__(self, name: str, net: nn.Module, weights: Weights, made_of: Made, content: Content) -> None:
        super().__init__()
        self.name = name
        self.add_module(name, net)
        self.weights = weights
        self.made_of = made_of
        self.content = content
        self.whole = WholeBatch(False)

    def forward(
        self, syn: Tensor, real: Tensor, hr: Tensor, noise: Tensor, phase: Phase, critics: nn.ModuleDict
    ) -> tuple[Losses, Fakes]:
        """As `JointGenerators` of objectives.py; `real` and `phase` are not used."""
        given = torch.cat([self.made_of(syn, hr), noise[0]], 1)
        fake_real = self.get_submodule(self.name)(given)
        losses: Losses = {
            "adv_s2r": lsgan_generator(critics["d_r"](fake_real)),
            "content": self.content(fake_real, given),
        }
        losses["total"] = self.weights.adv * losses["adv_s2r"] + self.weights.content * losses["content"]
        return losses, {"d_r": fake_real.detach()}
