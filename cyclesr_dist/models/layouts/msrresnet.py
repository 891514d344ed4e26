"""MSRResNet: our names are BasicSR's; mmsr, before it, had others."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from torch import Tensor

from cyclesr_dist.config.schema import SRNet
from cyclesr_dist.models.layouts.base import Held, Layout, Names, count

STAGES = {2: 1, 3: 1, 4: 2, 8: 3}


def _names(body: str, hr: str, sr: SRNet, scale: int) -> Names:
    names = {name: name for name in ("conv_first", "conv_last")} | {"conv_hr": hr}
    names |= {f"upconv{n}": f"upconv{n}" for n in range(1, STAGES[scale] + 1)}
    return names | {f"body.{i}.conv{n}": f"{body}.{i}.conv{n}" for i in range(sr.blocks) for n in (1, 2)}


def _held(body: str, hr: str, state: Mapping[str, Tensor]) -> Held | None:
    blocks = count(state, lambda i: f"{body}.{i}.conv1.weight")
    first, enlarging = state.get("conv_first.weight"), state.get("upconv1.weight")
    if first is None or enlarging is None or not blocks or first.dim() != 4 or f"{hr}.weight" not in state:
        return None
    channels, inputs = first.shape[:2]
    stages = count(state, lambda n: f"upconv{n + 1}.weight")
    scale = 3 if enlarging.shape[0] == 9 * channels else 2**stages
    differs = f"takes {inputs} input channels; ours takes 3" if inputs != 3 else ""
    return Held(SRNet(kind="msrresnet", channels=channels, blocks=blocks), scale, differs)


BASICSR = Layout("MSRResNet of BasicSR", partial(_held, "body", "conv_hr"), partial(_names, "body", "conv_hr"))
MMSR = Layout("MSRResNet of mmsr", partial(_held, "recon_trunk", "HRconv"), partial(_names, "recon_trunk", "HRconv"))
