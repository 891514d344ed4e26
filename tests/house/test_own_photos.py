"""configs/own_photos.yaml as it is meant to be used: pack two folders, check, train, enlarge; all sizes made small."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from helpers import write_photos

from cyclesr_dist.cli.main import main
from cyclesr_dist.config.schema import load
from cyclesr_dist.data.images import image_size
from cyclesr_dist.training.main import main as train

CONFIG = Path(__file__).parents[2] / "configs" / "own_photos.yaml"
SMALL = ["shards.patch=16", "shards.stride=16"]
SHORT = [
    *("global_batch=2", "train.steps=3", "train.validate_every_steps=2", "train.log_every_steps=1", "data.workers=0"),
    *("nets.sr.channels=8", "nets.sr.blocks=1", "nets.translator.channels=8", "nets.translator.blocks=1"),
    "nets.d_lr.channels=8",
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders hr and lr of unrelated photographs, and the shards data/mine that the configuration names."""
    root = tmp_path_factory.mktemp("own")
    write_photos(root / "hr", 3, 160, 128, seed=0)
    write_photos(root / "lr", 3, 48, 40, seed=1)
    for i, path in enumerate(sorted((root / "lr").iterdir())):
        path.rename(root / "lr" / f"camera{i}.png")
    folders = ["--hr", str(root / "hr"), "--lr", str(root / "lr"), "--out", str(root / "data/mine")]
    assert main(["shards", "build", *folders, "--config", str(CONFIG), "--quiet", *SMALL]) == 0
    return root


@pytest.mark.usefixtures("few_fit_steps")
@pytest.mark.parametrize("system", ["estimated", "cyclesr"])
def test_it_trains_on_what_shards_build_made(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], system: str
) -> None:
    monkeypatch.chdir(photos)
    common = ["--config", str(CONFIG), "--run-dir", system, f"system={system}", *SMALL, *SHORT]
    assert train([*common, "--dry-run"]) == 0
    assert not Path(system).exists()
    assert train([*common, "--quiet"]) == 0
    assert main(["upscale", "lr/camera0.png", "--model", system, "--out", f"{system}_big", "--quiet"]) == 0
    (result,) = Path(f"{system}_big").iterdir()
    assert image_size(result) == (160, 192)


def test_photographs_of_200_px_suffice_and_every_key_is_explained() -> None:
    config = load(CONFIG)
    assert config.shards.patch * config.scale <= 200
    assert config.shards.stride <= config.shards.patch  # no pixel is left out between patches
    text = CONFIG.read_text()
    explained = [line for line in text.splitlines() if "#" in line]
    assert len(explained) > len(text.splitlines()) / 2
    assert load(None).backend != "single" == yaml.safe_load(text)["backend"]
