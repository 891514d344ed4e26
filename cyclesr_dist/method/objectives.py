"""Equations (2), (3) and (4) of the paper, and nothing else: how fast they are computed is in passes.py.

    L_total = L1 + L2                                                                (3)
    L1 = λ_adv L_adv + λ_cyc L_cyc + λ_id L_id                                       (2)
    L2 = λ_mse MSE(g_l2h(fake_real), I^H) + λ_advsr L_RaGAN + λ_percep L_VGG         (4)
         + λ_l1 L1(...) + λ_texture L_Gram, which the paper names as further choices and which are off by default

Beyond the paper, and off by default: λ_spectrum L_spectrum in L1, and less than all of the SR gradient in g_s2r.

Each objective is one module, so that any backend wraps one module a player: G, the generators, and D, the
discriminators. Inputs and outputs are plain tensors and dicts of tensors, which DDP and ZeRO can see through.
Images are in [0, 1]; N samples of this rank, LR (N, 3, h, w), HR (N, 3, s * h, s * w).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from cyclesr_dist.config.schema import Weights
from cyclesr_dist.config.systems import Phase
from cyclesr_dist.method.losses.adversarial import (
    GlobalMean,
    lsgan_discriminator,
    lsgan_generator,
    ragan_discriminator,
    ragan_generator,
)
from cyclesr_dist.method.losses.perceptual import perceptual, texture
from cyclesr_dist.method.losses.pixel import l1, mse
from cyclesr_dist.method.losses.spectrum import SpectrumMatch
from cyclesr_dist.method.passes import Passes, one_by_one, passing
from cyclesr_dist.method.types import Fakes, Losses
from cyclesr_dist.method.whole_batch import WholeBatch
from cyclesr_dist.nets.enlarge_first import EnlargeFirst


@dataclass(frozen=True)
class SRTerm:
    """A term of the user's own: `weight` times `loss`(sr, hr), a scalar."""

    name: str
    weight: float
    loss: Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class SRTerms:
    """Which of the terms of equation (4) beyond the pixel-wise ones are on: cyclesr has none, cyclesrgan those whose
    weights are not zero. The networks are kept out of the players: they are never trained or saved."""

    percep: nn.Module | None = None
    """Feature maps for L_VGG; None: no perceptual term."""
    texture: nn.Module | None = None
    """Feature maps for the Gram matrices; None: no texture term."""
    gan: bool = False
    """Whether there is a d_h."""
    more: tuple[SRTerm, ...] = ()
    """The user's own."""


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
        passes: Passes = one_by_one,
        spectrum: SpectrumMatch | None = None,
        pretrain_on_fakes: bool = False,
    ) -> None:
        """pretrain_on_fakes: g_l2h sees fake_real from the beginning, detached: for a g_s2r that starts from a measured
        degradation."""
        super().__init__()
        self.passes = passes
        self.g_s2r = g_s2r
        self.g_r2s = g_r2s
        self.g_l2h = g_l2h
        self.weights = weights
        self.spectrum = spectrum
        self.pretrain_on_fakes = pretrain_on_fakes
        self.sr_terms = (sr_terms,)  # in a tuple: a plain attribute would register the frozen VGG as a submodule
        self.global_mean = global_mean
        self.whole = WholeBatch(sr_terms.gan or spectrum is not None)

    def forward(
        self, syn: Tensor, real: Tensor, hr: Tensor, noise: Tensor, phase: Phase, critics: nn.ModuleDict
    ) -> tuple[Losses, Fakes]:
        """Loss terms with `total`, and the fakes, detached. `critics` are the discriminators, frozen.

        noise: (2, N, E, h, w), see `cycle_loss`.
        """
        losses: Losses = {}
        s2r, r2s, w, match = self.g_s2r, self.g_r2s, self.weights, self.spectrum
        l_1, fake_real, fake_syn = cycle_loss(
            losses, s2r, r2s, syn, real, noise, w, critics, self.whole, self.passes, match
        )  # eq. (2)
        sr = self.g_l2h(self._sr_input(syn, fake_real, phase))
        l_2 = sr_loss(losses, sr, hr, w, self.sr_terms[0], critics, self.whole, self.global_mean)  # eq. (4)
        losses["total"] = l_1 + l_2  # eq. (3)

        fakes = {"d_r": fake_real.detach(), "d_s": fake_syn.detach()}
        if self.sr_terms[0].gan:
            fakes["d_h"] = sr.detach()
        return losses, fakes

    def _sr_input(self, syn: Tensor, fake_real: Tensor, phase: Phase) -> Tensor:
        if phase is Phase.JOINT:
            return passing(fake_real, self.weights.sr_to_s2r)  # "joint": the SR gradient reaches g_s2r
        return fake_real.detach() if self.pretrain_on_fakes else syn


class CycleGenerators(nn.Module):
    """g_s2r and g_r2s under equation (2) alone: the first half of cycle_sr_separate."""

    def __init__(
        self,
        g_s2r: nn.Module,
        g_r2s: nn.Module,
        weights: Weights,
        passes: Passes = one_by_one,
        spectrum: SpectrumMatch | None = None,
    ) -> None:
        super().__init__()
        self.passes = passes
        self.g_s2r = g_s2r
        self.g_r2s = g_r2s
        self.weights = weights
        self.spectrum = spectrum
        self.whole = WholeBatch(spectrum is not None)

    def forward(
        self, syn: Tensor, real: Tensor, hr: Tensor, noise: Tensor, phase: Phase, critics: nn.ModuleDict
    ) -> tuple[Losses, Fakes]:
        """As `JointGenerators`, without the SR terms; `hr` and `phase` are not used."""
        losses: Losses = {}
        s2r, r2s, w, match = self.g_s2r, self.g_r2s, self.weights, self.spectrum
        losses["total"], fake_real, fake_syn = cycle_loss(
            losses, s2r, r2s, syn, real, noise, w, critics, self.whole, self.passes, match
        )
        return losses, {"d_r": fake_real.detach(), "d_s": fake_syn.detach()}


class EnlargedCycleGenerators(nn.Module):
    """`cyclegan`: equation (2) at HR size. HR stands for syn, bicubically enlarged real LR for real.

    g_l2h enlarges and then translates; g_h2l makes of HR what looks like enlarged real LR.
    """

    def __init__(self, g_h2l: nn.Module, g_l2h: EnlargeFirst, weights: Weights, passes: Passes = one_by_one) -> None:
        super().__init__()
        self.passes = passes
        self.g_h2l = g_h2l
        self.g_l2h = g_l2h
        self.weights = weights
        self.whole = WholeBatch(False)

    def forward(
        self, syn: Tensor, real: Tensor, hr: Tensor, noise: Tensor, phase: Phase, critics: nn.ModuleDict
    ) -> tuple[Losses, Fakes]:
        """As `CycleGenerators`, all images and the noise being of HR size."""
        losses: Losses = {}
        h2l, l2h, w = self.g_h2l, self.g_l2h.translator, self.weights
        losses["total"], fake_real, fake_hr = cycle_loss(
            losses, h2l, l2h, syn, real, noise, w, critics, self.whole, self.passes
        )
        return losses, {"d_r": fake_real.detach(), "d_s": fake_hr.detach()}


class SRGenerator(nn.Module):
    """g_l2h alone under equation (4)'s pixel-wise terms: on (syn, hr), (real, hr) or (fake_real, hr).

    `measured`: a g_s2r of its own that is never trained, the estimated degradation.
    """

    def __init__(
        self, g_l2h: nn.Module, weights: Weights, measured: nn.Module | None = None, sr_terms: SRTerms | None = None
    ) -> None:
        super().__init__()
        self.g_l2h = g_l2h
        self.weights = weights
        self.sr_terms = sr_terms or SRTerms()
        self.g_s2r = measured
        self.whole = WholeBatch(False)

    def forward(self, lr: Tensor, hr: Tensor, noise: Tensor | None = None, g_s2r: nn.Module | None = None) -> Losses:
        """With `g_s2r`, which stays as it is, and its noise (N, E, h, w), g_l2h sees its translation of `lr`."""
        translator = g_s2r or self.g_s2r
        if translator is not None and noise is not None:
            with torch.no_grad():
                lr = translator(torch.cat([lr, noise], 1))
        losses: Losses = {}
        sr = self.g_l2h(lr)
        losses["total"] = sr_loss(losses, sr, hr, self.weights, self.sr_terms, nn.ModuleDict(), self.whole, torch.mean)
        return losses


def cycle_loss(
    losses: Losses,
    g_s2r: nn.Module,
    g_r2s: nn.Module,
    syn: Tensor,
    real: Tensor,
    noise: Tensor,
    weights: Weights,
    critics: nn.ModuleDict,
    whole: WholeBatch,
    passes: Passes = one_by_one,
    spectrum: SpectrumMatch | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """L1, equation (2): the weighted sum, fake_real and fake_syn; each term is put into `losses` by name.

    noise: (2, N, E, h, w). The identity term gives g_s2r the noise it may not use, the backward cycle the same.
    whole: computes terms that are no means over samples (whole_batch.py), here and in `sr_loss`.
    passes: how images go through the translators (passes.py).
    """
    w = weights
    cyc_backward = w.cyc if w.cyc_backward is None else w.cyc_backward
    noise_syn, noise_real = noise[0], noise[1]
    syn_noise, real_noise = torch.cat([syn, noise_syn], 1), torch.cat([real, noise_real], 1)
    fake_real, *same_real = passes(g_s2r, [syn_noise, real_noise] if w.id else [syn_noise])
    fake_syn, *same_syn = passes(g_r2s, [real, syn] if w.id else [real])
    losses["adv_s2r"] = lsgan_generator(critics["d_r"](fake_real))
    losses["adv_r2s"] = lsgan_generator(critics["d_s"](fake_syn))
    losses["cyc_forward"] = l1(g_r2s(fake_real), syn)
    cyc = w.cyc * losses["cyc_forward"]
    if cyc_backward:
        losses["cyc_backward"] = l1(g_s2r(torch.cat([fake_syn, noise_real], 1)), real)
        cyc = cyc + cyc_backward * losses["cyc_backward"]
    total = w.adv * (losses["adv_s2r"] + losses["adv_r2s"]) + cyc
    if w.id:
        losses["id_real"] = l1(same_real[0], real)
        losses["id_syn"] = l1(same_syn[0], syn)
        total = total + w.id * (losses["id_real"] + losses["id_syn"])
    if spectrum is not None:
        losses["spectrum"] = whole(spectrum, fake_real, real)
        total = total + w.spectrum * losses["spectrum"]
    return total, fake_real, fake_syn


def sr_loss(
    losses: Losses,
    sr: Tensor,
    hr: Tensor,
    weights: Weights,
    terms: SRTerms,
    critics: nn.ModuleDict,
    whole: WholeBatch,
    global_mean: GlobalMean,
) -> Tensor:
    """L2, equation (4): the weighted sum; each term is put into `losses` by name."""
    losses["mse"] = mse(sr, hr)
    total = weights.mse * losses["mse"]
    if weights.l1:
        losses["l1"] = l1(sr, hr)
        total = total + weights.l1 * losses["l1"]
    for term in terms.more:
        losses[term.name] = term.loss(sr, hr)
        total = total + term.weight * losses[term.name]
    if terms.gan:
        d_h = critics["d_h"]
        with torch.no_grad():
            d_real = d_h(hr)
        losses["advsr"] = whole(partial(ragan_generator, global_mean=global_mean), d_real, d_h(sr))
        total = total + weights.advsr * losses["advsr"]
    if terms.percep is not None:
        losses["percep"] = perceptual(terms.percep, sr, hr)
        total = total + weights.percep * losses["percep"]
    if terms.texture is not None:
        losses["texture"] = texture(terms.texture, sr, hr)
        total = total + weights.texture * losses["texture"]
    return total


class Discriminators(nn.Module):
    """d_r, d_s and, for cyclesrgan, d_h: the discriminators' side of equations (2) and (4). Those that there are."""

    def __init__(
        self,
        critics: nn.ModuleDict,
        global_mean: GlobalMean,
        passes: Passes = one_by_one,
        relativistic: bool = True,
    ) -> None:
        """relativistic: d_h has the loss of equation (4), else LSGAN's, as d_r and d_s."""
        super().__init__()
        self.passes = passes
        self.critics = critics
        self.global_mean = global_mean
        self.relativistic = relativistic and "d_h" in critics
        self.whole = WholeBatch(self.relativistic)

    def forward(self, syn: Tensor, real: Tensor, hr: Tensor, fakes: Fakes) -> Losses:
        """Loss terms with `total`, their plain sum: each discriminator has its own parameters."""
        losses: Losses = {}
        for name, true in (("d_r", real), ("d_s", syn), ("d_h", hr)):
            if name not in self.critics:
                continue
            judged = self._judge(name, true, fakes)
            if name == "d_h" and self.relativistic:
                losses[name] = self.whole(partial(ragan_discriminator, global_mean=self.global_mean), *judged)
            else:
                losses[name] = lsgan_discriminator(*judged)
        losses["total"] = torch.stack(list(losses.values())).sum()
        return losses

    def _judge(self, name: str, true: Tensor, fakes: Fakes) -> tuple[Tensor, Tensor]:
        """What one discriminator says of true images and of fakes."""
        d_real, d_fake = self.passes(self.critics[name], [true, fakes[name].to(true.dtype)])
        return d_real, d_fake
