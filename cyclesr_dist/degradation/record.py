"""The degradation as it is estimated, and its files: `degradation.json` for readers, and `degradation.safetensors` for
the arrays that JSON has no place for."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from cyclesr_dist.degradation.sentences import sentences
from cyclesr_dist.errors import InputError
from cyclesr_dist.runtime.files import is_folder, write_bytes, write_text
from cyclesr_dist.runtime.passing import failed, patiently, unwritable

FACTS, ARRAYS = "degradation.json", "degradation.safetensors"
VERSION = 1
_LARGEST_KERNEL = 63
NAMES = ("kernels", "variance", "levels", "colouring", "noise", "jpeg")


@dataclass(frozen=True)
class Degradation:
    """y = k * x + level std(k * x) n on the LR grid: what g_s2r of `nets.translator.kind: degradation` starts from."""

    kernels: Tensor
    """(m, k, k), k odd, each of sum 1: one of them is drawn for each sample. m is 1 where photographs are alike."""
    variance: Tensor
    """(3,) of the noise at brightness 0.1, 0.5 and 0.9; linear between and beyond, see `fit.variance_at`."""
    levels: Tensor
    """(m,) of the noise; one is drawn for each sample."""
    colouring: Tensor
    """(3, 3, q, q), q odd: white noise convolved with it is n, where `noise` is empty."""
    noise: Tensor
    """(L, 3, p, p) n as it was found in flat real patches, of about unit variance, levels included; L may be 0."""
    facts: dict[str, Any]
    """What degradation.json holds."""
    jpeg: Tensor = field(default_factory=lambda: torch.zeros(0))
    """(1,) quality of the JPEG files that all this ends in; (0,) where it does not."""

    @property
    def sentences(self) -> list[str]:
        """What was found, in plain words, as `cyclesr estimate` prints it; the doubts last."""
        return sentences(self.facts)

    def tensors(self) -> dict[str, Tensor]:
        return {name: getattr(self, name).contiguous() for name in NAMES}


def save(folder: Path, degradation: Degradation) -> None:
    """Write both files, the JSON last. Raises InputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / ARRAYS, save_tensors(degradation.tensors()))
        write_text(folder / FACTS, json.dumps(degradation.facts, indent=1) + "\n")
    except OSError as error:
        raise unwritable(folder, error) from error


def load(path: Path) -> Degradation:
    """From the folder that `cyclesr estimate` wrote, or its degradation.json. Raises InputError."""
    folder = path if is_folder(path) else path.parent
    try:
        facts = json.loads(patiently((folder / FACTS).read_bytes))
        tensors = load_tensors(patiently((folder / ARRAYS).read_bytes))
    except FileNotFoundError as error:
        raise InputError(f"{error.filename}: missing; cyclesr estimate writes {FACTS} and {ARRAYS}") from error
    except (OSError, ValueError, SafetensorError) as error:
        raise failed(f"{folder}: the estimate cannot be read ({error})", error) from error
    if not isinstance(facts, dict) or facts.get("version") != VERSION:
        raise InputError(f"{folder / FACTS}: is not an estimate of version {VERSION}")
    return checked(tensors, facts, str(folder / ARRAYS))


def checked(tensors: dict[str, Tensor], facts: dict[str, Any], where: str) -> Degradation:
    """From tensors by name. Raises InputError, starting with `where`, unless they are an estimate."""
    tensors = {"jpeg": torch.zeros(0)} | tensors  # estimates of before have none
    for name in NAMES:
        if name not in tensors:
            raise InputError(f"{where}: has no {name}")
        if not bool(torch.isfinite(tensors[name]).all()):
            raise InputError(f"{where}: {name} has values that are not finite")
    kernels, variance, levels, colouring, noise, jpeg = (tensors[name].float() for name in NAMES)
    side = kernels.shape[-1]
    if kernels.ndim != 3 or kernels.shape[1] != side or side % 2 == 0 or side > _LARGEST_KERNEL or not len(kernels):
        raise InputError(f"{where}: kernels are {tuple(kernels.shape)}; needed: (m, k, k), k odd")
    if bool(((kernels.sum((1, 2)) - 1).abs() > 1e-3).any()):
        raise InputError(f"{where}: a kernel does not sum to 1")
    if variance.shape != (3,) or bool((variance < 0).any()):
        raise InputError(f"{where}: variance must be three numbers of at least 0")
    if levels.ndim != 1 or not len(levels) or bool((levels < 0).any()):
        raise InputError(f"{where}: levels must be numbers of at least 0, one or more")
    q = colouring.shape[-1]
    if colouring.shape != (3, 3, q, q) or q % 2 == 0 or q > _LARGEST_KERNEL:
        raise InputError(f"{where}: colouring is {tuple(colouring.shape)}; needed: (3, 3, q, q), q odd")
    if noise.ndim != 4 or noise.shape[1] != 3 or noise.shape[2] != noise.shape[3] or not noise.shape[3]:
        raise InputError(f"{where}: noise is {tuple(noise.shape)}; needed: (L, 3, p, p)")
    if jpeg.ndim != 1 or len(jpeg) > 1 or bool(((jpeg < 1) | (jpeg > 100)).any()):
        raise InputError(f"{where}: jpeg must be one quality from 1 to 100, or nothing")
    return Degradation(kernels, variance, levels, colouring, noise, facts, jpeg)
