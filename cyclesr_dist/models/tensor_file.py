"""Tensors out of a file of any project, .safetensors or PyTorch's own format, without running code that is in it."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cyclesr_dist.errors import InputError
from cyclesr_dist.runtime.passing import failed, patiently

_WRAPPERS = ("params_ema", "params-ema", "params", "state_dict", "model_state_dict", "model")
"""Where training programs keep a network beside other things; averaged weights first, which they test with."""
_DATA_PARALLEL = "module."

T = TypeVar("T")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The network's tensors by name, on the CPU. Raises InputError where the file holds none, or anything but plain
    values beside them: nothing in it is executed."""
    found = _network(_read(path))
    if not found:
        raise InputError(f"{path}: holds no tensors by name (looked for: {', '.join(_WRAPPERS)}, or the names alone)")
    if all(name.startswith(_DATA_PARALLEL) for name in found):
        found = {name.removeprefix(_DATA_PARALLEL): tensor for name, tensor in found.items()}
    return found


def _read(path: Path) -> Any:
    return tensors_of(path) if is_safetensors(path) else _unpickled(path)


def tensors_of(path: Path) -> dict[str, Tensor]:
    """Of a safetensors file. Raises InputError."""
    return _opened(path, lambda file: {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118  # not a mapping


def is_safetensors(path: Path) -> bool:
    """By its first bytes: the length of a JSON header, and the header. Raises InputError where it cannot be read."""

    def read() -> bytes:
        with path.open("rb") as file:
            return file.read(9)

    try:
        head = patiently(read)
    except OSError as error:
        raise failed(f"{path}: cannot be read ({error.strerror or error})", error) from error
    return head[8:] == b"{" or path.suffix == ".safetensors"


def metadata_of(path: Path) -> dict[str, str]:
    """Of a safetensors file. Raises InputError."""
    return _opened(path, lambda file: file.metadata() or {})


def _opened(path: Path, take: Callable[[Any], dict[str, T]]) -> dict[str, T]:
    def read() -> dict[str, T]:
        with safe_open(path, framework="pt") as file:
            return take(file)

    try:
        return patiently(read)
    except (SafetensorError, OSError) as error:
        raise failed(f"{path}: cannot be read as a safetensors file ({error})", error) from error


def _unpickled(path: Path) -> Any:
    try:
        return patiently(lambda: torch.load(path, map_location="cpu", weights_only=True))
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error):
            raise InputError(
                f"{path}: holds Python objects beside its tensors, which would have to be executed; save its "
                "state_dict alone, best as .safetensors"
            ) from error
        raise InputError(f"{path}: is neither a safetensors file nor one of torch.save") from error
    except OSError as error:
        raise failed(f"{path}: cannot be read ({error.strerror or error})", error) from error
    except Exception as error:  # whatever torch's reader raises, the file is damaged or none of its own
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{path}: is neither a safetensors file nor one of torch.save ({reason})") from error


def _network(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        return {}
    for name in _WRAPPERS:
        if isinstance(content.get(name), Mapping) and (inner := _tensors(content[name])):
            return inner
    return _tensors(content)


def _tensors(values: Mapping[Any, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in values.items() if isinstance(name, str) and isinstance(value, Tensor)}
