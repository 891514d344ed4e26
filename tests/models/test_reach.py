"""Tiles by what a network sees: exact for windows of attention; what sums up the image is given one piece."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.many_photos import photographs

from cyclesr_dist.cli.main import main as cyclesr
from cyclesr_dist.config.schema import SRNet
from cyclesr_dist.models import tiles
from cyclesr_dist.models.infer import upscale_image
from cyclesr_dist.models.model_file import save_model
from cyclesr_dist.models.reach import reach_of
from cyclesr_dist.models.upscaler import NetUpscaler
from cyclesr_dist.nets.build import build_sr

SWINIR = SRNet("swinir", 6, 1)
GROUP_NORM = SRNet("realplksr", 8, 1)


def upscaler_of(sr: SRNet, scale: int = 2) -> NetUpscaler:
    torch.manual_seed(0)
    net = build_sr(sr, scale)
    for parameter in net.parameters():
        torch.nn.init.uniform_(parameter, -0.3, 0.3)
    return NetUpscaler(sr.kind, net.eval(), scale)


def photo(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).random((height, width, 3), dtype=np.float32)


def apart(upscaler: NetUpscaler, image: np.ndarray, tile: int) -> float:
    """The largest difference of tiles to one piece, as a share of the range."""
    whole = upscale_image(upscaler, image, 0)
    return float(np.abs(upscale_image(upscaler, image, tile) - whole).max() / np.ptp(whole))


@pytest.mark.parametrize(
    "sr",
    [
        SWINIR,
        SRNet("swinir", 6, 1, upsampler="nearest+conv"),
        SRNet("span", 4, 2),
        SRNet("realplksr", 4, 1, layer_norm=True),
    ],
    ids=lambda sr: f"{sr.kind} {sr.upsampler}",
)
def test_tiles_equal_one_piece(sr: SRNet) -> None:
    assert apart(upscaler_of(sr), photo(43, 90), 30) < 1e-5


def test_tiles_begin_at_windows_of_attention() -> None:
    upscaler = upscaler_of(SWINIR)
    assert tiles.tiles_of(upscaler, 500, 500, 30) == tiles.Tiles(side=32, margin=40)
    image = photo(64, 48)
    moved = upscale_image(upscaler, image[4:], 0)[
        72:
    ]  # its windows lie elsewhere: no distance to the border mends that
    whole = upscale_image(upscaler, image, 0)[80:]
    assert np.abs(moved - whole).max() / np.ptp(whole) > 1e-3


def test_what_sums_up_the_image_is_given_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "UNTILED_PIXELS", 30 * 30)
    monkeypatch.setattr(tiles, "DEFAULT_TILE", 24)
    monkeypatch.setattr(tiles, "LARGE_TILE", 24)
    upscaler, local = upscaler_of(GROUP_NORM), upscaler_of(SRNet("realplksr", 8, 1, layer_norm=True))
    image = photo(50, 60)
    assert np.array_equal(upscale_image(upscaler, image), upscale_image(upscaler, image, 0))
    assert apart(upscaler, image, 24) > 1e-3
    for cut in (tiles.tiles_of, tiles.tiles_of_photo):
        assert cut(upscaler, 50, 60, None).side == 60
        assert cut(local, 50, 60, None).side == 24


def test_the_command_warns_where_tiles_are_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_model(tmp_path / "m.safetensors", build_sr(GROUP_NORM, 2).state_dict(), GROUP_NORM, 2, {})
    command = [
        "upscale",
        str(photographs(tmp_path / "in", 1)),
        "--model",
        str(tmp_path / "m.safetensors"),
        "--overwrite",
    ]
    command += ["--out", str(tmp_path / "out")]
    assert cyclesr([*command, "--tile", "8"]) == 0
    assert "normalises by the whole image" in capsys.readouterr().err
    assert cyclesr(command) == 0
    assert "normalises" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "sums_up"),
    [("enlarged_resnet", True), ("realplksr", True), ("srresnet", False), ("vdsr", False), ("swinir", False)],
)
def test_which_networks_sum_up_the_image(kind: str, sums_up: bool) -> None:
    assert reach_of(build_sr(SRNet(kind, 12, 1), 2)).sums_up is sums_up  # type: ignore[arg-type]
