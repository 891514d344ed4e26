"""All layouts: which one a file has, and which one a network of ours is written in."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from cyclesr_dist.config.schema import SRNet
from cyclesr_dist.errors import InputError
from cyclesr_dist.models.layouts import edsr, msrresnet, realplksr, rrdb, span, srvgg, swinir
from cyclesr_dist.models.layouts.base import Held, Layout
from cyclesr_dist.nets.span import PUBLISHED_BLOCKS

LAYOUTS = (
    *(rrdb.BASICSR, rrdb.REALSR, rrdb.ESRGAN),
    *(edsr.BASICSR, edsr.AUTHORS),
    *(msrresnet.BASICSR, msrresnet.MMSR),
    srvgg.REALESRGAN,
    span.AUTHORS,
    realplksr.NEOSR,
    swinir.AUTHORS,
)
_OURS_ALONE = {
    "vdsr": "it is the paper's own variant of VDSR, with pixel shuffle at its end",
    "srresnet": (
        "it has BatchNorm, PReLU and convolutions of 9 x 9, which MSRResNet, the one that others know, has not; for "
        "them train with nets.sr.kind=msrresnet"
    ),
    "compact": (
        "its residual blocks and its bicubic skip are this project's own; what other programs call compact is "
        "nets.sr.kind=srvgg"
    ),
    "enlarged_resnet": "it is a translator behind bicubic enlargement",
    "enlarged_residual": "it is a translator behind bicubic enlargement",
    "translated": "it is a translator before an SR network",
}
"""Why a network has no layout of another project."""


def recognised(state: Mapping[str, Tensor]) -> tuple[Layout, Held] | None:
    """The layout that these tensors have, and what they are; None: nobody's that is known here."""
    for layout in LAYOUTS:
        if (held := layout.held(state)) is not None:
            return layout, held
    return None


def native(sr: SRNet, scale: int) -> Layout:
    """What the network's own project writes, as programs that look at the names read it. Raises InputError, with the
    reason, where there is no such project."""
    reason = _OURS_ALONE.get(sr.kind, "")
    match sr.kind:
        case "rrdb" if scale == 3:
            reason = (
                "an RRDBNet for x3 has the names and shapes of one for x2, and other programs would take it for one"
            )
        case "msrresnet" if scale == 8:
            reason = "MSRResNet is for x2, x3 and x4"
        case "span" if sr.blocks != PUBLISHED_BLOCKS:
            reason = f"SPAN has {PUBLISHED_BLOCKS} blocks; this one has {sr.blocks}"
        case "rrdb":  # since Real-ESRGAN, RRDBNet for x2 takes unshuffled pixels; ESRGAN's does not
            return rrdb.BASICSR if scale == 4 else rrdb.ESRGAN
        case "edsr":
            return edsr.BASICSR
        case "msrresnet":
            return msrresnet.BASICSR
        case "srvgg":
            return srvgg.REALESRGAN
        case "span":
            return span.AUTHORS
        case "realplksr":
            return realplksr.NEOSR
        case "swinir":
            return swinir.AUTHORS
    raise InputError(f"--layout native: {sr.kind} x{scale} has no layout of another project: {reason}")
