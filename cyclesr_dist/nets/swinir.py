"""SwinIR (Liang et al. 2021): attention within windows, which are shifted by half in every other layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cyclesr_dist.nets.edsr import DIV2K_MEAN
from cyclesr_dist.nets.to_pixels import ToPixels
from cyclesr_dist.nets.upsampler import pixel_shuffle_stages

WINDOW = 8
"""LR px."""
SHIFT = WINDOW // 2
HEADS = 6
LAYERS = 6
"""Of a block."""
_MLP = 2  # hidden features of a channel
_FEATURES = 64  # behind the blocks, but for pixelshuffledirect
_APART = -100.0  # added to the logits of pixels that are no neighbours


class WindowAttention(nn.Module):
    """Self-attention among the pixels of a window: (N, windows, 64, C) -> the same.

    How far a row of them sees: models/reach.py.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * WINDOW - 1) ** 2, HEADS))
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Tensor, positions: Tensor, apart: Tensor | None) -> Tensor:
        """`positions` as of `relative_positions`; `apart` as of `separations`, or None where no window is divided."""
        n, windows, pixels, channels = x.shape
        bias = self.relative_position_bias_table[positions].permute(2, 0, 1)
        qkv = self.qkv(x).view(n, windows, pixels, 3, HEADS, channels // HEADS).permute(3, 0, 1, 4, 2, 5)
        if apart is None:  # (N * windows, heads, pixels, C / heads)
            q, k, v = qkv.reshape(3, n * windows, HEADS, pixels, channels // HEADS)
            y = F.scaled_dot_product_attention(q, k, v, bias[None])
        else:  # (N, windows * heads, ...): every window has a bias of its own, and no image of the batch has
            q, k, v = qkv.reshape(3, n, windows * HEADS, pixels, channels // HEADS)
            own = (bias + apart[:, None]).reshape(1, windows * HEADS, pixels, pixels)
            y = F.scaled_dot_product_attention(q, k, v, own)
        y = y.reshape(n, windows, HEADS, pixels, channels // HEADS).transpose(2, 3)
        out: Tensor = self.proj(y.reshape(x.shape))
        return out


def relative_positions(device: torch.device) -> Tensor:
    """(64, 64) rows of the bias table, for each pair of pixels of a window."""
    place = torch.arange(WINDOW, device=device)
    rows, columns = place.repeat_interleave(WINDOW), place.repeat(WINDOW)
    down = rows[:, None] - rows + WINDOW - 1
    right = columns[:, None] - columns + WINDOW - 1
    return down * (2 * WINDOW - 1) + right


def separations(rows: int, columns: int, device: torch.device) -> Tensor:
    """(windows, 64, 64), 0 or -100, of rows x columns shifted windows: those at the end hold pixels of the image's
    other end, which the shift has brought there."""
    down, right = (_strips(count, device) for count in (rows, columns))
    strips = down[:, None, :, None] * 3 + right[None, :, None, :]  # (rows, columns, 8, 8)
    of = strips.reshape(rows * columns, WINDOW**2)
    return torch.where(of[:, :, None] != of[:, None], _APART, 0.0)


def _strips(windows: int, device: torch.device) -> Tensor:
    """(windows, 8): 0; in the last window 1 before the end of the image, and 2 behind it."""
    place = torch.arange(windows * WINDOW, device=device)
    end = windows * WINDOW
    return ((place >= end - WINDOW).int() + (place >= end - SHIFT).int()).view(windows, WINDOW)


class _Mlp(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, _MLP * channels)
        self.fc2 = nn.Linear(_MLP * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class _Layer(nn.Module):
    """(N, h, w, C) -> the same, h and w multiples of the window."""

    def __init__(self, channels: int, shifted: bool) -> None:
        super().__init__()
        self.shifted = shifted
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = _Mlp(channels)

    def forward(self, x: Tensor, positions: Tensor, apart: Tensor) -> Tensor:
        y = self.norm1(x)
        if self.shifted:
            y = y.roll((-SHIFT, -SHIFT), (1, 2))
        n, height, width, channels = y.shape
        rows, columns = height // WINDOW, width // WINDOW
        windows = y.reshape(n, rows, WINDOW, columns, WINDOW, channels).transpose(2, 3)
        windows = windows.reshape(n, rows * columns, WINDOW**2, channels)
        windows = self.attn(windows, positions, apart if self.shifted else None)
        y = windows.reshape(n, rows, columns, WINDOW, WINDOW, channels).transpose(2, 3).reshape(y.shape)
        if self.shifted:
            y = y.roll((SHIFT, SHIFT), (1, 2))
        x = x + y
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class _Layers(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Layer(channels, number % 2 == 1) for number in range(LAYERS))

    def forward(self, x: Tensor, positions: Tensor, apart: Tensor) -> Tensor:
        for layer in self.blocks:
            x = layer(x, positions, apart)
        return x


class _Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.residual_group = _Layers(channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, positions: Tensor, apart: Tensor) -> Tensor:
        y = self.residual_group(x, positions, apart).permute(0, 3, 1, 2)
        out: Tensor = x + self.conv(y).permute(0, 2, 3, 1)
        return out


class _Embedding(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(x)
        return out


class SwinIR(nn.Module):
    """(N, 3, h, w) in [0, 1] -> (N, 3, h * scale, w * scale), about [0, 1]. Sides are filled up to whole windows by
    reflection.

    The lightweight one has 4 blocks of 60 and `pixelshuffledirect` (929,628 parameters at x4), the classical one 6
    blocks of 180 and `pixelshuffle` (11,900,199), the real-world one the same and `nearest+conv` (11,715,559). Blocks
    have 6 layers with 6 heads, windows of 8 x 8. With b blocks an output pixel of the lightweight one depends on up to
    24 b + 7 LR pixels in each direction. Stochastic depth, which the authors train with, is left out: a step depends on
    its batch alone. Layers are named as in the authors' code.

    Raises ValueError unless `channels` is a multiple of 6, and for `nearest+conv` at scale 3.
    """

    def __init__(self, channels: int, blocks: int, scale: int, upsampler: str) -> None:
        super().__init__()
        if channels % HEADS:
            raise ValueError(f"channels is {channels}, not a multiple of {HEADS}")
        self.scale = scale
        self.conv_first = nn.Conv2d(3, channels, 3, padding=1)
        self.patch_embed = _Embedding(channels)
        self.layers = nn.ModuleList(_Block(channels) for _ in range(blocks))
        self.norm = nn.LayerNorm(channels)
        self.conv_after_body = nn.Conv2d(channels, channels, 3, padding=1)
        self.stages = 0  # by nearest neighbours
        if upsampler == "pixelshuffledirect":
            self.upsample = nn.Sequential(nn.Conv2d(channels, 3 * scale**2, 3, padding=1), ToPixels(scale))
        else:
            self.conv_before_upsample = nn.Sequential(nn.Conv2d(channels, _FEATURES, 3, padding=1), nn.LeakyReLU(0.01))
            if upsampler == "pixelshuffle":
                self.upsample = pixel_shuffle_stages(_FEATURES, scale, None)
            elif scale == 3:
                raise ValueError("nearest+conv enlarges by 2, 4 and 8")
            else:
                self.stages = scale.bit_length() - 1
                for number in range(1, self.stages + 1):
                    self.add_module(f"conv_up{number}", nn.Conv2d(_FEATURES, _FEATURES, 3, padding=1))
                self.conv_hr = nn.Conv2d(_FEATURES, _FEATURES, 3, padding=1)
            self.conv_last = nn.Conv2d(_FEATURES, 3, 3, padding=1)
        self.upsampler = upsampler
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        mean = x.new_tensor(DIV2K_MEAN).view(1, 3, 1, 1)
        rows, columns = ((side + WINDOW - 1) // WINDOW for side in (height, width))
        features = self.conv_first(_reflected(x - mean, rows * WINDOW, columns * WINDOW))
        y = self.patch_embed(features.permute(0, 2, 3, 1))
        positions, apart = relative_positions(x.device), separations(rows, columns, x.device)
        for block in self.layers:
            y = block(y, positions, apart)
        y = features + self.conv_after_body(self.norm(y).permute(0, 3, 1, 2))
        return self._enlarged(y)[:, :, : height * self.scale, : width * self.scale] + mean

    def _enlarged(self, x: Tensor) -> Tensor:
        if self.upsampler == "pixelshuffledirect":
            direct: Tensor = self.upsample(x)
            return direct
        x = self.conv_before_upsample(x)
        if self.upsampler == "nearest+conv":
            for number in range(1, self.stages + 1):
                convolution = self.get_submodule(f"conv_up{number}")
                x = F.leaky_relu(convolution(F.interpolate(x, scale_factor=2, mode="nearest")), 0.2)
            x = F.leaky_relu(self.conv_hr(x), 0.2)
        else:
            x = self.upsample(x)
        out: Tensor = self.conv_last(x)
        return out


def _reflected(x: Tensor, height: int, width: int) -> Tensor:
    """(N, C, height, width): continued below and to the right by reflection, what is too narrow for it by its first row
    or column."""
    for axis, wanted in ((2, height), (3, width)):
        last = x.shape[axis] - 1
        place = torch.arange(wanted, device=x.device)
        x = x.index_select(axis, (last - (place - last).abs()).clamp(min=0))
    return x
