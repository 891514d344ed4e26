"""From a config section to a network: an explicit match, so that a reader sees all there is."""

from __future__ import annotations

from dataclasses import asdict, replace

from torch import nn

from cyclesr_dist.config.schema import MEASURED, Config, PatchGANNet, SRNet, TranslatorNet
from cyclesr_dist.config.systems import spec_of
from cyclesr_dist.degradation.record import Degradation
from cyclesr_dist.nets.by_class import build_by_class, translator_by_class
from cyclesr_dist.nets.compact import Compact
from cyclesr_dist.nets.edsr import EDSR
from cyclesr_dist.nets.enlarge_first import EnlargeFirst
from cyclesr_dist.nets.measured import DegradationTranslator, MeasuredDegradation
from cyclesr_dist.nets.msrresnet import MSRResNet
from cyclesr_dist.nets.patchgan import PatchGAN
from cyclesr_dist.nets.realplksr import RealPLKSR
from cyclesr_dist.nets.rrdb import RRDBNet
from cyclesr_dist.nets.span import SPAN
from cyclesr_dist.nets.srresnet import SRResNet
from cyclesr_dist.nets.srvgg import SRVGGNet
from cyclesr_dist.nets.swinir import SwinIR
from cyclesr_dist.nets.translate_first import TranslateFirst
from cyclesr_dist.nets.translator import ResidualTranslator, ResnetTranslator
from cyclesr_dist.nets.vdsr import VDSRMod


def build_g_s2r(config: Config, degradation: Degradation | None = None) -> nn.Module:
    """g_s2r: (N, 3 + E, h, w) -> (N, 3, h, w) in [0, 1], E = `noise_channels(config)`.

    `degradation` is what a network of `kind: degradation`, or that of `system: estimated`, starts from.
    """
    net = config.nets.translator
    if spec_of(config.system).measured:
        return MeasuredDegradation(degradation)
    if net.kind == MEASURED:
        return DegradationTranslator(net.channels, net.blocks, degradation)
    return build_translator(net, net.noise_channels)


def build_translator(net: TranslatorNet, noise_channels: int = 0) -> nn.Module:
    """g_r2s, or a translator at HR size: (N, 3 + noise_channels, h, w) -> (N, 3, h, w) in [0, 1]."""
    match net.kind:
        case "resnet":
            return ResnetTranslator(net.channels, net.blocks, noise_channels)
        case "residual" | "degradation":  # what is measured is one way: from synthetic to real LR
            return ResidualTranslator(net.channels, net.blocks, noise_channels)
        case _:
            return translator_by_class(net.kind, net.channels, net.blocks, noise_channels)


def build_discriminator(net: PatchGANNet) -> nn.Module:
    """d_r, d_s or d_h: (N, 3, H, W) in [0, 1] -> (N, 1, H', W')."""
    return PatchGAN(net.channels, net.layers)


def build_sr(net: SRNet, scale: int) -> nn.Module:
    """g_l2h: (N, 3, h, w) in [0, 1] -> (N, 3, h * scale, w * scale), about [0, 1].

    Raises ConfigError for a network of `kind: module` that cannot be used, ValueError for sizes that `check` refuses.
    """
    match net.kind:
        case "vdsr":
            return VDSRMod(net.channels, net.blocks, scale)
        case "srresnet":
            return SRResNet(net.channels, net.blocks, scale)
        case "edsr":
            return EDSR(net.channels, net.blocks, scale, net.res_scale, net.mean_shift)
        case "rrdb":
            return RRDBNet(net.channels, net.blocks, scale)
        case "module":
            return build_by_class(net.module, net.arguments, scale)
        case "compact":
            return Compact(net.channels, net.blocks, scale, net.bicubic_skip)
        case "srvgg":
            return SRVGGNet(net.channels, net.blocks, scale)
        case "msrresnet":
            return MSRResNet(net.channels, net.blocks, scale)
        case "span":
            return SPAN(net.channels, net.blocks, scale, net.mean_shift)
        case "realplksr":
            return RealPLKSR(net.channels, net.blocks, scale, net.layer_norm)
        case "swinir":
            return SwinIR(net.channels, net.blocks, scale, net.upsampler)
        case "enlarged_resnet":
            return EnlargeFirst(ResnetTranslator(net.channels, net.blocks), scale)
        case "enlarged_residual":
            return EnlargeFirst(ResidualTranslator(net.channels, net.blocks), scale)
        case "translated":
            first, then = TranslatorNet(**net.arguments["translator"]), SRNet(**net.arguments["sr"])
            return TranslateFirst(build_translator(first), build_sr(then, scale), scale)


def inference_net(config: Config) -> SRNet:
    """What g_l2h of a run is: `nets.sr`, or where equation (2) works at HR size, a translator behind bicubic, or a
    translator and then `nets.sr`."""
    spec, t = spec_of(config.system), config.nets.translator
    if spec.translates_first:
        kind = "resnet" if t.kind == "resnet" else "residual"
        first = {"kind": kind, "channels": t.channels, "blocks": t.blocks}
        return SRNet(kind="translated", arguments={"translator": first, "sr": asdict(replace(config.nets.sr, init=""))})
    if spec.cycle != "hr":
        return config.nets.sr
    return SRNet(
        kind="enlarged_resnet" if t.kind == "resnet" else "enlarged_residual", channels=t.channels, blocks=t.blocks
    )
