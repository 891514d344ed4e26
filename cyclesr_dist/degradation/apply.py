"""An estimated degradation applied to images: the part of g_s2r that is measured and not learnt."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cyclesr_dist.degradation.blur import blur, padded, pick
from cyclesr_dist.degradation.fit import variance_at
from cyclesr_dist.degradation.jpeg_blocks import through_jpeg
from cyclesr_dist.degradation.record import Degradation

DRAW_CHANNELS = 3
"""Channels of unit Gaussian noise that `translate` draws from."""
_OVERLAP_PX = 8
_NEIGHBOURS = 4  # pieces in a row are of one photograph, which has some


def degraded(degradation: Degradation, images: Tensor, seed: int) -> Tensor:
    """(N, 3, h, w) in [0, 1] -> the same on the 8-bit grid; drawn from `seed`."""
    n, _, h, w = images.shape
    random = np.random.default_rng([seed, 4])
    white = torch.from_numpy(random.standard_normal((n, DRAW_CHANNELS, h, w), dtype=np.float32))
    return translate(images, white.to(images.device), **degradation.tensors())


def translate(
    x: Tensor,
    white: Tensor,
    kernels: Tensor,
    variance: Tensor,
    levels: Tensor,
    colouring: Tensor,
    noise: Tensor,
    jpeg: Tensor,
) -> Tensor:
    """k * x + level std(k * x) n, clipped to [0, 1], rounded to 8 bits, and through JPEG where there was: (N, 3, h, w)
    in [0, 1] -> the same.

    `white` (N, 3, h, w), unit Gaussian, decides all that is drawn for a sample: its kernel, its level, and its noise,
    coloured or laid out from pieces that were found; see `Degradation`. Rounding, clipping and JPEG let gradients pass.
    """
    chance = torch.special.ndtr(white.float())
    blurred = blur(x, kernels, chance[:, 0, 0, 0])
    std = variance_at(variance, blurred.detach()).sqrt()
    if len(noise):
        n = _laid(noise, chance)
    else:
        half = colouring.shape[-1] // 2
        level = levels[pick(chance[:, 1, 0, 0], len(levels))]
        n = level[:, None, None, None] * F.conv2d(padded(white.float(), half), colouring)
    made = blurred + std * n
    if len(jpeg):
        return made + (through_jpeg(made, int(jpeg[0])) - made).detach()
    return made + ((made.clamp(0, 1) * 255).round() / 255 - made).detach()


def _laid(noise: Tensor, chance: Tensor) -> Tensor:
    """(N, 3, h, w) of unit variance from pieces of `noise` (L, 3, p, p).

    Pieces larger than the image are cut at random. Larger images are laid out with overlapping ones, of one photograph
    mostly; the squares of their weights at a pixel sum to 1, so that the variance stays.
    """
    n, _, h, w = chance.shape
    p = noise.shape[-1]
    first = pick(chance[:, 0, 0, min(1, w - 1)], len(noise))
    if h <= p and w <= p:
        return _cut(noise[first], chance[:, :, 0, min(2, w - 1)], chance[:, :, 0, min(3, w - 1)], h, w)
    step = p - _OVERLAP_PX
    rows, columns = (-(-(size - p) // step) + 1 if size > p else 1 for size in (h, w))
    out = chance.new_zeros(n, 3, p + (rows - 1) * step, p + (columns - 1) * step)
    for i in range(rows):
        for j in range(columns):
            own = chance[:, :, min(i, h - 1), min(4 + j, w - 1)]  # another pixel decides about each piece
            piece = noise[(first + pick(own[:, 2], _NEIGHBOURS)) % len(noise)]
            weight = _fade(p, i > 0, i + 1 < rows, out)[:, None] * _fade(p, j > 0, j + 1 < columns, out)
            out[..., i * step : i * step + p, j * step : j * step + p] += weight * _cut(piece, own, own, p, p)
    return out[..., :h, :w]


def _fade(p: int, before: bool, after: bool, like: Tensor) -> Tensor:
    """(p,) weights: 1, and a quarter of a sine where the neighbour overlaps."""
    line = like.new_ones(p)
    ramp = torch.sin(
        (torch.arange(_OVERLAP_PX, device=like.device, dtype=like.dtype) + 0.5) / _OVERLAP_PX * torch.pi / 2
    )
    if before:
        line[:_OVERLAP_PX] = ramp
    if after:
        line[-_OVERLAP_PX:] = ramp.flip(0)
    return line


def _cut(piece: Tensor, turns: Tensor, places: Tensor, h: int, w: int) -> Tensor:
    """(N, 3, p, p) -> (N, 3, h, w): turned by half or not and negated or not, as `turns` (N, 3) in [0, 1) says, and cut
    where `places` (N, 3) says."""
    n, _, p, _ = piece.shape
    turned = torch.where((turns[:, 0] < 0.5)[:, None, None, None], piece, piece.flip(-2, -1))
    signed = torch.where((turns[:, 1] < 0.5)[:, None, None, None], turned, -turned)
    if h == p and w == p:
        return signed
    y = pick(places[:, 0], p - h + 1)[:, None] + torch.arange(h, device=piece.device)
    x = pick(places[:, 1], p - w + 1)[:, None] + torch.arange(w, device=piece.device)
    number = torch.arange(n, device=piece.device)
    return signed.permute(0, 2, 3, 1)[number[:, None, None], y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)
