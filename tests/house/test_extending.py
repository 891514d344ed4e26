"""Every example of docs/extending.md, as a person would run it: from a folder outside the package."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from helpers import tiny_overrides, write_photos

from cyclesr_dist.cli.main import main
from cyclesr_dist.config.reader import write_resolved
from cyclesr_dist.config.schema import load
from cyclesr_dist.search.config import load_search, worst

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "extending.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"(?ms)^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE))


def code_of(section: str) -> tuple[str, str]:
    """The file's name and text."""
    code = re.search(r"(?s)```python\n# (\w+\.py)\n(.*?)```", SECTIONS[section])
    assert code
    return code[1], code[2]


def command_of(section: str) -> list[str]:
    command = re.search(r"(?s)```sh\n(.*?)```", SECTIONS[section])
    assert command
    program, *arguments = shlex.split(command[1].replace("\\\n", " "))
    assert program == "cyclesr"
    return arguments


def cyclesr(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Exit code, and what it wrote. In this process: importing torch anew for each would take minutes."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        try:
            code = main(arguments)
        except SystemExit as leaving:  # argparse
            code = int(leaving.code or 0)
    return code, out.getvalue(), errors.getvalue()


def done(folder: Path, *arguments: str) -> str:
    code, out, errors = cyclesr(folder, *arguments)
    assert code == 0, errors
    return out


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with photographs, their LR, shards, a configuration, and all files of the page."""
    folder = tmp_path_factory.mktemp("mine")
    write_photos(folder / "photos", 4, 96, 96, seed=0)
    write_photos(folder / "others", 4, 24, 24, seed=1)
    for section in SECTIONS:
        name, text = code_of(section)
        (folder / name).write_text(text, encoding="utf-8")
    done(folder, "degrade", "--hr", "photos", "--track", "mild", "--out", "lr", "--quiet")
    shards = ["--out", "shards", "--quiet", "--allow-overlap", "shards.patch=8", "shards.stride=8"]
    done(folder, "shards", "build", "--hr", "photos", "--lr", "others", *shards)
    settings = [
        *tiny_overrides(),
        "data.hr=shards/hr",
        "data.lr=shards/lr",
        "train.max_steps=3",
        "data.allow_overlap=true",
        "system=sr_syn",
    ]
    settings += ["train.log_every_steps=1", "backend=single", "data.valid_hr=photos", "data.valid_lr=lr"]
    settings += ["train.validate_every_steps=3"]
    write_resolved(load(None, settings), folder / "demo.yaml")
    yield folder
    for section in SECTIONS:
        sys.modules.pop(code_of(section)[0].removesuffix(".py"), None)


def train(place: Path, section: str) -> Path:
    run = place / "runs" / section.replace(" ", "-")
    done(place, *command_of(section), "--run-dir", str(run), "--quiet")
    assert json.loads((run / "summary.json").read_text())["completed"]
    return run


def losses(run: Path) -> dict[str, float]:
    return dict(json.loads((run / "metrics.jsonl").read_text().splitlines()[0]))


def test_the_page_shows_each_in_twenty_lines_or_so() -> None:
    assert len(SECTIONS) == 9
    for section in SECTIONS:
        assert len(code_of(section)[1].splitlines()) <= 24, section


def test_sr_network(place: Path) -> None:
    run = train(place, "SR network")
    refused = cyclesr(place, "upscale", "lr", "--model", str(run), "--out", "big", "--quiet")
    assert refused[0] == 2
    assert "--allow-module" in refused[2]
    done(place, "upscale", "lr", "--model", str(run), "--out", "big", "--quiet", "--allow-module")


def test_translator(place: Path) -> None:
    assert "loss.cyc_forward" in losses(train(place, "Translator"))


def test_loss_term(place: Path) -> None:
    record = losses(train(place, "Loss term"))
    assert record["loss.g"] == pytest.approx(1000 * record["loss.mse"] + 5 * record["loss.more.edges"], rel=1e-4)


def test_system(place: Path) -> None:
    run = train(place, "System")
    assert json.loads((run / "summary.json").read_text())["system"] == "my_system:FLIPPED"
    done(place, "upscale", "lr", "--model", str(run), "--out", "big2", "--quiet")
    more = done(place, *command_of("System"), "--run-dir", str(run), "--resume", "train.max_steps=4", "--quiet")
    assert json.loads((run / "summary.json").read_text())["steps"] == 4, more
    done(place, "report", str(run))


def test_track(place: Path) -> None:
    arguments = [text if text != "lr" else "hazy" for text in command_of("Simulated track")]
    done(place, *arguments, "--quiet")
    record = json.loads((place / "hazy" / "degradations.json").read_text())
    assert record["levels"] == {"noise": 0.3}
    assert all(0 <= file["parameters"]["haze"] <= 0.3 for file in record["files"].values())
    assert "nothing to do" in done(place, *arguments, "--quiet")


def test_metric(place: Path) -> None:
    run = train(place, "Metric without pairs")
    (record,) = [json.loads(line) for line in (run / "validation.jsonl").read_text().splitlines()]
    best = json.loads((run / "summary.json").read_text())["best"]
    assert 0 < best["my_metric:SHARPNESS"] == record["my_metric:SHARPNESS"] < 2
    assert "my_metric:SHARPNESS" in (run / "report.html").read_text()
    done(place, "compare", str(run), str(run), "--out", "two.html")
    assert "my_metric:SHARPNESS" in (place / "two.html").read_text()


def test_a_search_takes_a_metric_of_mine(place: Path) -> None:
    text = "base: demo.yaml\nsteps: 3\nmetric: {}\nspace: {{weights.mse: {{uniform: [1, 2]}}}}\n"
    (place / "search.yaml").write_text(text.format("my_metric:SHARPNESS"))
    with contextlib.chdir(place):
        search = load_search(Path("search.yaml"))
    assert (search.mode, worst(search.metric)) == ("max", 0.0)
    assert search.scores[-1] == "my_metric:SHARPNESS"
    (place / "search.yaml").write_text(text.format("my_metric:sharpness"))
    code, _, errors = cyclesr(place, "tune", "--config", "search.yaml", "--run-dir", "no")
    assert (code, "a MetricSpec" in errors, (place / "no").exists()) == (2, True, False)


def test_scorer(place: Path) -> None:
    assert "worst" in done(place, *command_of("Scorer"), "--quiet")


def test_tracker(place: Path) -> None:
    lines = (train(place, "Tracker") / "numbers.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["1", "2", "3"]


def test_target(place: Path) -> None:
    objects = list(yaml.safe_load_all(done(place, *command_of("Submit target"))))
    assert objects[-1]["kind"] == "Job"
    assert objects[-1]["spec"]["suspend"] is True


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("train", "--config", "demo.yaml", "system=nowhere:X"), "system = 'nowhere:X'"),
        (("train", "--config", "demo.yaml", "system=my_track:HAZE"), "a SystemSpec"),
        (("train", "--config", "demo.yaml", "system=other"), "package.module:Name"),
        (("train", "--config", "demo.yaml", 'weights.more={"my_loss:edge": 1}'), "weights.more"),
        (("train", "--config", "demo.yaml", 'weights.more={"my_loss:edges": -1}'), "weights.more"),
        (
            ("train", "--config", "demo.yaml", "system=cyclesr", "nets.translator.kind=my_sr:Plain"),
            "nets.translator.kind",
        ),
        (("train", "--config", "demo.yaml", 'telemetry.trackers=["my_loss:edges"]'), "telemetry.trackers"),
        (("train", "--config", "demo.yaml", "validate.protocol=my_loss:nothing"), "protocol"),
        (("train", "--config", "demo.yaml", "validate.metric=my_metric:sharpness"), "a MetricSpec"),
        (("train", "--config", "demo.yaml", "validate.metric=sharp"), "niqe, or package.module:Name"),
        (("degrade", "--hr", "photos", "--track", "my_track:draw", "--out", "no"), "a SimulatedTrack"),
        (("degrade", "--hr", "photos", "--track", "fog", "--out", "no"), "package.module:TRACK"),
        (("evaluate", "--model", "bicubic", "--lr", "lr", "--hr", "photos", "--protocol", "fine"), "allowed: plain"),
        (("submit", "--config", "demo.yaml", "--target", "pbs", "--dry-run"), "allowed: job"),
    ],
)
def test_what_is_none_is_refused_in_one_line(place: Path, arguments: tuple[str, ...], named: str) -> None:
    code, _, errors = cyclesr(place, *arguments)
    assert code == 2, errors
    assert named in errors
    assert "Traceback" not in errors
    assert not (place / "runs" / "demo" / "config.yaml").exists()
    assert not (place / "no").exists()


MISBEHAVING = """
import sys
import torch
from cyclesr_dist.config.metrics import MetricSpec
from cyclesr_dist.config.systems import SystemSpec
from cyclesr_dist.degradation.track import SimulatedTrack
from cyclesr_dist.kubernetes.targets import Target
from cyclesr_dist.method.systems.parts import Players, sr_player

def fails(*arguments): raise RuntimeError("mine")
def leaves(*arguments): sys.exit(0)
def vector(sr, hr): return (sr - hr).abs().mean((1, 2, 3))
def detached(sr, hr): return (sr - hr).abs().mean().detach()
def changing(sr, hr): return (sr - hr.mul_(2)).abs().mean()
def nan(sr, hr): return (sr - hr).abs().mean() * float("nan")

def nothing(levels, draws): return {}
def once(levels, draws): return {"a": float(torch.rand(()))}
def track(change, **more):
    return SimulatedTrack(nothing, lambda hr, scale, *_: change(hr[..., ::scale, ::scale]), **more)
def grid(x): return (x * 255).round() / 255
SMALLER = track(lambda x: grid(x)[..., 1:])
BRIGHTER = track(lambda x: grid(x) + 0.5)
UNROUNDED = track(lambda x: x * 0.777)
NAN = track(lambda x: x * float("nan"))
GREY = track(lambda x: grid(x)[:, :1])
NONE = track(lambda x: None)
RAISES = track(fails)
UNSURE = SimulatedTrack(once, lambda hr, scale, *_: hr[..., ::scale, ::scale])
NOWHERE = track(grid, variants=())
TWICE = track(grid, variants=("a", "a"))

def nan_score(sr8, hr8): return {"psnr": float("nan"), "ssim": 1.0}
def text_score(sr8, hr8): return {"psnr": "good", "ssim": 1.0}
def no_score(sr8, hr8): return None

class Bare:
    def __init__(self, config, make_player, world, degradation): pass
class Unnamed(Players):
    def __init__(self, config, make_player, world, degradation): self.players = {"x": sr_player(config, make_player)}
    sr_players = {}
BARE, UNNAMED, RAISING = (SystemSpec(of, "mine", data="hr") for of in (Bare, Unnamed, fails))

EMPTY, NAMELESS = Target(lambda plan: []), Target(lambda plan: [{"kind": "Job"}])
UNKNOWN = Target(lambda plan: [{"kind": "Thing", "metadata": {"name": "x"}}])
FAILING = Target(fails)

class Keeps:
    def __init__(self, folder, settings, start, known): known["mine"] = 1
    def scalars(self, step, values): pass
    def picture(self, step, name, image): pass
    def close(self): pass
class Dies(Keeps):
    __init__ = fails

WORDLESS = MetricSpec("mine", score=lambda sr, lr: "good")
NOT_FINITE = MetricSpec("mine", score=lambda sr, lr: (sr - sr).mean() / 0)
STOPS, SCORELESS = MetricSpec("mine", score=leaves), MetricSpec("mine")
NEEDY = MetricSpec("mine", needs=("translator",), score=lambda sr, lr: 0.0)
"""
TRAIN = ("train", "--config", "demo.yaml")
DEGRADE = ("degrade", "--hr", "photos", "--out", "no", "--track")
EVALUATE = ("evaluate", "--model", "bicubic", "--lr", "lr", "--hr", "photos", "--protocol")
SUBMIT = ("submit", "--config", "demo.yaml", "--dry-run", "--target")


@pytest.mark.parametrize(
    ("command", "key", "names"),
    [
        (DEGRADE, "{}", "SMALLER BRIGHTER UNROUNDED NAN GREY NONE RAISES UNSURE NOWHERE TWICE"),
        (EVALUATE, "{}", "nan_score text_score no_score fails leaves"),
        (SUBMIT, "{}", "EMPTY NAMELESS UNKNOWN FAILING"),
        (TRAIN, "system={}", "BARE UNNAMED RAISING"),
        (TRAIN, 'weights.more={{"{}": 1}}', "vector detached changing nan fails leaves"),
        (TRAIN, 'telemetry.trackers=["{}"]', "Keeps Dies"),
        (TRAIN, "validate.metric={}", "WORDLESS NOT_FINITE STOPS SCORELESS NEEDY"),
    ],
)
def test_what_misbehaves_is_refused_in_one_line_and_leaves_nothing(
    place: Path, command: tuple[str, ...], key: str, names: str
) -> None:
    (place / "misbehaving.py").write_text(MISBEHAVING, encoding="utf-8")
    for name in names.split():
        text = f"misbehaving:{name}"
        code, _, errors = cyclesr(place, *command, key.format(text))
        assert code == 2, (name, errors)
        assert text in errors, errors
        assert "Traceback" not in errors
        assert not (place / "no").exists()
        assert not (place / "runs" / "demo" / "config.yaml").exists()
