"""Every command that reads folders of photographs takes a pattern in the place of a folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import tiny_overrides
from helpers.datasets import write_realsr
from PIL import Image

from cyclesr_dist import load_model, score
from cyclesr_dist.cli.main import main
from cyclesr_dist.config.schema import load
from cyclesr_dist.distributed.world import World
from cyclesr_dist.errors import InputError
from cyclesr_dist.training.validation_set_up import open_validator
from cyclesr_dist.workflows.fit.photos import check_apart, look

HR, LR = "RealSR(V3)/*/Train/4/*_HR.png", "RealSR(V3)/*/Train/4/*_LR4.png"
NUMBERS = ("001", "002", "003", "004", "010")


@pytest.fixture
def realsr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_realsr(tmp_path) / "RealSR(V3)"


def below(folder: str) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*.png"))


def test_results_of_a_pattern_lie_as_its_files_do(realsr: Path) -> None:
    expected = [f"{camera}/Test/4/{camera}_{number}" for camera in ("Canon", "Nikon") for number in NUMBERS[:2]]
    quiet = ["--quiet", "--out"]
    assert main(["degrade", "--hr", "RealSR(V3)/*/Test/4/*_HR.png", "--track", "mild", *quiet, "lr"]) == 0
    assert below("lr") == [f"{name}_HRx4m.png" for name in expected]
    assert main(["upscale", "RealSR(V3)/*/Test/4/*_LR4.png", "--model", "bicubic", *quiet, "big"]) == 0
    assert below("big") == [f"{name}_LR4.png" for name in expected]


def test_python_scores_patterns(realsr: Path) -> None:
    of_pairs = score(LR, HR, model=load_model("bicubic"))["psnr"]
    one = score(LR.replace("*_", "Canon_001_"), HR.replace("*_", "Canon_001_"), model=load_model("bicubic"))["psnr"]
    assert abs(of_pairs - one) < 5
    assert score(HR, HR)["psnr"] == float("inf")


def test_fit_sees_photographs_of_one_scene(realsr: Path) -> None:
    with pytest.raises(InputError, match=r"_HR\.png and .*_LR4\.png show the same, and so do 9 more"):
        check_apart(look(Path(HR), 4, "hr"), look(Path(LR), 4, "lr"))
    shutil.copy(realsr / "Canon/Train/4/Canon_001_HR.png", realsr / "Nikon/Train/4")
    with pytest.raises(InputError, match=r"--hr .*Canon_001_HR\.png have the same name"):
        look(Path(HR), 4, "hr")


def test_a_training_validates_on_the_pairs_of_patterns(realsr: Path) -> None:
    def pairs(hr: str, lr: str) -> list[tuple[str, str]]:
        config = load(None, [*tiny_overrides(), f"data.valid_hr={hr}", f"data.valid_lr={lr}"])
        return [(pair.hr.name, pair.lr.name) for pair in open_validator(config, World()).pairs]

    names = [f"{camera}_{number}" for camera in ("Canon", "Nikon") for number in NUMBERS]
    assert pairs(HR, LR) == [(f"{name}_HR.png", f"{name}_LR4.png") for name in names]
    assert pairs("RealSR(V3)/Nikon/Train/4/*_HR.png", "RealSR(V3)/Canon/Train/4/*_LR4.png") == []


def test_a_training_whose_lr_is_as_large_as_hr_is_refused_before_it_begins(tmp_path: Path) -> None:
    write_realsr(tmp_path, same_size=True)
    valid = [
        f"data.valid_{side}={tmp_path}/RealSR(V2)/*/Test/4/*_{end}.png" for side, end in (("hr", "HR"), ("lr", "LR4"))
    ]
    with pytest.raises(
        InputError, match="128x96 px; LR was enlarged before: give LR that was not, with sides of 1/4 of HR"
    ):
        open_validator(load(None, [*tiny_overrides(), *valid]), World())


def test_a_pattern_beside_the_configuration_is_found(realsr: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (realsr.parent / "run.yaml").write_text(f"data: {{valid_hr: '{HR}', valid_lr: 'RealSR(V3)/*/Train/4/*_LR3.png'}}\n")
    (realsr.parent / "elsewhere").mkdir()
    monkeypatch.chdir(realsr.parent / "elsewhere")
    data = load(Path("../run.yaml")).data
    assert data.valid_hr == str(Path("../run.yaml").parent.absolute() / HR)
    assert data.valid_lr == "RealSR(V3)/*/Train/4/*_LR3.png", "nothing fits"


def test_shards_of_a_pattern_are_reused_and_name_files_by_their_folders(
    realsr: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = ["shards", "build", "--out", "sets", "--quiet", "shards.patch=24", "shards.stride=24"]
    build += ["--hr", "RealSR(V3)/*/Train/4/*[13]_HR.png", "--lr", "RealSR(V3)/*/Train/4/*[24]_LR4.png"]
    broken = realsr / "Nikon/Train/4/Nikon_002_LR4.png"
    broken.write_bytes(broken.read_bytes()[:200])
    assert main(build) == 1
    assert f"{broken.relative_to(realsr.parent)}" in capsys.readouterr().err
    found = [source["lr"] for source in json.loads(Path("sets/lr/manifest.json").read_text())["sources"]]
    assert found[0] == "Canon/Train/4/Canon_002_LR4.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)).save(broken)
    assert main([*build, "--overwrite"]) == 0
    capsys.readouterr()
    assert main(build) == 0
    assert capsys.readouterr().out.count("holds this result already") == 2
