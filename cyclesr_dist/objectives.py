"""Equations (2), (3) and (4) of the paper, and nothing else.

    L_total = L1 + L2                                                                (3)
    L1 = λ_adv L_adv + λ_cyc L_cyc + λ_id L_id                                       (2)
    L2 = λ_mse MSE(g_l2h(fake_real), I^H) + λ_advsr L_RaGAN + λ_percep L_VGG         (4)

Each objective is one module, so that any backend wraps one module a player: G, the generators, and D, the
discriminators. Inputs and outputs are plain tensors and dicts of tensors, which DDP and ZeRO can see through.
Images are in [0, 1]; N samples of this rank, LR (N, 3, h, w), HR (N, 3, s * h, s * w).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cyclesr_dist.config import Weights
from cyclesr_dist.losses.adversarial import (
    GlobalMean,
    lsgan_discriminator,
    lsgan_generator,
    ragan_discriminator,
    ragan_generator,
)
from cyclesr_dist.losses.perceptual import perceptual
from cyclesr_dist.losses.pixel import l1, mse
from cyclesr_dist.types import Drift, Fakes, Losses, Phase


@dataclass(frozen=True)
class SRTerms:
    """Which terms of equation (4) are on: cyclesr has the MSE alone, cyclesrgan all three."""

    features: nn.Module | None = None
    """VGG features for L_VGG; None: no perceptual term. Kept out of the players: it is never trained or saved."""
    gan: bool = False
    """Whether there is a d_h."""


class JointGenerators(nn.Module):
    """g_s2r, g_r2s and g_l2h under equations (2), (3), (4)."""

    def __init__(
        self,
        g_s2r: nn.Module,
        g_r2s: nn.Module,
        g_l2h: nn.Module,
        weights: Weights,
        sr_terms: SRTerms,
        global_mean: GlobalMean,
    ) -> None:
        super().__init__()
        self.g_s2r = g_s2r
        self.g_r2s = g_r2s
        self.g_l2h = g_l2h
        self.weights = weights
        self.sr_terms = (sr_terms,)  # in a tuple: a plain attribute would register the frozen VGG as a submodule
        self.global_mean = global_mean

    def forward(
        self, syn: Tensor, real: Tensor, hr: Tensor, noise: Tensor, phase: Phase, critics: nn.ModuleDict
    ) -> tuple[Losses, Fakes, Drift]:
        """Loss terms with `total`, the fakes, detached, and the drift. `critics` are the discriminators, frozen.

        noise: (2, N, E, h, w). The identity term gives g_s2r the noise it may not use, the backward cycle the same.
        """
        w = self.weights
        cyc_backward = w.cyc if w.cyc_backward is None else w.cyc_backward
        noise_syn, noise_real = noise[0], noise[1]

        fake_real = self.g_s2r(torch.cat([syn, noise_syn], 1))
        fake_syn = self.g_r2s(real)
        sr_input = syn if phase is Phase.PRETRAIN else fake_real  # "joint": the SR gradient reaches g_s2r
        sr = self.g_l2h(sr_input)

        losses = {
            "adv_s2r": lsgan_generator(critics["d_r"](fake_real)),
            "adv_r2s": lsgan_generator(critics["d_s"](fake_syn)),
            "cyc_forward": l1(self.g_r2s(fake_real), syn),
        }
        adv = losses["adv_s2r"] + losses["adv_r2s"]
        cyc = w.cyc * losses["cyc_forward"]
        if cyc_backward:
            losses["cyc_backward"] = l1(self.g_s2r(torch.cat([fake_syn, noise_real], 1)), real)
            cyc = cyc + cyc_backward * losses["cyc_backward"]
        l_1 = w.adv * adv + cyc
        if w.id:
            losses["id_real"] = l1(self.g_s2r(torch.cat([real, noise_real], 1)), real)
            losses["id_syn"] = l1(self.g_r2s(syn), syn)
            l_1 = l_1 + w.id * (losses["id_real"] + losses["id_syn"])  # eq. (2)

        l_2 = sr_loss(losses, sr, hr, w, self.sr_terms[0], critics, self.global_mean)  # eq. (4)
        losses["total"] = l_1 + l_2  # eq. (3)

        change = (fake_real - syn).detach()
        drift = {"mean": change.mean(), "std": change.std()}
        fakes = {"d_r": fake_real.detach(), "d_s": fake_syn.detach()}
        if self.sr_terms[0].gan:
            fakes["d_h"] = sr.detach()
        return losses, fakes, drift


class SRGenerator(nn.Module):
    """g_l2h alone under equation (4)'s MSE: sr_syn on (syn, hr) pairs, sr_paired on (real, hr) pairs."""

    def __init__(self, g_l2h: nn.Module, weights: Weights) -> None:
        super().__init__()
        self.g_l2h = g_l2h
        self.weights = weights

    def forward(self, lr: Tensor, hr: Tensor) -> Losses:
        losses: Losses = {}
        losses["total"] = sr_loss(losses, self.g_l2h(lr), hr, self.weights, SRTerms(), nn.ModuleDict(), torch.mean)
        return losses


def sr_loss(
    losses: Losses,
    sr: Tensor,
    hr: Tensor,
    weights: Weights,
    terms: SRTerms,
    critics: nn.ModuleDict,
    global_mean: GlobalMean,
) -> Tensor:
    """L2, equation (4): the weighted sum; each term is put into `losses` by name."""
    losses["mse"] = mse(sr, hr)
    total = weights.mse * losses["mse"]
    if terms.gan:
        d_h = critics["d_h"]
        with torch.no_grad():
            d_real = d_h(hr)
        losses["advsr"] = ragan_generator(d_real, d_h(sr), global_mean)
        total = total + weights.advsr * losses["advsr"]
    if terms.features is not None:
        losses["percep"] = perceptual(terms.features, sr, hr)
        total = total + weights.percep * losses["percep"]
    return total


class Discriminators(nn.Module):
    """d_r, d_s and, for cyclesrgan, d_h: the discriminators' side of equations (2) and (4)."""

    def __init__(self, critics: nn.ModuleDict, global_mean: GlobalMean) -> None:
        super().__init__()
        self.critics = critics
        self.global_mean = global_mean

    def forward(self, syn: Tensor, real: Tensor, hr: Tensor, fakes: Fakes) -> Losses:
        """Loss terms with `total`, their plain sum: each discriminator has its own parameters."""
        losses = {
            "d_r": lsgan_discriminator(self.critics["d_r"](real), self.critics["d_r"](fakes["d_r"])),
            "d_s": lsgan_discriminator(self.critics["d_s"](syn), self.critics["d_s"](fakes["d_s"])),
        }
        if "d_h" in self.critics:
            losses["d_h"] = ragan_discriminator(
                self.critics["d_h"](hr), self.critics["d_h"](fakes["d_h"]), self.global_mean
            )
        losses["total"] = torch.stack(list(losses.values())).sum()
        return losses
