"""A model that tints is not used without a word."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.many_photos import photographs

from cyclesr_dist.cli.main import main
from cyclesr_dist.config.schema import SRNet
from cyclesr_dist.models.flat_colours import colour_warning
from cyclesr_dist.models.model_file import save_model
from cyclesr_dist.models.reach import Reach
from cyclesr_dist.models.torch_arithmetic import TorchArithmetic
from cyclesr_dist.models.upscaler import BicubicUpscaler
from cyclesr_dist.nets.build import build_sr


class Tinting:
    """Enlarges, and adds to each channel."""

    name, scale, reach, arithmetic = "tinting", 2, Reach(0), TorchArithmetic(torch.device("cpu"))

    def __init__(self, *levels: float) -> None:
        self.added = torch.tensor(levels).view(1, 3, 1, 1) / 255

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3) + self.added


def test_what_does_not_tint_gives_no_warning() -> None:
    assert colour_warning(BicubicUpscaler(4)) == ""
    assert colour_warning(Tinting(2, -2, 1)) == ""


@pytest.mark.parametrize(
    ("levels", "said"),
    [((-7, -10, -9), "white (255, 255, 255) becomes (248, 245, 246)"), ((0, 0, 6), "becomes (192, 192, 198)")],
)
def test_the_numbers_are_in_the_warning(levels: tuple[float, ...], said: str) -> None:
    assert said in colour_warning(Tinting(*levels))


def test_the_command_says_it_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sr = SRNet("compact", 4, 1, bicubic_skip=True)
    net = build_sr(sr, 4)
    *_, bias = net.parameters()
    torch.nn.init.constant_(bias, 0.1)
    save_model(tmp_path / "model.safetensors", net.state_dict(), sr, 4, {})
    folder = photographs(tmp_path / "in", 1)
    words = ["upscale", str(folder), "--model", str(tmp_path / "model.safetensors"), "--out", str(tmp_path / "out")]
    assert main([*words, "--quiet"]) == 0
    err = capsys.readouterr().err
    assert err.startswith("cyclesr: warning: model ")
    assert err.count("\n") == 1
