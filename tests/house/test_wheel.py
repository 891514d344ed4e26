"""The wheel works without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_wheel_trains_renders_and_prepares_the_demo_elsewhere(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for config in ("demo", "own_photos"):
        assert any(name.endswith(f"configs/{config}.yaml") for name in names)
    assert not [name for name in names if name.startswith(("tests", "launch", "runs"))]

    # A fresh environment with the wheel, which borrows the dependencies of this one.
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    borrowed = next(path for path in sys.path if path.endswith("site-packages"))
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    assert subprocess.run(install, check=False).returncode == 0
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (site / "borrowed.pth").write_text(f"{borrowed}\n")

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        path = f"{python.parent}:{Path(sys.executable).parent}:{clean['PATH']}"
        environment = clean | {"PATH": path, "DS_ACCELERATOR": "cpu"}
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir(exist_ok=True)
        return subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=False)

    where = run(str(python), "-c", "import cyclesr_dist; print(cyclesr_dist.__file__)").stdout
    assert where.startswith(str(tmp_path / "venv"))
    cyclesr = str(python.with_name("cyclesr"))
    config = str(tmp_path / "venv" / "share" / "cyclesr-dist" / "configs" / "demo.yaml")
    quiet = ("--config", config, "--quiet")
    for command in (
        [cyclesr, "demo", "--data-only", "--quiet"],
        [str(python), "-m", "cyclesr_dist.training", *quiet, "backend=single", "train.max_steps=2"],
        [cyclesr, "report", "runs/demo"],
        [str(python), "-m", "cyclesr_dist.kubernetes", "--config", config, "--dry-run"],
    ):
        done = run(*command)
        assert done.returncode == 0, f"{command}: {done.stdout[-1500:]} {done.stderr[-1500:]}"
    assert (tmp_path / "elsewhere/runs/demo/model.safetensors").is_file()
