"""`cyclesr estimate`: its sentences, its page, its files, and what it refuses."""

from __future__ import annotations

import itertools
import json
import math
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import write_photos
from helpers.quick_fit import few_steps

from cyclesr_dist.cli.main import main as cyclesr
from cyclesr_dist.data.folders import list_images
from cyclesr_dist.degradation.record import load
from cyclesr_dist.degradation.sample import Sample
from cyclesr_dist.degradation.sentences import figure, measured, sentences, unexplained, what_follows
from cyclesr_dist.reports.estimate_page import estimate_page
from cyclesr_dist.runtime.wording import counted

pytestmark = pytest.mark.usefixtures("few_fit_steps")
FILES = {"degradation.json", "degradation.safetensors", "degradation.html"}
DEMO = Path(__file__).parents[2] / "cyclesr_dist" / "workflows" / "demo_photos"
NUM_PHOTOS = 6


# Sentences


def facts_with(
    *,
    width: float = 1.7,
    levels: tuple[float, float, float] = (0.02, 0.014, 0.01),
    noise_spread: float | None = 0.2,
    blur_spread: float | None = 0.0,
    jpeg: dict[str, Any] | None = None,
    distances: tuple[float, float] = (0.68, 0.06),
    doubts: tuple[str, ...] = (),
    photographs: int = 42,
    kind: str = "gaussian",
    kernel: tuple[tuple[float, ...], ...] = ((0.0, 0.1, 0.0), (0.1, 0.6, 0.1), (0.0, 0.1, 0.0)),
) -> dict[str, Any]:
    return {
        "version": 1,
        "made_with": "cyclesr-dist",
        "scale": 4,
        "seed": 0,
        "kernel": [list(row) for row in kernel],
        "blur": {"width_px": width, "std_px": width / 2.355, "spread": blur_spread},
        "noise": {
            "std_at": dict(zip(("0.1", "0.5", "0.9"), levels, strict=True)),
            "spread": noise_spread,
            "colour_correlation": [[1.0, 0.2, -0.1], [0.2, 1.0, 0.3], [-0.1, 0.3, 1.0]],
            "kind": kind,
            "flat_patches": 1,
        },
        "jpeg_quality": jpeg["quality"] if jpeg else None,
        "jpeg": jpeg,
        "looked_at": {name: {"photographs": photographs, "of": photographs, "patches": 1} for name in ("hr", "lr")}
        | {"patch_px": 16},
        "spectrum_distance": dict(zip(("synthetic", "translated"), distances, strict=True)),
        "doubts": list(doubts),
    }


def jpeg_of(quality: int, source: str, share: float = 1.0) -> dict[str, Any]:
    return {"quality": quality, "from": source, "share": share, "grid": [0, 0]}


GRID = {
    "width": (0.0, 0.4, 1.94, 14.2),
    "levels": ((0.0, 0.0, 0.0), (0.0, 0.021, 0.03), (0.02, 0.001, 0.0), (0.104, 0.0997, 0.2)),
    "noise_spread": (None, 0.53, math.nan),
    "blur_spread": (None, 0.0, 0.3, 1.0),
    "jpeg": (
        None,
        jpeg_of(82, "pixels"),
        jpeg_of(95, "pixels", 0.6),
        jpeg_of(30, "files", 0.98),
        jpeg_of(100, "files"),
    ),
    "distances": ((0.68, 0.0595), (0.02, 0.05), (12.0, 0.001)),
    "doubts": ((), ("This is doubtful.", "So is that.")),
    "photographs": (1, 42),
}


def test_every_combination_of_facts_gives_sane_sentences() -> None:
    said: set[str] = set()
    for values in itertools.product(*GRID.values()):
        facts = facts_with(**dict(zip(GRID, values, strict=True)))
        said.update(sentences(facts))
        what, settings = what_follows(facts, "estimates/camera")
        assert what.endswith(":")
        assert settings in (
            "system=sr_syn",
            "nets.translator.kind=degradation nets.translator.estimate=estimates/camera",
        )
    assert len(said) > 100
    for text in said:
        assert re.fullmatch(r"[A-Z].*[a-z0-9%)]\.", text), text
        assert not re.search(r"None|nan|inf\b|  |\bno (or|and)|, ?[.;,]|; ?\.|-\d|\(\)", text), text
        assert not re.search(r"\b1 [a-z]+s\b", text), text
        for number in re.findall(r"\d+(?:\.\d+)?", text):  # more digits would change with the sample
            assert len(number.replace(".", "").strip("0")) <= 2, text


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "Blur of about 1.7 px, noise of 1.4% at mid grey; no JPEG to speak of."),
        (
            {"jpeg": jpeg_of(82, "pixels")},
            "Blur of about 1.7 px, noise of 1.4% at mid grey, JPEG quality about 80 (seen in the pixels).",
        ),
        (
            {"width": 0.3, "levels": (0, 0, 0), "jpeg": jpeg_of(87, "files", 0.6)},
            "JPEG quality 87 in 60% of the photographs (by the files' headers); no blur or noise to speak of.",
        ),
        ({"width": 0.3, "levels": (0.02, 0.001, 0)}, "Noise of 2.0% in dark parts; no blur or JPEG to speak of."),
        ({"width": 0.3, "levels": (0, 0, 0)}, "No blur, noise or JPEG to speak of."),
        (
            {"width": 0.0, "kernel": ((0, -0.1, 0), (-0.1, 1.4, -0.1), (0, -0.1, 0)), "levels": (0, 0, 0)},
            "Details stronger than in shrunk HR; no noise or JPEG to speak of.",
        ),
    ],
)
def test_what_was_measured(given, expected) -> None:
    assert measured(facts_with(**given)) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"noise_spread": 0.53}, "Photographs differ from each other: noise levels by a factor of 1.7; blur hardly."),
        (
            {"noise_spread": 0.53, "blur_spread": None},
            "Photographs differ from each other: noise levels by a factor of 1.7; for blur it is not known.",
        ),
        (
            {"noise_spread": 0.0, "blur_spread": 0.3},
            "Photographs differ from each other: blur from 1.4 to 1.9 px; noise hardly.",
        ),
        ({"noise_spread": 0.0}, "Photographs hardly differ in noise and blur."),
        (
            {"noise_spread": None},
            "Photographs hardly differ in blur; whether they differ in noise is not known.",
        ),
        (
            {"noise_spread": None, "blur_spread": None, "photographs": 1},
            "It is not known whether photographs differ in noise and blur: there is only one.",
        ),
    ],
)
def test_how_photographs_differ(given, expected) -> None:
    assert sentences(facts_with(**given))[1] == expected


def test_where_there_is_nothing_it_does_not_differ() -> None:
    assert len(sentences(facts_with(width=0.1, levels=(0, 0, 0)))) == 2


@pytest.mark.parametrize(
    ("distances", "expected"),
    [
        (
            (0.68, 0.0595),
            "The estimate explains 91% of the difference between the spectra of shrunk HR and real LR; 0.06 of 0.68 "
            "decades remain.",
        ),
        ((0.1, 0.1), "The spectra of shrunk HR and of real LR are 0.10 decades apart, and the estimate brings them no"),
        ((0.002, 0.003), "The spectra of shrunk HR and of real LR are almost equal."),
    ],
)
def test_what_remains(distances, expected) -> None:
    assert unexplained(facts_with(distances=distances)).startswith(expected)


def test_without_blur_and_noise_shrunk_hr_will_do() -> None:
    nothing = {"width": 0.1, "levels": (0.0, 0.001, 0.0)}
    assert what_follows(facts_with(**nothing), "out")[1] == "system=sr_syn"
    assert "doubts" in what_follows(facts_with(**nothing, doubts=("It is doubtful.",)), "out")[0]
    assert "but for JPEG" in what_follows(facts_with(**nothing, jpeg=jpeg_of(60, "pixels")), "out")[0]


def test_a_folder_with_a_space_is_quoted() -> None:
    assert what_follows(facts_with(), "my estimates")[1].endswith("estimate='my estimates'")


def test_figures_have_two_digits_at_most() -> None:
    assert [figure(v, 2) for v in (0.0, 0.0595, 0.999, 9.96, 123.0)] == ["0.00", "0.06", "1.0", "10", "120"]
    assert [counted(n, "patch") for n in (0, 1, 1200)] == ["0 patches", "1 patch", "1,200 patches"]


# The command


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> tuple[Path, Path]:
    """HR and LR of some of the demo's photographs."""
    folder = tmp_path_factory.mktemp("data")
    hr, lr = folder / "hr", folder / "lr"
    hr.mkdir()
    for path in list_images(DEMO)[:NUM_PHOTOS]:
        shutil.copy(path, hr)
    assert cyclesr(["degrade", "--hr", str(hr), "--out", str(lr), "--track", "mild", "--quiet"]) == 0
    return hr, lr


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> tuple[Path, Path]:
    """HR and LR photographs of 40 LR px."""
    folder = tmp_path_factory.mktemp("small")
    return write_photos(folder / "hr", 3, 160, 160, seed=1), write_photos(folder / "lr", 3, 40, 40, seed=2)


def estimate(hr: Path, lr: Path, out: Path, *more: str) -> int:
    return cyclesr(["estimate", "--hr", str(hr), "--lr", str(lr), "--out", str(out), "--quiet", *more])


@pytest.fixture(scope="module")
def made(photographs, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("made") / "estimate"
    with few_steps():
        assert estimate(*photographs, out) == 0
    return out


def test_writes_what_training_loads(made) -> None:
    assert {path.name for path in made.iterdir()} == FILES
    found = load(made)
    assert found.facts["scale"] == 4
    assert found.facts["looked_at"]["hr"]["photographs"] == NUM_PHOTOS
    assert float(found.variance[1]) > 0


def test_is_replaced_and_the_same_again(small, tmp_path, capsys) -> None:
    out = tmp_path / "new" / "out"
    assert estimate(*small, out) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    said = capsys.readouterr()
    assert not said.err
    assert "There are only 3 HR photographs" in said.out
    assert f"nets.translator.estimate={out}" in said.out or "system=sr_syn" in said.out
    assert estimate(*small, out) == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_photographs_that_cannot_be_read_are_named_and_left_out(small, tmp_path, capsys) -> None:
    hr, lr = (shutil.copytree(folder, tmp_path / folder.name) for folder in small)
    data = (hr / "photo0.png").read_bytes()
    (hr / "cut.png").write_bytes(data[: len(data) // 2])
    (lr / "bad.jpg").write_bytes(b"no image")
    assert estimate(hr, lr, tmp_path / "out") == 1
    err = capsys.readouterr().err.splitlines()
    assert [Path(line.partition(": ")[0]).name for line in err[:-1]] == ["cut.png", "bad.jpg"]
    assert err[-1] == "2 of 8 photographs failed"
    assert load(tmp_path / "out").facts["looked_at"]["hr"]["photographs"] == 3
    for path in lr.iterdir():
        path.write_bytes(b"no image")
    assert estimate(hr, lr, tmp_path / "none") == 1
    assert not (tmp_path / "none").exists()


def test_other_files_are_replaced_only_when_told(small, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    expect(capsys, estimate(*small, out), str(out), "--overwrite")
    assert [path.name for path in out.iterdir()] == ["notes.txt"]
    assert estimate(*small, out, "--overwrite") == 0
    assert {path.name for path in out.iterdir()} == FILES


def test_one_photograph_is_enough_and_doubted(small, tmp_path, capsys) -> None:
    hr, lr = (tmp_path / name for name in ("hr", "lr"))
    for folder, source in zip((hr, lr), small, strict=True):
        folder.mkdir()
        shutil.copy(source / "photo0.png", folder)
    assert estimate(hr, lr, tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "nan" not in said
    assert "None" not in said
    assert len([line for line in said.splitlines() if line.startswith("Doubt: ")]) >= 2
    parse((tmp_path / "out" / "degradation.html").read_text())


def test_shard_sets(small, tmp_path, capsys) -> None:
    shards = tmp_path / "shards"
    build = ["shards", "build", "--hr", str(small[0]), "--lr", str(small[1]), "--out", str(shards), "--quiet"]
    config = tmp_path / "config.yaml"
    config.write_text("shards: {patch: 32, stride: 8}\n")
    assert cyclesr([*build, "--allow-overlap", "--config", str(config)]) == 0
    assert estimate(shards / "hr", shards / "lr", tmp_path / "out") == 0
    capsys.readouterr()
    expect(capsys, estimate(shards / "lr", shards / "lr", tmp_path / "wrong"), "shards/lr", "'hr'")
    expect(capsys, estimate(shards / "hr", shards / "lr", tmp_path / "wrong", "--scale", "2"), "scale 4")
    assert not (tmp_path / "wrong").exists()


# Refusals


def expect(capsys: pytest.CaptureFixture[str], code: int, *words: str) -> None:
    error = capsys.readouterr().err
    assert code == 2, error
    (line,) = [text for text in error.splitlines() if text.strip()]
    assert line.startswith("cyclesr: error: ")
    for word in words:
        assert word in line, line


def test_a_missing_and_an_empty_folder(small, tmp_path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    out = tmp_path / "deep" / "out"
    for folder, word in ((tmp_path / "none", "none"), (tmp_path / "empty", "empty")):
        expect(capsys, estimate(folder, small[1], out), word)
        expect(capsys, estimate(small[0], folder, out), word)
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_photographs_that_are_too_small(small, tmp_path, capsys) -> None:
    tiny = write_photos(tmp_path / "tiny", 2, 24, 24, seed=0)
    expect(capsys, estimate(tiny, small[1], tmp_path / "out"), "too small", "64 px")
    assert not (tmp_path / "out").exists()


def test_out_is_a_file_a_url_or_an_input(small, tmp_path, capsys) -> None:
    (tmp_path / "file").write_text("")
    expect(capsys, estimate(*small, tmp_path / "file"), "is a file")
    code = cyclesr(["estimate", "--hr", str(small[0]), "--lr", str(small[1]), "--out", "s3://bucket/out", "--quiet"])
    expect(capsys, code, "s3://bucket/out")
    before = sorted(small[1].iterdir())
    expect(capsys, estimate(*small, small[1], "--overwrite"), "contains the input")
    assert sorted(small[1].iterdir()) == before


def test_a_scale_or_seed_that_is_not_allowed(small, tmp_path, capsys) -> None:
    expect(capsys, estimate(*small, tmp_path / "out", "--scale", "5"), "scale = 5")
    expect(capsys, estimate(*small, tmp_path / "out", "--seed=-1"), "seed = -1")


# The page


class _Page(HTMLParser):
    """Checks that what is opened is closed, and collects what a browser would fetch."""

    void = ("meta", "img", "br", "wbr", "input")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        self.sources += [given[name] or "" for name in ("src", "href", "srcset", "xlink:href") if name in given]
        assert tag != "img" or given.get("alt")
        assert tag != "svg" or given.get("aria-label")
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)


def parse(text: str) -> _Page:
    page = _Page()
    page.feed(text)
    page.close()
    assert not page.open
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert "url(" not in text
    words = " ".join(page.texts)
    assert not re.search(r"\b(None|nan|inf)\b", words), words
    return page


def test_page_says_and_shows_what_was_found(made) -> None:
    text = (made / "degradation.html").read_text()
    page = parse(text)
    assert len(text) < 1_000_000
    words = " ".join(page.texts)
    facts = json.loads((made / "degradation.json").read_text())
    for sentence in sentences(facts):
        assert sentence in words
    assert page.tags.count("img") == 9
    assert page.tags.count("svg") == 3
    assert words.count("real LR (another photograph)") == 3


def samples(side: int, view_px: int, views: int = 1) -> tuple[Sample, Sample]:
    random = np.random.default_rng(0)

    def sample() -> Sample:
        patches = torch.from_numpy(random.random((8, 3, side, side), dtype=np.float32))
        pictures = tuple(random.integers(0, 256, (view_px, view_px, 3), dtype=np.uint8) for _ in range(views))
        return Sample(patches, torch.zeros(8, dtype=torch.long), 1, 1, pictures, ())

    return sample(), sample()


@pytest.fixture
def page_of(made: Path) -> Callable[..., _Page]:
    """The page of an estimate with the facts given; checked."""

    def make(facts: dict[str, Any], sharp: Sample, real: Sample, kernels: int = 1) -> _Page:
        several = torch.tensor(facts["kernel"], dtype=torch.float32).repeat(kernels, 1, 1)
        return parse(estimate_page(replace(load(made), kernels=several, facts=facts), sharp, real))

    return make


@pytest.mark.parametrize(
    ("given", "view_px", "kernels"),
    [
        ({}, 16, 1),
        ({"doubts": ("Some <b>doubt</b> remains.",), "jpeg": jpeg_of(70, "files", 0.6), "kind": "patches"}, 120, 9),
        ({"width": 0.0, "levels": (0, 0, 0), "kernel": ((1.0,),)}, 50, 1),
        ({"width": 0.0, "kernel": ((0, -0.1, 0), (-0.1, 1.4, -0.1), (0, -0.1, 0)), "noise_spread": None}, 50, 1),
        ({"photographs": 1, "jpeg": jpeg_of(70, "pixels") | {"grid": None}, "blur_spread": None}, 50, 1),
    ],
)
def test_page_of_other_facts(given, view_px, kernels, page_of) -> None:
    page = page_of(facts_with(**given), *samples(16, view_px), kernels)
    assert page.tags.count("img") == 3
    if "doubts" in given:
        assert given["doubts"][0] in page.texts


def test_page_without_pictures(page_of) -> None:
    page = page_of(facts_with(), *samples(16, 32, views=0))
    assert "The samples hold no pictures." in page.texts


def test_an_image_of_the_same_scene_is_not_called_another_photograph(page_of) -> None:
    sharp, _ = samples(16, 64)
    words = " ".join(page_of(facts_with(), sharp, sharp).texts)
    assert "real LR" in words
    assert "another photograph" not in words


def test_noise_does_not_pass_for_detail() -> None:
    """A crop is taken where the picture has something to show and not where it is flat and noisy."""
    from cyclesr_dist.reports.estimate_page import crops_of

    random = np.random.default_rng(0)
    view = np.full((200, 400, 3), 128.0)
    view[:, 250:] += 100 * np.sign(np.sin(np.arange(150) / 4))[None, :, None]
    view[:, :200] += random.normal(0, 25, (200, 200, 3))
    (crop,) = crops_of([view.clip(0, 255).astype(np.uint8)])
    assert crop.x > 200
