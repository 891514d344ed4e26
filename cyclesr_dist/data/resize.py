"""Down- and up-sampling as PIL and MATLAB do it: bicubic and bilinear antialiased, a = -0.5."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from cyclesr_dist.config.schema import HIGH_ORDER, Data, Downsampling


def down(x: Tensor, scale: int, method: Downsampling) -> Tensor:
    """Shrink (N, C, H, W) to (N, C, H // scale, W // scale); values in [0, 1] stay in [0, 1] (overshoot is clipped).

    `nearest` takes the pixel at the centre of each square (right and below of it where the scale is even).
    Raises ValueError when H or W is not a multiple of `scale`, because the sampling grid would then drift.
    """
    if x.shape[-2] % scale or x.shape[-1] % scale:
        raise ValueError(f"size {tuple(x.shape[-2:])} is not a multiple of the scale {scale}")
    size = (x.shape[-2] // scale, x.shape[-1] // scale)
    if method == "nearest":
        return F.interpolate(x, size=size, mode="nearest-exact")
    return F.interpolate(x, size=size, mode=method, antialias=True).clamp(0, 1)


def downsampling_of(data: Data) -> Downsampling:
    """How images are shrunk and nothing else; what `high_order` does besides is degradation/high_order.py's."""
    return "bicubic" if data.downsampling == HIGH_ORDER else data.downsampling


def bicubic_down(x: Tensor, scale: int) -> Tensor:
    """`down` as the paper does it."""
    return down(x, scale, "bicubic")


def bicubic_up(x: Tensor, scale: int) -> Tensor:
    """Enlarge (N, C, h, w) to (N, C, h * scale, w * scale), not clipped."""
    size = (x.shape[-2] * scale, x.shape[-1] * scale)
    return F.interpolate(x, size=size, mode="bicubic", antialias=True)


def to_8bit_grid(x: Tensor) -> Tensor:
    """Round [0, 1] to the 256 levels of an 8-bit file. A discriminator would otherwise tell files from tensors."""
    return (x.clamp(0, 1) * 255).round() / 255
