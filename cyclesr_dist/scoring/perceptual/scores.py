"""The perceptual scores that were asked for, of images of 8 bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from cyclesr_dist.config.metrics import ASKED_FOR, METRICS
from cyclesr_dist.errors import InputError, MemoryShortError
from cyclesr_dist.runtime.memory import free_on_host, gib
from cyclesr_dist.scoring.perceptual.backbones import backbone_weights
from cyclesr_dist.scoring.perceptual.distances import ALEXNET_PX, VGG16_PX, Dists, Lpips
from cyclesr_dist.scoring.perceptual.niqe import check_size, niqe
from cyclesr_dist.scoring.psnr import Image8

_DISTANCES: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "lpips": (lambda: Lpips("alexnet", backbone_weights("alexnet")), ALEXNET_PX),
    "lpips_vgg": (lambda: Lpips("vgg16", backbone_weights("vgg16")), VGG16_PX),
    "dists": (lambda: Dists(backbone_weights("vgg16")), VGG16_PX),
}
"""What makes the network, and the smallest side of an image in px."""


_VGG16_BYTES = 1900
"""By how much memory grows for a pixel of each of two images: its widest maps, and what is made of them."""


def check_names(where: str, names: Sequence[str]) -> tuple[str, ...]:
    """Them, each once. Raises InputError, beginning with `where`."""
    for name in names:
        if name not in ASKED_FOR:
            raise InputError(f"{where}: {name!r} is no perceptual score; allowed: {', '.join(ASKED_FOR)}")
    return tuple(dict.fromkeys(names))


def device_of(upscaler: object) -> torch.device:
    """Where the scores of its results are computed: where it computes itself, if that is torch."""
    device = getattr(upscaler, "device", None)
    return device if isinstance(device, torch.device) else torch.device("cpu")


class Perceptual:
    """Takes the scores of `names`, which are those of config/metrics.py that are taken only where asked for."""

    def __init__(self, names: Sequence[str], device: torch.device = torch.device("cpu")) -> None:  # noqa: B008  # a constant
        """Their networks go to `device`. Raises InputError for an unknown name, or when weights cannot be had."""
        self.names = check_names("perceptual scores", names)
        self.alone = tuple(name for name in self.names if "pairs" not in METRICS[name].needs)
        """Those that need no original."""
        self.device = device
        self._nets = {name: _DISTANCES[name][0]().to(device) for name in self.names if name in _DISTANCES}

    def check_size(self, height: int, width: int) -> None:
        """Raise InputError where an image of so many px is too small for one of them."""
        for name in self._nets:
            least = _DISTANCES[name][1]
            if min(height, width) < least:
                raise InputError(f"{width}x{height} px is too small for {name}: {least}x{least} px at least")
        if "niqe" in self.names:
            check_size(height, width)

    def of_pair(self, sr8: Image8, hr8: Image8, y: bool = False) -> dict[str, float]:
        """Of two (H, W, 3) uint8 images of one size: all scores, by name. `y`: NIQE of luma (see `niqe`).

        Raises InputError when the sizes differ or are too small, MemoryShortError when they are too large."""
        if sr8.shape != hr8.shape:
            raise InputError(f"sizes differ: {sr8.shape[1]}x{sr8.shape[0]} px against {hr8.shape[1]}x{hr8.shape[0]} px")
        self.check_size(*sr8.shape[:2])
        self._check_memory(*sr8.shape[:2])
        alone = self.of_one(sr8, y)
        a, b = (_tensor(image, self.device) for image in (sr8, hr8)) if self._nets else (None, None)
        return {name: alone[name] if name in alone else float(self._nets[name](a, b)) for name in self.names}

    def _check_memory(self, height: int, width: int) -> None:
        need = height * width * max((_VGG16_BYTES for name in self._nets if name != "lpips"), default=0)
        free = torch.cuda.mem_get_info(self.device)[0] if self.device.type == "cuda" else free_on_host()
        if need > free:
            raise MemoryShortError(
                f"{width}x{height} px: VGG16 needs about {gib(need)} of memory to compare them, {gib(free)} are free"
            )

    def of_one(self, sr8: Image8, y: bool = False) -> dict[str, float]:
        """Of an image without an original: those that need none. Raises InputError when it is too small."""
        return {name: niqe(sr8, y) for name in self.alone}


def _tensor(image: Image8, device: torch.device) -> Tensor:
    return torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1)[None].to(device)
