"""What `--model` may name: g_l2h on disk (a model file, a run folder, a checkpoint) or a baseline, as an `Upscaler`.

An .onnx file is found and opened without torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclesr_dist.errors import InputError
from cyclesr_dist.models.upscaler import BicubicUpscaler, Upscaler
from cyclesr_dist.runtime.files import is_file, is_folder, sha256

if TYPE_CHECKING:
    from torch import nn

    from cyclesr_dist.config.schema import SRNet

MODEL_FILE = "model.safetensors"
"""In a run folder: the best network so far; the last one where there was no validation."""
LAST_FILE = "last.safetensors"
"""In a run folder: the network of the newest validation or checkpoint."""
BEST, LAST = "best", "last"


def resolve_model(name: str, scale: int = 4, allow_module: bool = False) -> Upscaler:
    """`bicubic` (which enlarges by `scale`), a `.safetensors` file, a run folder (`RUN` and `RUN@best`: its best
    network, `RUN@last`: its last), a checkpoint's folder, or an `.onnx` file that `export` wrote; on the GPU where
    there is one (ONNX: on the CPU).

    A file may name a Python class to import for its network; only `allow_module` lets it. Raises InputError when `name`
    is none of them or the file cannot be used.
    """
    if name == "bicubic":
        from cyclesr_dist.models.model_file import MAX_SCALE, whole

        try:
            return BicubicUpscaler(whole(scale, "scale", MAX_SCALE))
        except ValueError as error:
            raise InputError(f"model 'bicubic': {error}") from error
    path = find_model(name)
    if path.suffix == ".onnx":
        from cyclesr_dist.models.onnx_upscaler import OnnxUpscaler

        return OnnxUpscaler(name, path)
    from cyclesr_dist.models.model_file import net_upscaler

    return net_upscaler(name, path, allow_module)


def fingerprint(name: str, scale: int = 4) -> str:
    """What tells the network that `resolve_model` loads from every other one. Raises InputError as it does."""
    if name == "bicubic":
        return f"bicubic x{scale}"
    path = find_model(name)
    if is_folder(path):
        from cyclesr_dist.models.checkpoint import MANIFEST

        return sha256(path / MANIFEST)  # it has the checksums of a checkpoint's files
    return sha256(path)


def load_network(name: str, allow_module: bool = False) -> tuple[nn.Module, SRNet, int, dict[str, Any]]:
    """The network of a run folder, checkpoint or model file, on the CPU, with its description, scale and `extra`.

    Raises InputError as `resolve_model` does.
    """
    from cyclesr_dist.models.model_file import describe, load_model

    path = find_model(name)
    net = load_model(path, allow_module)
    return net, *describe(path)


def find_model(name: str) -> Path:
    """The model file or checkpoint folder that `name` stands for. Raises InputError."""
    path = Path(name)
    if is_file(path):
        return path
    if is_folder(path):
        from cyclesr_dist.models.checkpoint_model import is_checkpoint

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
    from cyclesr_dist.models.checkpoint_model import newest_checkpoint
    from cyclesr_dist.models.model_file import chosen

    best, last = run / MODEL_FILE, run / LAST_FILE
    if which != LAST and is_file(best):
        if which == BEST and chosen(best) == LAST:
            raise InputError(f"{run}@{BEST}: no network was chosen, since the run was not validated; use {run}@{LAST}")
        return best
    if which != BEST:
        found = last if is_file(last) else newest_checkpoint(run)
        if found is not None:
            return found
    raise InputError(f"{run}: no model in this folder; a run folder has one after its first validation or checkpoint")
