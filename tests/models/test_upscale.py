"""Enlarging photographs: tiles leave no seam, every kind of picture comes out in kind, bad input is refused early."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.photo_checks import write_picture
from PIL import Image

from cyclesr_dist.cli import upscale as cli
from cyclesr_dist.config.schema import SRNet
from cyclesr_dist.data.images import Picture, read_picture, read_rgb8, write_png
from cyclesr_dist.errors import InputError
from cyclesr_dist.models import tiles
from cyclesr_dist.models.infer import upscale_image, upscale_picture
from cyclesr_dist.models.model_file import save_model
from cyclesr_dist.models.upscaler import BicubicUpscaler, NetUpscaler
from cyclesr_dist.nets.build import build_sr
from cyclesr_dist.runtime.command import guarded

RNG = np.random.default_rng(0)


def photo(height: int, width: int) -> np.ndarray:
    return RNG.random((height, width, 3), dtype=np.float32)


def net_upscaler(kind: str = "compact", scale: int = 4) -> NetUpscaler:
    torch.manual_seed(0)
    net = build_sr(SRNet(kind, 4, 2, bicubic_skip=kind == "compact"), scale)  # type: ignore[arg-type]
    for parameter in net.parameters():
        torch.nn.init.uniform_(parameter, -0.3, 0.3)
    return NetUpscaler(kind, net.eval(), scale)


class TestTiles:
    @pytest.mark.parametrize("kind", ["compact", "vdsr", "srresnet"])
    @pytest.mark.parametrize("tile", [7, 16, 50])
    def test_tiles_equal_one_piece(self, kind: str, tile: int) -> None:
        upscaler, image = net_upscaler(kind), photo(61, 83)
        np.testing.assert_allclose(
            upscale_image(upscaler, image, tile), upscale_image(upscaler, image, 0), rtol=0, atol=1e-5
        )

    def test_tiles_equal_one_piece_bicubic(self) -> None:
        image = photo(37, 29)
        one = upscale_image(BicubicUpscaler(4), image, 0)
        np.testing.assert_allclose(upscale_image(BicubicUpscaler(4), image, 9), one, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 2), (9, 8)])
    @pytest.mark.parametrize("tile", [None, 0, 1, 5, 1000])
    def test_any_size(self, size: tuple[int, int], tile: int | None) -> None:
        flat = np.full((*size, 3), 0.25, np.float32)
        enlarged = upscale_image(BicubicUpscaler(4), flat, tile)
        assert enlarged.shape == (size[0] * 4, size[1] * 4, 3)
        assert enlarged.dtype == np.float32
        np.testing.assert_allclose(enlarged, 0.25, atol=1e-6)

    def test_tiny_images_through_a_net_that_reflects(self) -> None:
        class Reflecting(BicubicUpscaler):
            def __call__(self, x: torch.Tensor) -> torch.Tensor:
                torch.nn.functional.pad(x, (4, 4, 4, 4), mode="reflect")  # raises for sides up to 4
                return super().__call__(x)

        assert upscale_image(Reflecting(4), photo(1, 2)).shape == (4, 8, 3)

    def test_large_images_are_tiled_by_default(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[tuple[int, int]] = []

        class Recording(BicubicUpscaler):
            def __call__(self, x: torch.Tensor) -> torch.Tensor:
                seen.append((x.shape[2], x.shape[3]))
                return super().__call__(x)

        monkeypatch.setattr(tiles, "UNTILED_PIXELS", 30 * 30)
        monkeypatch.setattr(tiles, "DEFAULT_TILE", 20)
        upscale_image(Recording(2), photo(30, 30))
        assert seen == [(30, 30)]
        seen.clear()
        upscale_image(Recording(2), photo(30, 31))
        assert len(seen) == 4
        assert max(max(size) for size in seen) < 30

    def test_models_that_give_nan_are_refused(self) -> None:
        upscaler = net_upscaler()
        torch.nn.init.constant_(next(upscaler.net.parameters()), float("nan"))
        with pytest.raises(InputError, match="not finite"):
            upscale_image(upscaler, photo(9, 9))


def test_a_picture_comes_out_in_kind() -> None:
    alpha = RNG.random((6, 5), dtype=np.float32)
    picture = Picture(photo(6, 5), alpha, bits=16, grey=False, icc=b"profile")
    enlarged = upscale_picture(BicubicUpscaler(4), picture)
    assert (enlarged.bits, enlarged.grey, enlarged.icc) == (16, False, b"profile")
    assert enlarged.alpha is not None
    assert enlarged.alpha.shape == enlarged.rgb.shape[:2] == (24, 20)
    assert enlarged.alpha.min() >= 0
    assert enlarged.alpha.max() <= 1
    block_means = enlarged.alpha.reshape(6, 4, 5, 4).mean(axis=(1, 3))
    assert np.abs(block_means - alpha).mean() < 0.1


def command(*argv: object) -> int:
    parser = argparse.ArgumentParser()
    cli.add_parser(parser.add_subparsers())
    args = parser.parse_args(["upscale", *map(str, argv)])
    return guarded(lambda: args.run(args), debug=args.debug)


@pytest.fixture
def album(tmp_path: Path) -> Path:
    folder = tmp_path / "album"
    folder.mkdir()
    write_png(folder / "colour.png", RNG.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    write_png(folder / "grey16.png", RNG.integers(0, 65536, (9, 12), dtype=np.uint16))
    write_png(folder / "rgba.png", RNG.integers(0, 256, (9, 12, 4), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RNG.integers(0, 256, (9, 12, 3), dtype=np.uint8)).save(folder / "turned.jpg", exif=exif)
    return folder


class TestCommand:
    def test_files_and_folders(self, album: Path, tmp_path: Path) -> None:
        extra = tmp_path / "extra.bmp"
        Image.new("RGB", (5, 4), (10, 200, 30)).save(extra)
        out = tmp_path / "new" / "out"
        assert command(album, extra, "--model", "bicubic", "--out", out, "--quiet") == 0
        assert sorted(p.name for p in out.iterdir()) == [
            *("colour.png", "extra.png", "grey16.png", "rgba.png", "turned.png")
        ]
        shapes = {p.stem: read_rgb8(p).shape for p in out.iterdir()}
        assert shapes == {
            **dict.fromkeys(("colour", "grey16", "rgba"), (36, 48, 3)),
            "extra": (16, 20, 3),
            "turned": (48, 36, 3),
        }
        grey16, rgba = read_picture(out / "grey16.png"), read_picture(out / "rgba.png")
        assert (grey16.bits, grey16.grey) == (16, True)
        assert rgba.alpha is not None
        np.testing.assert_array_equal(read_rgb8(out / "extra.png").reshape(-1, 3), [[10, 200, 30]] * 320)

    def test_a_model_file_and_tiles(self, album: Path, tmp_path: Path) -> None:
        upscaler = net_upscaler(scale=2)
        sr = SRNet("compact", 4, 2, bicubic_skip=True)
        save_model(tmp_path / "model.safetensors", upscaler.net.state_dict(), sr, 2, {})
        argv = (album / "colour.png", "--model", tmp_path, "--quiet")
        assert command(*argv, "--out", tmp_path / "whole", "--tile", 0) == 0
        assert command(*argv, "--out", tmp_path / "tiles", "--tile", 5) == 0
        whole, tiles = (read_rgb8(tmp_path / name / "colour.png").astype(int) for name in ("whole", "tiles"))
        assert np.abs(whole - tiles).max() <= 1
        picture = read_picture(album / "colour.png")
        write_picture(tmp_path / "direct.png", upscale_picture(upscaler, picture))
        np.testing.assert_array_equal(whole, read_rgb8(tmp_path / "direct.png"))

    def test_progress_unless_quiet(
        self, album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("cyclesr_dist.runtime.bars.LINE_SECONDS", -1.0)
        argv = (album, "--model", "bicubic", "--out", tmp_path / "out")
        command(*argv, "--quiet")
        assert capsys.readouterr().err == ""
        command(*argv)
        assert "4 of 4 images" in capsys.readouterr().err

    def refused(self, capsys: pytest.CaptureFixture[str], *argv: object) -> str:
        assert command(*argv, "--quiet") == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        return err

    def test_name_clashes_before_any_work(
        self, album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        other = tmp_path / "colour.jpg"
        Image.new("RGB", (4, 4)).save(other)
        out = tmp_path / "out"
        assert "would both become" in self.refused(capsys, album, other, "--model", "bicubic", "--out", out)
        assert not out.exists()

    def test_never_overwrites_an_input(self, album: Path, capsys: pytest.CaptureFixture[str]) -> None:
        before = (album / "colour.png").read_bytes()
        assert "is itself an input" in self.refused(capsys, album, "--model", "bicubic", "--out", album)
        assert (album / "colour.png").read_bytes() == before

    @pytest.mark.parametrize("content", [b"not a photograph", b"", b"\xff\xd8\xff\xe0" + bytes(20)])
    def test_files_that_are_no_photographs(
        self, tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "text.jpg").write_bytes(content)
        out = tmp_path / "out"
        err = self.refused(capsys, tmp_path / "text.jpg", "--model", "bicubic", "--out", out)
        assert "text.jpg" in err
        assert list(out.iterdir()) == []

    def test_truncated_jpeg(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "cut.jpg"
        Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[:2000])
        assert "cut.jpg" in self.refused(capsys, path, "--model", "bicubic", "--out", tmp_path / "out")
        assert list((tmp_path / "out").iterdir()) == []

    def test_other_bad_arguments(self, album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = ("--out", tmp_path / "out")
        empty = tmp_path / "empty"
        empty.mkdir()
        assert "holds no image" in self.refused(capsys, empty, "--model", "bicubic", *out)
        assert "no such file or folder" in self.refused(capsys, "nowhere.png", "--model", "bicubic", *out)
        assert "neither 'bicubic'" in self.refused(capsys, album, "--model", "nowhere", *out)
        assert "--tile -1" in self.refused(capsys, album, "--model", "bicubic", "--tile=-1", *out)
        file = ("--out", album / "colour.png")
        assert "cannot be made" in self.refused(capsys, album, "--model", "bicubic", *file)
