"""The commands of the documents are run, in their order, on small photographs and with little time.

tests/house/test_documented_commands.py looks at the words of all of them; here it is seen that they do something.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module, resources
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import tiny_overrides
from helpers.documents import REPOSITORY, Command, shown
from helpers.other_projects import RRDBNet
from PIL import Image

from cyclesr_dist.cli.launch import SCRIPTS
from cyclesr_dist.cli.main import main as cyclesr
from cyclesr_dist.workflows.fit import main as fit

NOT_RUN = {
    "source .venv/bin/activate": "of the shell",
    "pip install": "downloads torch; make takes the same steps, and tests/house/test_wheel.py installs the package",
    "make": "this test is part of them; tests/workflows/test_demo.py runs the demo",
    "cyclesr table --config configs/table_paper.yaml": "DIV2K, and weeks of GPU time",
    "cyclesr ablate": "trains as the table does; tests/workflows/test_table.py runs one",
    "cyclesr bench estimate": "minutes; tests/workflows/test_bench_estimate.py has small cases",
    "python examples/first_hour.py": "several fits of minutes; tests/workflows/test_fit_command.py has small ones",
    "cyclesr supervise": "tests/runtime/test_survival.py runs it under every launcher",
    "python launch/tune.py": "Ray takes half a minute to begin; tests/search/test_searches.py runs searches",
    "deepspeed --num_gpus": "GPUs; tests/distributed/test_launchers.py has deepspeed on CPUs",
    "deepspeed --hostfile": "two machines; tests/runtime/test_multi_node.py has two hosts",
    "torchrun --nnodes 2": "two machines; the same",
    "srun": "a Slurm cluster",
    "docker": "builds the image; tests/house/test_image.py runs its steps",
    "kind": "a cluster",
    "kubectl": "a cluster",
    "sky": "a cloud; tests/runtime/test_skypilot.py runs the file's script",
    "cyclesr bench all": "a GPU; tests/workflows/test_bench.py has it in small",
}
"""What cannot be run on a laptop in seconds, by its first words, and why."""
FEW_STEPS = ["train.max_steps=2", "train.validate_every_steps=2"]
SMALL_BATCH = ["global_batch=4", "data.workers=0"]
SMALL_RUN = [*tiny_overrides(), *FEW_STEPS, "data.workers=0"]
ONE_RUN = ["seeds=[0]", "tracks.mild=null", "tracks.wild=null", "tracks.camera=null", "run.train.steps=2"]
OF_WEIGHTS = ["nets.sr.channels=8", "nets.sr.blocks=1"]
"""In the place of RealESRGAN_x4plus, which has 64 and 23."""
SHRUNK = {
    "cyclesr shards build": ["shards.patch=16", "shards.stride=16"],
    "cyclesr train --config configs/own_photos.yaml --run-dir runs/mysr": [*FEW_STEPS, *SMALL_BATCH],
    "cyclesr train --config configs/own_photos.yaml --run-dir runs/gan": [*FEW_STEPS, *SMALL_BATCH, *OF_WEIGHTS],
    "cyclesr train --config configs/own_photos.yaml": [*FEW_STEPS, *SMALL_BATCH, "nets.sr.channels=8"],
    "cyclesr train --config runs/jpeg/fit.yaml": FEW_STEPS,
    "cyclesr table": [*ONE_RUN, "run.train.validate_every_steps=2", "systems=[bicubic,sr_syn]"],
    "torchrun": [*SMALL_RUN, "precision=fp32", "data.valid_hr=", "data.valid_lr="],
    "python launch/submit.py": ["--dry-run"],
    "cyclesr bench upscale": ["--sides", "64", "--rounds", "1"],
    "cyclesr bench checkpoint": ["--rounds", "1", *tiny_overrides()],
    "cyclesr bench scaling": ["--rounds", "1", *tiny_overrides()],
}
"""What is added to commands, by their first words, so that they take seconds; the first that fits."""
INSTEAD = {
    "--hours": "0.01",
    "--nproc-per-node": "1",
    "--delete": None,
    "--dry-run": None,  # is added
}
"""Values of options that stand in the place of the documented ones; None: the option goes."""
NETWORK = """
from torch import nn


class MySR(nn.Sequential):
    def __init__(self, width, upscale):
        super().__init__(nn.Conv2d(3, 3 * upscale**2, 3, padding=1), nn.PixelShuffle(upscale))
"""
_NAMES = ("estimate", "guide", "kubernetes", "monitoring", "performance", "reliability", "search")
PAGES = ["README.md", *(f"docs/{name}.md" for name in _NAMES)]
"""docs/extending.md is run by test_extending.py; tables of docs/results.md take hours, and README has one of them.
It has the commands of docs/weights.md, too."""


def of_page(page: str) -> list[Command]:
    return [command for command in shown(REPOSITORY / page) if command.whole]


def first_words(command: Command, names: dict[str, object]) -> str | None:
    text = " ".join(command.words) + " "
    return next((name for name in names if text.startswith(f"{name} ")), None)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small parts of the bundled ones: sharp, shrunk and noisy, and the pairs of four."""
    root = tmp_path_factory.mktemp("photographs")
    folders = {name: root / name for name in ("photos", "hr", "lr", "test_hr", "test_lr")}
    for folder in folders.values():
        folder.mkdir()
    noise = np.random.default_rng(0)
    bundled = sorted(Path(str(resources.files("cyclesr_dist.workflows") / "demo_photos")).glob("*.webp"))
    for index, path in enumerate(bundled):
        with Image.open(path) as image:
            sharp = image.convert("RGB").crop((0, 0, 320, 256))
        small = np.asarray(sharp.resize((80, 64), Image.Resampling.BICUBIC), np.float64)
        noisy = Image.fromarray((small + noise.normal(0, 8, small.shape)).clip(0, 255).astype(np.uint8))
        sharp.save(folders["photos"] / f"{path.stem}.png")
        if index % 2:
            noisy.save(folders["lr"] / f"{path.stem}.png")
        else:
            sharp.save(folders["hr"] / f"{path.stem}.png")
        if index < 2:
            sharp.save(folders["test_hr"] / f"{path.stem}.png")
            noisy.save(folders["test_lr"] / f"{path.stem}.png")
    return folders


@pytest.fixture
def desk(photographs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with what the documents name: the project's files, photographs, a network of the reader's own."""
    for name in ("configs", "docs", "examples", "launch"):
        shutil.copytree(REPOSITORY / name, tmp_path / name)
    for name, source in (("hr", "hr"), ("lr", "lr"), ("photos", "photos"), ("PHOTOS", "photos"), ("folder", "lr")):
        shutil.copytree(photographs[source], tmp_path / name)
    shutil.copytree(photographs["test_hr"], tmp_path / "test")
    for name in ("hr", "lr"):
        shutil.copytree(photographs[f"test_{name}"], tmp_path / "test" / name)
    with Image.open(next(iter((tmp_path / "lr").iterdir()))) as image:
        image.save(tmp_path / "photo.jpg")
    torch.save({"params_ema": RRDBNet(8, 1, 4).state_dict()}, tmp_path / "RealESRGAN_x4plus.pth")
    (tmp_path / "mypackage").mkdir()
    (tmp_path / "mypackage" / "nets.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")])))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    known = set(sys.modules)
    yield tmp_path
    for name in [name for name in sys.modules if name not in known and name.split(".")[0] == "mypackage"]:
        del sys.modules[name]
    if str(tmp_path) in sys.path:
        sys.path.remove(str(tmp_path))


def shrunk(command: Command, desk: Path) -> list[str]:
    """The words that are given: little time, few steps, folders in the place of buckets and of other disks."""
    words: list[str] = []
    behind = ""
    for word in command.words:
        if behind in INSTEAD and INSTEAD[behind] is not None:
            word = str(INSTEAD[behind])
        behind = word
        if word in INSTEAD and INSTEAD[word] is None:
            continue
        word = word.replace("s3://bucket", f"file://{desk}/bucket")
        for root in ("/local", "/shared", "/tmp"):
            word = word.replace(f"={root}/", f"={desk}{root}/") if "=" in word else word
        words.append(f"{desk}{word}" if word.startswith("/tmp/") else word)
    more = first_words(command, SHRUNK)
    words += SHRUNK[more] if more else []
    own_data = "configs/demo.yaml" in words or any(word.startswith("data.hr=") for word in words)
    if "torchrun" in words and not own_data:
        words += ["data.hr=data/mine/hr", "data.lr=data/mine/lr"]
    return words


def give(words: list[str]) -> int:
    """Run it, and return its exit code. What needs no launcher runs here, which saves importing torch each time."""
    print("$", shlex.join(words), flush=True)
    if words[0] == "cyclesr" and words[1] != "supervise":
        return cyclesr(words[1:])
    script = Path(words[1]).stem if words[0] == "python" and words[1].startswith("launch/") else ""
    if script:
        return int(import_module(SCRIPTS[script]).main(words[2:]))
    programs = {"python": [sys.executable], "cyclesr": [sys.executable, "-m", "cyclesr_dist.cli.main"]}
    beside = Path(sys.executable).parent
    programs["torchrun"] = [str(beside / "torchrun")]
    words = [str(beside / word) if word == "torchrun" and index else word for index, word in enumerate(words)]
    return subprocess.run([*programs[words[0]], *words[1:]], timeout=300, check=False).returncode


def run_here(arguments: list[str], launcher: Sequence[str] = ()) -> None:
    """What `cyclesr fit` starts, without importing torch again for each."""
    assert not launcher
    assert cyclesr(arguments) == 0


def demo_run() -> None:
    """What `make demo` leaves, after one step."""
    assert cyclesr(["demo", "--data-only", "--quiet", "shards.stride=24"]) == 0
    settings = ["backend=single", "train.max_steps=1", "train.validate_every_steps=0", "shards.stride=24"]
    assert cyclesr(["train", "--config", "configs/demo.yaml", "--run-dir", "runs/demo", "--quiet", *settings]) == 0
    assert cyclesr(["export", "--model", "runs/demo", "--format", "onnx", "--out", "demo.onnx"]) == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", [page for page in PAGES if of_page(page)])
def test_the_commands_of_a_page_work_one_after_the_other(
    page: str, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_spec("onnx") is None or find_spec("onnxruntime") is None:
        pytest.skip("ONNX is not installed")
    if page == "docs/performance.md":
        demo_run()
    if page != "README.md":  # whose `cyclesr fit` starts its commands as a user's does
        monkeypatch.setattr(fit, "run", run_here)
    for command in of_page(page):
        if first_words(command, NOT_RUN) is None and not command.variables:
            assert give(shrunk(command, desk)) == 0, str(command)


def test_everything_that_is_not_run_stands_in_a_document() -> None:
    found = {first_words(command, NOT_RUN) for page in PAGES for command in of_page(page)}
    assert found - {None} == set(NOT_RUN)
    found = {first_words(command, SHRUNK) for page in PAGES for command in of_page(page)}
    assert found - {None} == set(SHRUNK)
    tests = [name for reason in NOT_RUN.values() for name in re.findall(r"tests/[\w/]+\.py", reason)]
    assert [name for name in tests if not (REPOSITORY / name).is_file()] == []
