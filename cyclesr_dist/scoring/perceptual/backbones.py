"""Weights of AlexNet and VGG16: those that torchvision has, from a folder of the user's, torch's cache, or the net."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from cyclesr_dist.errors import InputError
from cyclesr_dist.models.tensor_file import read_tensors
from cyclesr_dist.runtime.files import sha256
from cyclesr_dist.runtime.passing import failed, patiently, unwritable

FOLDER_VARIABLE = "CYCLESR_WEIGHTS"
"""Environment variable: a folder with the files. Nothing is fetched then."""
_URL = "https://download.pytorch.org/models/"


@dataclass(frozen=True)
class _Backbone:
    file: str
    sha256: str
    megabytes: int
    first: tuple[str, tuple[int, ...]]
    last: tuple[str, tuple[int, ...]]
    """Two of its tensors, by which a file of another network is told."""


_BACKBONES = {
    "alexnet": _Backbone(
        "alexnet-owt-7be5be79.pth",
        "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        244,
        ("features.0.weight", (64, 3, 11, 11)),
        ("features.10.bias", (256,)),
    ),
    "vgg16": _Backbone(
        "vgg16-397923af.pth",
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        553,
        ("features.0.weight", (64, 3, 3, 3)),
        ("features.28.bias", (512,)),
    ),
}


def backbone_weights(name: str) -> dict[str, Tensor]:
    """Convolutions of `alexnet` or `vgg16`, by torchvision's names (`features.N.weight`), on the CPU.

    Looked for in the folder that CYCLESR_WEIGHTS names: torchvision's file, or `<name>.safetensors` with the same
    names. Without that variable torchvision's file is taken from torch's cache, where it is fetched to once. Its
    SHA-256 is checked. Raises InputError, UnreachableError where it may be had later.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    return dict(_weights(name, _in_folder(name, Path(folder)) if folder else _cached(name)))


@lru_cache(maxsize=2)
def _weights(name: str, path: Path) -> dict[str, Tensor]:
    wanted = _BACKBONES[name]
    if path.name == wanted.file and (found := sha256(path)) != wanted.sha256:
        raise InputError(f"{path}: is damaged or another file: its SHA-256 is {found}, not {wanted.sha256}")
    tensors = {key: tensor for key, tensor in read_tensors(path).items() if key.startswith("features.")}
    for key, shape in (wanted.first, wanted.last):
        if key not in tensors or tuple(tensors[key].shape) != shape:
            raise InputError(f"{path}: has no {key} of shape {list(shape)}: no {name} with torchvision's names")
    return tensors


def _in_folder(name: str, folder: Path) -> Path:
    names = (_BACKBONES[name].file, f"{name}.safetensors")
    for path in (folder / file for file in names):
        if path.is_file():
            return path
    raise InputError(f"{FOLDER_VARIABLE} = {folder}: holds neither {names[0]} ({_URL}{names[0]}) nor {names[1]}")


def _cached(name: str) -> Path:
    """Where torchvision would keep it, too."""
    wanted = _BACKBONES[name]
    path = Path(torch.hub.get_dir()) / "checkpoints" / wanted.file
    if path.is_file():
        return path
    url = f"{_URL}{wanted.file}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path.parent, error) from error
    try:
        patiently(lambda: torch.hub.download_url_to_file(url, str(path), wanted.sha256, progress=False))
    except (OSError, RuntimeError) as error:
        raise failed(
            f"{name} is needed and cannot be fetched from {url} ({error}); put that file ({wanted.megabytes} MB) into "
            f"{path.parent}, or into a folder that {FOLDER_VARIABLE} names",
            error,
        ) from error
    return path
