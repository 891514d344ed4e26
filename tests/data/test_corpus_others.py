"""PNM, BMP, GIF, WebP, AVIF and JPEG 2000: each exact, or refused with the true reason."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from helpers.photo_checks import check_exact, check_refused, written
from helpers.photo_files import bmp, exif, packed, ramp, spread, upright
from numpy.typing import NDArray
from PIL import Image

from cyclesr_dist.data.images import read_picture

PIXELS = ramp(12, 17, 3, 255).astype(np.uint8)


def saved(pixels: NDArray[Any], kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


class TestPNM:
    @pytest.mark.parametrize("largest", [1, 3, 100, 255, 256, 1023, 4095, 65535])
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("text", [False, True])
    def test_every_largest_value(self, tmp_path: Path, largest: int, channels: int, text: bool) -> None:
        samples = ramp(4, 5, channels, largest)
        kind = {(1, True): "P2", (3, True): "P3", (1, False): "P5", (3, False): "P6"}[channels, text]
        head = f"{kind}\n# made by hand\n5 4 # and on\n{largest}\n".encode()
        body = samples.astype(">u1" if largest < 256 else ">u2").tobytes()
        body = " ".join(map(str, samples.ravel())).encode() if text else body
        full, depth = (255, np.uint8) if largest < 256 else (65535, np.uint16)
        check_exact(written(tmp_path, head + body), np.floor(samples / largest * full + 0.5).astype(depth))

    @pytest.mark.parametrize("text", [False, True])
    def test_black_and_white(self, tmp_path: Path, text: bool) -> None:
        samples = ramp(5, 11, 1, 1)
        body = (
            "\n".join("".join(map(str, row)) for row in samples[:, :, 0]).encode()
            if text
            else packed(samples[:, :, 0], 1)
        )
        file = (b"P1" if text else b"P4") + b"\n11 5\n" + body
        check_exact(written(tmp_path, file), ((1 - samples) * 255).astype(np.uint8))

    @pytest.mark.parametrize(
        ("file", "reason"),
        [
            (b"P5\n4 4\n255\n" + bytes(15), "cut short"),
            (b"P5\n4 4\n0\n" + bytes(16), "largest value"),
            (b"P5\n4 4\n70000\n" + bytes(64), "largest value"),
            (b"P5\n60000 60000\n255\n" + bytes(16), "too many"),
            (b"P5\n4 4\n100\n" + bytes([101] * 16), "more than its largest value"),
            (b"P2\n2 2\n255\n1 2 3 x", "something else than numbers"),
            (b"P2\n2 2\n255\n1 2 3", "cut short"),
            (b"P1\n2 2\n1 0 1 2", "more than 0 and 1"),
            (b"P6\nfour", "no sizes"),
            (b"P7\nWIDTH 4\n", "a PAM image"),
            (b"Pf\n4 4\n-1\n", "floating point"),
        ],
    )
    def test_refused_with_the_true_reason(self, tmp_path: Path, file: bytes, reason: str) -> None:
        check_refused(written(tmp_path, file), reason)


def rows_of(pixels: bytes, height: int) -> list[bytes]:
    """Each in whole words of four bytes."""
    size = len(pixels) // height
    return [pixels[i * size : (i + 1) * size] + bytes(-size % 4) for i in range(height)]


class TestBMP:
    @pytest.mark.parametrize("bits", [1, 4, 8])
    @pytest.mark.parametrize("down", [False, True])
    def test_palettes(self, tmp_path: Path, bits: int, down: bool) -> None:
        indices = ramp(5, 9, 1, 2**bits - 1)[:, :, 0]
        colours = (ramp(2**bits, 1, 3, 127)[:, 0] + [0, 1, 2]).astype(np.uint8)  # none is grey
        palette = b"".join(bytes([b, g, r, 0]) for r, g, b in colours)
        rows = rows_of(packed(indices, bits), 5)
        file = bmp(9, 5, bits, b"".join(rows if down else rows[::-1]), palette=palette, down=down)
        check_exact(written(tmp_path, file), colours[indices])

    @pytest.mark.parametrize("bits", [24, 32])
    @pytest.mark.parametrize("down", [False, True])
    def test_colours(self, tmp_path: Path, bits: int, down: bool) -> None:
        pixels = PIXELS[:, :, ::-1]
        if bits == 32:
            pixels = np.dstack([pixels, np.zeros((12, 17), np.uint8)])
        rows = rows_of(pixels.tobytes(), 12)
        check_exact(written(tmp_path, bmp(17, 12, bits, b"".join(rows if down else rows[::-1]), down=down)), PIXELS)

    def test_with_transparency(self, tmp_path: Path) -> None:
        rgba = ramp(6, 7, 4, 255).astype(np.uint8)
        masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
        file = bmp(7, 6, 32, rgba[::-1, :, [2, 1, 0, 3]].tobytes(), compression=3, masks=masks)
        check_exact(written(tmp_path, file), rgba)

    @pytest.mark.parametrize("green", [5, 6])
    def test_sixteen_bits_a_pixel(self, tmp_path: Path, green: int) -> None:
        r, g, b = (ramp(4, 6, 1, 2**bits - 1, seed=bits)[:, :, 0] for bits in (5, green, 5))
        words = (r << (5 + green) | g << 5 | b).astype("<u2")
        masks = struct.pack("<III", 31 << (5 + green), (2**green - 1) << 5, 31)
        file = bmp(6, 4, 16, words[::-1].tobytes()) if green == 5 else with_masks(6, 4, words[::-1].tobytes(), masks)
        expected = np.dstack([v / (2**bits - 1) * 255 for v, bits in ((r, 5), (g, green), (b, 5))])
        check_exact(written(tmp_path, file), np.floor(expected + 0.5).astype(np.uint8))

    def test_run_lengths(self, tmp_path: Path) -> None:
        colours = ramp(256, 1, 3, 255)[:, 0].astype(np.uint8)
        palette = b"".join(bytes([b, g, r, 0]) for r, g, b in colours)
        data = bytes([3, 7, 5, 9, 0, 0]) + bytes([0, 4, 1, 2, 3, 4, 4, 8, 0, 0]) + bytes([0, 1])
        expected = colours[np.array([[1, 2, 3, 4, 8, 8, 8, 8], [7, 7, 7, 9, 9, 9, 9, 9]])]
        check_exact(written(tmp_path, bmp(8, 2, 8, data, palette=palette, compression=1)), expected)

    def test_a_jpeg_in_it(self, tmp_path: Path) -> None:
        check_refused(written(tmp_path, bmp(8, 2, 0, b"\xff\xd8\xff", compression=4)), "around a JPEG")

    @pytest.mark.parametrize("kept", [10, 30, 80])
    def test_cut_short(self, tmp_path: Path, kept: int) -> None:
        check_refused(written(tmp_path, saved(PIXELS, "BMP")[:kept]), "cannot be read")


def with_masks(width: int, height: int, pixels: bytes, masks: bytes) -> bytes:
    """The masks stand behind a head of 40 bytes."""
    plain = bmp(width, height, 16, pixels, compression=3)
    head = plain[:10] + struct.pack("<I", 14 + 40 + 12) + plain[14:54]
    return head + masks + plain[54:]


def gif(
    indices: NDArray[Any], bits: int, colours: bytes = b"", own: bytes = b"", transparent: int | None = None
) -> bytes:
    """Codes of bits + 1, each pixel by itself, with a palette for the file, or one for the picture."""
    height, width = indices.shape
    codes = [1 << bits]
    for i, value in enumerate(indices.ravel().tolist()):
        codes += [value] if (i + 1) % ((1 << bits) - 2) else [value, 1 << bits]  # before the codes grow
    written_bits = "".join(format(code, f"0{bits + 1}b")[::-1] for code in [*codes, (1 << bits) + 1])
    written_bits += "0" * (-len(written_bits) % 8)
    data = bytes(int(written_bits[i : i + 8][::-1], 2) for i in range(0, len(written_bits), 8))
    blocks = b"".join(bytes([len(part)]) + part for part in (data[i : i + 255] for i in range(0, len(data), 255)))
    flags = [(0x80 | (len(palette) // 3).bit_length() - 2) if palette else 0 for palette in (colours, own)]
    file = b"GIF89a" + struct.pack("<HHBBB", width, height, flags[0], 0, 0) + colours
    file += b"" if transparent is None else bytes([0x21, 0xF9, 4, 1, 0, 0, transparent, 0])
    return file + b"," + struct.pack("<4HB", 0, 0, width, height, flags[1]) + own + bytes([bits]) + blocks + b"\0;"


class TestGIF:
    @pytest.mark.parametrize("whose", ["file", "picture"])
    @pytest.mark.parametrize("grey", [False, True])
    @pytest.mark.parametrize("transparent", [None, 1, 9])
    def test_a_colour_beyond_the_palette(self, tmp_path: Path, whose: str, grey: bool, transparent: int | None) -> None:
        """One that is transparent needs no colour."""
        four = np.arange(4, dtype=np.uint8)[:, None].repeat(3, axis=1) if grey else ramp(4, 1, 3, 255)[:, 0]
        palette = four.astype(np.uint8).tobytes()
        both = (palette, b"") if whose == "file" else (bytes(3 * 16), palette)
        indices = ramp(9, 12, 1, 3)[:, :, 0]
        indices[3, 4] = 9
        path = written(tmp_path, gif(indices, 4, *both, transparent))
        if transparent != 9:
            check_refused(path, "a pixel has colour 9 of a palette of 4 colours")
            return
        picture = read_picture(path)
        seen = indices != 9
        np.testing.assert_array_equal(picture.alpha, seen)
        np.testing.assert_array_equal(np.rint(picture.rgb * 255)[seen], four[indices[seen]])

    @pytest.mark.parametrize("own", [2, 4, 16, 256])
    @pytest.mark.parametrize("transparent", [None, 1])
    def test_greys_of_its_own_beside_colours_of_the_file(
        self, tmp_path: Path, own: int, transparent: int | None
    ) -> None:
        greys = np.arange(own, dtype=np.uint8)[:, None].repeat(3, axis=1)
        colours = ramp(256, 1, 3, 255).astype(np.uint8)
        indices = ramp(9, 12, 1, own - 1)[:, :, 0]
        expected = greys[indices]
        if transparent is not None:
            expected = np.dstack([expected, np.where(indices == transparent, 0, 255).astype(np.uint8)])
        bits = max(2, own.bit_length() - 1)
        check_exact(written(tmp_path, gif(indices, bits, colours.tobytes(), greys.tobytes(), transparent)), expected)

    @pytest.mark.parametrize("bits", [2, 8])
    def test_no_palette(self, tmp_path: Path, bits: int) -> None:
        check_refused(written(tmp_path, gif(ramp(9, 12, 1, 3)[:, :, 0], bits)), "has no palette")

    @pytest.mark.parametrize("see_through", [False, True])
    @pytest.mark.parametrize("interlace", [0, 1])
    def test_palettes(self, tmp_path: Path, see_through: bool, interlace: int) -> None:
        indices = ramp(9, 12, 1, 15)[:, :, 0].astype(np.uint8)
        colours = ramp(16, 1, 3, 255)[:, 0].astype(np.uint8)
        image = Image.fromarray(indices, "P")
        image.putpalette(colours.tobytes())
        file = io.BytesIO()
        image.save(file, "GIF", interlace=interlace, optimize=False, **({"transparency": 3} if see_through else {}))
        expected = colours[indices]
        if see_through:
            expected = np.dstack([expected, np.where(indices == 3, 0, 255).astype(np.uint8)])
        check_exact(written(tmp_path, file.getvalue()), expected)

    def test_what_is_free_of_the_canvas_is_transparent(self, tmp_path: Path) -> None:
        file = bytearray(saved(np.full((2, 3, 3), (10, 20, 30), np.uint8), "GIF"))
        file[6:10] = struct.pack("<HH", 6, 5)
        place = file.index(struct.pack("<4H", 0, 0, 3, 2))
        file[place : place + 4] = struct.pack("<HH", 2, 1)
        picture = read_picture(written(tmp_path, bytes(file)))
        expected = np.zeros((5, 6))
        expected[1:3, 2:5] = 1
        np.testing.assert_array_equal(picture.alpha, expected)
        np.testing.assert_array_equal(np.rint(picture.rgb[1:3, 2:5] * 255), np.full((2, 3, 3), (10, 20, 30)))

    @pytest.mark.parametrize("canvas", [(0, 0), (3, 9), (9, 2), (1, 1)])
    def test_a_canvas_smaller_than_its_picture(self, tmp_path: Path, canvas: tuple[int, int]) -> None:
        file = bytearray(saved(np.full((6, 7, 3), (10, 20, 30), np.uint8), "GIF"))
        file[6:10] = struct.pack("<HH", *canvas)
        picture = read_picture(written(tmp_path, bytes(file)))
        assert picture.rgb.shape == (max(6, canvas[1]), max(7, canvas[0]), 3)
        np.testing.assert_array_equal(np.rint(picture.rgb[:6, :7] * 255), np.full((6, 7, 3), (10, 20, 30)))

    def test_of_an_animation_the_first(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        frames = [Image.fromarray(np.full((4, 5, 3), value, np.uint8)) for value in (10, 200)]
        file = io.BytesIO()
        frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
        check_exact(written(tmp_path, file.getvalue()), np.full((4, 5, 3), 10, np.uint8))
        assert "is an animation; only the first picture is read" in capsys.readouterr().err

    @pytest.mark.parametrize("kept", [8, 20, 100, -3])
    def test_cut_short(self, tmp_path: Path, kept: int) -> None:
        check_refused(written(tmp_path, saved(PIXELS, "GIF")[:kept]), "cannot be read")


class TestWebP:
    @pytest.mark.parametrize("channels", [3, 4])
    def test_lossless(self, tmp_path: Path, channels: int) -> None:
        pixels = ramp(9, 14, channels, 255).astype(np.uint8)
        check_exact(written(tmp_path, saved(pixels, "WEBP", lossless=True, exact=True)), pixels)

    def test_lossy(self, tmp_path: Path) -> None:
        flat = np.full((16, 16, 3), (90, 140, 30), np.uint8)
        check_exact(written(tmp_path, saved(flat, "WEBP", quality=100)), flat, within=3)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_turned_upright_once(self, tmp_path: Path, orientation: int) -> None:
        file = saved(PIXELS, "WEBP", lossless=True, exif=exif(orientation))
        check_exact(written(tmp_path, file), upright(PIXELS, orientation))

    def test_of_an_animation_the_first(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        first, second = Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)
        file = io.BytesIO()
        first.save(file, "WEBP", save_all=True, append_images=[second], lossless=True)
        check_exact(written(tmp_path, file.getvalue()), PIXELS)
        assert "is an animation" in capsys.readouterr().err

    @pytest.mark.parametrize("more", [0, 1])
    def test_a_size_one_too_large(self, tmp_path: Path, more: int) -> None:
        file = saved(PIXELS, "WEBP", lossless=True)
        size = struct.pack("<I", len(file) - 8 + more)
        check_exact(written(tmp_path, file[:4] + size + file[8:]), PIXELS)

    @pytest.mark.parametrize("kept", [16, 30, -2])
    def test_cut_short(self, tmp_path: Path, kept: int) -> None:
        check_refused(written(tmp_path, saved(PIXELS, "WEBP", lossless=True)[:kept]), "cannot be read|not an image")


class TestAVIF:
    @pytest.mark.parametrize("bits", [8, 10, 12])
    @pytest.mark.parametrize("channels", [3, 4])
    def test_every_depth(self, tmp_path: Path, bits: int, channels: int) -> None:
        pixels = ramp(16, 24, channels, 2**bits - 1).astype(np.uint8 if bits == 8 else np.uint16)
        file = imagecodecs.avif_encode(pixels, level=100, bitspersample=bits, pixelformat="444", matrix=0)
        check_exact(written(tmp_path, bytes(file)), spread(pixels, bits))

    def test_grey(self, tmp_path: Path) -> None:
        pixels = ramp(16, 24, 1, 255).astype(np.uint8)
        file = imagecodecs.avif_encode(pixels[:, :, 0], level=100, pixelformat="400")
        check_exact(written(tmp_path, bytes(file)), pixels, within=1)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_turned_upright_once(self, tmp_path: Path, orientation: int) -> None:
        """Pillow writes the orientation as AVIF's own turns and mirrorings."""
        y, x = np.mgrid[0:16, 0:24]
        smooth = np.stack([x * 9, y * 15, 255 - x * 9], axis=2).astype(np.uint8)
        file = saved(smooth, "AVIF", quality=100, subsampling="4:4:4", exif=exif(orientation))
        check_exact(written(tmp_path, file), upright(smooth, orientation), within=3)

    def test_of_an_animation_the_first(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        frames = [Image.fromarray(np.full((16, 16, 3), value, np.uint8)) for value in (10, 200)]
        file = io.BytesIO()
        frames[0].save(file, "AVIF", save_all=True, append_images=frames[1:], quality=100)
        check_exact(written(tmp_path, file.getvalue()), np.full((16, 16, 3), 10, np.uint8), within=2)
        assert "is an animation" in capsys.readouterr().err

    @pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
    def test_hdr_is_refused(self, tmp_path: Path, transfer: int, name: str) -> None:
        file = bytearray(saved(PIXELS, "AVIF"))
        place = file.index(b"nclx")
        file[place + 4 : place + 8] = struct.pack(">HH", 9, transfer)
        check_refused(written(tmp_path, bytes(file)), rf"HDR photograph \({name}\)")

    def test_a_part_of_a_larger_picture(self, tmp_path: Path) -> None:
        file = saved(PIXELS, "AVIF")
        check_refused(written(tmp_path, file.replace(b"pixi", b"clap")), "clean aperture")

    @pytest.mark.parametrize("kept", [20, 100, 250, -20])
    def test_cut_short(self, tmp_path: Path, kept: int) -> None:
        check_refused(written(tmp_path, saved(PIXELS, "AVIF")[:kept]), "cannot be read|not a photograph|a film")


class TestJPEG2000:
    @pytest.mark.parametrize("bits", [8, 10, 12, 16])
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("kind", ["jp2", "j2k"])
    def test_lossless_of_every_depth(self, tmp_path: Path, bits: int, channels: int, kind: str) -> None:
        pixels = ramp(16, 24, channels, 2**bits - 1).astype(np.uint8 if bits == 8 else np.uint16)
        plane = pixels[:, :, 0] if channels == 1 else pixels
        file = imagecodecs.jpeg2k_encode(plane, level=0, reversible=True, bitspersample=bits, codecformat=kind)
        check_exact(written(tmp_path, bytes(file)), spread(pixels, bits))

    @pytest.mark.parametrize("channels", [2, 4])
    def test_with_transparency(self, tmp_path: Path, channels: int) -> None:
        pixels = ramp(9, 14, channels, 255).astype(np.uint8)
        check_exact(written(tmp_path, saved(pixels, "JPEG2000", irreversible=False)), pixels)

    @pytest.mark.parametrize("kept", [10, 60, 0.5, -2])
    def test_cut_short(self, tmp_path: Path, kept: float) -> None:
        file = saved(PIXELS, "JPEG2000")
        check_refused(
            written(tmp_path, file[: int(len(file) * kept) if kept == 0.5 else int(kept)]),
            "cannot be read|not an image",
        )

    def test_with_a_sign(self, tmp_path: Path) -> None:
        file = bytearray(saved(PIXELS, "JPEG2000"))
        file[file.index(b"\xff\x4f\xff\x51") + 42] |= 0x80
        check_refused(written(tmp_path, bytes(file)), "with a sign")

    def test_halved_colours(self, tmp_path: Path) -> None:
        file = bytearray(saved(PIXELS, "JPEG2000"))
        file[file.index(b"\xff\x4f\xff\x51") + 46] = 2
        check_refused(written(tmp_path, bytes(file)), "halved colours")


RAW, EDITOR = "raw camera file; develop it first", "a document of an image editor"
HEADS = {
    "Olympus": (b"IIRO\x08\0\0\0", RAW),
    "Panasonic": (b"IIU\0\x08\0\0\0", RAW),
    "Canon CR2": (b"II*\0\x10\0\0\0CR\x02\0", RAW),
    "Canon CR3": (b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom", RAW),
    "Fuji": (b"FUJIFILMCCD-RAW 0201", RAW),
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC photograph"),
    "a film": (b"\0\0\0\x18ftypisom\0\0\0\0mp42isom", "is a film"),
    "Photoshop": (b"8BPS\0\x01", EDITOR),
    "JPEG XL": (b"\xff\x0a\xfa\x1f", "JPEG XL"),
    "JPEG XL in boxes": (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    "JPEG XR": (b"II\xbc\x01\x08\0\0\0", "JPEG XR"),
    "OpenEXR": (b"\x76\x2f\x31\x01\x02", "floating point"),
    "Radiance": (b"#?RADIANCE\n", "floating point"),
    "an icon": (b"\0\0\x01\0\x01\0", "an icon"),
    "a web page": (b"<!DOCTYPE html><html>", "a web page"),
    "PDF": (b"%PDF-1.7", "PDF"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "AppleDouble": (b"\0\x05\x16\x07\0\x02\0\0", "macOS"),
    "text": (b"not a photograph", "not an image of a format"),
    "nothing": (b"", "is empty"),
}


@pytest.mark.parametrize("kind", HEADS)
def test_known_and_not_read(tmp_path: Path, kind: str) -> None:
    head, reason = HEADS[kind]
    check_refused(written(tmp_path, head + bytes(64) if head and kind != "text" else head, "photo.jpg"), reason)
