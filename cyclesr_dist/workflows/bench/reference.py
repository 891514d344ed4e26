"""The joint step as public implementations write it: what `cyclesr bench train` measures against.

Nothing here is tuned: fp32, eager, contiguous tensors, one call per image set, PyTorch's own InstanceNorm and Adam, a
backward for the translators, one for the SR network and one for each discriminator. As in the authors' public code the
SR network is frozen while the translators learn from it and then called once more for its own update;
`one_backward` is the variant that takes both gradients from one call, as a careful reader would write it.

The mathematics is the step's (step.py, objectives.py): generators first, gradient norms clipped over all of them, then
the discriminators on the same fakes or older ones. BatchNorm's running statistics alone move twice where the SR network
is called twice; training does not read them.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cyclesr_dist.config.schema import Config
from cyclesr_dist.config.systems import spec_of
from cyclesr_dist.data.batch import Batch
from cyclesr_dist.nets.build import build_discriminator, build_sr, build_translator
from cyclesr_dist.nets.vgg import build_vgg

Moments = dict[str, dict[str, Tensor]]
"""By network and parameter."""

GENERATORS = ("g_s2r", "g_r2s", "g_l2h")


class ReferenceLoop:
    """`system: cyclesr` or `cyclesrgan`, joint phase, on one device. Starts from the weights of `JointSystem`."""

    def __init__(self, config: Config, device: torch.device, one_backward: bool = False) -> None:
        torch.manual_seed(config.seed)
        self.w = config.weights
        self.gan = spec_of(config.system).perceptual and config.weights.advsr > 0
        self.percep = spec_of(config.system).perceptual and config.weights.percep > 0
        self.one_backward = one_backward
        self.clip_norm = config.optim.clip_norm
        translator, critic = config.nets.translator, config.nets.d_lr
        nets = {
            "g_s2r": build_translator(translator, translator.noise_channels),
            "g_r2s": build_translator(translator),
            "g_l2h": build_sr(config.nets.sr, config.scale),
            "d_r": build_discriminator(critic),
            "d_s": build_discriminator(critic),
        }
        if self.gan:
            nets["d_h"] = build_discriminator(config.nets.d_h)
        self.nets = {name: net.to(device) for name, net in nets.items()}
        p = config.perceptual
        self.vgg = build_vgg(p.source, (p.layer,)).to(device) if self.percep else None
        o = config.optim
        self.adams = [
            torch.optim.Adam(self._params("g_s2r", "g_r2s"), lr=o.lr_cyclegan, betas=(o.beta1, o.beta2)),
            torch.optim.Adam(self._params("g_l2h"), lr=o.lr_sr, betas=(o.beta1, o.beta2)),
        ]
        self.d_adams = [
            torch.optim.Adam(
                self._params(name), lr=o.lr_sr if name == "d_h" else o.lr_cyclegan, betas=(o.beta1, o.beta2)
            )
            for name in self._discriminators()
        ]
        self.pools = {name: _ImageHistory(name, config.pool.size, config.seed) for name in ("d_r", "d_s")}

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of everything. Returns the unweighted terms, detached, by the step's names."""
        syn, real, hr = batch.syn, batch.real, batch.hr
        noise_syn, noise_real = batch.noise[0], batch.noise[1]
        g_s2r, g_r2s, g_l2h = (self.nets[name] for name in GENERATORS)
        w = self.w
        terms: dict[str, Tensor] = {}

        # forward
        fake_real = g_s2r(torch.cat([syn, noise_syn], 1))
        rec_syn = g_r2s(fake_real)
        fake_syn = g_r2s(real)

        # generators
        self._require_grad(self._discriminators(), False)
        for adam in self.adams:
            adam.zero_grad()
        terms["adv_s2r"] = _to_ones(self.nets["d_r"](fake_real))
        terms["adv_r2s"] = _to_ones(self.nets["d_s"](fake_syn))
        terms["cyc_forward"] = F.l1_loss(rec_syn, syn)
        loss = w.adv * (terms["adv_s2r"] + terms["adv_r2s"]) + w.cyc * terms["cyc_forward"]
        cyc_backward = w.cyc if w.cyc_backward is None else w.cyc_backward
        if cyc_backward:
            rec_real = g_s2r(torch.cat([fake_syn, noise_real], 1))
            terms["cyc_backward"] = F.l1_loss(rec_real, real)
            loss = loss + cyc_backward * terms["cyc_backward"]
        if w.id:
            terms["id_real"] = F.l1_loss(g_s2r(torch.cat([real, noise_real], 1)), real)
            terms["id_syn"] = F.l1_loss(g_r2s(syn), syn)
            loss = loss + w.id * (terms["id_real"] + terms["id_syn"])
        if self.one_backward:
            sr = g_l2h(fake_real)
            _backward(loss + self._sr_loss(terms, sr, hr))
        else:
            self._require_grad(["g_l2h"], False)
            _backward(loss + self._sr_loss(terms, g_l2h(fake_real), hr))
            self._require_grad(["g_l2h"], True)
            sr = g_l2h(fake_real.detach())
            _backward(self._sr_loss(terms, sr, hr))
        nn.utils.clip_grad_norm_(self._params(*GENERATORS), self.clip_norm)
        for adam in self.adams:
            adam.step()

        # discriminators
        self._require_grad(self._discriminators(), True)
        for adam in self.d_adams:
            adam.zero_grad()
        shown_real = self.pools["d_r"].query(fake_real.detach(), batch.index)
        shown_syn = self.pools["d_s"].query(fake_syn.detach(), batch.index)
        for name, true, shown in (("d_r", real, shown_real), ("d_s", syn, shown_syn)):
            d = self.nets[name]
            terms[name] = (_to_ones(d(true)) + d(shown).square().mean()) * 0.5
            _backward(terms[name])
        if self.gan:
            d_h = self.nets["d_h"]
            terms["d_h"] = _relativistic(d_h(hr), d_h(sr.detach()), 1.0)
            _backward(terms["d_h"])
        nn.utils.clip_grad_norm_(self._params(*self._discriminators()), self.clip_norm)
        for adam in self.d_adams:
            adam.step()
        return {name: term.detach() for name, term in terms.items()}

    def first_moments(self) -> Moments:
        """Adam's first moments of the parameters that are `compared`."""
        state = {p: values for adam in (*self.adams, *self.d_adams) for p, values in adam.state.items()}
        return {
            name: {key: state[net.get_parameter(key)]["exp_avg"] for key in compared(name, net)}
            for name, net in self.nets.items()
        }

    def _sr_loss(self, terms: dict[str, Tensor], sr: Tensor, hr: Tensor) -> Tensor:
        w = self.w
        terms["mse"] = F.mse_loss(sr, hr)
        loss = w.mse * terms["mse"]
        if self.gan:
            d_h = self.nets["d_h"]
            terms["advsr"] = _relativistic(d_h(hr).detach(), d_h(sr), 0.0)
            loss = loss + w.advsr * terms["advsr"]
        if self.vgg is not None:
            terms["percep"] = F.l1_loss(self.vgg(sr)[0], self.vgg(hr)[0].detach())
            loss = loss + w.percep * terms["percep"]
        return loss

    def _discriminators(self) -> list[str]:
        return [name for name in self.nets if name.startswith("d_")]

    def _params(self, *names: str) -> list[nn.Parameter]:
        return list(chain.from_iterable(self.nets[name].parameters() for name in names))

    def _require_grad(self, names: Iterable[str], switch: bool) -> None:
        for name in names:
            self.nets[name].requires_grad_(switch)


def _backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]  # torch's own annotation


def _to_ones(d_out: Tensor) -> Tensor:
    return (d_out - 1).square().mean()


def _relativistic(d_real: Tensor, d_fake: Tensor, label_of_real: float) -> Tensor:
    """RaGAN as BasicSR and ESRGAN write it: `label_of_real` 0 for the generator, 1 for the discriminator."""
    real, fake = d_real - d_fake.mean(), d_fake - d_real.mean()
    bce = F.binary_cross_entropy_with_logits
    label = torch.full_like(real, label_of_real)
    return (bce(real, label) + bce(fake, 1 - label)) / 2


class _ImageHistory:
    """CycleGAN's ImagePool, image by image; its draws are those of pool.py, so that the same fakes are shown."""

    def __init__(self, name: str, size: int, seed: int) -> None:
        self.name, self.size, self.seed = name, size, seed
        self.images: list[Tensor] = []

    def query(self, images: Tensor, first_index: int) -> Tensor:
        if self.size == 0:
            return images
        shown = []
        for index, image in enumerate(images, first_index):
            image = image.unsqueeze(0)
            if len(self.images) < self.size:
                self.images.append(image)
                shown.append(image)
                continue
            draws = np.random.default_rng([self.seed, index, *self.name.encode()])
            if draws.random() < 0.5:
                slot = int(draws.integers(self.size))
                shown.append(self.images[slot].clone())
                self.images[slot] = image
            else:
                shown.append(image)
        return torch.cat(shown)


def compared(name: str, net: nn.Module) -> list[str]:
    """Names of the parameters that have a gradient beyond rounding.

    Biases of convolutions right before a norm, which subtracts them again, have none; nor has d_h's last bias, since
    relativistic losses see differences of d_h's outputs alone.
    """
    leaves = [(path, module) for path, module in net.named_modules() if not list(module.children())]
    norms = (nn.InstanceNorm2d, nn.BatchNorm2d)
    cancelled = {f"{path}.bias" for (path, _), (_, behind) in pairwise(leaves) if isinstance(behind, norms)}
    keys = [key for key, _ in net.named_parameters()]
    if name == "d_h":
        cancelled.add(keys[-1])
    return [key for key in keys if key not in cancelled]
