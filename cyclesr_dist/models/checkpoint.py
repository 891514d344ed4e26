"""What a checkpoint holds, and its files: one folder, the same for every backend and world size. Nothing is pickled.

`state.json`, `tensors.safetensors`, and `manifest.json` with the sizes and SHA-256 checksums of both, written last.
Where such folders are kept, and how they become visible all at once, is in training/checkpoint_store.py.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cyclesr_dist.config.marks import without_removed
from cyclesr_dist.config.reader import leaves, to_show
from cyclesr_dist.config.schema import Config
from cyclesr_dist.distributed.player import PlayerState
from cyclesr_dist.errors import InputError
from cyclesr_dist.method.systems.base import SystemState
from cyclesr_dist.runtime.files import sha256, size_of
from cyclesr_dist.runtime.passing import failed, patiently

FILES = ("tensors.safetensors", "state.json")
MANIFEST = "manifest.json"
_FORMAT = 2
_WHOLE = frozenset(key for key, value in leaves(Config()).items() if isinstance(value, dict))
"""Keys whose values are mappings."""
_OF_THE_DATA = ("num_samples", "samples", "patch", "photographs")
_NOT_OF_THE_CONFIGURATION = (*_OF_THE_DATA, "tail", "start")
_PLAYER_PARTS = ("params", "buffers", "exp_avg", "exp_avg_sq")


class ShardSetFacts(NamedTuple):
    """What a checkpoint knows of a shard set that its run was trained on."""

    num_samples: int
    contents: str | list[dict[str, Any]]
    """SHA-256 of its manifest, which has those of its tars; of several sets, each with its share of an epoch."""
    patch: int


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
    validation_due: bool = False
    """The validation after `step` was interrupted: a resumed run begins with it."""
    left_out: list[int] = field(default_factory=list)
    """Steps (from 0) whose batches are not to be used, since numbers went bad near them."""
    rollbacks: int = 0
    bad_steps: list[int] = field(default_factory=list)
    """All steps of the run (from 0) that were left out because their own numbers were bad."""
    good_step: int = 0
    """Of the newest checkpoint, this one included, that a run may go back to; 0 if there is none."""
    start: dict[str, str] = field(default_factory=dict)
    """Of a checkpoint that was read: what the run's networks began with, see training/start.py; empty: chance."""


def identity(
    config: Config, shard_sets: Mapping[str, ShardSetFacts], photographs: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Whose state it is: the whole configuration, what it was trained on, `shard_sets` by name, and what scores it, the
    contents of `photographs` by name, empty where there are none. As JSON has it.

    training/changes.py says what of it may differ in a run that resumes. `system`, `scale` and `nets` are what reading
    a model needs.
    """
    nets = asdict(config.nets)
    del nets["translator"]["estimate"]  # where it was read from; the checkpoint holds it
    del nets["sr"]["init"]
    whole = {
        "system": config.system,
        "scale": config.scale,
        "nets": nets,
        "config": to_show(config),
        "num_samples": {name: facts.num_samples for name, facts in shard_sets.items()},
        "samples": {name: facts.contents for name, facts in shard_sets.items()},
        "patch": {name: facts.patch for name, facts in shard_sets.items()},
        "photographs": dict(photographs or {}),
    }
    as_read: dict[str, Any] = json.loads(json.dumps(whole))
    return as_read


def flat_identity(saved: Mapping[str, Any]) -> dict[str, Any]:
    """An identity by dotted keys, as `changes` compares two: also one of a version before, which knew less."""
    nested = saved.get("config") or {k: v for k, v in saved.items() if k not in _NOT_OF_THE_CONFIGURATION}
    known = _dotted(without_removed(Config, nested))
    if "tail" in saved:
        known["data.tail"] = saved["tail"]
    return known | _dotted({name: saved[name] for name in _OF_THE_DATA if name in saved})


def _dotted(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in nested.items():
        whole = f"{prefix}{name}" in _WHOLE or not isinstance(value, Mapping)
        found |= {f"{prefix}{name}": value} if whole else _dotted(value, f"{prefix}{name}.")
    return found


def write(folder: Path, checkpoint: Checkpoint, identity: dict[str, Any]) -> None:
    """Write the files into an empty folder and wait until they are on the disk. Raises OSError."""
    try:
        save_file(_flatten(checkpoint), folder / "tensors.safetensors")
    except SafetensorError as error:  # how safetensors reports a full disk
        raise OSError(str(error)) from error
    (folder / "state.json").write_text(json.dumps(_scalars(checkpoint, identity), indent=1, sort_keys=True))
    files = {name: {"bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)} for name in FILES}
    (folder / MANIFEST).write_text(json.dumps({"format": _FORMAT, "files": files}, indent=1, sort_keys=True))
    for name in (*FILES, MANIFEST):
        fsync(folder / name)


def read(folder: Path) -> tuple[Checkpoint, dict[str, Any]]:
    """Verify and read a checkpoint, and the identity of the run that wrote it.

    Raises InputError when a file is missing, damaged or of another format.
    """
    verify(folder)
    try:
        scalars = json.loads(patiently((folder / "state.json").read_text))
        tensors = patiently(lambda: load_file(folder / "tensors.safetensors"))
    except (OSError, ValueError, SafetensorError) as error:
        raise failed(f"checkpoint {folder} cannot be read: {error}", error) from error
    return unpack(scalars, tensors), scalars["identity"]


def verify(folder: Path) -> None:
    """Raise InputError unless all files are there with the manifest's sizes and checksums; UnreachableError where a
    disk that does not answer hides it."""
    try:
        manifest = json.loads(patiently((folder / MANIFEST).read_text))
        if manifest["format"] != _FORMAT:
            raise InputError(f"checkpoint {folder} is of format {manifest['format']}, this version reads {_FORMAT}")
        for name in FILES:
            expected, path = manifest["files"][name], folder / name
            size = size_of(path)
            if size != expected["bytes"]:
                raise InputError(
                    f"checkpoint {folder} is damaged: {name} has {size or 'none'} of {expected['bytes']} bytes"
                )
            if sha256(path) != expected["sha256"]:
                raise InputError(f"checkpoint {folder} is damaged: {name} does not have the manifest's checksum")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise failed(f"checkpoint {folder} is damaged: {type(error).__name__}: {error}", error) from error


def pack(checkpoint: Checkpoint) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """As plain values and tensors, for sending to the other ranks."""
    return _scalars(checkpoint, {"start": checkpoint.start}), _flatten(checkpoint)


def unpack(scalars: dict[str, Any], tensors: dict[str, Tensor]) -> Checkpoint:
    """The reverse of `pack`."""
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
        validation_due=scalars["validation_due"],
        left_out=scalars["left_out"],
        rollbacks=scalars["rollbacks"],
        bad_steps=scalars.get("bad_steps", []),  # older checkpoints have neither
        good_step=scalars.get("good_step", scalars["step"]),
        start=scalars.get("identity", {}).get("start", {}),
    )


def _flatten(checkpoint: Checkpoint) -> dict[str, Tensor]:
    flat: dict[str, Tensor] = {}
    for name, player in checkpoint.system.players.items():
        for part in _PLAYER_PARTS:
            flat |= {f"{name}.{part}.{key}": tensor for key, tensor in getattr(player, part).items()}
    flat |= {f"pool.{key}": tensor for key, tensor in checkpoint.system.pools.items()}
    flat |= {f"ema.{key}": tensor for key, tensor in checkpoint.ema.items()}
    return {key: tensor.contiguous() for key, tensor in flat.items()}


def _scalars(checkpoint: Checkpoint, identity: dict[str, Any]) -> dict[str, Any]:
    players = checkpoint.system.players.items()
    return {
        "format": _FORMAT,
        "identity": identity,
        "step": checkpoint.step,
        "best": checkpoint.best,
        "seconds": checkpoint.seconds,
        "validation_due": checkpoint.validation_due,
        "left_out": checkpoint.left_out,
        "rollbacks": checkpoint.rollbacks,
        "bad_steps": checkpoint.bad_steps,
        "good_step": checkpoint.good_step,
        "players": {name: {"num_updates": p.num_updates, "loss_scale": p.loss_scale} for name, p in players},
    }


def _select(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def fsync(path: Path) -> None:
    """Wait until a file, or a folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
