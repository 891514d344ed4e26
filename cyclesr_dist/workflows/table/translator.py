"""A finished run's translators, which model.safetensors does not hold."""

from __future__ import annotations

from safetensors import safe_open
from torch import nn

from cyclesr_dist.errors import InputError
from cyclesr_dist.nets.build import build_g_s2r, build_translator
from cyclesr_dist.training.checkpoint_store import LocalStore
from cyclesr_dist.workflows.table.jobs import Job


def translator_of(job: Job, name: str) -> nn.Module:
    """g_s2r or g_r2s as it was at the end of a run, from its newest checkpoint; in eval mode, without gradients.

    Raises InputError when the run has no checkpoint.
    """
    checkpoints = LocalStore(job.folder / "checkpoints")
    found = checkpoints.names()
    if not found:
        raise InputError(f"{job.folder}: has no checkpoint, which {name} is read from")
    prefixes = (f"g.params.{name}.", f"g.buffers.{name}.")  # buffers: what one starts from that was measured
    with safe_open(checkpoints.path / found[-1] / "tensors.safetensors", framework="pt") as file:
        names = {key.removeprefix(p): key for p in prefixes for key in file.keys() if key.startswith(p)}  # noqa: SIM118  # no mapping
        state = {own: file.get_tensor(key) for own, key in names.items()}
    net = build_g_s2r(job.config) if name == "g_s2r" else build_translator(job.config.nets.translator)
    net.load_state_dict(state)
    return net.eval().requires_grad_(False)
