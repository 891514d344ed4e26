"""The weights that g_l2h starts from: of a model of ours, or of another project's file; checked against the network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from cyclesr_dist.config.schema import SRNet
from cyclesr_dist.errors import ConfigError, InputError
from cyclesr_dist.models.layouts.base import renamed
from cyclesr_dist.models.layouts.known import recognised
from cyclesr_dist.models.model_file import describe, is_ours, read_state
from cyclesr_dist.models.model_name import find_model
from cyclesr_dist.models.native import noted
from cyclesr_dist.models.tensor_file import read_tensors
from cyclesr_dist.nets.build import build_sr

_UNSEEN = ("bicubic_skip", "res_scale", "mean_shift")
"""What changes the result of a network, and not the shape of any tensor."""


class Weights(NamedTuple):
    """Of g_l2h, named as in our network."""

    state: dict[str, Tensor]
    what: str
    """What they were in the file, for people."""


def weights_for(key: str, place: str, sr: SRNet, scale: int) -> Weights:
    """From what `place` names: anything that `--model` takes but ONNX and `bicubic`, or a file of another project.

    Raises ConfigError, starting with `key`, where they are those of another network than `sr` for `scale`: it names the
    first tensor that differs, with both shapes. Raises InputError where there is nothing that can be read.
    """
    said = f"{key} = {place}"
    try:
        path = _found(place)
        with torch.device("meta"):
            ours = build_sr(sr, scale).state_dict()
        return _own(said, path, sr, scale, ours) if is_ours(path) else _foreign(said, path, sr, scale, ours)
    except InputError as error:
        text = str(error)
        raise type(error)(text if text.startswith(said) else f"{said}: {text}") from error


def _found(place: str) -> Path:
    if "://" in place:
        raise InputError("is not fetched; allowed: a path on this machine")
    path = Path(place).expanduser()
    if not path.exists() and "@" not in place:
        raise InputError("there is no such file or folder")
    path = find_model(str(path))
    if path.suffix == ".onnx":
        raise InputError("training cannot start from ONNX; allowed: a run folder, .safetensors or .pth")
    return path


def _own(said: str, path: Path, sr: SRNet, scale: int, ours: Mapping[str, Tensor]) -> Weights:
    theirs, own_scale, extra = describe(path)
    state = read_state(path)
    check_same(said, ours, state, _settings(theirs, own_scale))
    check_unseen(said, sr, theirs, _UNSEEN)
    check_scale(said, scale, own_scale)
    made_by = f", {extra['system']} after {extra['step']} steps" if {"system", "step"} <= extra.keys() else ""
    return Weights(_numbers(said, state), f"g_l2h of this project{made_by}")


def _foreign(said: str, path: Path, sr: SRNet, scale: int, ours: Mapping[str, Tensor]) -> Weights:
    state = read_tensors(path)
    found = recognised(state)
    if found is None:  # those of a network that is named by its class, for instance
        check_same(said, ours, state, "the names are of no project that is known here")
        return Weights(_numbers(said, state), "named as this run's network")
    layout, held = found
    settings = held.differs or _settings(held.sr, held.scale)
    hint = f"it holds {layout.project}: {settings}"
    if held.sr.kind != sr.kind:
        check_same(said, ours, state, hint)
    names = layout.names(sr, scale)
    for name, value in layout.constants.items():
        if name in state and not _is_close(state.pop(name), value):
            raise InputError(f"{name} is not the one of {layout.project}, which is taken for granted")
    named = renamed(ours, names)
    passed_over = layout.derived(named, sr, scale).keys()
    state = {name: tensor for name, tensor in state.items() if name not in passed_over}
    check_same(said, named, state, hint)
    note = noted(path)
    check_unseen(said, sr, note or held.sr, _UNSEEN if note else ("mean_shift",))
    back = {theirs: mine for mine, theirs in names.items()}
    return Weights(_numbers(said, renamed(state, back)), f"{layout.project}, {held.sr.blocks} x {held.sr.channels}")


def _settings(sr: SRNet, scale: int) -> str:
    """That make this network."""
    flags = ("bicubic_skip", "mean_shift", "layer_norm")
    more = "".join(f" nets.sr.{name}=true" for name in flags if getattr(sr, name))
    more += f" nets.sr.upsampler={sr.upsampler}" if sr.kind == "swinir" else ""
    return f"nets.sr.kind={sr.kind} nets.sr.channels={sr.channels} nets.sr.blocks={sr.blocks}{more} scale={scale}"


def check_same(said: str, ours: Mapping[str, Tensor], found: Mapping[str, Tensor], hint: str) -> None:
    """ConfigError naming the first tensor that differs, with both shapes, in the order of the network."""
    extra = next((name for name in found if name not in ours), None)
    more = f"; {hint}" if hint else ""
    for name, own in ours.items():
        if name not in found:
            instead = f", which has {_shaped(extra, found)} instead" if extra else ""
            raise ConfigError(f"{said}: {_shaped(name, ours)} in this run, is missing in the file{instead}{more}")
        if found[name].shape != own.shape:
            raise ConfigError(
                f"{said}: {name} is {tuple(found[name].shape)} in the file and {tuple(own.shape)} in this run{more}"
            )
    if extra is not None:
        raise ConfigError(f"{said}: {_shaped(extra, found)} in the file, is not in this run's network{more}")


def check_unseen(said: str, sr: SRNet, theirs: SRNet, names: tuple[str, ...]) -> None:
    """ConfigError where a setting that no shape shows is another one in the file."""
    for name in names:
        own, other = getattr(sr, name), getattr(theirs, name)
        if own != other:
            raise ConfigError(f"{said}: nets.sr.{name} is {_yaml(other)} in the file and {_yaml(own)} in this run")


def check_scale(said: str, scale: int, theirs: int) -> None:
    if scale != theirs:
        raise ConfigError(f"{said}: is for scale {theirs}; this run has scale = {scale}")


def _shaped(name: str, state: Mapping[str, Tensor]) -> str:
    return f"{name}, {tuple(state[name].shape)}"


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a.float(), b, atol=0.02)


def _numbers(said: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As training keeps them. InputError where one is not finite."""
    kept = {name: t.to(torch.float32 if t.is_floating_point() else t.dtype) for name, t in state.items()}
    for name, tensor in kept.items():
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{said}: {name} has values that are not finite")
    return kept
