"""`cyclesr fit` as a person runs it: begun, broken off, begun again, used."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers import write_photos
from helpers.waiting import until
from PIL import Image, ImageFilter

from cyclesr_dist.data.folders import list_images

pytestmark = pytest.mark.slow
FIT = (sys.executable, "-m", "cyclesr_dist.cli.main")


def two_folders(root: Path) -> tuple[Path, Path]:
    """Six sharp photographs and six blurred, noisy, small ones."""
    hr = write_photos(root / "hr", 6, 256, 320, seed=0)
    lr = write_photos(root / "clean", 6, 256, 320, seed=1)
    (root / "lr").mkdir()
    rng = np.random.default_rng(0)
    for path in list_images(lr):
        with Image.open(path) as image:
            small = image.filter(ImageFilter.GaussianBlur(4)).resize((80, 64), Image.Resampling.BICUBIC)
        noisy = np.asarray(small, float) + rng.normal(0, 8, (64, 80, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(root / "lr" / path.name)  # the names of hr
    return hr, root / "lr"


def test_from_two_folders_to_a_verdict_also_when_broken_off(tmp_path: Path) -> None:
    hr, lr = two_folders(tmp_path)
    run = tmp_path / "runs" / "mine"
    command = [*FIT, "fit", "--hr", str(hr), "--lr", str(lr), "--run-dir", str(run), "--hours", "0.02"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as first:
        until(lambda: (run / "metrics.jsonl").is_file() or first.poll() is not None, 300)
        first.send_signal(signal.SIGTERM)
        said, _ = first.communicate(timeout=300)
    assert first.returncode == 75, said
    assert not (run / "summary.json").exists()

    second = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert second.returncode == 0, second.stderr
    assert "used as it is" in second.stdout
    summary = json.loads((run / "summary.json").read_text())
    assert summary["completed"]
    assert summary["track"] is None
    tried = json.loads((run / "micro_batch.json").read_text())
    assert 1 <= tried["micro_batch"] <= tried["rank_batch"] == 8
    assert f"verdict: {summary['verdict']}" in second.stdout
    assert {"psnr_estimated", "psnr_estimated_bicubic"} <= summary["best"].keys()  # on photographs that were held back
    held = [path.stem for path in list_images(run / "photos" / "valid_lr")]
    assert [p.stem for p in list_images(run / "upscaled")] == held
    assert [p.stem for p in list_images(run / "upscaled" / "bicubic")] == held
    with Image.open(list_images(run / "upscaled")[0]) as enlarged:
        assert enlarged.size == (320, 256)
    assert (run / "report.html").is_file()

    config = yaml.safe_load((run / "fit.yaml").read_text())
    assert config["train"]["steps"] == summary["steps"]
    dry = [*FIT, "train", "--config", str(run / "fit.yaml"), "--run-dir", str(tmp_path / "other"), "--dry-run"]
    assert subprocess.run(dry, capture_output=True, check=False, cwd=tmp_path).returncode == 0

    (hr / "photo0.png").unlink()
    third = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert third.returncode == 2
    assert "begun with other photographs" in third.stderr


def test_bad_input_ends_at_once_with_one_line(tmp_path: Path) -> None:
    hr, lr = two_folders(tmp_path)
    (tmp_path / "empty").mkdir()
    for arguments, said in (
        (["--hr", str(tmp_path / "none"), "--lr", str(lr)], "none"),
        (["--hr", str(hr), "--lr", str(tmp_path / "empty")], "empty"),
        (["--hr", str(hr), "--lr", str(lr), "--hours", "-1"], "--hours"),
    ):
        command = [*FIT, "fit", *arguments, "--run-dir", str(tmp_path / "run")]
        found = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
        assert found.returncode == 2, found.stderr
        assert said in found.stderr.splitlines()[-1]
        assert not (tmp_path / "run").exists()
