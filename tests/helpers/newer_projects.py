"""SPAN, RealPLKSR and SwinIR as other projects compute them, written from their publications and the names in their
files; for tests. All is done the long way: parts of kernels one after the other, windows one by one."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers.other_projects import conv

MEAN = torch.tensor((0.4488, 0.4371, 0.4040)).view(1, 3, 1, 1)


class _InParts(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.sk = nn.Conv2d(inputs, outputs, 1)
        self.conv = nn.Sequential(
            nn.Conv2d(inputs, 2 * inputs, 1), nn.Conv2d(2 * inputs, 2 * outputs, 3), nn.Conv2d(2 * outputs, outputs, 1)
        )
        self.eval_conv = conv(inputs, outputs)  # what a file has here, nobody reads

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (1, 1, 1, 1))) + self.sk(x)


class _SPAB(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.c1_r, self.c2_r, self.c3_r = (_InParts(features, features) for _ in range(3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first = F.silu(self.c1_r(x))
        third = self.c3_r(F.silu(self.c2_r(first)))
        return (third + x) * (torch.sigmoid(third) - 0.5), first


class SPAN(nn.Module):
    """`normed`: of the authors; else of neosr and traiNNer-redux."""

    def __init__(self, features: int, scale: int, *, normed: bool) -> None:
        super().__init__()
        if not normed:
            self.register_buffer("no_norm", torch.zeros(1))
        self.normed = normed
        self.conv_1, self.conv_2 = _InParts(3, features), _InParts(features, features)
        for i in range(1, 7):
            self.add_module(f"block_{i}", _SPAB(features))
        self.conv_cat = nn.Conv2d(4 * features, features, 1)
        self.upsampler = nn.Sequential(conv(features, 3 * scale * scale), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv_1((x - MEAN) * 255 if self.normed else x)
        seen = [y]
        for i in range(1, 7):
            y, first = self.get_submodule(f"block_{i}")(y)
            seen.append(y)
        return self.upsampler(self.conv_cat(torch.cat([seen[0], self.conv_2(y), seen[1], first], 1)))


class _ChannelNorm(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(features)), nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        apart = x - x.mean(1, keepdim=True)
        normed = apart / (apart.square().mean(1, keepdim=True) + 1e-6).sqrt()
        return self.weight[:, None, None] * normed + self.bias[:, None, None]


class _PLKBlock(nn.Module):
    def __init__(self, features: int, layer_norm: bool) -> None:
        super().__init__()
        self.layer_norm = _ChannelNorm(features) if layer_norm else nn.Identity()
        self.channel_mixer = nn.Sequential(conv(features, 2 * features), nn.Mish(), conv(2 * features, features))
        self.lk = nn.Module()
        self.lk.conv = nn.Conv2d(features // 4, features // 4, 17, 1, 8)
        self.attn = nn.Module()
        self.attn.f = nn.Sequential(conv(features, features), nn.Sigmoid())
        self.refine = nn.Conv2d(features, features, 1)
        self.norm = nn.Identity() if layer_norm else nn.GroupNorm(4, features)

    def forward(self, x: Tensor) -> Tensor:
        y = self.channel_mixer(self.layer_norm(x)).clone()
        part = y.shape[1] // 4
        y[:, :part] = self.lk.conv(y[:, :part])
        return x + self.norm(self.refine(y * self.attn.f(y)))


class RealPLKSR(nn.Module):
    """Of neosr; with `layer_norm` of traiNNer-redux."""

    def __init__(self, features: int, blocks: int, scale: int, *, layer_norm: bool = False) -> None:
        super().__init__()
        self.scale = scale
        body = (_PLKBlock(features, layer_norm) for _ in range(blocks))
        self.feats = nn.Sequential(conv(3, features), *body, nn.Dropout2d(0), conv(features, 3 * scale**2))

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.feats(x) + x.repeat_interleave(self.scale**2, 1), self.scale)


class _SwinLayer(nn.Module):
    def __init__(self, features: int, shift: int) -> None:
        super().__init__()
        self.shift = shift
        self.norm1, self.norm2 = nn.LayerNorm(features), nn.LayerNorm(features)
        self.attn, self.mlp = nn.Module(), nn.Module()
        self.attn.relative_position_bias_table = nn.Parameter(torch.zeros(15 * 15, 6))
        self.attn.qkv, self.attn.proj = nn.Linear(features, 3 * features), nn.Linear(features, features)
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(features, 2 * features), nn.Linear(2 * features, features)
        y, x = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
        y, x = y.flatten(), x.flatten()
        index = (y[:, None] - y + 7) * 15 + x[:, None] - x + 7
        self.attn.register_buffer("relative_position_index", index)
        if shift:  # of patches of 64 px, whatever the size; other sizes make their own
            self.register_buffer("attn_mask", torch.zeros(64, 64, 64))

    def forward(self, x: Tensor) -> Tensor:
        normed, attended = self.norm1(x), torch.zeros_like(x)
        rows, columns = (range(-self.shift, side, 8) for side in x.shape[1:3])
        for top in rows:
            for left in columns:  # a window at the border is cut there: what is beyond it is masked
                where = (slice(None), slice(max(top, 0), top + 8), slice(max(left, 0), left + 8))
                attended[where] = self._attended(normed[where], max(-top, 0), max(-left, 0))
        x = x + attended
        return x + self.mlp.fc2(F.gelu(self.mlp.fc1(self.norm2(x))))

    def _attended(self, x: Tensor, top: int, left: int) -> Tensor:
        """A window, or what is left of it from its row `top` and column `left`."""
        n, height, width, features = x.shape
        place = torch.arange(64).view(8, 8)[top : top + height, left : left + width].flatten()
        rows = self.attn.relative_position_index[place][:, place]
        heads = self.attn.qkv(x.flatten(1, 2)).view(n, len(place), 3, 6, features // 6).permute(2, 0, 3, 1, 4)
        q, k, v = heads
        likeness = q @ k.transpose(2, 3) / (features // 6) ** 0.5
        likeness = likeness + self.attn.relative_position_bias_table[rows].permute(2, 0, 1)
        y = (likeness.softmax(3) @ v).transpose(1, 2).reshape(n, height, width, features)
        return self.attn.proj(y)


class _RSTB(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.residual_group = nn.Module()
        self.residual_group.blocks = nn.ModuleList(_SwinLayer(features, 4 * (i % 2)) for i in range(6))
        self.conv = conv(features, features)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for layer in self.residual_group.blocks:
            y = layer(y)
        return x + self.conv(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class SwinIR(nn.Module):
    """Of its authors: lightweight (`pixelshuffledirect`), classical (`pixelshuffle`), real-world (`nearest+conv`)."""

    def __init__(self, features: int, blocks: int, scale: int, upsampler: str) -> None:
        super().__init__()
        self.scale, self.upsampler = scale, upsampler
        self.conv_first, self.conv_after_body = conv(3, features), conv(features, features)
        self.patch_embed = nn.Module()
        self.patch_embed.norm, self.norm = nn.LayerNorm(features), nn.LayerNorm(features)
        self.layers = nn.ModuleList(_RSTB(features) for _ in range(blocks))
        if upsampler == "pixelshuffledirect":
            self.upsample = nn.Sequential(conv(features, 3 * scale**2), nn.PixelShuffle(scale))
            return
        self.conv_before_upsample = nn.Sequential(conv(features, 64), nn.LeakyReLU())
        self.conv_last = conv(64, 3)
        factors = [3] if scale == 3 else [2] * (scale.bit_length() - 1)
        if upsampler == "pixelshuffle":
            self.upsample = nn.Sequential(
                *(layer for f in factors for layer in (conv(64, 64 * f * f), nn.PixelShuffle(f)))
            )
            return
        self.conv_hr = conv(64, 64)
        for i in range(len(factors)):
            self.add_module(f"conv_up{i + 1}", conv(64, 64))

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        filled = F.pad(x, (0, -width % 8, 0, -height % 8), mode="reflect") - MEAN
        first = self.conv_first(filled)
        y = self.patch_embed.norm(first.permute(0, 2, 3, 1))
        for layer in self.layers:
            y = layer(y)
        y = self._enlarged(first + self.conv_after_body(self.norm(y).permute(0, 3, 1, 2)))
        return (y + MEAN)[:, :, : height * self.scale, : width * self.scale]

    def _enlarged(self, x: Tensor) -> Tensor:
        if self.upsampler == "pixelshuffledirect":
            return self.upsample(x)
        x = self.conv_before_upsample(x)
        if self.upsampler == "pixelshuffle":
            return self.conv_last(self.upsample(x))
        for name, layer in self.named_children():
            if name.startswith("conv_up"):
                x = F.leaky_relu(layer(x.repeat_interleave(2, 2).repeat_interleave(2, 3)), 0.2)
        return self.conv_last(F.leaky_relu(self.conv_hr(x), 0.2))


def as_in_a_file(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """With what nobody should read made useless: kernels that were merged in an earlier step, masks of another size."""
    useless = {name: torch.full_like(t, 9) for name, t in state.items() if ".eval_conv." in name}
    return state | useless | {name: torch.ones(36, 64, 64) for name in state if name.endswith("attn_mask")}
