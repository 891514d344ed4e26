"""Large photographs in little memory: an estimate first, one clear line where it does not fit, a peak that is flat."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cyclesr_dist.config.schema import SRNet
from cyclesr_dist.data.images import write_png
from cyclesr_dist.data.photo.kinds import Head
from cyclesr_dist.models.model_file import save_model
from cyclesr_dist.models.strip_memory import need_bytes
from cyclesr_dist.models.upscaler import BicubicUpscaler
from cyclesr_dist.nets.build import build_sr

MB = 2**20
WITHIN = """
import resource, sys
import torch, imagecodecs
import cyclesr_dist.models.infer, cyclesr_dist.models.upscale_files, cyclesr_dist.models.flat_colours
from cyclesr_dist.cli.main import main
from cyclesr_dist.workflows.bench.processes import resident_mb
torch.set_num_threads(1)
if limit := int(sys.argv[1]):
    taken = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize"))
    resource.setrlimit(resource.RLIMIT_AS, (taken * 1024 + limit, taken * 1024 + limit))
begin = resident_mb("VmRSS")
try:
    sys.exit(main(sys.argv[2:]))
finally:
    print("peak", resident_mb("VmHWM") - begin, resident_mb("VmHWM"))
"""
"""A command that may take so many bytes of address space more than its imports; 0: as many as it likes."""


def upscale(*words: object, limit: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHIN, str(limit), "upscale", *map(str, words), "--quiet"]
    # One arena, or the C library would ask for 64 MB of addresses for each thread.
    env = {**os.environ, "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=1200)


def flat(path: Path, height: int, width: int) -> Path:
    path.parent.mkdir(exist_ok=True)
    write_png(path, np.full((height, width, 3), 90, np.uint8))
    return path


def test_one_that_does_not_fit_is_named_and_the_others_are_done(tmp_path: Path) -> None:
    flat(tmp_path / "in" / "large.png", 1500, 1500)
    flat(tmp_path / "in" / "small.png", 20, 20)
    done = upscale(*(tmp_path / "in", "--model", "bicubic", "--out", tmp_path / "out", "--tile", 1024), limit=200 * MB)
    assert done.returncode == 1, done.stderr
    line, last = done.stderr.splitlines()
    pattern = (
        r"large.png: 2.2 megapixels, enlarged x4, needs about \d\.\d GB of memory, and \d+(\.\d G| M)B are free; "
        r"--tile (128|64) fits \(about \d+(\.\d G| M)B\)"
    )
    assert re.fullmatch(pattern, line), line
    assert last == "1 of 2 images failed"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["small.png"]


@pytest.mark.slow
def test_photographs_of_one_size_all_fit_or_none(tmp_path: Path) -> None:
    """What the first one leaves with the process is there for the next one."""
    for number in range(3):
        flat(tmp_path / "in" / f"{number}.png", 1000, 1000)
    codes = set()
    for limit in (200, 290, 300, 310, 320, 500):
        out = tmp_path / str(limit)
        done = upscale(tmp_path / "in", "--model", "bicubic", "--out", out, limit=limit * MB)
        codes.add(done.returncode)
        assert len(list(out.iterdir())) == (0 if done.returncode else 3), done.stderr
    assert codes == {0, 1}


def test_a_file_alone_in_one_piece(tmp_path: Path) -> None:
    source = flat(tmp_path / "in" / "large.png", 1500, 1500)
    words = (source, "--model", "bicubic", "--out", tmp_path / "out")
    done = upscale(*words, "--tile", 0, limit=200 * MB)
    assert done.returncode == 1
    assert done.stderr.startswith(f"cyclesr: error: {source}: 2.2 megapixels, enlarged x4, needs about ")
    assert done.stderr.count("\n") == 1
    assert not list((tmp_path / "out").iterdir())
    tile = re.search(r"--tile (\d+) fits", done.stderr)
    assert tile
    done = upscale(*words, "--tile", tile[1], limit=200 * MB)  # as the line says
    assert done.returncode == 0, done.stderr


def test_where_no_tile_helps(tmp_path: Path) -> None:
    source = flat(tmp_path / "in" / "large.png", 2000, 2000)
    done = upscale(source, "--model", "bicubic", "--out", tmp_path / "out", limit=100 * MB)
    assert done.returncode == 1
    assert "no --tile makes it fit; more memory, or a smaller photograph, is needed" in done.stderr


def test_what_was_not_foreseen_is_one_line_too(tmp_path: Path) -> None:
    source = flat(tmp_path / "in" / "small.png", 300, 300)  # so small that nothing is estimated
    done = upscale(source, "--model", "bicubic", "--scale", 16, "--out", tmp_path / "out", limit=100 * MB)
    assert done.returncode == 1, done.stderr
    assert done.stderr == (
        f"cyclesr: error: {source}: 0.1 megapixels, enlarged x16, needs more memory than is free; "
        "a smaller --tile may help\n"
    )
    assert not list((tmp_path / "out").iterdir())


def test_the_estimate_grows_with_what_is_held() -> None:
    low, high, wide = (
        need_bytes(BicubicUpscaler(4), Head(width, height), 0, None).host
        for width, height in ((2000, 2000), (2000, 4000), (4000, 2000))
    )
    assert high - low < 1.1 * 2.4 * 3 * 2000 * 2000 + MB  # the picture alone
    assert wide - low > 2 * 3 * 16 * 256 * 2000  # and strips that are wider


def tiny_network(folder: Path) -> Path:
    sr = SRNet("compact", 8, 1, bicubic_skip=True)
    save_model(folder / "model.safetensors", build_sr(sr, 4).state_dict(), sr, 4, {})
    return folder / "model.safetensors"


def noisy(path: Path, height: int, width: int) -> Path:
    rng = np.random.default_rng(0)
    block = rng.integers(0, 256, (50, width, 3), dtype=np.uint8)
    write_png(path, np.tile(block, (height // 50, 1, 1)))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("model", ["bicubic", "network"])
def test_the_peak_is_flat_in_the_height_and_100_megapixels_stay_below_2_gb(tmp_path: Path, model: str) -> None:
    width = 10_000
    name = str(tiny_network(tmp_path)) if model == "network" else "bicubic"
    peaks, whole = [], 0.0
    for height in (800, 1600):  # two whole strips at the least: one is made while another is packed
        source = noisy(tmp_path / f"{height}.png", height, width)
        done = upscale(source, "--model", name, "--out", tmp_path / "out")
        assert done.returncode == 0, done.stderr
        taken, whole = map(float, done.stdout.splitlines()[-1].split()[1:])
        peaks.append(taken - 2 * 3 * height * width / MB)  # the picture, and its file of noise
    assert peaks[1] < 1.1 * peaks[0]
    # 10,000 x 10,000 px: the picture and what decoders hold of it besides, which the slow decoders of the others bound.
    assert whole + 2.4 * 3 * (10_000 - 1600) * width / MB < 2048
