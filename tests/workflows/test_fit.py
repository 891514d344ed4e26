"""What `cyclesr fit` decides: which photographs are held back, and which settings it takes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from helpers import write_photos
from PIL import Image

from cyclesr_dist.config.schema import Config, load
from cyclesr_dist.data.folders import list_images
from cyclesr_dist.errors import InputError
from cyclesr_dist.runtime.tally import Tally
from cyclesr_dist.workflows.fit.machine import Machine
from cyclesr_dist.workflows.fit.photos import (
    Folders,
    Photo,
    Split,
    check_apart,
    check_run_folder,
    exchanged,
    lay_out,
    look,
    recorded,
    split,
)
from cyclesr_dist.workflows.fit.settings import choose, patch_px, stride_px

CPU = Machine(0, 2, 8 * 2**30, "")
GPUS = Machine(2, 16, 40 * 2**30, "A100")


def photos(count: int, width: int = 400, height: int = 300) -> list[Photo]:
    return [Photo(Path(f"p{i:03}.png"), width, height) for i in range(count)]


@pytest.mark.parametrize(("count", "held"), [(3, 0), (4, 0), (5, 1), (15, 3), (20, 4), (500, 8)])
def test_some_photographs_are_held_back_where_there_are_enough(count: int, held: int) -> None:
    found = split(photos(count), photos(count))
    apart = {p.path for p in found.valid_lr} - {p.path for p in found.train_lr}
    assert len(apart) == held
    assert found.held_back == (held > 0)
    assert {p.path for p in found.train_lr} | {p.path for p in found.valid_lr} == {p.path for p in photos(count)}
    assert found.valid_lr
    assert found.valid_hr


def test_what_cannot_be_used_is_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_photos(tmp_path / "lr", 3, 64, 80, seed=0)
    (folder / "broken.png").write_bytes(b"no image")
    write_photos(tmp_path / "tiny", 1, 8, 8, seed=1)
    (tmp_path / "tiny" / "photo0.png").rename(folder / "small.png")
    assert [p.path.name for p in look(folder, 4, "lr")] == ["photo0.png", "photo1.png", "photo2.png"]
    said = capsys.readouterr().err
    assert "broken.png" in said
    assert "small.png: 8x8 px is too small" in said
    with pytest.raises(InputError, match=r"--hr .*holds no photograph"):
        look(folder, 8, "hr")  # at a scale of 8 sharp photographs must be larger


def test_the_folders_hold_every_photograph_once_and_refuse_others(tmp_path: Path) -> None:
    hr, lr = (look(write_photos(tmp_path / name, 6, 128, 128, seed), 4, name) for seed, name in enumerate(("hr", "lr")))
    chosen, at = split(hr, lr), Folders(tmp_path / "run")
    at.root.mkdir()
    lay_out(chosen, at)
    lay_out(chosen, at)  # the same again: nothing to do
    assert len(list_images(at.of("train_lr"))) == len(chosen.train_lr) == 5
    assert [p.stem for p in list_images(at.of("valid_lr"))] == [p.path.stem for p in chosen.valid_lr]
    # Equal names on both sides, as cameras give them, must not be taken for pairs.
    assert not {p.stem for p in list_images(at.of("valid_hr"))} & {p.stem for p in list_images(at.of("valid_lr"))}
    with pytest.raises(InputError, match="begun with other photographs"):
        lay_out(split(hr[1:], lr), at)


def test_equal_names_are_no_pairs_but_equal_pictures_are(tmp_path: Path) -> None:
    hr = look(write_photos(tmp_path / "hr", 3, 128, 160, seed=0), 4, "hr")
    lr = look(write_photos(tmp_path / "lr", 3, 64, 80, seed=1), 4, "lr")
    check_apart(hr, lr)
    lay_out(split(hr, lr), Folders(tmp_path))
    names = [p.name for p in list_images(tmp_path / "photos" / "train_lr")]
    assert names == ["lr-photo0.png", "lr-photo1.png", "lr-photo2.png"]
    (tmp_path / "small").mkdir()
    with Image.open(hr[1].path) as image:
        image.resize((40, 32)).save(tmp_path / "small" / "photo1x4.png")
    with pytest.raises(InputError, match=r"photo1.png and .*photo1x4.png show the same; --hr needs other"):
        check_apart(hr, look(tmp_path / "small", 4, "lr"))


def test_a_copy_is_left_out_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_photos(tmp_path / "lr", 3, 64, 80, seed=0)
    (folder / "photo1 (2).png").write_bytes((folder / "photo1.png").read_bytes())
    (folder / "deeper").mkdir()
    shutil.copy(folder / "photo2.png", folder / "deeper")
    assert [p.path.name for p in look(folder, 4, "lr")] == ["photo0.png", "photo1 (2).png", "photo2.png"]
    said = capsys.readouterr().err
    assert "photo1.png: is a copy of photo1 (2).png" in said
    assert "deeper: sub-folders with photographs, not entered; give a pattern" in said
    assert "--recursive" not in said  # which this command does not have


def test_folders_the_wrong_way_round_are_pointed_out(tmp_path: Path) -> None:
    large, small = photos(6), photos(6, 100, 75)
    assert exchanged(split(large, small)) == ""
    assert "are larger than those of --hr (median of the smaller side: 300 and 75 px)" in exchanged(split(small, large))
    hr = write_photos(tmp_path / "hr", 3, 128, 160, seed=0)
    with pytest.raises(InputError, match="--hr and --lr have the same photographs"):
        check_apart(look(hr, 4, "hr"), look(hr, 4, "lr"))
    check_run_folder(tmp_path / "new", hr, tmp_path / "lr")
    with pytest.raises(InputError, match=r"--run-dir .*hr: is the folder of --hr"):
        check_run_folder(hr, hr, tmp_path / "lr")
    with pytest.raises(InputError, match=r"--run-dir .*hr: holds photographs; give a new folder"):
        check_run_folder(hr, tmp_path, tmp_path / "lr")


def test_of_large_photographs_the_centre_is_enlarged(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "lr", 1, 1200, 1600, seed=0)
    chosen = split(look(folder, 4, "lr"), look(folder, 4, "lr"))
    lay_out(chosen, Folders(tmp_path))
    (shown,) = look(tmp_path / "photos" / "valid_lr", 4, "lr")
    assert (shown.width, shown.height) == (1024, 1024)


@pytest.mark.parametrize(("hr", "lr", "patch"), [(2000, 500, 32), (2000, 90, 32), (2000, 23, 20), (100, 500, 24)])
def test_patches_fit_into_most_photographs(hr: int, lr: int, patch: int) -> None:
    chosen = split(photos(10, hr, hr), photos(10, lr, lr))
    assert patch_px(chosen, 4, 32) == patch
    few_small = Split([*photos(19, hr, hr), Photo(Path("s.png"), 64, 64)], photos(10, lr, lr), [], [])
    assert patch_px(few_small, 4, 32) == patch


def test_few_photographs_are_cut_densely_and_many_sparsely() -> None:
    few, some, many = (stride_px(photos(n, 4000, 3000), 4, 32, 4000) for n in (1, 20, 500))
    assert 8 <= few <= some < many


def chosen_config(machine: Machine, hours: float, seconds: float, tmp_path: Path) -> Config:
    def seconds_a_step(config: Config, patch: int) -> float:
        return seconds * config.nets.sr.channels**2 * config.nets.sr.blocks / (64**2 * 8)

    path = tmp_path / "fit.yaml"
    found = split(photos(20, 1200, 900), photos(15, 300, 200))
    path.write_text(choose(found, machine, 4, hours, tmp_path / "a run: #1", seconds_a_step, lambda line: None))
    assert "#" in path.read_text().splitlines()[0]  # a person is meant to read it
    return load(path)


def test_more_time_gives_a_larger_network_and_more_steps(tmp_path: Path) -> None:
    configs = [chosen_config(CPU, hours, 0.5, tmp_path) for hours in (0.02, 0.1, 0.5, 4)]
    assert [c.nets.sr.channels for c in configs] == sorted(c.nets.sr.channels for c in configs)
    assert configs[0].nets.sr.channels < configs[-1].nets.sr.channels
    assert configs[0].train.steps >= 100
    for config, hours in zip(configs[1:], (0.1, 0.5, 4), strict=True):
        cost = 0.5 * config.nets.sr.channels**2 * config.nets.sr.blocks / (64**2 * 8)
        assert config.train.steps * cost <= hours * 3600


def test_the_file_is_a_whole_configuration(tmp_path: Path) -> None:
    one, two = chosen_config(CPU, 0.25, 0.2, tmp_path), chosen_config(GPUS, 2, 0.05, tmp_path)
    assert (one.system, one.backend, two.backend) == ("estimated", "single", "ddp")
    assert two.global_batch % 2 == 0
    assert one.data.hr == str(tmp_path / "a run: #1" / "data/hr")
    assert yaml.safe_load((tmp_path / "fit.yaml").read_text())["data"]["tail"] == "wrap"


def test_a_photograph_that_is_cut_short_is_found_before_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_photos(tmp_path / "lr", 3, 64, 80, seed=0)
    data = (folder / "photo0.png").read_bytes()
    (folder / "cut.png").write_bytes(data[: len(data) // 2])
    tally = Tally()
    photos = look(folder, 4, "lr", tally)
    assert len(photos) == 3
    assert list(tally.failed) == [str(folder / "cut.png")]
    assert capsys.readouterr().err.splitlines()[-1] == "1 of 4 photographs failed"

    at = Folders(tmp_path / "run")
    at.root.mkdir()
    lay_out(split(photos, photos), at)
    (folder / "photo0.png").write_bytes(data[:-20] + bytes(20))  # as large as before: not decoded again
    assert len(look(folder, 4, "lr", known=recorded(at))) == 3
