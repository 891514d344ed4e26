"""g_l2h as the architecture's own project writes it: names alone, in safetensors, which other programs recognise.

Beside the tensors there is one line of metadata, which they pass over: with it the file can be read again exactly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from cyclesr_dist.config.schema import SRNet
from cyclesr_dist.errors import InputError
from cyclesr_dist.models.layouts import rrdb
from cyclesr_dist.models.layouts.base import renamed
from cyclesr_dist.models.layouts.known import native
from cyclesr_dist.models.model_file import described, sr_net
from cyclesr_dist.models.tensor_file import is_safetensors, metadata_of

_KEY = "cyclesr_native"


def native_file(state: Mapping[str, Tensor], sr: SRNet, scale: int) -> bytes:
    """What a file with the state of `build_sr(sr, scale)` holds; equal arguments give equal bytes. Raises InputError,
    with the difference, where no other project has this network."""
    named: Mapping[str, Tensor] = state
    if sr.kind != "module":
        layout = native(sr, scale)
        own = renamed(state, layout.names(sr, scale))
        with torch.no_grad():
            named = own | layout.derived(own, sr, scale)
    tensors = {
        name: tensor.detach().to("cpu", torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True)
        for name, tensor in named.items()
    }
    note = json.dumps({"sr": described(sr), "scale": scale}, sort_keys=True)
    return save({name: t.contiguous() for name, t in tensors.items()}, metadata={_KEY: note})


def native_project(sr: SRNet, scale: int) -> str:
    """Whose network it is. Raises InputError."""
    return sr.module if sr.kind == "module" else native(sr, scale).project


def native_remarks(sr: SRNet) -> list[str]:
    """What whoever builds the network by hand has to give, or what other programs cannot do."""
    if sr.kind == "edsr" and not sr.mean_shift:
        return [f"build it with img_range=1.0, rgb_mean=(0.0, 0.0, 0.0), res_scale={sr.res_scale:g}"]
    if sr.kind == "edsr" and sr.res_scale != 1:
        return [f"build it with res_scale={sr.res_scale:g}"]
    if sr.kind == "realplksr" and sr.layer_norm:
        return ["its LayerNorm is known to traiNNer-redux and spandrel; resselt 1.4 and neosr have GroupNorm alone"]
    growth = max(1, sr.channels // 2)
    if sr.kind == "rrdb" and growth != rrdb.LOADED_GROWTH:
        return [
            f"its dense blocks grow by {growth} channels; programs that take the size from the file, as spandrel does, "
            f"expect {rrdb.LOADED_GROWTH} and refuse it; RRDBNet(num_grow_ch={growth}) opens it"
        ]
    return []


def noted(path: Path) -> SRNet | None:
    """The network of a file that `native_file` made; None of any other. Raises InputError where it is damaged."""
    metadata = metadata_of(path) if is_safetensors(path) else {}
    try:
        return sr_net(json.loads(metadata[_KEY])["sr"]) if _KEY in metadata else None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: unusable note on the network ({error})") from error
