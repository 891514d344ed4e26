"""Photographs on disk: what is read is what the file says, whatever its kind; what is broken is refused in one line."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers.photo_checks import write_picture
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from cyclesr_dist.data.folders import list_images, match_pairs
from cyclesr_dist.data.images import Picture, image_size, read_picture, read_rgb8, write_png
from cyclesr_dist.data.photo import kinds
from cyclesr_dist.errors import ConfigError, InputError
from cyclesr_dist.runtime.files import replacing

RNG = np.random.default_rng(0)


def random8(*shape: int) -> NDArray[np.uint8]:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def random16(*shape: int) -> NDArray[np.uint16]:
    return RNG.integers(0, 65536, shape, dtype=np.uint16)


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def png16_all_filters(samples: NDArray[np.uint16], transparent: tuple[int, ...] | None = None) -> bytes:
    """A 16-bit PNG of another encoder: its rows go through all five PNG filters in turn."""
    height, width, channels = samples.shape
    bpp = 2 * channels
    rows = samples.astype(">u2").view(np.uint8).reshape(height, -1).astype(int)
    data = b""
    for y in range(height):
        row = rows[y]
        up = rows[y - 1] if y else np.zeros_like(row)
        left = np.concatenate([np.zeros(bpp, int), row[:-bpp]])
        corner = np.concatenate([np.zeros(bpp, int), up[:-bpp]])
        p = left + up - corner
        da, db, dc = abs(p - left), abs(p - up), abs(p - corner)
        paeth = np.where((da <= db) & (da <= dc), left, np.where(db <= dc, up, corner))
        predicted = [np.zeros_like(row), left, up, (left + up) // 2, paeth][y % 5]
        data += bytes([y % 5]) + ((row - predicted) % 256).astype(np.uint8).tobytes()
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))]
    if transparent is not None:
        chunks.append((b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)))
    chunks += [(b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks
    )


def tiff16(samples: NDArray[np.uint16], order: str, compressed: bool, orientation: int = 1) -> bytes:
    """A one-strip 16-bit RGB TIFF; order '<' or '>'."""
    height, width, channels = samples.shape
    strip = samples.astype(order + "u2").tobytes()
    strip = zlib.compress(strip) if compressed else strip
    tags: list[tuple[int, int, int, int]] = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, channels, 8),  # bits per sample, stored at offset 8
        (259, 3, 1, 8 if compressed else 1),
        (262, 3, 1, 2),
        (273, 4, 1, 8 + 2 * channels),
        (274, 3, 1, orientation),
        (277, 3, 1, channels),
        (278, 3, 1, height),
        (279, 4, 1, len(strip)),
    ]
    body = struct.pack(f"{order}{channels}H", *[16] * channels) + strip
    body += b"\0" * (len(body) % 2)
    ifd = struct.pack(order + "H", len(tags))
    for tag, kind, count, value in tags:
        packed = struct.pack(order + "HH", value, 0) if kind == 3 and count == 1 else struct.pack(order + "I", value)
        ifd += struct.pack(order + "HHI", tag, kind, count) + packed
    header = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8 + len(body))
    return header + body + ifd + b"\0" * 4


class TestListing:
    def test_sorted_and_by_suffix_in_any_case(self, tmp_path: Path) -> None:
        touch(tmp_path, "b.JPG", "a.png", "c.Tiff", "notes.txt", "._a.png", "d.webp")
        (tmp_path / "folder.png").mkdir()
        assert [p.name for p in list_images(tmp_path)] == ["a.png", "b.JPG", "c.Tiff", "d.webp"]

    def test_refuses_what_is_no_folder_of_images(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"missing.*no such folder"):
            list_images(tmp_path / "missing")
        with pytest.raises(InputError, match="holds no image"):
            list_images(touch(tmp_path / "empty", "readme.txt"))
        with pytest.raises(InputError, match="is a file"):
            list_images(tmp_path / "empty" / "readme.txt")


class TestReading:
    def test_png_rgb(self, tmp_path: Path) -> None:
        pixels = random8(5, 7, 3)
        Image.fromarray(pixels).save(tmp_path / "a.png")
        np.testing.assert_array_equal(read_rgb8(tmp_path / "a.png"), pixels)
        picture = read_picture(tmp_path / "a.png")
        assert (picture.bits, picture.grey, picture.alpha) == (8, False, None)
        np.testing.assert_array_equal(np.rint(picture.rgb * 255), pixels)

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
    def test_exif_orientation(self, tmp_path: Path, orientation: int, suffix: str) -> None:
        image = Image.fromarray(random8(6, 9, 3))
        exif = image.getexif()
        exif[0x0112] = orientation
        path = tmp_path / f"a{suffix}"
        image.save(path, exif=exif, **({"lossless": True} if suffix == ".webp" else {}))
        tagged = image.copy()
        tagged.getexif()[0x0112] = orientation
        expected = np.asarray(ImageOps.exif_transpose(tagged))
        np.testing.assert_array_equal(read_rgb8(path), expected)

    def test_grey_bilevel_and_palette(self, tmp_path: Path) -> None:
        grey = random8(5, 7)
        Image.fromarray(grey).save(tmp_path / "grey.png")
        assert read_picture(tmp_path / "grey.png").grey
        np.testing.assert_array_equal(read_rgb8(tmp_path / "grey.png"), np.dstack([grey] * 3))

        Image.fromarray(grey > 127).save(tmp_path / "bilevel.png")
        np.testing.assert_array_equal(read_rgb8(tmp_path / "bilevel.png")[:, :, 0], (grey > 127) * 255)

        palette = Image.fromarray(random8(5, 7, 3)).quantize(8)
        palette.save(tmp_path / "palette.png")
        np.testing.assert_array_equal(read_rgb8(tmp_path / "palette.png"), np.asarray(palette.convert("RGB")))

    def test_alpha_of_every_kind(self, tmp_path: Path) -> None:
        rgba, la = random8(5, 7, 4), random8(5, 7, 2)
        rgba[:, :, 3] |= 1  # where it is 0, read_rgb8 makes colours anew: test_transparency.py
        Image.fromarray(rgba).save(tmp_path / "rgba.png")
        Image.fromarray(la).save(tmp_path / "la.png")
        palette = Image.new("P", (2, 1))
        palette.putpalette([10, 20, 30, 40, 50, 60])
        palette.putpixel((1, 0), 1)
        palette.save(tmp_path / "palette.png", transparency=bytes([0, 128]))

        picture = read_picture(tmp_path / "rgba.png")
        assert picture.alpha is not None
        np.testing.assert_array_equal(np.rint(picture.alpha * 255), rgba[:, :, 3])
        np.testing.assert_array_equal(read_rgb8(tmp_path / "rgba.png"), rgba[:, :, :3])

        picture = read_picture(tmp_path / "la.png")
        assert picture.grey
        assert picture.alpha is not None
        np.testing.assert_array_equal(np.rint(picture.alpha * 255), la[:, :, 1])

        picture = read_picture(tmp_path / "palette.png")
        assert picture.alpha is not None
        np.testing.assert_array_equal(np.rint(picture.alpha * 255), [[0, 128]])
        np.testing.assert_array_equal(np.rint(picture.rgb * 255), [[[10, 20, 30], [40, 50, 60]]])

    def test_cmyk_jpeg(self, tmp_path: Path) -> None:
        Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
        red = read_rgb8(tmp_path / "a.jpg").reshape(-1, 3).mean(0)
        assert red[0] > 240
        assert red[1:].max() < 15

    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_16_bit_png_keeps_all_bits(self, tmp_path: Path, channels: int) -> None:
        samples = random16(11, 6, channels)
        path = tmp_path / "a.png"
        path.write_bytes(png16_all_filters(samples))
        picture = read_picture(path)
        assert (picture.bits, picture.grey) == (16, channels == 1)
        np.testing.assert_array_equal(
            np.rint(picture.rgb[:, :, :3] * 65535), np.broadcast_to(samples[:, :, :3], (11, 6, 3))
        )
        assert (picture.alpha is not None) == (channels == 4)
        np.testing.assert_array_equal(read_rgb8(path), np.rint(picture.rgb * 255))

    def test_16_bit_transparent_colour(self, tmp_path: Path) -> None:
        samples = random16(3, 4, 3)
        samples[1, 2] = (1, 2, 3)
        (tmp_path / "a.png").write_bytes(png16_all_filters(samples, transparent=(1, 2, 3)))
        alpha = read_picture(tmp_path / "a.png").alpha
        expected = np.ones((3, 4))
        expected[1, 2] = 0
        np.testing.assert_array_equal(alpha, expected)

    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("compressed", [False, True])
    def test_16_bit_tiff_keeps_all_bits(self, tmp_path: Path, order: str, compressed: bool) -> None:
        samples = random16(5, 6, 3)
        (tmp_path / "a.tif").write_bytes(tiff16(samples, order, compressed))
        picture = read_picture(tmp_path / "a.tif")
        assert picture.bits == 16
        np.testing.assert_array_equal(np.rint(picture.rgb * 65535), samples)

    @pytest.mark.parametrize("compressed", [False, True])
    def test_16_bit_tiff_is_turned_upright(self, tmp_path: Path, compressed: bool) -> None:
        samples = random16(5, 6, 3)
        (tmp_path / "a.tif").write_bytes(tiff16(samples, "<", compressed, orientation=6))
        np.testing.assert_array_equal(np.rint(read_picture(tmp_path / "a.tif").rgb * 65535), np.rot90(samples, -1))

    def test_refuses_what_is_no_image(self, tmp_path: Path) -> None:
        (tmp_path / "text.jpg").write_text("not a photograph")
        (tmp_path / "empty.png").touch()
        for name in ("text.jpg", "empty.png", "missing.png"):
            with pytest.raises(InputError, match=name) as caught:
                read_rgb8(tmp_path / name)
            assert "\n" not in str(caught.value)
        with pytest.raises(InputError, match="is a folder"):
            read_rgb8(tmp_path)

    @pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tif"])
    @pytest.mark.parametrize("kept", [0.02, 0.5, 0.9])
    def test_refuses_truncated_files(self, tmp_path: Path, suffix: str, kept: float) -> None:
        path = tmp_path / f"cut{suffix}"
        Image.fromarray(random8(64, 64, 3)).save(path)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * kept)])
        with pytest.raises(InputError, match="cut"):
            read_rgb8(path)

    def test_refuses_truncated_16_bit_png(self, tmp_path: Path) -> None:
        data = png16_all_filters(random16(64, 64, 3))
        (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
        with pytest.raises(InputError, match="cut"):
            read_picture(tmp_path / "cut.png")

    def test_refuses_damaged_pixels(self, tmp_path: Path) -> None:
        path = tmp_path / "damaged.png"
        Image.fromarray(random8(64, 64, 3)).save(path)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)
        with pytest.raises(InputError, match="damaged"):
            read_rgb8(path)

    def test_refuses_decompression_bombs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        Image.new("1", (100, 100)).save(tmp_path / "bomb.png")
        monkeypatch.setattr(kinds, "MAX_PIXELS", 1000)
        with pytest.raises(InputError, match=r"bomb\.png: 100 x 100 px are too many"):
            read_rgb8(tmp_path / "bomb.png")

    def test_the_limit_can_be_raised(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        Image.new("1", (100, 100)).save(tmp_path / "large.png")
        monkeypatch.setenv(kinds.MAX_MEGAPIXELS, "0.005")
        with pytest.raises(InputError) as refused:
            read_rgb8(tmp_path / "large.png")
        assert str(refused.value).endswith(
            "100 x 100 px are too many; at most 5,000 px are read; "
            "CYCLESR_MAX_MEGAPIXELS=1 in the environment raises that"
        )
        monkeypatch.setenv(kinds.MAX_MEGAPIXELS, "1")
        assert read_rgb8(tmp_path / "large.png").shape == (100, 100, 3)

    @pytest.mark.parametrize("text", ["many", "0", "-3", "nan", "inf"])
    def test_a_limit_that_is_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
        Image.new("1", (10, 10)).save(tmp_path / "a.png")
        monkeypatch.setenv(kinds.MAX_MEGAPIXELS, text)
        with pytest.raises(ConfigError, match=r"CYCLESR_MAX_MEGAPIXELS = .*; allowed: megapixels, above 0"):
            image_size(tmp_path / "a.png")

    def test_refuses_floating_point(self, tmp_path: Path) -> None:
        Image.new("F", (4, 4)).save(tmp_path / "a.tif")
        with pytest.raises(InputError, match="32-bit"):
            read_rgb8(tmp_path / "a.tif")


class TestWriting:
    @pytest.mark.parametrize(
        "array",
        [random8(5, 7, *c) for c in ((), (1,), (2,), (3,), (4,))]
        + [random16(5, 7, *c) for c in ((), (1,), (2,), (3,), (4,))],
        ids=lambda array: f"{array.dtype}-{array.shape}",
    )
    def test_what_is_written_reads_back(self, tmp_path: Path, array: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
        write_png(tmp_path / "a.png", array)
        with Image.open(tmp_path / "a.png") as image:
            image.verify()
        picture = read_picture(tmp_path / "a.png")
        samples = array.reshape(5, 7, -1)
        largest = np.iinfo(array.dtype).max
        assert picture.bits == array.itemsize * 8
        colour = samples[:, :, :1] if picture.grey else samples[:, :, :3]
        np.testing.assert_array_equal(np.rint(picture.rgb * largest), np.broadcast_to(colour, (5, 7, 3)))
        if samples.shape[2] in (2, 4):
            assert picture.alpha is not None
            np.testing.assert_array_equal(np.rint(picture.alpha * largest), samples[:, :, -1])

    @pytest.mark.parametrize("grey", [False, True])
    @pytest.mark.parametrize("bits", [8, 16])
    @pytest.mark.parametrize("with_alpha", [False, True])
    def test_picture_round_trip(self, tmp_path: Path, grey: bool, bits: int, with_alpha: bool) -> None:
        largest = 2**bits - 1
        rgb = RNG.integers(0, largest + 1, (5, 7, 1 if grey else 3)).astype(np.float32) / np.float32(largest)
        alpha = RNG.integers(0, 256, (5, 7)).astype(np.float32) / 255 if with_alpha else None
        write_picture(tmp_path / "a.png", Picture(np.broadcast_to(rgb, (5, 7, 3)).copy(), alpha, bits, grey))
        back = read_picture(tmp_path / "a.png")
        assert (back.bits, back.grey) == (bits, grey)
        np.testing.assert_allclose(back.rgb, np.broadcast_to(rgb, (5, 7, 3)), atol=1e-6)
        if alpha is None:
            assert back.alpha is None
        else:
            np.testing.assert_allclose(back.alpha, alpha, atol=1e-6)

    @pytest.mark.parametrize("bits", [8, 16])
    def test_colour_profile_is_kept(self, tmp_path: Path, bits: int) -> None:
        icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        write_picture(tmp_path / "a.png", Picture(np.zeros((2, 3, 3), np.float32), None, bits, grey=False, icc=icc))
        assert read_picture(tmp_path / "a.png").icc == icc

    def test_values_out_of_range_are_clipped(self, tmp_path: Path) -> None:
        rgb = np.array([[[-0.5, 0.5, 1.5]]], dtype=np.float32)
        write_picture(tmp_path / "a.png", Picture(rgb, None, 8, grey=False))
        np.testing.assert_array_equal(read_rgb8(tmp_path / "a.png"), [[[0, 128, 255]]])

    def test_failure_leaves_the_old_file_and_nothing_else(self, tmp_path: Path) -> None:
        target = tmp_path / "a.json"
        target.write_text("old")

        def write_half() -> None:
            with replacing(target) as temporary:
                temporary.write_text("half")
                raise RuntimeError

        with pytest.raises(RuntimeError):
            write_half()
        assert target.read_text() == "old"
        assert list(tmp_path.iterdir()) == [target]

    def test_refuses_other_arrays(self, tmp_path: Path) -> None:
        for array in (np.zeros((4, 4, 5), np.uint8), np.zeros((4, 4), np.float32), np.zeros(4, np.uint8)):
            with pytest.raises(ValueError, match="cannot write"):
                write_png(tmp_path / "a.png", array)  # type: ignore[arg-type]
        assert list(tmp_path.iterdir()) == []


class TestPairs:
    def names(self, tmp_path: Path) -> list[tuple[str, str, str]]:
        return [(p.name, p.hr.name, p.lr.name) for p in match_pairs(tmp_path / "hr", tmp_path / "lr")]

    def test_same_stem_and_div2k_names(self, tmp_path: Path) -> None:
        touch(tmp_path / "hr", "0801.png", "0802.png", "0803.png", "photo.jpg", "unused.png")
        touch(tmp_path / "lr", "0801x4.png", "0802x4m.png", "0803x4w2.png", "0803x4w1.png", "photo.png")
        assert self.names(tmp_path) == [
            ("0801x4", "0801.png", "0801x4.png"),
            ("0802x4m", "0802.png", "0802x4m.png"),
            ("0803x4w1", "0803.png", "0803x4w1.png"),
            ("0803x4w2", "0803.png", "0803x4w2.png"),
            ("photo", "photo.jpg", "photo.png"),
        ]

    def test_same_stem_wins_over_the_scale_suffix(self, tmp_path: Path) -> None:
        touch(tmp_path / "hr", "box.png", "boxx4.png")
        touch(tmp_path / "lr", "boxx4.png")
        assert self.names(tmp_path) == [("boxx4", "boxx4.png", "boxx4.png")]

    def test_lr_without_hr(self, tmp_path: Path) -> None:
        touch(tmp_path / "hr", "a.png")
        touch(tmp_path / "lr", "a.png", *(f"b{i}.png" for i in range(5)))
        with pytest.raises(InputError, match=r"b0\.png, b1\.png, b2\.png and 2 more"):
            self.names(tmp_path)

    def test_nothing_matches(self, tmp_path: Path) -> None:
        touch(tmp_path / "hr", "a.png")
        touch(tmp_path / "lr", "b.png")
        with pytest.raises(InputError, match="no file matches"):
            self.names(tmp_path)

    def test_ambiguous_stem(self, tmp_path: Path) -> None:
        touch(tmp_path / "hr", "a.png", "a.jpg")
        touch(tmp_path / "lr", "a.png")
        with pytest.raises(InputError, match=r"a\.jpg and a\.png"):
            self.names(tmp_path)
