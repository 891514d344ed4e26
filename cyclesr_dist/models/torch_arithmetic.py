"""The arithmetic around an upscaler's call with torch's tensors, on the device where the network is."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from cyclesr_dist.data.images import luma
from cyclesr_dist.data.photo.kinds import Samples


class TorchArithmetic:
    """See `Arithmetic`."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def taken(self, values: NDArray[Any]) -> Tensor:
        there = torch.from_numpy(np.ascontiguousarray(values)).to(self.device)
        x = there.float()
        if values.dtype.kind == "u":
            # A tensor: by a number a GPU would not divide, but multiply with its reciprocal.
            x = x / torch.tensor(float(np.iinfo(values.dtype).max), device=self.device)
        return x.permute(2, 0, 1)[None]

    def padded(self, x: Tensor, below: int, right: int) -> Tensor:
        return F.pad(x, (0, right, 0, below), mode="replicate")

    def is_finite(self, y: Tensor) -> bool:
        # Both are nan where any value is, and no mask as large as the tile is made.
        return bool(torch.isfinite(torch.stack(torch.aminmax(y))).all())

    def give(self, y: Tensor, place: NDArray[np.float32]) -> None:
        torch.from_numpy(place).copy_(_fetched(y[0].permute(1, 2, 0)))

    def give_samples(self, y: Tensor, place: Samples) -> None:
        """Rounded where `y` is: fewer bytes leave a GPU."""
        planes = y[0].permute(1, 2, 0)
        if planes.shape[2] > place.shape[2]:
            planes = luma(planes)
        levels = planes.clamp(0, 1).mul_(float(np.iinfo(place.dtype).max)).round_()
        eight = place.dtype == np.uint8
        # torch's uint16 knows little: with a sign on the way.
        whole = _fetched(levels.to(torch.uint8) if eight else (levels - 32768).to(torch.int16)).numpy()
        for channel in range(place.shape[2]):  # planes lie one behind the other, and are copied faster one by one
            plane = whole[:, :, channel]
            place[:, :, channel] = plane if eight else plane.view(np.uint16) ^ np.uint16(32768)

    def gpu_free(self) -> int | None:
        if self.device.type != "cuda":
            return None
        # What earlier tiles have left with torch is free, too.
        left = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return int(torch.cuda.mem_get_info(self.device)[0]) + left


def _fetched(x: Tensor) -> Tensor:
    """On the CPU; from a GPU through memory that its copies need not go around, and that is used again."""
    if x.device.type != "cuda":
        return x.cpu()
    host = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
    return host.copy_(x)
