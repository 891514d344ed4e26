"""Adversarial losses on discriminator outputs: LSGAN for the LR domains, relativistic average GAN for HR."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from cyclesr_dist.method.losses.pixel import full

GlobalMean = Callable[[Tensor], Tensor]
"""Mean of a tensor over all elements *and all ranks*, differentiable; on one rank simply `torch.mean`."""


def lsgan_generator(d_fake: Tensor) -> Tensor:
    """MSE of the discriminator's output on fakes to 1 (Mao et al. 2017). Not halved, as in CycleGAN."""
    return (full(d_fake) - 1).square().mean()


def lsgan_discriminator(d_real: Tensor, d_fake: Tensor) -> Tensor:
    """Half the MSE of real to 1 plus fake to 0 (CycleGAN halves the discriminator's loss, not the generator's)."""
    return ((full(d_real) - 1).square().mean() + full(d_fake).square().mean()) / 2


def _bce(logits: Tensor, label: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


def ragan_generator(d_real: Tensor, d_fake: Tensor, global_mean: GlobalMean) -> Tensor:
    """Relativistic average loss of the generator (Jolicoeur-Martineau 2019, as in ESRGAN).

    ½[BCE(D(real) - mean D(fake), 0) + BCE(D(fake) - mean D(real), 1)], the means over the global batch.
    """
    d_real, d_fake = full(d_real), full(d_fake)
    return (_bce(d_real - global_mean(d_fake), 0.0) + _bce(d_fake - global_mean(d_real), 1.0)) / 2


def ragan_discriminator(d_real: Tensor, d_fake: Tensor, global_mean: GlobalMean) -> Tensor:
    """The generator's loss mirrored: ½[BCE(D(real) - mean D(fake), 1) + BCE(D(fake) - mean D(real), 0)]."""
    d_real, d_fake = full(d_real), full(d_fake)
    return (_bce(d_real - global_mean(d_fake), 1.0) + _bce(d_fake - global_mean(d_real), 0.0)) / 2
