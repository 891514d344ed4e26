"""What the networks make of a few validation photographs, for the report and for trackers: main rank, at validations.

In `pictures/` of the run folder: `<stem>.lr.png`, `.bicubic.png`, `.hr.png` (of a pair), and what g_l2h makes of it at
the first, the best and the last validation; `figure3.<when>.png`, the paper's Figure 3: syn, fake_real, and fake_real
with the mean and variance of syn; `translated.<when>.png`: fake_real beside real LR, and syn. All of the photograph's
centre, CROP_PX wide in LR.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cyclesr_dist.data.images import write_png
from cyclesr_dist.data.resize import bicubic_down, bicubic_up
from cyclesr_dist.errors import TrainingError
from cyclesr_dist.method.systems.base import G_L2H
from cyclesr_dist.reports.strips import RGB8, comparison_strip, renormalised
from cyclesr_dist.scoring.reference_free import translated
from cyclesr_dist.scoring.score import to_uint8
from cyclesr_dist.training.validation import CROP_PX, Validator, centre

_LR_PX = 4  # translators take multiples of it
_STRIP_PX = 192  # about, of each picture in a strip of LR ones


class Pictures:
    """`validator` holds the networks as they were when it scored last."""

    def __init__(self, validator: Validator, folder: Path, count: int) -> None:
        self.validator = validator
        self.folder = folder
        self.real = validator.real[:count]
        self.sharp = validator.sharp[: min(count, 1)]  # Figure 3 has one
        self.hr = {pair.lr: pair.hr for pair in validator.pairs}

    def draw(self, improved: bool) -> dict[str, RGB8]:
        """Write them, and return a strip (H, W, 3) for each photograph and for Figure 3. Raises TrainingError."""
        when = ["last", *(["best"] if improved else [])]
        try:
            self.folder.mkdir(exist_ok=True)
            with torch.no_grad():
                strips = {path.stem: self._photograph(path, when) for path in self.real}
                if self.sharp and "g_s2r" in self.validator.translators[G_L2H]:
                    strips["figure3"] = self._figure_3(self.sharp[0], when)
        except OSError as error:
            raise TrainingError(f"{self.folder} cannot be written: {error}; checkpoints are intact") from error
        return strips

    def _photograph(self, path: Path, when: list[str]) -> RGB8:
        v, scale = self.validator, self.validator.scale
        real = centre(path, CROP_PX, _LR_PX, v.world.device)
        sr, bicubic = _array(v.g_l2h(real)), _array(bicubic_up(real, scale))
        panels = [("LR", _array(real)), ("bicubic", bicubic), ("g_l2h", sr)]
        if path in self.hr:
            side = real.shape[-1] * scale
            panels.append(("HR", _array(centre(self.hr[path], side, _LR_PX * scale, v.world.device))))
        for name, image in zip(("lr", "bicubic", "", "hr"), (image for _, image in panels), strict=False):
            if name:
                self._once(f"{path.stem}.{name}", image)
        self._keep(path.stem, sr, when)
        return comparison_strip(panels, (0, 0, sr.shape[0]), 1)

    def _figure_3(self, path: Path, when: list[str]) -> RGB8:
        v, scale = self.validator, self.validator.scale
        sharp = centre(path, CROP_PX * scale, _LR_PX * scale, v.world.device)
        syn = bicubic_down(sharp, scale)
        fake = translated(v.translators[G_L2H]["g_s2r"], syn, v.copies.noise_channels, seed=0)
        plain_syn, plain_fake = _plain(syn), _plain(fake)
        panels = [
            ("syn", to_uint8(plain_syn)),
            ("fake_real", to_uint8(plain_fake)),
            ("renormalised\nto syn's colours", to_uint8(renormalised(plain_fake, plain_syn))),
        ]
        side = syn.shape[-1]
        strip = comparison_strip(panels, (0, 0, side), max(1, _STRIP_PX // side))
        self._keep("figure3", strip, when)
        if self.real:
            self._beside_real(panels[0][1], panels[1][1], when)
        return strip

    def _beside_real(self, syn: RGB8, fake: RGB8, when: list[str]) -> None:
        """What g_s2r makes, and what it is to look like: a photograph of its own."""
        v = self.validator
        real = _array(centre(self.real[0], CROP_PX, _LR_PX, v.world.device))
        side = min(syn.shape[0], real.shape[0])
        panels = [("translated", fake), ("real LR", real), ("shrunk only", syn)]
        cut = [(name, image[:side, :side]) for name, image in panels]
        self._keep("translated", comparison_strip(cut, (0, 0, side), max(1, _STRIP_PX // side)), when)

    def _keep(self, stem: str, image: RGB8, when: list[str]) -> None:
        self._once(f"{stem}.first", image)
        for name in when:
            write_png(self.folder / f"{stem}.{name}.png", image)

    def _once(self, name: str, image: RGB8) -> None:
        path = self.folder / f"{name}.png"
        if not path.exists():
            write_png(path, image)


def _plain(image: Tensor) -> NDArray[np.float32]:
    """(1, 3, h, w) -> (h, w, 3)."""
    array: NDArray[np.float32] = image[0].permute(1, 2, 0).float().cpu().numpy()
    return array


def _array(image: Tensor) -> RGB8:
    return to_uint8(_plain(image))
