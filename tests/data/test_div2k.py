"""DIV2K's own folders as they come: names, subfolders, scene ranges, the wild track's four variants."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.datasets import DIV2K, write_div2k

from cyclesr_dist.cli.main import main


@pytest.fixture(scope="module")
def div2k(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_div2k(tmp_path_factory.mktemp("DIV2K"))


def stems(manifest: Path) -> set[str]:
    return {source.get("lr", source.get("hr")) for source in json.loads(manifest.read_text())["sources"]}


@pytest.mark.parametrize("track", DIV2K)
def test_the_folders_as_they_come(div2k: Path, tmp_path: Path, track: str) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("shards: {patch: 8, stride: 8, hr_scenes: 0001-0400, lr_scenes: 0401-0800}\n")
    hr, lr = str(div2k / "DIV2K_train_HR"), str(div2k / f"DIV2K_train_LR_{track}")
    command = ["shards", "build", "--hr", hr, "--lr", lr, "--pairs-hr", hr, "--out", str(tmp_path / "sets")]
    assert main([*command, "--config", str(config), "--quiet"]) == 0
    _, variants, of_valid = DIV2K[track]
    of_lr = {f"{scene:04d}x4{v}.png" for scene in (401, 799, 800) for v in variants}
    assert stems(tmp_path / "sets/hr/manifest.json") == {"0001.png", "0002.png", "0400.png"}
    assert stems(tmp_path / "sets/lr/manifest.json") == of_lr
    assert stems(tmp_path / "sets/pairs/manifest.json") == of_lr

    scores = tmp_path / "scores.json"
    valid = ["--lr", str(div2k / f"DIV2K_valid_LR_{track}"), "--hr", str(div2k / "DIV2K_valid_HR")]
    assert main(["evaluate", "--model", "bicubic", *valid, "--json", str(scores), "--quiet"]) == 0
    names = [image["name"] for image in json.loads(scores.read_text())["images"]]
    assert names == [f"{scene:04d}x4{v}" for scene in (801, 900) for v in of_valid]


@pytest.mark.parametrize(
    ("scenes", "message"),
    [("0900-0999", "no image has a scene number"), ("400-1", "a range of scene numbers"), ("all", "a range of scene")],
)
def test_ranges_that_choose_nothing_are_refused(
    div2k: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], scenes: str, message: str
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(f"shards: {{patch: 8, stride: 8, hr_scenes: {scenes}}}\n")
    hr, lr = str(div2k / "DIV2K_train_HR"), str(div2k / "DIV2K_train_LR_mild")
    command = ["shards", "build", "--hr", hr, "--lr", lr, "--out", str(tmp_path / "sets"), "--config", str(config)]
    assert main([*command, "--quiet"]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "sets").exists()
