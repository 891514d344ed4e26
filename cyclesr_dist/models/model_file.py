"""What `--model` may name: g_l2h on disk (a model file, a run folder, a checkpoint) or a baseline, as an `Upscaler`."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch
from safetensors.torch import save
from torch import Tensor, nn

from cyclesr_dist.config.schema import Speed, SRNet
from cyclesr_dist.errors import ConfigError, InputError
from cyclesr_dist.models.checkpoint import MANIFEST
from cyclesr_dist.models.checkpoint_model import describe_checkpoint, is_checkpoint, newest_checkpoint, read_checkpoint
from cyclesr_dist.models.onnx_upscaler import OnnxUpscaler
from cyclesr_dist.models.tensor_file import is_safetensors, metadata_of, tensors_of
from cyclesr_dist.models.upscaler import METADATA_KEY, BicubicUpscaler, NetUpscaler, Upscaler
from cyclesr_dist.nets.build import build_sr
from cyclesr_dist.nets.tune import tune
from cyclesr_dist.runtime.files import is_file, is_folder, sha256, write_bytes

MODEL_FILE = "model.safetensors"
"""In a run folder: the best network so far; the last one where there was no validation."""
LAST_FILE = "last.safetensors"
"""In a run folder: the network of the newest validation or checkpoint."""
BEST, LAST = "best", "last"
# Wide of any real network: they stop a damaged or hostile header from asking for terabytes.
_MAX_CHANNELS = 4096
_MAX_BLOCKS = 1024
_MAX_SCALE = 16


def resolve_model(name: str, scale: int = 4, allow_module: bool = False) -> Upscaler:
    """`bicubic` (which enlarges by `scale`), a `.safetensors` file, a run folder (`RUN` and `RUN@best`: its best
    network, `RUN@last`: its last), a checkpoint's folder, or an `.onnx` file that `export` wrote; on the GPU where
    there is one (ONNX: on the CPU).

    A file may name a Python class to import for its network; only `allow_module` lets it. Raises InputError when `name`
    is none of them or the file cannot be used.
    """
    if name == "bicubic":
        try:
            return BicubicUpscaler(_whole(scale, "scale", _MAX_SCALE))
        except ValueError as error:
            raise InputError(f"model 'bicubic': {error}") from error
    path = find_model(name)
    if path.suffix == ".onnx":
        return OnnxUpscaler(name, path)
    net, own_scale = _load(path, allow_module)
    tune(net, Speed())
    return NetUpscaler(name, net.to("cuda" if torch.cuda.is_available() else "cpu"), own_scale)


def fingerprint(name: str, scale: int = 4) -> str:
    """What tells the network that `resolve_model` loads from every other one. Raises InputError as it does."""
    if name == "bicubic":
        return f"bicubic x{scale}"
    path = find_model(name)
    return sha256(path / MANIFEST if is_folder(path) else path)  # a checkpoint's manifest has its files' checksums


def load_network(name: str, allow_module: bool = False) -> tuple[nn.Module, SRNet, int, dict[str, Any]]:
    """The network of a run folder, checkpoint or model file, on the CPU, with its description, scale and `extra`.

    Raises InputError as `resolve_model` does.
    """
    path = find_model(name)
    net, scale = _load(path, allow_module)
    sr, _, extra = describe(path)
    return net, sr, scale, extra


def find_model(name: str) -> Path:
    """The model file or checkpoint folder that `name` stands for. Raises InputError."""
    path = Path(name)
    if is_file(path):
        return path
    if is_folder(path):
        return path if is_checkpoint(path) else _of_run(path, None)
    run, at, which = name.rpartition("@")
    if at and is_folder(Path(run)):
        if which not in (BEST, LAST):
            raise InputError(f"model {name!r}: @{which} is not known; allowed: {run}@{BEST}, {run}@{LAST}")
        return _of_run(Path(run), which)
    raise InputError(
        f"model {name!r}: neither 'bicubic' nor an existing run folder, checkpoint folder or .safetensors file"
    )


def _of_run(run: Path, which: str | None) -> Path:
    """The best network of a run folder, or the last; None: the best, and where none was chosen yet, the last."""
    best, last = run / MODEL_FILE, run / LAST_FILE
    if which != LAST and is_file(best):
        if which == BEST and _describe(best).get("extra", {}).get("chosen") == LAST:
            raise InputError(f"{run}@{BEST}: no network was chosen, since the run was not validated; use {run}@{LAST}")
        return best
    if which != BEST:
        found = last if is_file(last) else newest_checkpoint(run)
        if found is not None:
            return found
    raise InputError(f"{run}: no model in this folder; a run folder has one after its first validation or checkpoint")


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
    if sr.kind == "module" and not allow_module:
        raise InputError(
            f"{path}: its network is the Python class {sr.module}, which would have to be imported; if you trust the "
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
        return sr_net(description["sr"]), _whole(description["scale"], "scale", _MAX_SCALE), extra
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: unusable description of the network ({error})") from error


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
    _whole(sr.channels, "channels", _MAX_CHANNELS)
    _whole(sr.blocks, "blocks", _MAX_BLOCKS)
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
    return replace(sr, init="")


def _whole(value: object, key: str, largest: int) -> int:
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
