"""`cyclesr upscale` of folders: bad files end nothing, calling again goes on, foreign files stay."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.many_photos import photographs
from PIL import Image

from cyclesr_dist.cli.main import main
from cyclesr_dist.config.schema import SRNet
from cyclesr_dist.data.images import read_rgb8
from cyclesr_dist.models.model_file import save_model
from cyclesr_dist.nets.build import build_sr
from cyclesr_dist.runtime.tally import LIST_FILE, MOST_LINES


def upscale(*words: object) -> int:
    return main(["upscale", *map(str, words), "--quiet"])


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}


def test_a_thousand_files_of_which_twenty_are_bad(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = photographs(tmp_path / "in", 980, bad=20), tmp_path / "out"
    words = (folder, "--model", "bicubic", "--scale", 2, "--out", out)
    assert upscale(*words) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[0] for line in lines[:-1]] == [f"bad{number:02d}.jpg" for number in range(20)]
    assert {line.partition(": ")[2] for line in lines[1:-1]} == {"cannot be read as an image (is cut short)"}
    assert lines[-1] == "20 of 1,000 images failed"
    made = stamps(out)
    assert len(made) == 980

    shutil.copy(folder / "p0000.png", folder / "bad00.jpg")  # mended, whatever its suffix says
    assert upscale(*words) == 1
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 20
    assert "981 images" in said.out
    assert "980 of them from an earlier call" in said.out
    after = stamps(out)
    assert after.keys() - made.keys() == {"bad00.png"}
    assert {name: after[name] for name in made} == made


def test_a_long_list_is_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = photographs(tmp_path / "in", 1, bad=MOST_LINES + 1)
    assert upscale(folder, "--model", "bicubic", "--out", tmp_path / "out") == 1
    assert LIST_FILE in capsys.readouterr().err.splitlines()[-1]
    assert len((tmp_path / "out" / LIST_FILE).read_text().splitlines()) == MOST_LINES + 1


def test_all_bad_is_1_and_a_single_bad_file_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = photographs(tmp_path / "in", 0, bad=2)
    assert upscale(folder, "--model", "bicubic", "--out", tmp_path / "out") == 1
    assert upscale(*sorted(folder.iterdir()), "--model", "bicubic", "--out", tmp_path / "out") == 1
    capsys.readouterr()
    assert upscale(folder / "bad01.jpg", "--model", "bicubic", "--out", tmp_path / "out") == 2
    assert "bad01.jpg" in capsys.readouterr().err


class TestOrigin:
    @pytest.fixture
    def made(self, tmp_path: Path) -> tuple[Path, Path]:
        folder, out = photographs(tmp_path / "in", 2), tmp_path / "out"
        assert upscale(folder, "--model", "bicubic", "--out", out) == 0
        return folder, out

    def again(self, folder: Path, out: Path, *more: object, model: object = "bicubic") -> int:
        return upscale(folder, "--model", model, "--out", out, *more)

    def test_another_model_source_or_program(
        self, made: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder, out = made
        before = stamps(out)
        sr = SRNet("compact", 4, 1, bicubic_skip=True)
        for name in ("one", "two"):
            save_model(tmp_path / f"{name}.safetensors", build_sr(sr, 4).state_dict(), sr, 4, {})
        for model, more in (("bicubic", ("--scale", 2)), (tmp_path / "one.safetensors", ())):
            assert self.again(folder, out, *more, model=model) == 1
            assert capsys.readouterr().err.count("is there and is of another model; --overwrite replaces it") == 2
        assert stamps(out) == before

        shutil.copy(folder / "p0001.png", folder / "p0000.png")
        Image.new("RGB", (9, 9)).save(out / "p0001.png")
        assert self.again(folder, out) == 1
        err = capsys.readouterr().err
        assert "p0000.png: is there and is of another photograph" in err
        assert "p0001.png: is there and was not made by cyclesr upscale" in err
        assert self.again(folder, out, "--overwrite") == 0
        assert self.again(folder, out) == 0
        assert np.array_equal(read_rgb8(out / "p0000.png"), read_rgb8(out / "p0001.png"))

        assert self.again(folder, out, "--overwrite", model=tmp_path / "one.safetensors") == 0
        assert self.again(folder, out, model=tmp_path / "two.safetensors") == 1

    def test_it_moves_with_the_file(self, made: tuple[Path, Path], tmp_path: Path) -> None:
        folder, out = made
        folder, out = folder.rename(tmp_path / "elsewhere"), out.rename(tmp_path / "moved")
        before = stamps(out)
        assert self.again(folder, out) == 0
        assert stamps(out) == before

    @pytest.mark.parametrize("keep", [0.3, 0.99])
    def test_a_damaged_result_is_no_result(self, made: tuple[Path, Path], keep: float) -> None:
        folder, out = made
        data = (out / "p0000.png").read_bytes()
        (out / "p0000.png").write_bytes(data[: int(len(data) * keep)])
        assert self.again(folder, out) == 1
        (out / "p0000.png").write_bytes(data[:40] + data[60:])  # its record is whole
        assert self.again(folder, out) == 1
        assert self.again(folder, out, "--overwrite") == 0
        assert (out / "p0000.png").read_bytes() == data

    def test_a_folder_in_the_way(self, made: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
        folder, out = made
        (out / "p0000.png").unlink()
        (out / "p0000.png").mkdir()
        assert self.again(folder, out, "--overwrite") == 1
        assert "p0000.png: is a folder" in capsys.readouterr().err


def test_sub_folders_keep_their_layout_and_results_are_no_inputs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = photographs(tmp_path / "in", 1)
    photographs(root / "2023" / "05", 2)
    words = (root, "--model", "bicubic", "--out", root / "big")
    assert upscale(*words) == 0
    assert "sub-folders with photographs, which --recursive enters" in capsys.readouterr().err
    for _ in range(2):
        assert upscale(*words, "--recursive") == 0
        found = sorted(path.relative_to(root / "big").as_posix() for path in (root / "big").rglob("*.png"))
        assert found == ["2023/05/p0000.png", "2023/05/p0001.png", "p0000.png"]


KILLED = """
import os, sys
from pathlib import Path
from cyclesr_dist.runtime.files import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b"half")
    os.kill(os.getpid(), 9)
"""


def test_what_a_killed_call_left_half_written_is_removed_by_the_next_one(tmp_path: Path) -> None:
    root, out = photographs(tmp_path / "in", 1), tmp_path / "out"
    photographs(root / "2023" / "05", 1)
    for folder in (out, out / "2023" / "05"):
        folder.mkdir(parents=True)
        subprocess.run([sys.executable, "-c", KILLED, str(folder / "p0000.png")], check=False)
        assert len(os.listdir(folder)) > 0
    assert upscale(root, "--model", "bicubic", "--out", out, "--recursive") == 0
    left = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert left == ["2023/05/p0000.png", "p0000.png"]


def test_two_of_one_name_in_a_folder_fail_and_the_others_are_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = photographs(tmp_path / "in", 3)
    for name in ("p0000.bmp", "P0001.png"):
        shutil.copy(folder / "p0002.png", folder / name)
    assert upscale(folder, "--model", "bicubic", "--out", tmp_path / "out") == 1
    assert "p0000.bmp and" in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path / "out")) == ["P0001.png", "p0001.png", "p0002.png"]


def test_the_longest_names(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "in", 1)
    for stem in ("n" * 251, "é" * 125):
        shutil.copy(folder / "p0000.png", folder / f"{stem}.png")
    assert upscale(folder, "--model", "bicubic", "--out", tmp_path / "out") == 0
    assert len(os.listdir(tmp_path / "out")) == 3
