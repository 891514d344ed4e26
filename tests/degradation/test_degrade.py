"""The simulated tracks: what they do to pixels, what they record, and when they refuse."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cyclesr_dist.cli import degrade as command
from cyclesr_dist.config.schema import Degrade, load
from cyclesr_dist.data.resize import bicubic_down, to_8bit_grid
from cyclesr_dist.degradation.equation1 import motion_kernel, unknown_kernel
from cyclesr_dist.degradation.simulate import degrade, draw_parameters
from cyclesr_dist.degradation.simulate_folder import degrade_folder
from cyclesr_dist.errors import ConfigError, InputError
from cyclesr_dist.runtime.command import guarded
from cyclesr_dist.runtime.files import new_folder

LEVELS = Degrade()
NONE = Degrade(blur_px=0, noise=0, shift_px=0)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "hr"
    folder.mkdir()
    for i, name in enumerate(("a", "b", "c")):
        save(folder / f"{name}.png", texture(50 + i, 61, seed=i))
    return folder


def texture(height: int, width: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path: Path, array: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    Image.fromarray(array).save(path)


def image(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def run_command(*argv: str | Path) -> int:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    args = parser.parse_args(["degrade", *map(str, argv)])
    return guarded(lambda: args.run(args), debug=args.debug)


def make(photos: Path, out: Path, **changes: Any) -> int:
    settings: dict[str, Any] = {"track": "mild", "scale": 4, "seed": 0, "levels": LEVELS, "progress": False}
    return degrade_folder(photos, out, **(settings | changes))


# --- equation (1)


@pytest.mark.parametrize("track", ["unknown", "mild", "wild", "camera"])
def test_lr_is_on_the_8bit_grid_and_has_the_cropped_size(track: Any) -> None:
    lr, _ = degrade(image(43, 50), track, 4, LEVELS, seed=0, name="a")
    assert lr.shape == (1, 3, 10, 12)
    assert torch.equal(lr, to_8bit_grid(lr))
    assert 0 <= lr.min() < lr.max() <= 1


@pytest.mark.parametrize("track", ["mild", "wild"])
def test_without_levels_only_the_bicubic_is_left_and_the_crop_is_top_left(track: Any) -> None:
    hr = image(43, 50)
    lr, _ = degrade(hr, track, 4, NONE, seed=0, name="a")
    assert torch.equal(lr, to_8bit_grid(bicubic_down(hr[..., :40, :48], 4)))


@given(
    length=st.floats(0, 40),
    angle=st.floats(0, np.pi),
    bend=st.floats(-np.pi / 2, np.pi / 2),
)
@settings(max_examples=60, deadline=None)
def test_motion_kernels_neither_brighten_nor_move_the_image(length: float, angle: float, bend: float) -> None:
    kernel = motion_kernel(length, angle, bend)
    assert kernel.shape[0] == kernel.shape[1]
    assert kernel.shape[0] % 2 == 1
    assert kernel.min() >= 0
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    offsets = np.arange(kernel.shape[0]) - kernel.shape[0] // 2
    assert kernel.sum(axis=1) @ offsets == pytest.approx(0, abs=1e-3)
    assert kernel.sum(axis=0) @ offsets == pytest.approx(0, abs=1e-3)


def test_a_straight_motion_kernel_has_its_length_and_direction() -> None:
    kernel = motion_kernel(8, angle=0, bend=0)
    row = kernel[kernel.shape[0] // 2]
    assert row.sum() == pytest.approx(1, abs=1e-5)
    spread = np.sqrt(row @ (np.arange(len(row)) - len(row) // 2) ** 2)
    assert spread == pytest.approx(8 / np.sqrt(12), rel=0.05)  # standard deviation of an even spread over 8 px
    upright = motion_kernel(8, angle=np.pi / 2, bend=0)
    np.testing.assert_allclose(upright, kernel.T, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("width_px", "size"), [(9, 9), (8, 9), (1, 1), (0, 1), (15.5, 15)])
def test_the_unknown_kernel_has_the_width_asked_for_and_sum_1(seed: int, width_px: float, size: int) -> None:
    kernel = unknown_kernel(width_px, seed)
    assert kernel.shape == (size, size)
    assert kernel.min() >= 0
    assert kernel.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_the_unknown_kernel_is_lopsided_elongated_and_wide(seed: int) -> None:
    kernel = unknown_kernel(9, seed).astype(np.float64)
    assert np.abs(kernel - kernel[::-1, ::-1]).sum() > 0.1
    y, x = np.mgrid[-4:5, -4:5]
    covariance = np.array([[(kernel * a * b).sum() for a in (y, x)] for b in (y, x)])
    narrow, wide = np.linalg.eigvalsh(covariance)
    assert wide > 1.3 * narrow
    assert kernel.max() < 0.5


def test_convolution_not_correlation() -> None:
    """A single bright pixel comes out as the kernel itself, the right way round."""
    hr = torch.zeros(1, 3, 31, 31)
    hr[..., 15, 15] = 1
    lr, _ = degrade(hr, "unknown", 1, LEVELS, seed=3, name="a")
    np.testing.assert_allclose(lr[0, 0, 11:20, 11:20].numpy(), unknown_kernel(9, 3), atol=0.51 / 255)


@pytest.mark.parametrize("track", ["unknown", "mild", "wild"])
def test_brightness_is_preserved(track: Any) -> None:
    flat = torch.full((1, 3, 64, 64), 128 / 255)
    levels = Degrade(noise=0)
    for seed in range(4):
        lr, _ = degrade(flat, track, 4, levels, seed=seed, name="a")
        assert torch.equal(lr, torch.full_like(lr, 128 / 255)), "also at the borders"


def test_noise_has_its_level_at_mid_grey_and_its_variance_follows_brightness() -> None:
    levels = Degrade(blur_px=0, noise=0.05, shift_px=0)
    std = {
        grey: degrade(torch.full((1, 3, 400, 400), grey), "mild", 4, levels, 0, "a")[0].std().item()
        for grey in (0.125, 0.5)
    }
    assert std[0.5] == pytest.approx(0.05, rel=0.03)
    assert std[0.125] == pytest.approx(0.025, rel=0.05)
    black, _ = degrade(torch.zeros(1, 3, 40, 40), "mild", 4, levels, 0, "a")
    assert torch.equal(black, torch.zeros_like(black))


def test_noise_does_not_change_the_mean() -> None:
    lr, _ = degrade(torch.full((1, 3, 400, 400), 0.5), "mild", 4, Degrade(blur_px=0, noise=0.05, shift_px=0), 0, "a")
    assert lr.mean().item() == pytest.approx(0.5, abs=2e-3)


def test_a_shift_moves_content_down_and_right_by_hr_px() -> None:
    hr = image(64, 64)
    levels = Degrade(blur_px=0, noise=0, shift_px=5)
    shifts = set()
    for name in "abcdefgh":
        lr, drawn = degrade(hr, "mild", 1, levels, 0, name)
        dy, dx = drawn["shift_px"]
        shifts.add((dy, dx))
        moved = torch.roll(hr, (dy, dx), (2, 3))
        assert torch.equal(lr[..., 5:-5, 5:-5], to_8bit_grid(moved)[..., 5:-5, 5:-5])
    assert len(shifts) > 4
    assert all(abs(d) <= 5 for shift in shifts for d in shift)


# --- what is drawn from what


def test_the_unknown_kernel_depends_on_the_seed_alone() -> None:
    hr = image(40, 40)
    one, _ = degrade(hr, "unknown", 4, LEVELS, 0, "a")
    other, _ = degrade(hr, "unknown", 4, LEVELS, 0, "b")
    assert torch.equal(one, other)
    assert not np.array_equal(unknown_kernel(9, 0), unknown_kernel(9, 1))


def test_mild_has_one_level_and_directions_of_its_own_for_each_image() -> None:
    drawn = [draw_parameters("mild", LEVELS, 0, name) for name in "abcd"]
    assert {(d["blur_px"], d["noise"]) for d in drawn} == {(LEVELS.blur_px, LEVELS.noise)}
    assert len({d["angle"] for d in drawn}) == 4


def test_wild_levels_are_spread_below_the_largest() -> None:
    drawn = [draw_parameters("wild", LEVELS, 0, f"{i}", v) for i in range(50) for v in range(4)]
    for key, largest in (("blur_px", LEVELS.blur_px), ("noise", LEVELS.noise)):
        values = np.array([d[key] for d in drawn])
        assert len(set(values)) == 200
        assert 0 <= values.min() < 0.1 * largest
        assert 0.9 * largest < values.max() <= largest
    assert {abs(s) for d in drawn for s in d["shift_px"]} == set(range(LEVELS.shift_px + 1))


@pytest.mark.parametrize("change", [{"seed": 1}, {"name": "b"}, {"variant": 1}, {"track": "wild"}])
def test_every_part_of_the_identity_changes_the_draw(change: dict[str, Any]) -> None:
    base: dict[str, Any] = {"track": "mild", "seed": 0, "name": "a", "variant": 0}
    assert draw_parameters(levels=LEVELS, **base)["angle"] != draw_parameters(levels=LEVELS, **(base | change))["angle"]


def test_draws_are_the_same_on_every_machine() -> None:
    """Golden: a change here makes every folder simulated so far differ."""
    assert draw_parameters("wild", LEVELS, 7, "0803", 1) == {
        "blur_px": 0.09868549822812578,
        "angle": 1.8549799589707778,
        "bend": -0.40919691770440436,
        "noise": 0.0070220318230980695,
        "shift_px": [-2, 2],
    }


# --- folders


def test_a_folder_is_named_as_div2k_names_it_and_records_everything(photos: Path, tmp_path: Path) -> None:
    assert make(photos, tmp_path / "wild", track="wild") == 12
    assert {p.name for p in (tmp_path / "wild").iterdir()} == {
        "degradations.json",
        *(f"{stem}x4w{i}.png" for stem in "abc" for i in (1, 2, 3, 4)),
    }
    record = json.loads((tmp_path / "wild/degradations.json").read_text())
    assert (record["seed"], record["track"], record["scale"]) == (0, "wild", 4)
    assert record["levels"] == {"blur_px": 9.0, "noise": 0.02, "shift_px": 4}
    four = [record["files"][f"ax4w{i}.png"] for i in (1, 2, 3, 4)]
    assert len({entry["parameters"]["blur_px"] for entry in four}) == 4
    assert {entry["hr"] for entry in four} == {"a.png"}
    assert {tuple(entry["hr_used_px"]) for entry in four} == {(48, 60)}

    make(photos, tmp_path / "mild")
    make(photos, tmp_path / "unknown", track="unknown", scale=2)
    assert {p.stem for p in (tmp_path / "mild").glob("*.png")} == {"ax4m", "bx4m", "cx4m"}
    assert {p.stem for p in (tmp_path / "unknown").glob("*.png")} == {"ax2", "bx2", "cx2"}
    kernel = json.loads((tmp_path / "unknown/degradations.json").read_text())["kernel"]
    np.testing.assert_array_equal(np.float32(kernel), unknown_kernel(9, 0))


def test_the_files_are_what_degrade_gives(photos: Path, tmp_path: Path) -> None:
    make(photos, tmp_path / "out", track="wild", seed=5)
    hr = torch.from_numpy(np.array(Image.open(photos / "b.png"))).permute(2, 0, 1)[None] / 255
    lr, _ = degrade(hr, "wild", 4, LEVELS, 5, "b", 2)
    written = np.array(Image.open(tmp_path / "out/bx4w3.png"))
    np.testing.assert_array_equal(written, (lr[0] * 255).round().permute(1, 2, 0).numpy())


def test_two_runs_give_the_same_bytes(photos: Path, tmp_path: Path) -> None:
    make(photos, tmp_path / "one")
    make(photos, tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_an_image_does_not_depend_on_its_neighbours(photos: Path, tmp_path: Path) -> None:
    make(photos, tmp_path / "all")
    (photos / "a.png").unlink()
    save(photos / "aa.png", texture(64, 64))
    make(photos, tmp_path / "some")
    assert (tmp_path / "all/cx4m.png").read_bytes() == (tmp_path / "some/cx4m.png").read_bytes()


def test_the_same_result_is_left_alone(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert make(photos, out) == 3
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert make(photos, out) == 0
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


def damage(out: Path, photos: Path, how: str) -> None:
    match how:
        case "changed":
            save(out / "ax4m.png", texture(12, 15))
        case "extra":
            (out / "holiday.png").write_bytes(b"mine")
        case "input":
            save(photos / "a.png", texture(50, 61, seed=9))
        case "new input":
            save(photos / "d.png", texture(50, 61))
        case "record":
            (out / "degradations.json").write_text("[]")


@pytest.mark.parametrize("how", ["changed", "extra", "input", "new input", "record"])
def test_anything_else_is_refused_and_replaced_only_on_request(photos: Path, tmp_path: Path, how: str) -> None:
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    make(photos, out)
    damage(out, photos, how)
    before = contents(out)
    with pytest.raises(InputError, match="--overwrite"):
        make(photos, out)
    assert contents(out) == before
    assert make(photos, out, overwrite=True) > 0
    make(photos, fresh)
    assert contents(out) == contents(fresh)


@pytest.mark.parametrize("change", [{"seed": 1}, {"track": "wild"}, {"levels": Degrade(noise=0.03)}, {"scale": 2}])
def test_other_settings_are_another_result(photos: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    make(photos, tmp_path / "out")
    with pytest.raises(InputError, match="--overwrite"):
        make(photos, tmp_path / "out", **change)


@pytest.mark.parametrize("track", ["unknown", "mild", "wild"])
def test_the_quality_of_another_track_is_no_setting_of_this_one(photos: Path, tmp_path: Path, track: str) -> None:
    """Nor was it recorded before there was a camera: those folders still hold the same result."""
    make(photos, tmp_path / "out", track=track)
    assert "jpeg_quality" not in (tmp_path / "out/degradations.json").read_text()
    assert make(photos, tmp_path / "out", track=track, levels=Degrade(jpeg_quality=30)) == 0


@pytest.mark.parametrize("content", [b"these are words, not pixels", b""])
def test_a_bad_image_is_named_and_nothing_is_left(photos: Path, tmp_path: Path, content: bytes) -> None:
    (photos / "b2.jpg").write_bytes(content)
    with pytest.raises(InputError, match=r"b2\.jpg"):
        make(photos, tmp_path / "deep/er/out")
    assert [path.name for path in tmp_path.iterdir()] == ["hr"]


def test_a_bad_image_does_not_cost_the_folder_that_was_to_be_replaced(photos: Path, tmp_path: Path) -> None:
    make(photos, tmp_path / "out")
    before = contents(tmp_path / "out")
    (photos / "z.png").write_bytes((photos / "a.png").read_bytes()[:500])
    with pytest.raises(InputError, match=r"z\.png"):
        make(photos, tmp_path / "out", overwrite=True)
    assert contents(tmp_path / "out") == before


def test_an_image_smaller_than_the_scale_is_named(photos: Path, tmp_path: Path) -> None:
    save(photos / "tiny.png", texture(3, 40))
    with pytest.raises(InputError, match=r"tiny\.png: 40 x 3 px .* at least 4 x 4"):
        make(photos, tmp_path / "out")


def test_names_that_would_clash_are_refused(photos: Path, tmp_path: Path) -> None:
    Image.fromarray(texture(50, 50)).save(photos / "a.jpg")
    with pytest.raises(InputError, match=r"a\.jpg and a\.png"):
        make(photos, tmp_path / "out")
    (photos / "a.jpg").unlink()
    save(photos / "ax4m.png", texture(50, 50))
    with pytest.raises(InputError, match=r"ax4m\.png"):
        make(photos, tmp_path / "out")


def test_overwriting_the_photographs_themselves_is_refused(photos: Path, tmp_path: Path) -> None:
    for out in (photos, tmp_path):
        with pytest.raises(InputError, match="contains the input"):
            make(photos, out, overwrite=True)
    assert len(list(photos.iterdir())) == 3


@pytest.mark.parametrize(
    ("levels", "key"),
    [
        (Degrade(blur_px=-1), "degrade.blur_px"),
        (Degrade(noise=float("nan")), "degrade.noise"),
        (Degrade(shift_px=-1), "degrade.shift_px"),
        (Degrade(shift_px=256), "degrade.shift_px"),
        (Degrade(jpeg_quality=0), "degrade.jpeg_quality"),
    ],
)
def test_levels_out_of_range_are_named(photos: Path, tmp_path: Path, levels: Degrade, key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        make(photos, tmp_path / "out", levels=levels)
    (broken,) = (name for name, value in asdict(levels).items() if value != asdict(Degrade())[name])
    with pytest.raises(ConfigError, match=key):  # a file or override is held to the same
        load(None, [f"{key}={getattr(levels, broken)}"])


def test_what_is_recorded_is_what_was_drawn(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "changing_track.py").write_text(
        "from cyclesr_dist.data.resize import bicubic_down, to_8bit_grid\n"
        "from cyclesr_dist.degradation.track import SimulatedTrack\n"
        "def apply(hr, scale, levels, parameters, draws):\n"
        "    return to_8bit_grid(bicubic_down(hr, scale) * parameters['of'].pop())\n"
        "DARK = SimulatedTrack(lambda levels, draws: {'of': [0.5]}, apply)\n"
    )
    monkeypatch.chdir(tmp_path)
    make(photos, tmp_path / "out", track="changing_track:DARK")
    files = json.loads((tmp_path / "out" / "degradations.json").read_text())["files"]
    assert [entry["parameters"] for entry in files.values()] == [{"of": [0.5]}] * len(files)
    assert make(photos, tmp_path / "out", track="changing_track:DARK") == 0


def test_an_unknown_track_names_the_allowed_ones(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'foggy' is unknown; allowed: unknown, mild, wild"):
        make(photos, tmp_path / "out", track="foggy")


# --- all or nothing


def test_what_a_kill_left_behind_is_replaced(photos: Path, tmp_path: Path) -> None:
    script = (
        "import pathlib, sys, time\n"
        "from cyclesr_dist.runtime.files import new_folder\n"
        "with new_folder(pathlib.Path(sys.argv[1]), overwrite=False) as folder:\n"
        "    (folder / 'half.png').write_bytes(b'half')\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
    )
    out = tmp_path / "out"
    with subprocess.Popen([sys.executable, "-c", script, str(out)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            with pytest.raises(InputError, match="another command is writing it"):
                make(photos, out)
        finally:
            process.send_signal(signal.SIGKILL)
    assert not out.exists()
    assert make(photos, out) == 3
    assert sorted(os.listdir(tmp_path)) == ["hr", "out"]
    assert "half.png" not in contents(out)


def test_an_interrupted_block_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with new_folder(tmp_path / "out", overwrite=False) as folder:
            (folder / "half.png").write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_named(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(InputError, match="out: is a file"):
        make(photos, tmp_path / "out")
    with pytest.raises(InputError, match="cannot be written"):
        make(photos, tmp_path / "out/below")


# --- the command


def test_the_command(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("scale: 2\ntrack: wild\ndegrade: {noise: 0.5, blur_px: 3}\n")
    argv = ("--hr", photos, "--out", tmp_path / "out", "--quiet")
    assert run_command(*argv, "--config", config, "--track", "mild", "--noise", "0.1", "--seed", "3") == 0
    assert "3 LR files" in capsys.readouterr().out
    record = json.loads((tmp_path / "out/degradations.json").read_text())
    assert (record["seed"], record["scale"], record["track"]) == (3, 2, "mild")
    assert record["levels"] == {"blur_px": 3.0, "noise": 0.1, "shift_px": 4}
    assert run_command(*argv, "--config", config, "--track", "mild", "--noise", "0.1", "--seed", "3") == 0
    assert "nothing to do" in capsys.readouterr().out
    assert run_command(*argv) == 2
    assert run_command(*argv, "--overwrite") == 0


def test_the_command_with_an_unknown_track(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("--hr", photos, "--out", tmp_path / "out", "--track", "foggy") == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert all(track in message for track in ("foggy", "unknown", "mild", "wild", "camera"))


@pytest.mark.parametrize("what", ["missing", "empty", "file"])
def test_the_command_without_photographs(tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str) -> None:
    hr = tmp_path / what
    if what == "empty":
        hr.mkdir()
    elif what == "file":
        hr.write_text("x")
    assert run_command("--hr", hr, "--out", tmp_path / "out", "--track", "mild") == 2
    assert capsys.readouterr().err.startswith(f"cyclesr: error: {hr}: ")
    assert not (tmp_path / "out").exists()
