"""SR networks as other projects build them, written from their publications and the names in their files; for tests."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, 1, 1)


class _Dense(nn.Module):
    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.conv1 = conv(features, growth)
        self.conv2 = conv(features + growth, growth)
        self.conv3 = conv(features + 2 * growth, growth)
        self.conv4 = conv(features + 3 * growth, growth)
        self.conv5 = conv(features + 4 * growth, features)

    def forward(self, x: Tensor) -> Tensor:
        x1 = F.leaky_relu(self.conv1(x), 0.2)
        x2 = F.leaky_relu(self.conv2(torch.cat((x, x1), 1)), 0.2)
        x3 = F.leaky_relu(self.conv3(torch.cat((x, x1, x2), 1)), 0.2)
        x4 = F.leaky_relu(self.conv4(torch.cat((x, x1, x2, x3), 1)), 0.2)
        return x + 0.2 * self.conv5(torch.cat((x, x1, x2, x3, x4), 1))


class _RRDB(nn.Module):
    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (_Dense(features, growth) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.2 * self.rdb3(self.rdb2(self.rdb1(x)))


class RRDBNet(nn.Module):
    """Of BasicSR and Real-ESRGAN, for x4."""

    def __init__(self, features: int, blocks: int, growth: int, inputs: int = 3) -> None:
        super().__init__()
        self.conv_first = conv(inputs, features)
        self.body = nn.Sequential(*(_RRDB(features, growth) for _ in range(blocks)))
        self.conv_body = conv(features, features)
        self.conv_up1, self.conv_up2 = conv(features, features), conv(features, features)
        self.conv_hr, self.conv_last = conv(features, features), conv(features, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv_first(x)
        y = y + self.conv_body(self.body(y))
        for up in (self.conv_up1, self.conv_up2):
            y = F.leaky_relu(up(F.interpolate(y, scale_factor=2, mode="nearest")), 0.2)
        return self.conv_last(F.leaky_relu(self.conv_hr(y), 0.2))


class _Shortcut(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.sub = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.sub(x)


class _OldDense(nn.Module):
    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        for i in range(5):
            layers: list[nn.Module] = [conv(features + i * growth, growth if i < 4 else features)]
            layers += [nn.LeakyReLU(0.2)] if i < 4 else []
            self.add_module(f"conv{i + 1}", nn.Sequential(*layers))

    def forward(self, x: Tensor) -> Tensor:
        seen = [x]
        for i in range(5):
            seen.append(self.get_submodule(f"conv{i + 1}")(torch.cat(seen, 1)))
        return x + 0.2 * seen[-1]


class _OldRRDB(nn.Module):
    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.RDB1, self.RDB2, self.RDB3 = (_OldDense(features, growth) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.2 * self.RDB3(self.RDB2(self.RDB1(x)))


class OldRRDBNet(nn.Module):
    """Of ESRGAN, flat: `model.0`, `model.1.sub...`, with a number for every layer."""

    def __init__(self, features: int, blocks: int, growth: int, stages: int) -> None:
        super().__init__()
        body = nn.Sequential(*(_OldRRDB(features, growth) for _ in range(blocks)), conv(features, features))
        layers: list[nn.Module] = [conv(3, features), _Shortcut(body)]
        for _ in range(stages):
            layers += [nn.Upsample(scale_factor=2, mode="nearest"), conv(features, features), nn.LeakyReLU(0.2)]
        self.model = nn.Sequential(*layers, conv(features, features), nn.LeakyReLU(0.2), conv(features, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class SRVGGNetCompact(nn.Module):
    """Of Real-ESRGAN."""

    def __init__(self, features: int, convolutions: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.body = nn.ModuleList([conv(3, features), nn.PReLU(num_parameters=features)])
        for _ in range(convolutions):
            self.body.extend([conv(features, features), nn.PReLU(num_parameters=features)])
        self.body.append(conv(features, 3 * scale * scale))
        self.upsampler = nn.PixelShuffle(scale)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for layer in self.body:
            y = layer(y)
        return self.upsampler(y) + F.interpolate(x, scale_factor=self.scale, mode="nearest")


class _NoBN(nn.Module):
    def __init__(self, features: int, res_scale: float = 1.0) -> None:
        super().__init__()
        self.res_scale = res_scale
        self.conv1, self.conv2 = conv(features, features), conv(features, features)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.res_scale * self.conv2(torch.relu(self.conv1(x)))


class MSRResNet(nn.Module):
    """Of BasicSR, for x2, x3 and x4."""

    def __init__(self, features: int, blocks: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.conv_first = conv(3, features)
        self.body = nn.Sequential(*(_NoBN(features) for _ in range(blocks)))
        self.factor = 2 if scale == 4 else scale
        self.upconv1 = conv(features, features * self.factor**2)
        if scale == 4:
            self.upconv2 = conv(features, features * 4)
        self.conv_hr, self.conv_last = conv(features, features), conv(features, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(F.leaky_relu(self.conv_first(x), 0.1))
        y = F.leaky_relu(F.pixel_shuffle(self.upconv1(y), self.factor), 0.1)
        if self.scale == 4:
            y = F.leaky_relu(F.pixel_shuffle(self.upconv2(y), 2), 0.1)
        y = self.conv_last(F.leaky_relu(self.conv_hr(y), 0.1))
        return y + F.interpolate(x, scale_factor=self.scale, mode="bilinear", align_corners=False)


class EDSR(nn.Module):
    """Of BasicSR; its mean and range are no part of its files."""

    def __init__(self, features: int, blocks: int, scale: int, res_scale: float, *, shifted: bool) -> None:
        super().__init__()
        self.range = 255.0 if shifted else 1.0
        self.mean = torch.tensor((0.4488, 0.4371, 0.4040) if shifted else (0.0, 0.0, 0.0)).view(1, 3, 1, 1)
        self.conv_first = conv(3, features)
        self.body = nn.Sequential(*(_NoBN(features, res_scale) for _ in range(blocks)))
        self.conv_after_body = conv(features, features)
        factors = [3] if scale == 3 else [2] * (scale.bit_length() - 1)
        self.upsample = nn.Sequential(
            *(layer for f in factors for layer in (conv(features, features * f * f), nn.PixelShuffle(f)))
        )
        self.conv_last = conv(features, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv_first((x - self.mean) * self.range)
        y = self.conv_last(self.upsample(y + self.conv_after_body(self.body(y))))
        return y / self.range + self.mean


def in_real_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """An RRDBNet of BasicSR with the names of RealSR and BSRGAN."""
    pairs = (("body.", "RRDB_trunk."), ("rdb", "RDB"), ("conv_body", "trunk_conv"))
    pairs += (("conv_up", "upconv"), ("conv_hr", "HRconv"))
    renamed = {}
    for name, tensor in state.items():
        for old, new in pairs:
            name = name if old == "body." and not name.startswith(old) else name.replace(old, new)
        renamed[name] = tensor
    return renamed


def in_mmsr_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """An MSRResNet of BasicSR with the names of mmsr."""
    return {
        (f"recon_trunk.{name[5:]}" if name.startswith("body.") else name.replace("conv_hr", "HRconv")): tensor
        for name, tensor in state.items()
    }


def in_authors_names(state: dict[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """An EDSR of BasicSR with the names of EDSR-PyTorch, and its layers for the mean."""
    pairs = [("conv_first", "head.0"), ("conv_after_body", f"body.{blocks}"), ("upsample.", "tail.0.")]
    pairs += [("conv_last", "tail.1"), (".conv1.", ".body.0."), (".conv2.", ".body.2.")]
    renamed = {}
    for name, tensor in state.items():
        for old, new in pairs:
            name = name.replace(old, new)
        renamed[name] = tensor
    mean = 255 * torch.tensor((0.4488, 0.4371, 0.4040))
    colours = torch.eye(3).view(3, 3, 1, 1)
    means = {"sub_mean.weight": colours, "sub_mean.bias": -mean, "add_mean.weight": colours, "add_mean.bias": mean}
    return renamed | means
