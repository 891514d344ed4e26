"""How much memory an upscaler takes for a tile, counted on a small one."""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cyclesr_dist.models.upscaler import BicubicUpscaler, NetUpscaler, Upscaler

_SIDE = 32
"""LR px."""
_BESIDES = 1.5
"""What libraries take for themselves while they compute: other layouts, parts of a sum."""
_UNKNOWN_CHANNELS = 128
"""At HR size, where torch does not compute."""
_SAMPLES_BYTES = 2 * 3 * 4
"""Of an HR pixel: what becomes samples, and a copy on the way."""


def tile_bytes(upscaler: Upscaler, height: int, width: int) -> int:
    """At most at once, for (1, 3, height, width); what the upscaler holds anyway is not counted."""
    return round(_bytes_a_pixel(cast("Hashable", upscaler)) * height * width)


@lru_cache(maxsize=4)
def _bytes_a_pixel(upscaler: Any) -> float:
    """Of LR: memory grows with the pixels."""
    area = int(upscaler.scale) ** 2
    if not isinstance(upscaler, NetUpscaler | BicubicUpscaler):
        return area * _UNKNOWN_CHANNELS * 4
    x = torch.zeros(1, 3, _SIDE, _SIDE, device=upscaler.device)
    with _Meter() as meter:
        upscaler(x)
    return float(meter.most * _BESIDES / _SIDE**2 + area * _SAMPLES_BYTES)


class _Meter(TorchDispatchMode):
    """The most bytes that tensors made within it have at one time."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = 0
        self._alive: dict[int, tuple[Any, int]] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """torch's compiler, which compiles nothing here, would be imported to skip it: two seconds."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                weak = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
                self._alive[storage._cdata] = weak, storage.nbytes()
        self._alive = {key: entry for key, entry in self._alive.items() if not entry[0].expired()}
        self.most = max(self.most, sum(size for _, size in self._alive.values()))
        return out
