"""The losses of CinCGAN (Yuan et al. 2018): a cycle between real and clean LR inside one between real LR and HR.

    L_inner = λ_adv L_GAN + λ_cyc L_cyc + λ_id L_id + λ_tv L_TV
    L_outer = λ_advsr L_GAN + λ_cyc L_cyc + L_pixel + λ_tv L_TV

L_pixel is the pixel-wise part of equation (4) on (syn, HR), the paper's identity of the outer cycle. L_GAN is LSGAN's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cyclesr_dist.config.schema import Weights
from cyclesr_dist.config.systems import Phase
from cyclesr_dist.method.losses.adversarial import lsgan_generator
from cyclesr_dist.method.losses.pixel import l1
from cyclesr_dist.method.losses.smooth import tv
from cyclesr_dist.method.objectives import SRTerms, sr_loss
from cyclesr_dist.method.types import Fakes, Losses
from cyclesr_dist.method.whole_batch import WholeBatch
from cyclesr_dist.nets.high_to_low import HighToLow
from cyclesr_dist.nets.translate_first import TranslateFirst


class CycleInCycle(nn.Module):
    """g_l2h (a translator to clean LR, then SR), g_s2r and g_h2l (their ways back). Images are in [0, 1]."""

    def __init__(
        self, g_l2h: TranslateFirst, g_s2r: nn.Module, g_h2l: HighToLow, weights: Weights, sr_terms: SRTerms
    ) -> None:
        super().__init__()
        self.g_l2h = g_l2h
        self.g_s2r = g_s2r
        self.g_h2l = g_h2l
        self.weights = weights
        self.sr_terms = sr_terms
        self.whole = WholeBatch(False)

    def forward(
        self, syn: Tensor, real: Tensor, hr: Tensor, noise: Tensor, phase: Phase, critics: nn.ModuleDict
    ) -> tuple[Losses, Fakes]:
        """As `JointGenerators` of objectives.py. Before the joint phase the outer cycle moves g_h2l alone."""
        losses: Losses = {}
        translator, sr, w = self.g_l2h.translator, self.g_l2h.sr, self.weights
        fake_syn = translator(real)
        inner = self._inner(losses, syn, real, fake_syn, noise[1], critics)
        joint = phase is Phase.JOINT
        fake_hr = sr(fake_syn if joint else fake_syn.detach())
        if not joint:
            fake_hr = fake_hr.detach()
        losses["cyc_hr"] = l1(self.g_h2l(F.pixel_unshuffle(fake_hr, self.g_h2l.scale)), real)
        losses["adv_hr"], losses["tv_hr"] = lsgan_generator(critics["d_h"](fake_hr)), tv(fake_hr)
        outer = w.advsr * losses["adv_hr"] + w.cyc * losses["cyc_hr"] + w.tv * losses["tv_hr"]
        pixel = sr_loss(losses, sr(syn), hr, w, self.sr_terms, critics, self.whole, torch.mean)
        losses["total"] = inner + outer + pixel
        return losses, {"d_s": fake_syn.detach(), "d_h": fake_hr.detach()}

    def _inner(
        self, losses: Losses, syn: Tensor, real: Tensor, fake_syn: Tensor, noise: Tensor, critics: nn.ModuleDict
    ) -> Tensor:
        w = self.weights
        losses["adv_r2s"] = lsgan_generator(critics["d_s"](fake_syn))
        losses["cyc_backward"] = l1(self.g_s2r(torch.cat([fake_syn, noise], 1)), real)
        losses["id_syn"] = l1(self.g_l2h.translator(syn), syn)
        losses["tv"] = tv(fake_syn)
        weighted = ((w.adv, "adv_r2s"), (w.cyc, "cyc_backward"), (w.id, "id_syn"), (w.tv, "tv"))
        return torch.stack([weight * losses[name] for weight, name in weighted]).sum()
