"""The tables of configs/ on public data sets, on small copies that are laid out and named as these unpack."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import tiny_overrides
from helpers.datasets import DIV2K, write_div2k, write_drealsr, write_ntire20, write_realsr

from cyclesr_dist.cli.main import main
from cyclesr_dist.data.folders import list_images
from cyclesr_dist.degradation.sample import read_sample
from cyclesr_dist.workflows.table.config import Table, load_table

CONFIGS = Path(__file__).parents[2] / "configs"
WRITERS = {"realsr": write_realsr, "drealsr": write_drealsr, "ntire20_t1": write_ntire20}
NUMBERS = {
    "realsr": (4, 4, 2),
    "drealsr": (6, 6, 4),
    "ntire20_t1": (4, 3, 2),
}
"""Of the small copies: HR and LR files to train on, and pairs to validate."""
TINY = ["run.shards.patch=24", "run.shards.stride=24", "run.train.epochs=1", "run.train.pretrain_epochs=0"]
TINY += ["run.train.constant_epochs=0", "run.train.max_steps=3", "run.train.validate_every_steps=2"]
TINY += [
    "run.data.workers=0",
    "run.precision=fp32",
    "gpus_per_run=0",
    "cpus_per_run=1",
    "pictures=1",
    "run.nets.sr.bicubic_skip=true",
]
OWN = ("shards.", "global_batch=", "nets.translator.kind")


@pytest.fixture(params=sorted(WRITERS))
def recipe(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A data set, unpacked in the working directory."""
    WRITERS[request.param](tmp_path)
    monkeypatch.chdir(tmp_path)
    return str(request.param)


def table_of(recipe: str) -> Table:
    return load_table(CONFIGS / f"table_{recipe}.yaml")


def sources(manifest: Path, *domains: str) -> set[Any]:
    found = json.loads(manifest.read_text(encoding="utf-8"))["sources"]
    return {tuple(source[domain] for domain in domains) if domains[1:] else source[domains[0]] for source in found}


def test_shards_are_built_from_the_files_as_they_unpack(recipe: str, tmp_path: Path) -> None:
    table = table_of(recipe)
    ((_, track),) = table.tracks.chosen().items()
    words = ["shards", "build", "--hr", table.photos, "--lr", track.lr, "--out", "sets", "--quiet"]
    words += ["--pairs-hr", track.pairs_hr] if track.pairs_hr else []
    assert main([*words, "shards.patch=24", "shards.stride=24"]) == 0
    num_hr, num_lr, _ = NUMBERS[recipe]
    assert len(sources(tmp_path / "sets/hr/manifest.json", "hr")) == num_hr
    assert len(sources(tmp_path / "sets/lr/manifest.json", "lr")) == num_lr
    if track.pairs_hr:
        pairs = sources(tmp_path / "sets/pairs/manifest.json", "hr", "lr")
        assert len(pairs) == num_lr
        for hr, lr in pairs:
            assert hr == lr.replace("_LR4", "_HR").replace("_x1", "_x4")


def test_bicubic_is_scored_and_all_files_can_be_measured_as_they_unpack(recipe: str) -> None:
    table = table_of(recipe)
    ((_, track),) = table.tracks.chosen().items()
    evaluate = ["evaluate", "--model", "bicubic", "--quiet", "--json", "scores.json"]
    assert main([*evaluate, "--lr", track.valid_lr, "--hr", table.valid_hr]) == 0
    images = json.loads(Path("scores.json").read_text(encoding="utf-8"))["images"]
    assert len(images) == NUMBERS[recipe][2]
    assert all(image["psnr"] > 20 for image in images), "only an LR file's own HR file is so near"
    for place, domain, number in ((table.photos, "hr", 0), (track.lr, "lr", 1)):
        assert read_sample(place, domain, 4, table.run.data, 0).num_photos == NUMBERS[recipe][number]


def test_no_photograph_has_two_parts_in_a_recipe(recipe: str) -> None:
    """None is in both domains, or trained on and validated or tested. NTIRE 2020 validates on ten of its test files."""
    table = table_of(recipe)
    ((_, track),) = table.tracks.chosen().items()
    parts = [table.photos, track.pairs_hr or track.lr, table.valid_hr]
    parts += [] if recipe == "ntire20_t1" else [table.test_hr]
    files = [set(list_images(Path(part))) for part in parts]
    assert sum(map(len, files)) == len(set().union(*files))


def words_of_table(recipe: str, *more: str) -> list[str]:
    tiny = [f"run.{text}" for text in tiny_overrides() if not text.startswith(OWN)]
    words = ["table", "--config", str(CONFIGS / f"table_{recipe}.yaml"), "--run-dir", "runs/out", "--quiet"]
    return [*words, "seeds=[0]", "run.global_batch=2", *TINY, *tiny, *more]


@pytest.mark.slow
def test_a_table_to_its_rows(recipe: str) -> None:
    table = table_of(recipe)
    ((_, track),) = table.tracks.chosen().items()
    assert main(["estimate", "--hr", table.photos, "--lr", track.lr, "--out", "estimate", "--quiet"]) == 0
    systems = ["bicubic", "sr_syn", "cyclesr", *(["sr_paired"] if "sr_paired" in table.systems else [])]
    check_rows(words_of_table(recipe, f"systems=[{','.join(systems)}]"), systems, list(table.tracks.chosen()))


@pytest.mark.slow
def test_the_tracks_of_div2k_to_their_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_div2k(tmp_path / "DIV2K", 512, 640)
    monkeypatch.chdir(tmp_path)
    network = {"kind": "compact", "channels": 4, "blocks": 1, "bicubic_skip": "true"}
    networks = [f"tracks.{track}.sr.{key}={value}" for track in DIV2K for key, value in network.items()]
    systems = ["bicubic", "sr_syn", "sr_paired"]
    check_rows(words_of_table("paper", f"systems=[{','.join(systems)}]", *networks), systems, list(DIV2K))


def check_rows(words: list[str], systems: list[str], tracks: list[str]) -> None:
    assert main(words) == 0
    found = json.loads(Path("runs/out/table.json").read_text(encoding="utf-8"))["tracks"]
    assert list(found) == tracks
    for rows in found.values():
        assert list(rows) == systems
        assert all(15 < row["psnr"]["mean"] < 60 for row in rows.values()), "each begins as bicubic enlargement"


def refused(capfd: pytest.CaptureFixture[str], words: list[str]) -> str:
    assert main(words) == 2
    said = capfd.readouterr().err.strip()
    assert said.count("\n") == 0
    return said


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Path], Path]], None]:
    def unpack(write: Callable[[Path], Path]) -> None:
        write(tmp_path)
        monkeypatch.chdir(tmp_path)

    return unpack


def test_sr_paired_without_pairs_is_refused_with_the_reason(
    at: Callable[[Callable[[Path], Path]], None], capfd: pytest.CaptureFixture[str]
) -> None:
    at(write_ntire20)
    said = refused(capfd, words_of_table("ntire20_t1", "systems=[bicubic,sr_paired]"))
    assert "systems has sr_paired, which needs pairs; leave it out, or: " in said
    assert "NTIRE20/track1-train-source: no file matches one in NTIRE20/train-target" in said
    assert not Path("runs/out/runs").exists()


def test_lr_as_large_as_hr_is_refused_before_anything_is_trained(
    at: Callable[[Callable[[Path], Path]], None], capfd: pytest.CaptureFixture[str]
) -> None:
    at(lambda root: write_realsr(root, same_size=True))
    Path("RealSR(V2)").rename("RealSR(V3)")
    said = refused(capfd, words_of_table("realsr", "systems=[bicubic,sr_syn]"))
    assert "LR was enlarged before" in said
    assert "of RealSR, version 3" in said
    assert not Path("runs/out/runs").exists()


def test_one_folder_for_both_sides_is_refused_with_what_to_do(
    at: Callable[[Callable[[Path], Path]], None], capfd: pytest.CaptureFixture[str]
) -> None:
    at(write_realsr)
    folder = "RealSR(V3)/Canon/Train/4"
    said = refused(capfd, ["shards", "build", "--hr", folder, "--lr", folder, "--out", "sets", "--quiet"])
    assert "choose with patterns ('DIR/*_HR.png')" in said
    said = refused(capfd, ["evaluate", "--model", "bicubic", "--lr", folder, "--hr", folder, "--quiet"])
    assert f"'{folder}/*_HR.png'" in said
    assert not Path("sets").exists()
    both = ["shards", "build", "--hr", f"{folder}/*_HR.png", "--lr", f"{folder}/*_LR4.png", "--out", "sets", "--quiet"]
    assert "Canon_001_HR.png and Canon_001_LR4.png" in refused(capfd, [*both, "shards.patch=24"])
