"""g_l2h on disk: model files, and what else a model's name may stand for (model_name.py), read and written."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import torch
from safetensors.torch import save
from torch import Tensor, nn

from cyclesr_dist.config.schema import Speed, SRNet
from cyclesr_dist.errors import ConfigError, InputError
from cyclesr_dist.models.checkpoint_model import describe_checkpoint, read_checkpoint
from cyclesr_dist.models.tensor_file import is_safetensors, metadata_of, tensors_of
from cyclesr_dist.models.upscaler import METADATA_KEY, NetUpscaler
from cyclesr_dist.nets.build import build_sr
from cyclesr_dist.nets.tune import tune
from cyclesr_dist.runtime.files import is_folder, write_bytes

# Wide of any real network: they stop a damaged or hostile header from asking for terabytes.
_MAX_CHANNELS = 4096
_MAX_BLOCKS = 1024
MAX_SCALE = 16
TRANSLATED: Literal["translated"] = "translated"
"""A network of two, both described in its `arguments`."""


def net_upscaler(name: str, path: Path, allow_module: bool = False) -> NetUpscaler:
    """The network of a model file or checkpoint, on the GPU where there is one. Raises InputError as `resolve_model`
    of model_name.py does."""
    net, scale = _load(path, allow_module)
    tune(net, Speed())
    return NetUpscaler(name, net.to("cuda" if torch.cuda.is_available() else "cpu"), scale)


def described(sr: SRNet) -> dict[str, Any]:
    """The network as files have it: what it started from is of a run, and no part of it."""
    return asdict(replace(sr, init=""))


def save_model(path: Path, state: dict[str, Tensor], sr: SRNet, scale: int, extra: dict[str, Any]) -> None:
    """Write the state of `build_sr(sr, scale)` as safetensors; atomic; equal arguments give equal bytes.

    Floating point is stored as float32. The architecture, the scale and `extra` (JSON values, for readers) are one JSON
    object under one metadata key, because the order of several keys is not fixed.
    """
    description = {"sr": described(sr), "scale": scale, "extra": extra}
    # Copies, because weights may be views of one buffer, which the format refuses.
    tensors = {
        name: tensor.detach().to("cpu", torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True)
        for name, tensor in state.items()
    }
    data = save(
        {name: tensor.contiguous() for name, tensor in tensors.items()},
        metadata={METADATA_KEY: json.dumps(description, sort_keys=True)},
    )
    write_bytes(path, data)


def load_model(path: Path, allow_module: bool = False) -> nn.Module:
    """The network of a file by `save_model`, on the CPU, in eval mode, without gradients.

    Raises InputError when the file is missing, is not safetensors, does not say what network it holds, or holds
    another one.
    """
    return _load(path, allow_module)[0]


def _load(path: Path, allow_module: bool) -> tuple[nn.Module, int]:
    """The network and its scale."""
    sr, scale, _ = describe(path)
    own = sr_net(sr.arguments["sr"]) if sr.kind == TRANSLATED else sr
    if own.kind == "module" and not allow_module:
        raise InputError(
            f"{path}: its network is the Python class {own.module}, which would have to be imported; if you trust the "
            "file, allow it (--allow-module, in Python allow_module=True)"
        )
    try:
        with torch.device("meta"):
            expected = build_sr(sr, scale).state_dict()
    except (ValueError, ConfigError) as error:
        raise InputError(f"{path}: {error}") from error
    state = read_state(path)
    _check_state(path, expected, state)  # before any memory is taken for a network that the file may not hold
    with torch.random.fork_rng(devices=[]):  # loading must not change what a training run draws next
        net = build_sr(sr, scale)
    net.load_state_dict(state)
    return net.eval().requires_grad_(False), scale


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a model file, or of g_l2h in a checkpoint's folder. Raises InputError."""
    return read_checkpoint(path) if is_folder(path) else tensors_of(path)


def is_ours(path: Path) -> bool:
    """Whether what `find_model` found is a checkpoint, or a model file that says what network it holds. Raises
    InputError where it cannot be read."""
    return is_folder(path) or (is_safetensors(path) and METADATA_KEY in metadata_of(path))


def describe(path: Path) -> tuple[SRNet, int, dict[str, Any]]:
    """The architecture, the scale and `extra` of the network in a model file or checkpoint. Raises InputError."""
    description = _describe(path)
    try:
        extra = dict(description.get("extra", {}))
        return sr_net(description["sr"]), whole(description["scale"], "scale", MAX_SCALE), extra
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: unusable description of the network ({error})") from error


def chosen(path: Path) -> object:
    """Why a run's file holds this network, as `save_model` was told in `extra`: model_name.py's BEST or LAST. Raises
    InputError."""
    return _describe(path).get("extra", {}).get("chosen")


def _describe(path: Path) -> dict[str, Any]:
    """What a model file's metadata, or a checkpoint, says of its network."""
    if is_folder(path):
        return describe_checkpoint(path)
    metadata = metadata_of(path)
    if METADATA_KEY not in metadata:
        raise InputError(f"{path}: was not written by cyclesr (no metadata key {METADATA_KEY!r})")
    try:
        return dict(json.loads(metadata[METADATA_KEY]))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: unusable description of the network ({error})") from error


def sr_net(values: dict[str, Any]) -> SRNet:
    """ValueError or TypeError unless `values` has the right keys, types and sizes."""
    unknown = sorted(set(values) - {field.name for field in fields(SRNet)})
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r}")
    sr = SRNet(**values)
    kinds = get_args(get_type_hints(SRNet)["kind"])
    if sr.kind not in kinds:
        raise ValueError(f"unknown kind {sr.kind!r}; known: {', '.join(kinds)}")
    whole(sr.channels, "channels", _MAX_CHANNELS)
    whole(sr.blocks, "blocks", _MAX_BLOCKS)
    for name, value in (
        ("bicubic_skip", sr.bicubic_skip),
        ("mean_shift", sr.mean_shift),
        ("layer_norm", sr.layer_norm),
    ):
        if not isinstance(value, bool):
            raise TypeError(f"{name} is {value!r}, not true or false")
    upsamplers = get_args(get_type_hints(SRNet)["upsampler"])
    if sr.upsampler not in upsamplers:
        raise ValueError(f"upsampler is {sr.upsampler!r}; known: {', '.join(upsamplers)}")
    if not isinstance(sr.res_scale, int | float) or isinstance(sr.res_scale, bool) or not 0 < sr.res_scale <= 1:
        raise ValueError(f"res_scale is {sr.res_scale!r}, not a number above 0 and at most 1")
    if not isinstance(sr.module, str) or not isinstance(sr.arguments, dict):
        raise TypeError(f"module is {sr.module!r:.80} with arguments {sr.arguments!r:.80}, not a string and a mapping")
    if sr.kind == TRANSLATED:
        _check_two(sr.arguments)
    return replace(sr, init="")


def _check_two(arguments: dict[str, Any]) -> None:
    """The same for the two networks of a `translated` one."""
    if set(arguments) != {"translator", "sr"} or not all(isinstance(value, dict) for value in arguments.values()):
        raise ValueError(f"arguments is {arguments!r:.80}; of kind {TRANSLATED} these are `translator` and `sr`")
    first = arguments["translator"]
    if set(first) != {"kind", "channels", "blocks"} or first["kind"] not in ("resnet", "residual"):
        raise ValueError(f"translator is {first!r:.80}, not kind (resnet or residual), channels and blocks")
    whole(first["channels"], "translator.channels", _MAX_CHANNELS)
    whole(first["blocks"], "translator.blocks", _MAX_BLOCKS)
    if arguments["sr"].get("kind") == TRANSLATED:
        raise ValueError(f"a {TRANSLATED} network in another one")
    sr_net(arguments["sr"])


def whole(value: object, key: str, largest: int) -> int:
    """The same. Raises ValueError unless it is an integer from 1 on."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= largest:
        raise ValueError(f"{key} is {value!r}, not an integer from 1 to {largest}")
    return value


def _check_state(path: Path, expected: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    """InputError naming the first difference."""
    where = f"{path}: holds another network than it describes"
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise InputError(f"{where}: {name} is missing")
        if name not in expected:
            raise InputError(f"{where}: {name} does not belong to it")
        if found[name].shape != expected[name].shape:
            raise InputError(f"{where}: {name} is {tuple(found[name].shape)}, not {tuple(expected[name].shape)}")
