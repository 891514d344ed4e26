"""The Python API: what it gives equals what the commands write, comes back in kind, or is refused in plain words."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import write_photos
from PIL import Image, ImageCms

import cyclesr_dist
from cyclesr_dist import CycleSRError, InputError, estimate, load_config, load_model, score, simulate
from cyclesr_dist.cli.main import main as cyclesr
from cyclesr_dist.config.schema import SRNet
from cyclesr_dist.data.images import read_picture, read_rgb8, write_png
from cyclesr_dist.degradation.record import load as load_estimate
from cyclesr_dist.models.model_file import save_model
from cyclesr_dist.nets.build import build_sr

RNG = np.random.default_rng(0)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(shape: tuple[int, ...], dtype: Any = np.uint8) -> np.ndarray:
    return RNG.integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a small network in it."""
    run = tmp_path_factory.mktemp("run")
    sr = SRNet("compact", 4, 2, bicubic_skip=True)
    torch.manual_seed(0)
    net = build_sr(sr, 2)
    for parameter in net.parameters():
        torch.nn.init.uniform_(parameter, -0.3, 0.3)
    save_model(run / "model.safetensors", net.state_dict(), sr, 2, {})
    return run


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file of every kind."""
    folder = tmp_path_factory.mktemp("album")
    for name, channels in (("grey", 1), ("grey_alpha", 2), ("colour", 3), ("colour_alpha", 4)):
        write_png(folder / f"{name}.png", noise((9, 12, channels)))
        write_png(folder / f"{name}16.png", noise((9, 12, channels), np.uint16))
    write_png(folder / "profile.png", noise((9, 12, 3)), PROFILE)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise((9, 12, 3))).save(folder / "turned.jpg", exif=exif)
    Image.fromarray(noise((9, 12, 4)), "CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(noise((9, 12, 3))).quantize(16).save(folder / "palette.png", transparency=3)
    Image.fromarray(noise((9, 12)) > 127).save(folder / "bits.png")
    return folder


@pytest.fixture(scope="module")
def upscaled(album: Path, network: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `cyclesr upscale` makes of it."""
    out = tmp_path_factory.mktemp("out") / "upscaled"
    assert cyclesr(["upscale", str(album), "--model", str(network), "--out", str(out), "--quiet"]) == 0
    return out


KINDS = ["grey", "grey16", "grey_alpha", "colour", "colour_alpha", "profile", "turned", "cmyk", "palette", "bits"]
NOT_FOR_PILLOW = ["colour16", "colour_alpha16"]


def file_of(folder: Path, kind: str) -> Path:
    (path,) = folder.glob(f"{kind}.*")
    return path


class TestPackage:
    def test_an_import_is_cheap(self) -> None:
        code = (
            "import sys, cyclesr_dist; "
            "print(*({'torch', 'numpy', 'PIL', 'yaml', 'safetensors', 'deepspeed', 'ray', 'tqdm'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.split() == []

    def test_all_names_are_there_and_documented(self) -> None:
        for name in cyclesr_dist.__all__:
            value = getattr(cyclesr_dist, name)
            assert name.startswith("__") or inspect.getdoc(value)
        assert {"load_model", "estimate", "simulate", "score", "load_config", "train"} <= set(cyclesr_dist.__all__)

    def test_train_can_be_called_whatever_was_imported_before(self) -> None:
        """A folder of the package has the same name."""
        code = (
            "import cyclesr_dist as c\n"
            "def call(train):\n"
            "    try: train(3, 'run')\n"
            "    except c.ConfigError as error: print(error)\n"
            "call(c.train)\n"
            "import cyclesr_dist.training.schedule as module\n"
            "from cyclesr_dist import train\n"
            "call(c.train), call(train), module.Schedule"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.count("config = 3 is no configuration") == 3


class TestUpscale:
    @pytest.mark.parametrize("kind", KINDS)
    def test_paths_and_pillow_images_equal_the_command(
        self, kind: str, album: Path, network: Path, upscaled: Path
    ) -> None:
        model = load_model(network)
        source = file_of(album, kind)
        with Image.open(upscaled / f"{kind}.png") as expected, Image.open(source) as opened:
            for image in (source, str(source), opened):
                result = model.upscale(image)
                assert result.mode == expected.mode
                assert result.info.get("icc_profile") == expected.info.get("icc_profile")
                np.testing.assert_array_equal(np.asarray(result), np.asarray(expected))

    @pytest.mark.parametrize("kind", KINDS + NOT_FOR_PILLOW)
    def test_out_writes_the_file_of_the_command(
        self, kind: str, album: Path, network: Path, upscaled: Path, tmp_path: Path
    ) -> None:
        out = load_model(network).upscale(file_of(album, kind), out=str(tmp_path / "big.png"))
        assert out == tmp_path / "big.png"
        assert out.read_bytes() == (upscaled / f"{kind}.png").read_bytes()

    @pytest.mark.parametrize("kind", NOT_FOR_PILLOW)
    def test_depth_is_not_lost_in_silence(self, kind: str, album: Path, network: Path) -> None:
        with pytest.raises(InputError, match=r"16\.png: has 16 bits in colour.*out"):
            load_model(network).upscale(file_of(album, kind))

    @pytest.mark.parametrize("kind", ["grey", "grey16", "colour", "colour16", "grey_alpha", "colour_alpha16"])
    def test_arrays_equal_the_command(self, kind: str, album: Path, network: Path, upscaled: Path) -> None:
        picture, expected = (read_picture(file_of(folder, kind)) for folder in (album, upscaled))
        largest = 2**picture.bits - 1
        planes = picture.rgb[:, :, :1] if picture.grey else picture.rgb
        if picture.alpha is not None:
            planes = np.concatenate([planes, picture.alpha[:, :, None]], axis=2)
        array = np.rint(planes * largest).astype(np.uint8 if picture.bits == 8 else np.uint16)
        before = array.copy()
        result = load_model(network).upscale(array)
        np.testing.assert_array_equal(array, before)
        assert result.dtype == array.dtype
        assert result.shape == (18, 24, array.shape[2])
        np.testing.assert_array_equal(result[:, :, 0], np.rint(expected.rgb[:, :, 0] * largest))
        if picture.alpha is not None:
            assert expected.alpha is not None
            np.testing.assert_array_equal(result[:, :, -1], np.rint(expected.alpha * largest))
        if array.shape[2] == 1:
            flat = load_model(network).upscale(array[:, :, 0])
            np.testing.assert_array_equal(flat, result[:, :, 0])

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4", ">u2", np.uint8])
    @pytest.mark.parametrize("shape", [(9, 12), (9, 12, 1), (9, 12, 2), (9, 12, 3), (9, 12, 4), (1, 1, 3)])
    def test_the_kind_of_an_array_is_kept(self, dtype: Any, shape: tuple[int, ...], network: Path) -> None:
        unit = RNG.random(shape)
        dtype = np.dtype(dtype)
        largest = 1 if dtype.kind == "f" else np.iinfo(dtype).max
        result = load_model(network).upscale((unit * largest).astype(dtype))
        assert result.dtype == dtype
        assert result.shape == (2 * shape[0], 2 * shape[1], *shape[2:])
        assert result.min() >= 0
        assert result.max() <= largest

    def test_floats_are_neither_rounded_nor_shifted(self, network: Path) -> None:
        levels = noise((9, 12, 3))
        model = load_model(network)
        of_floats = model.upscale(levels / 255)
        assert of_floats.dtype == np.float64
        np.testing.assert_array_equal(np.rint(of_floats * 255), model.upscale(levels))
        assert np.unique(of_floats).size > 256

    def test_views_of_arrays(self, network: Path) -> None:
        whole = noise((18, 12, 6))
        model = load_model(network)
        view = whole[::-2, :, ::2]
        np.testing.assert_array_equal(model.upscale(view), model.upscale(view.copy()))
        view.flags.writeable = False
        model.upscale(view)

    def test_tiles(self, network: Path) -> None:
        image = noise((20, 30, 3))
        model = load_model(network)
        apart = model.upscale(image, tile=7).astype(int) - model.upscale(image, tile=0)
        assert np.abs(apart).max() <= 1

    def test_a_pillow_image_is_left_as_it_was(self, network: Path, album: Path) -> None:
        image = Image.open(album / "turned.jpg")
        load_model(network).upscale(image)
        assert image.size == (12, 9)
        assert image.getexif()[0x0112] == 6


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.full((4, 4, 3), np.nan), "not finite"),
        (np.full((4, 4, 3), np.inf, np.float32), "not finite"),
        (np.full((4, 4, 3), 255.0), r"from 255 to 255; floating point must be in \[0, 1\]"),
        (np.full((4, 4, 3), -0.01), "from -0.01"),
        (np.full((4, 4, 3), 1.0000001), "from 1.0000001 to 1.0000001"),
        (np.zeros((4, 4, 3), np.int64), "type int64.*allowed: uint8, uint16, or float"),
        (np.zeros((4, 4, 3), bool), "type bool"),
        (np.zeros((4, 4, 3), complex), "type complex"),
        (np.zeros((4, 4, 3), object), "type object"),
        (np.zeros((4, 4, 3), np.longdouble), "type float128|type longdouble"),
        (np.zeros((3, 40, 40), np.uint8), r"shape \(3, 40, 40\).*channels last"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"shape \(1, 4, 4, 3\)"),
        (np.zeros(5, np.uint8), r"shape \(5,\)"),
        (np.zeros((), np.uint8), r"shape \(\)"),
        (np.zeros((4, 4, 0), np.uint8), r"shape \(4, 4, 0\)"),
        (np.zeros((0, 4, 3), np.uint8), "is empty"),
        (np.ma.masked_array(np.zeros((4, 4, 3), np.uint8), True), "masked"),
        (Image.new("I", (4, 4)), "mode I"),
        (Image.new("F", (4, 4)), "mode F"),
        (Image.new("RGB", (0, 4)), "empty"),
        (torch.zeros(4, 4, 3), "cannot be a torch.Tensor; allowed: a numpy array, a Pillow image, or a path"),
        ([[0]], "cannot be a list"),
        (None, "NoneType"),
        (b"photo.png", "cannot be a bytes"),
        ("nowhere.png", "nowhere.png: no such file"),
        ("", "'' is not a path"),
        (Path(__file__).parent, "is a folder"),
        (__file__, "is not an image"),
    ],
)
def test_what_is_no_image_is_refused_everywhere(image: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_model("bicubic").upscale(image)
    with pytest.raises(InputError):
        simulate(image, "mild")
    good = noise((40, 40, 3))
    for pair in ((image, good), (good, image)):
        with pytest.raises(InputError):
            score(*pair)


def test_other_arguments_of_upscale_are_refused(album: Path, tmp_path: Path) -> None:
    model, colour = load_model("bicubic"), album / "colour.png"
    before = colour.read_bytes()
    for image, settings, words in [
        (colour, {"out": tmp_path / "big.jpg"}, "PNG"),
        (colour, {"out": tmp_path}, "PNG"),
        (colour, {"out": tmp_path / "none" / "big.png"}, "no such folder"),
        (colour, {"out": colour}, "the input itself"),
        (colour, {"out": 3}, "out = 3 is not a path"),
        (noise((4, 4, 3)), {"out": tmp_path / "big.png"}, "out is for the path"),
        (noise((4, 4, 3)), {"tile": -1}, "tile = -1"),
        (noise((4, 4, 3)), {"tile": 2.5}, "tile = 2.5 is not an integer"),
        (tmp_path / "none.png", {"out": tmp_path / "big.png"}, "no such file"),
    ]:
        with pytest.raises(InputError, match=words):
            model.upscale(image, **settings)
    assert colour.read_bytes() == before
    assert list(tmp_path.iterdir()) == []


class TestModel:
    def test_what_it_says_of_itself(self, network: Path) -> None:
        assert load_model(network).scale == 2
        assert load_model(f"{network}", scale=np.int64(2)).name == str(network)
        assert load_model("bicubic").scale == 4
        assert repr(load_model("bicubic", scale=3)) == "Model('bicubic', scale=3)"

    @pytest.mark.parametrize(
        ("path", "scale", "words"),
        [
            ("nowhere", None, "nowhere"),
            (3, None, "model = 3 is not a path"),
            ("bicubic", 0, "scale is 0"),
            ("bicubic", 17, "scale is 17, not an integer from 1 to 16"),
            ("bicubic", 2.5, "scale = 2.5 is not an integer"),
            (__file__, None, "safetensors"),
        ],
    )
    def test_refusals(self, path: Any, scale: Any, words: str) -> None:
        with pytest.raises(InputError, match=words):
            load_model(path, scale=scale)

    def test_another_scale_than_its_own(self, network: Path) -> None:
        with pytest.raises(InputError, match="enlarges by 2, not by 4"):
            load_model(network, scale=4)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_photos(tmp_path_factory.mktemp("photos") / "hr", 2, 64, 96, seed=0)
    write_png(folder / "grey16.png", noise((50, 41), np.uint16))
    write_png(folder / "colour16.png", noise((50, 41, 3), np.uint16))
    write_png(folder / "alpha.png", noise((50, 41, 4)))
    return folder


class TestSimulate:
    @pytest.mark.parametrize("track", ["unknown", "mild", "wild", "camera"])
    def test_every_way_equals_the_command(self, track: Any, photos: Path, tmp_path: Path) -> None:
        argv = ["degrade", "--hr", str(photos), "--track", track, "--seed", "3", "--scale", "2", "--quiet"]
        argv += ["--blur-px", "3", "--noise", "0.05"]
        assert cyclesr([*argv, "--out", str(tmp_path / "command")]) == 0
        config = load_config(None, ["degrade.blur_px=3", "degrade.noise=0.05", "scale=2", "seed=3"])
        assert simulate(photos, track, config=config, out=tmp_path / "api") == tmp_path / "api"
        expected = {path.name: path.read_bytes() for path in (tmp_path / "command").iterdir()}
        assert {path.name: path.read_bytes() for path in (tmp_path / "api").iterdir()} == expected
        suffixes = {"unknown": [""], "mild": ["m"], "wild": ["w1", "w2", "w3", "w4"], "camera": [""]}[track]
        for source in photos.iterdir():
            for variant, suffix in enumerate(suffixes):
                name = f"{source.stem}x2{suffix}.png"
                lr = read_rgb8(tmp_path / "command" / name)
                settings: Any = {"config": config, "variant": variant}
                np.testing.assert_array_equal(np.asarray(simulate(source, track, **settings)), lr)
                written = simulate(str(source), track, **settings, out=tmp_path / "one.png")
                assert written.read_bytes() == expected[name]
                if source.stem == "photo0":
                    hr = read_rgb8(source)
                    settings["name"] = "photo0"
                    np.testing.assert_array_equal(np.asarray(simulate(Image.fromarray(hr), track, **settings)), lr)
                    np.testing.assert_array_equal(simulate(hr, track, **settings), lr)
                    np.testing.assert_array_equal(
                        simulate(hr.astype(np.uint16) * np.uint16(257), track, **settings), lr * np.uint16(257)
                    )
                    of_floats = simulate(hr / 255, track, **settings)
                    assert of_floats.dtype == np.float64
                    np.testing.assert_array_equal(np.rint(of_floats * 255), lr)

    def test_draws_follow_the_seed_and_the_name(self) -> None:
        hr = noise((40, 40, 3))
        one = simulate(hr, "mild")
        np.testing.assert_array_equal(one, simulate(hr, "mild", seed=0, name=""))
        assert not np.array_equal(one, simulate(hr, "mild", seed=1))
        assert not np.array_equal(one, simulate(hr, "mild", name="a"))

    def test_refusals(self, photos: Path, tmp_path: Path) -> None:
        hr, file = noise((40, 40, 3)), photos / "photo0.png"
        cases: list[tuple[Any, Any, dict[str, Any], str]] = [
            (hr, "hazy", {}, "track = 'hazy' is unknown; allowed: unknown, mild, wild, camera"),
            (hr, 3, {}, "track = 3 is not a string"),
            (hr, "mild", {"variant": 1}, "variant = 1 of track mild is unknown; allowed: 0 to 0"),
            (hr, "wild", {"variant": -1}, "variant = -1"),
            (hr, "wild", {"variant": "w1"}, "variant = 'w1' is not an integer"),
            (hr, "mild", {"scale": 0}, "scale = 0"),
            (hr, "mild", {"scale": 2.5}, "scale = 2.5"),
            (hr, "mild", {"seed": "a"}, "seed = 'a'"),
            (hr, "mild", {"name": 3}, "name = 3"),
            (hr, "mild", {"config": {}}, "config = {} is no configuration"),
            (hr, "mild", {"out": tmp_path / "a.png"}, "out is for the path"),
            (hr[:, :, 0], "mild", {}, r"shape \(40, 40\).*\(H, W, 3\)"),
            (noise((40, 40, 4)), "mild", {}, r"shape \(40, 40, 4\)"),
            (hr[:3], "mild", {}, "the image: 40 x 3 px is too small for scale 4"),
            (photos, "mild", {}, "is a folder; out must name"),
            (photos, "mild", {"out": tmp_path / "o", "name": "a"}, "is a folder; name and variant"),
            (file, "mild", {"out": tmp_path / "a.jpg"}, "PNG"),
            (file, "mild", {"overwrite": True}, "overwrite is for folders"),
        ]
        for image, track, settings, words in cases:
            with pytest.raises(CycleSRError, match=words):
                simulate(image, track, **settings)
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_is_replaced_only_when_told(self, photos: Path, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("mine")
        with pytest.raises(InputError, match="not empty"):
            simulate(photos, "mild", out=tmp_path)
        simulate(photos, "mild", out=tmp_path, overwrite=True)
        assert not (tmp_path / "notes.txt").exists()


class TestScore:
    @pytest.fixture
    def folders(self, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
        root = tmp_path_factory.mktemp("score")
        hr = write_photos(root / "hr", 2, 128, 144, seed=1)
        write_png(hr / "deep.png", noise((121, 131, 3), np.uint16))
        simulate(hr, "mild", scale=2, out=root / "lr")
        return root / "lr", hr

    @pytest.mark.parametrize("protocol", ["plain", "ntire2017"])
    def test_equals_evaluate(self, protocol: Any, folders: tuple[Path, Path], network: Path, tmp_path: Path) -> None:
        lr, hr = folders
        argv = ["evaluate", "--model", str(network), "--lr", str(lr), "--hr", str(hr), "--quiet"]
        assert cyclesr([*argv, "--protocol", protocol, "--json", str(tmp_path / "s.json")]) == 0
        scores = json.loads((tmp_path / "s.json").read_text())
        model = load_model(network)
        assert score(str(lr), hr, protocol=protocol, model=model) == scores["mean"]
        for image in scores["images"]:
            name = image.pop("name")
            original = hr / f"{name.removesuffix('x2m')}.png"
            small = lr / f"{name}.png"
            assert score(small, original, protocol=protocol, model=model) == image
            assert score(read_rgb8(small), read_rgb8(original), protocol=protocol, model=model) == image
            shown = Image.fromarray(read_rgb8(original))
            assert score(Image.open(small), shown, protocol=protocol, model=model) == image
        upscaled = tmp_path / "upscaled"
        upscaled.mkdir()
        for path in hr.glob("photo*.png"):
            model.upscale(lr / f"{path.stem}x2m.png", out=upscaled / path.name)
        means = {
            key: np.mean([image[key] for image in scores["images"] if "psnr" in image][1:]) for key in scores["mean"]
        }
        assert score(upscaled, hr, protocol=protocol) == pytest.approx(means)

    def test_files_of_16_bits_are_rounded_as_evaluate_does(self, tmp_path: Path) -> None:
        """Every one of 65536 levels, against its own 8-bit rounding."""
        levels = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1).repeat(3, axis=2)
        write_png(tmp_path / "deep.png", levels)
        assert score(tmp_path / "deep.png", read_rgb8(tmp_path / "deep.png"))["psnr"] == np.inf
        assert score(levels, levels.astype(np.float64) / 65535)["psnr"] == np.inf

    def test_equal_and_grey_images(self) -> None:
        image = noise((20, 30))
        assert score(image, Image.fromarray(image))["psnr"] == np.inf
        assert score(image, np.repeat(image[:, :, None], 3, axis=2))["ssim"] == pytest.approx(1)

    def test_refusals(self, folders: tuple[Path, Path], tmp_path: Path) -> None:
        image: Any = noise((40, 40, 3))
        cases: list[tuple[Any, Any, dict[str, Any], str]] = [
            (
                image,
                image,
                {"protocol": "ntire"},
                "protocol = 'ntire'; allowed: plain, ntire2017, ntire2018",
            ),
            (image, image, {"protocol": "ntire2018"}, "too small"),
            (image, image, {"protocol": ["plain"]}, "is not a string"),
            (image, image[:39], {}, "the image: 40x40 px, but the original is 40x39 px"),
            (image, image, {"model": load_model("bicubic")}, "40x40 px enlarged x4 is 160x160 px"),
            (image, image, {"model": "bicubic"}, "model = 'bicubic' is no Model"),
            (folders[0], image, {}, "is a folder; a folder is scored against another folder"),
            (folders[0], tmp_path / "none", {}, "is a folder"),
            (folders[0], folders[1], {}, "px, but"),
        ]
        for first, second, settings, words in cases:
            with pytest.raises(InputError, match=words):
                score(first, second, **settings)


class TestEstimate:
    @pytest.mark.usefixtures("few_fit_steps")
    def test_equals_the_command(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        hr = write_photos(tmp_path / "hr", 1, 160, 160, seed=1)
        lr = write_photos(tmp_path / "lr", 1, 40, 40, seed=2)
        argv = ["estimate", "--hr", str(hr), "--lr", str(lr), "--seed", "2", "--quiet"]
        assert cyclesr([*argv, "--out", str(tmp_path / "command")]) == 0
        said = capsys.readouterr().out
        found = estimate(hr, str(lr), seed=2, out=tmp_path / "api")
        assert capsys.readouterr() == ("", "")
        for name in ("degradation.json", "degradation.safetensors", "degradation.html"):
            assert (tmp_path / "api" / name).read_bytes() == (tmp_path / "command" / name).read_bytes()
        saved = load_estimate(tmp_path / "command")
        assert found.facts == saved.facts
        assert torch.equal(found.kernels, saved.kernels)
        assert found.sentences
        assert all(sentence in said for sentence in found.sentences)

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"hr": "nowhere"}, "nowhere"),
            ({"hr": None}, "hr = None is not a path"),
            ({"lr": np.zeros(3)}, "lr = .* is not a path"),
            ({"scale": 5}, "scale = 5"),
            ({"scale": 2.5}, "scale = 2.5"),
            ({"seed": -1}, "seed = -1"),
            ({"out": "s3://bucket/out"}, "URL"),
            ({"hr": "pipe:ls"}, "pipe"),
        ],
    )
    def test_refusals(self, settings: dict[str, Any], words: str, photos: Path) -> None:
        with pytest.raises(CycleSRError, match=words):
            estimate(**{"hr": photos, "lr": photos, **settings})
