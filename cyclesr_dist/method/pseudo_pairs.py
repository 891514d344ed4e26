"""The losses of pseudo-supervision (Maeda 2020): SR learns from HR's LR after it went to real LR and back to clean LR.

    L = λ_adv (L_GAN both ways) + λ_cyc L_cyc + λ_id L_id + λ_geo L_geo + λ_advsr L_GAN of HR + L_pixel

The cycle and the identity are those of clean LR. L_pixel is the pixel-wise part of equation (4). L_GAN is LSGAN's.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cyclesr_dist.config.schema import Weights
from cyclesr_dist.config.systems import Phase
from cyclesr_dist.method.losses.adversarial import lsgan_generator
from cyclesr_dist.method.losses.pixel import l1
from cyclesr_dist.method.objectives import SRTerms, sr_loss
from cyclesr_dist.method.passes import passing
from cyclesr_dist.method.types import Fakes, Losses
from cyclesr_dist.method.whole_batch import WholeBatch
from cyclesr_dist.nets.translate_first import TranslateFirst


class PseudoPairs(nn.Module):
    """g_l2h (a translator to clean LR, then SR) and g_s2r. Images are in [0, 1], LR is square."""

    def __init__(self, g_l2h: TranslateFirst, g_s2r: nn.Module, weights: Weights, sr_terms: SRTerms) -> None:
        super().__init__()
        self.g_l2h = g_l2h
        self.g_s2r = g_s2r
        self.weights = weights
        self.sr_terms = sr_terms
        self.whole = WholeBatch(False)

    def forward(
        self, syn: Tensor, real: Tensor, hr: Tensor, noise: Tensor, phase: Phase, critics: nn.ModuleDict
    ) -> tuple[Losses, Fakes]:
        """As `JointGenerators` of objectives.py. Before the joint phase SR sees syn, and no LR network its gradient."""
        losses: Losses = {}
        clean, sr, w, joint = self.g_l2h.translator, self.g_l2h.sr, self.weights, phase is Phase.JOINT
        fake_syn, fake_real = clean(real), self.g_s2r(torch.cat([syn, noise[0]], 1))
        pseudo = clean(fake_real)
        losses["adv_s2r"] = lsgan_generator(critics["d_r"](fake_real))
        losses["adv_r2s"] = lsgan_generator(critics["d_s"](fake_syn))
        losses["cyc_forward"] = l1(pseudo, syn)
        losses["id_syn"] = l1(clean(syn), syn)
        losses["geo"] = l1(fake_syn, ensemble(clean, real))
        fake_hr = sr(fake_syn) if joint else sr(fake_syn.detach()).detach()
        losses["adv_hr"] = lsgan_generator(critics["d_h"](fake_hr))
        weighted = ((w.adv, "adv_s2r"), (w.adv, "adv_r2s"), (w.cyc, "cyc_forward"), (w.id, "id_syn"), (w.geo, "geo"))
        total = torch.stack([weight * losses[name] for weight, name in (*weighted, (w.advsr, "adv_hr"))]).sum()
        given = passing(pseudo, w.sr_to_s2r) if joint else syn
        total = total + sr_loss(losses, sr(given), hr, w, self.sr_terms, critics, self.whole, torch.mean)
        losses["total"] = total
        return losses, {"d_r": fake_real.detach(), "d_s": fake_syn.detach(), "d_h": fake_hr.detach()}


def ensemble(net: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The mean of what `net` makes of x in its eight positions, turned back: x (N, 3, h, h)."""
    made = []
    for turns in range(4):
        turned = x.rot90(turns, (-2, -1))
        made.append(net(turned).rot90(-turns, (-2, -1)))
        made.append(net(turned.flip(-1)).flip(-1).rot90(-turns, (-2, -1)))
    return torch.stack(made).mean(0)
