"""RRDBNet: three generations of names, of ESRGAN, of RealSR and BSRGAN, and of BasicSR and Real-ESRGAN."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from torch import Tensor

from cyclesr_dist.config.schema import SRNet
from cyclesr_dist.models.layouts.base import Held, Layout, Names, count

STAGES = {2: 1, 3: 1, 4: 2, 8: 3}
"""Enlargements one after the other, by scale."""
LOADED_GROWTH = 32
"""What programs that read the size from a file take for granted."""


def _names(first: str, dense: str, body: str, up: str, hr: str, last: str, sr: SRNet, scale: int) -> Names:
    names = {"head": first, f"body.{sr.blocks}": body.format(blocks=sr.blocks)}
    for i in range(sr.blocks):
        for j in range(3):
            for k in range(5):
                names[f"body.{i}.body.{j}.convolutions.{k}"] = dense.format(i=i, j=j + 1, k=k + 1)
    stages = STAGES[scale]
    names |= {f"up.{n}": up.format(n=n + 1, place=3 * (n + 1)) for n in range(stages)}
    return names | {"tail.0": hr.format(place=3 * stages + 2), "tail.2": last.format(place=3 * stages + 4)}


def _held(first: str, dense: str, up: str, state: Mapping[str, Tensor]) -> Held | None:
    """`dense`: what stands before and behind the number of a block in its first convolution's name; `up`: of a stage,
    numbered from 1."""
    before, after = dense.split("{i}")
    blocks = count(state, lambda i: f"{before}{i}{after}.weight")
    head = state.get(f"{first}.weight")
    if head is None or not blocks or head.dim() != 4:
        return None
    stages = count(state, lambda n: f"{up.format(n=n + 1, place=3 * (n + 1))}.weight")
    channels, inputs = head.shape[:2]
    growth = state[f"{before}0{after}.weight"].shape[0]
    differs = ""
    if inputs != 3:
        differs = f"takes {inputs} input channels (pixels unshuffled); ours takes 3"
    elif growth != max(1, channels // 2):
        differs = f"grows by {growth} channels a convolution; ours grows by half of its {channels}"
    return Held(SRNet(kind="rrdb", channels=channels, blocks=blocks), 2**stages, differs)


def _layout(project: str, *, first: str, dense: str, body: str, up: str, hr: str, last: str) -> Layout:
    one = dense.replace("{j}", "1").replace("{k}", "1")
    return Layout(project, partial(_held, first, one, up), partial(_names, first, dense, body, up, hr, last))


BASICSR = _layout(
    "RRDBNet of Real-ESRGAN and BasicSR",
    first="conv_first",
    dense="body.{i}.rdb{j}.conv{k}",
    body="conv_body",
    up="conv_up{n}",
    hr="conv_hr",
    last="conv_last",
)
REALSR = _layout(
    "RRDBNet of RealSR and BSRGAN",
    first="conv_first",
    dense="RRDB_trunk.{i}.RDB{j}.conv{k}",
    body="trunk_conv",
    up="upconv{n}",
    hr="HRconv",
    last="conv_last",
)
ESRGAN = _layout(
    "RRDBNet of ESRGAN",
    first="model.0",
    dense="model.1.sub.{i}.RDB{j}.conv{k}.0",
    body="model.1.sub.{blocks}",
    up="model.{place}",
    hr="model.{place}",
    last="model.{place}",
)
