"""`cyclesr demo` on the bundled photographs, shortened."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cyclesr_dist.data.folders import list_images
from cyclesr_dist.data.images import read_rgb8
from cyclesr_dist.workflows.demo import split_photos, verdict

REPOSITORY = Path(__file__).parents[2]
PHOTOS = REPOSITORY / "cyclesr_dist/workflows/demo_photos"


def demo(run_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("cyclesr")), "demo", "--quiet", "--run-dir", str(run_dir), *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_trains_scores_and_reuses(tmp_path: Path) -> None:
    short = ["train.max_steps=40", "train.pretrain_epochs=0", "train.validate_every_steps=20"]
    first = demo(tmp_path / "demo", *short)
    assert first.returncode == 0, first.stdout + first.stderr
    summary = json.loads((tmp_path / "demo/summary.json").read_text())
    assert list(summary["table"]) == ["bicubic", "sr_syn", "cyclesr", "sr_paired"]
    assert all(15 < row["psnr"] < 40 and 0 < row["ssim"] < 1 for row in summary["table"].values())
    assert summary["verdict"] in first.stdout
    assert len(list((tmp_path / "demo/comparisons").glob("*.png"))) == 3
    assert (tmp_path / "demo/report.html").exists()
    assert (tmp_path / "demo/model.safetensors").exists()

    model = (tmp_path / "demo/model.safetensors").stat()
    second = demo(tmp_path / "demo", *short)
    assert second.returncode == 0
    assert second.stdout.count("is complete: reused") == 3
    assert (tmp_path / "demo/model.safetensors").stat().st_mtime_ns == model.st_mtime_ns

    other = demo(tmp_path / "demo", *short, "weights.mse=21")
    assert other.returncode == 2
    assert "other settings" in other.stderr


def test_the_regions_share_no_pixel(tmp_path: Path) -> None:
    split_photos(list_images(PHOTOS), tmp_path / "data")
    parts = {p.name: sorted(f.stem for f in p.iterdir()) for p in (tmp_path / "data").iterdir() if p.is_dir()}
    assert {name: len(stems) for name, stems in parts.items()} == {
        "train_hr": 9,
        "train_lr_clean": 9,
        "valid_hr": 2,
        "test_hr": 3,
    }
    assert parts["train_hr"] == parts["train_lr_clean"]
    assert not set(parts["valid_hr"]) & set(parts["test_hr"])
    assert not (set(parts["valid_hr"]) | set(parts["test_hr"])) & set(parts["train_hr"])
    for stem in parts["train_hr"]:
        halves = [read_rgb8(tmp_path / "data" / part / f"{stem}.png") for part in ("train_hr", "train_lr_clean")]
        assert np.array_equal(np.concatenate(halves, axis=1), read_rgb8(PHOTOS / f"{stem}.webp"))


def test_the_verdict_says_who_won() -> None:
    def table(bicubic: float, syn: float, own: float) -> dict[str, dict[str, float]]:
        rows = {"bicubic": bicubic, "sr_syn": syn, "cyclesr": own}
        return {name: {"psnr": psnr, "ssim": 0.5} for name, psnr in rows.items()}

    assert verdict(table(20, 19, 21), "cyclesr").startswith("cyclesr is the best without pairs: +1.00 dB to bicubic")
    assert verdict(table(20, 19, 19.5), "cyclesr").startswith("bicubic is better than cyclesr")
    assert verdict(table(20, 20.5, 20.2), "cyclesr").startswith("sr_syn is better than cyclesr")


def test_the_verdict_says_how_near_it_comes_to_the_network_that_needs_pairs() -> None:
    rows = {"bicubic": (20, 22), "sr_syn": (19, 21), "cyclesr": (22, 23.2), "sr_paired": (23, 25)}
    table = {name: {"psnr": psnr, "ssim": 0.5, "psnr_y": luma} for name, (psnr, luma) in rows.items()}
    assert "by 75% in colour and 55% in luma" in verdict(table, "cyclesr")
    table["sr_paired"]["psnr"] = 18
    assert "by 55% in luma" in verdict(table, "cyclesr")
