"""Where the time of a step goes, by part, from one profile: forward by the network that runs, backward by the network
whose forward made the node."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

_BACKWARD = "autograd::engine::evaluate_function"
_SCOPE = "part:"
_COMMUNICATION = ("gloo:", "nccl:", "c10d::")


class Scopes:
    """Marks what networks run while it is on. `parts`: the part's name by network."""

    def __init__(self, parts: Mapping[nn.Module, str]) -> None:
        self.parts = parts
        self._open: list[tuple[str, Any]] = []
        self._handles: list[Any] = []
        self._starts: list[int] = [0]
        self._owners: list[str] = ["other"]

    def __enter__(self) -> Scopes:
        for net, part in self.parts.items():
            self._handles.append(net.register_forward_pre_hook(lambda *_, part=part: self.begin(part)))
            self._handles.append(net.register_forward_hook(lambda *_: self.end()))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def begin(self, part: str) -> None:
        """From now on everything belongs to `part`, until `end`; parts may lie in one another."""
        scope = record_function(_SCOPE + part)
        scope.__enter__()  # type: ignore[no-untyped-call]  # torch's own annotation
        self._open.append((part, scope))
        self._note(part)

    def end(self) -> None:
        """The innermost part ends."""
        self._open.pop()[1].__exit__(None, None, None)
        self._note(self._open[-1][0] if self._open else "other")

    def _note(self, part: str) -> None:
        self._starts.append(torch.autograd._get_sequence_nr())  # type: ignore[attr-defined]
        self._owners.append(part)

    def owner(self, sequence_nr: int) -> str:
        """The part whose forward made the autograd node of this number."""
        return self._owners[bisect_right(self._starts, sequence_nr) - 1]


def seconds_by_part(step: Callable[[], object], scopes: Scopes, device: torch.device) -> dict[str, float]:
    """Run `step` once under the profiler. Seconds by part, of the device's kernels where it is a GPU; `other` is what
    no network's: losses, pools, gradients added up. The profiler's own cost is in them: shares are what they are for.
    """
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    with scopes, profile(activities=activities) as run, record_function(_SCOPE + "other"):
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    seconds: dict[str, float] = {}
    for event in run.events() or ():
        part = _part_of(event, scopes)
        if part is None:
            continue
        seconds[part] = seconds.get(part, 0.0) + _seconds(event, device)
        outer = _enclosing_part(event, scopes)
        if outer is not None:
            seconds[outer] = seconds.get(outer, 0.0) - _seconds(event, device)
    return dict(sorted(seconds.items()))


def _part_of(event: FunctionEvent, scopes: Scopes) -> str | None:
    name = event.name
    if name.startswith(_SCOPE):
        return name.removeprefix(_SCOPE)
    if name.startswith(_BACKWARD):
        return scopes.owner(event.sequence_nr) if event.sequence_nr >= 0 else "other"
    if name.startswith("Optimizer.step"):
        return "optimizer"
    if name.startswith(_COMMUNICATION):
        return "communication"
    return None


def _enclosing_part(event: FunctionEvent, scopes: Scopes) -> str | None:
    """The part that an event's time has been counted for already."""
    parent = event.cpu_parent
    while parent is not None:
        part = _part_of(parent, scopes)
        if part is not None:
            return part
        parent = parent.cpu_parent
    return None


def _seconds(event: FunctionEvent, device: torch.device) -> float:
    total = event.device_time_total if device.type == "cuda" else event.cpu_time_total
    return float(total) / 1e6
