"""One checkpoint is one folder: `state.json` and `tensors.safetensors`, the same for every backend and world size.

It is written under a temporary name and renamed, so a checkpoint that exists is whole. Nothing in it is pickled.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cyclesr_dist.backends.base import PlayerState
from cyclesr_dist.config import Config
from cyclesr_dist.errors import ConfigError, InputError
from cyclesr_dist.systems.base import SystemState

_FORMAT = 1
_NAME = re.compile(r"step-(\d{8})")
_PLAYER_PARTS = ("params", "buffers", "exp_avg", "exp_avg_sq")


@dataclass
class Checkpoint:
    """The whole state of a run after `step` steps. Data order, augmentation and noise are functions of it."""

    step: int
    system: SystemState
    ema: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    """`step`, `psnr` and `ssim` of the best validation so far; empty if none."""
    seconds: float = 0.0
    """Training time so far."""


def identity(config: Config, num_samples: dict[str, int]) -> dict[str, Any]:
    """What must not change between a checkpoint and the run that resumes it. Backend, precision and so on may."""
    return {
        "system": config.system,
        "scale": config.scale,
        "seed": config.seed,
        "global_batch": config.global_batch,
        "nets": asdict(config.nets),
        "pool": asdict(config.pool),
        "num_samples": num_samples,
        "tail": config.data.tail,
    }


def save(folder: Path, checkpoint: Checkpoint, who: dict[str, Any], keep: int) -> Path:
    """Write `folder/step-NNNNNNNN` and remove all but the newest `keep`. One rank calls it.

    Raises InputError when the folder cannot be written; earlier checkpoints stay as they are.
    """
    target = folder / f"step-{checkpoint.step:08d}"
    temporary = folder / f".{target.name}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        save_file(_flatten(checkpoint), temporary / "tensors.safetensors")
        (temporary / "state.json").write_text(json.dumps(_scalars(checkpoint, who), indent=1, sort_keys=True))
        for file in temporary.iterdir():
            _fsync(file)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(temporary, target)
        _fsync(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise InputError(f"cannot write checkpoint {target}: {error}") from error
    for old in find_all(folder)[:-keep]:
        shutil.rmtree(old)
    return target


def find_all(folder: Path) -> list[Path]:
    """Whole checkpoints, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if _NAME.fullmatch(p.name))


def load(path: Path, who: dict[str, Any]) -> Checkpoint:
    """Read a checkpoint; `who` is the resuming run's `identity`.

    Raises ConfigError naming the first key that differs, InputError when the files are damaged or of another format.
    """
    try:
        scalars = json.loads((path / "state.json").read_text())
        tensors = load_file(path / "tensors.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"checkpoint {path} cannot be read: {error}") from error
    if not isinstance(scalars, dict) or scalars.get("format") != _FORMAT:
        raise InputError(f"checkpoint {path} is not of format {_FORMAT}")
    _check_identity(path, scalars["identity"], who)
    players = {
        name: PlayerState(
            **{part: _select(tensors, f"{name}.{part}.") for part in _PLAYER_PARTS},
            num_updates=player["num_updates"],
            loss_scale=player["loss_scale"],
        )
        for name, player in scalars["players"].items()
    }
    return Checkpoint(
        step=scalars["step"],
        system=SystemState(players, _select(tensors, "pool.")),
        ema=_select(tensors, "ema."),
        best=scalars["best"],
        seconds=scalars["seconds"],
    )


def _flatten(checkpoint: Checkpoint) -> dict[str, Tensor]:
    flat: dict[str, Tensor] = {}
    for name, player in checkpoint.system.players.items():
        for part in _PLAYER_PARTS:
            flat |= {f"{name}.{part}.{key}": tensor for key, tensor in getattr(player, part).items()}
    flat |= {f"pool.{key}": tensor for key, tensor in checkpoint.system.pools.items()}
    flat |= {f"ema.{key}": tensor for key, tensor in checkpoint.ema.items()}
    return {key: tensor.contiguous() for key, tensor in flat.items()}


def _scalars(checkpoint: Checkpoint, who: dict[str, Any]) -> dict[str, Any]:
    players = checkpoint.system.players.items()
    return {
        "format": _FORMAT,
        "identity": who,
        "step": checkpoint.step,
        "best": checkpoint.best,
        "seconds": checkpoint.seconds,
        "players": {name: {"num_updates": p.num_updates, "loss_scale": p.loss_scale} for name, p in players},
    }


def _select(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def _check_identity(path: Path, saved: Any, current: Any, key: str = "") -> None:
    if isinstance(saved, dict) and isinstance(current, dict):
        for name in sorted(saved.keys() | current.keys()):
            _check_identity(path, saved.get(name), current.get(name), f"{key}.{name}" if key else name)
    elif saved != current:
        raise ConfigError(
            f"checkpoint {path} has {key} = {saved}, this run has {current}; they must be equal to resume"
        )


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
