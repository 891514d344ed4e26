"""g_l2h out of a training checkpoint (models/checkpoint.py has the format), for `--model RUN/checkpoints/step-N`."""

from __future__ import annotations

import json
from collections.abc import Set
from dataclasses import fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from cyclesr_dist.errors import InputError
from cyclesr_dist.models.checkpoint import FILES, MANIFEST, verify
from cyclesr_dist.runtime.files import is_file
from cyclesr_dist.runtime.passing import failed, patiently

_TENSORS, _STATE = FILES
_SEPARATE = "sr"
_PLAYERS = ("g", _SEPARATE)  # that may hold the system's own g_l2h; cycle_sr_separate has it by itself
_AVERAGE = "ema."  # of it; without `ema_decay` there is none


def is_checkpoint(folder: Path) -> bool:
    """Whether the folder is a checkpoint. One whose writing was broken off has no manifest, and is none."""
    return all(is_file(folder / name) for name in (*FILES, MANIFEST))


def newest_checkpoint(run: Path) -> Path | None:
    """The newest checkpoint in a run folder."""
    found = sorted(path for path in (run / "checkpoints").glob("step-*") if is_checkpoint(path))
    return found[-1] if found else None


def describe_checkpoint(folder: Path) -> dict[str, Any]:
    """The description that model files have: `sr`, `scale` and `extra`.

    Raises InputError, also where g_l2h has not begun to learn: cycle_sr_separate trains its translators before.
    """
    try:
        state = json.loads(patiently((folder / _STATE).read_bytes))
        identity = state["identity"]
        if _SEPARATE in state["players"] and not state["players"][_SEPARATE]["num_updates"]:
            raise InputError(f"checkpoint {folder}: g_l2h has not begun to learn in it")
        return {
            "sr": _inference_net(identity),
            "scale": identity["scale"],
            "extra": {"system": identity["system"], "step": state["step"], "chosen": "last"},
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise failed(f"checkpoint {folder} cannot be read: {type(error).__name__}: {error}", error) from error


def read_checkpoint(folder: Path) -> dict[str, Tensor]:
    """The weights of g_l2h that would have been exported then. Raises InputError, also where they are damaged."""
    try:
        verify(folder)
        weights = patiently(lambda: _weights(folder / _TENSORS))
    except (OSError, SafetensorError) as error:
        raise failed(f"checkpoint {folder} cannot be read: {type(error).__name__}: {error}", error) from error
    if not weights:
        raise InputError(f"checkpoint {folder} holds no g_l2h")
    return weights


def _weights(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        names = set(file.keys())
        own = _own_names(names)
        return {name: file.get_tensor(_AVERAGE + name if _AVERAGE + name in names else own[name]) for name in own}


def _own_names(names: Set[str]) -> dict[str, str]:
    """The names of g_l2h's weights in the file, by those in the network."""
    for player in _PLAYERS:
        parts = (f"{player}.params.g_l2h.", f"{player}.buffers.g_l2h.")
        found = {name.removeprefix(part): name for part in parts for name in names if name.startswith(part)}
        if found:
            return found
    return {}


def _inference_net(identity: dict[str, Any]) -> dict[str, Any]:
    """What nets/build.py's `inference_net` says of a whole configuration, from a checkpoint's `identity`."""
    from cyclesr_dist.config.schema import Config, Nets, SRNet, TranslatorNet
    from cyclesr_dist.config.systems import SYSTEMS
    from cyclesr_dist.nets.build import inference_net

    nets = identity["nets"]
    if identity["system"] not in SYSTEMS:  # yours: its code is not imported for the name in a file
        return dict(vars(SRNet(**nets["sr"])))
    known = {field.name for field in fields(TranslatorNet)}
    translator = TranslatorNet(**{key: value for key, value in nets["translator"].items() if key in known})
    config = Config(system=identity["system"], nets=Nets(translator=translator, sr=SRNet(**nets["sr"])))
    return dict(vars(inference_net(config)))
