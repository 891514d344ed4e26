"""The pages of real runs in a real browser: no error, no request, a slider that moves, nothing that axe objects to."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import write_photos
from PIL import Image

from cyclesr_dist.cli.main import main as cyclesr
from cyclesr_dist.training.main import main as train

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")
playwright_api = pytest.importorskip("playwright.sync_api", reason="pip install -e '.[browser]'")
WIDTHS = (1280, 400)


def trained(config_file: Path, tiny_data: Any, run: Path, *settings: str) -> Path:
    arguments = ["--config", str(config_file), "--run-dir", str(run), "--quiet", *tiny_data.overrides, *settings]
    assert train(arguments) == 0
    return run


@pytest.fixture(scope="module")
def whole(config_file, tiny_data, tmp_path_factory) -> Path:
    """The report of a run that has ended."""
    run = trained(config_file, tiny_data, tmp_path_factory.mktemp("runs") / "whole", "train.max_steps=8")
    assert cyclesr(["report", str(run)]) == 0
    return run / "report.html"


@pytest.fixture(scope="module")
def crashed(config_file, tiny_data, tmp_path_factory) -> Path:
    """Of one that was started again, had bad steps and crashed, as its files tell."""
    settings = ["train.max_steps=4", "seed=1"]
    run = trained(config_file, tiny_data, tmp_path_factory.mktemp("runs") / "crashed", *settings)
    (run / "summary.json").unlink()
    started = (run / "events.jsonl").read_text().splitlines()[0]
    events = [started, started, json.dumps({"event": "failed", "at": 1.7e9, "reason": "rank 1 failed first: lost"})]
    (run / "events.jsonl").write_text("\n".join(events) + "\n")
    bad = {"step": 5, "grad_norm": {"g": "nan"}, "ranks": [{"hr": ["photo0_0_0"]}]}
    (run / "bad_steps.jsonl").write_text(json.dumps(bad) + "\n")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "loss.m')
    assert cyclesr(["report", str(run)]) == 0
    return run / "report.html"


@pytest.fixture(scope="module")
def compare(whole, crashed, tmp_path_factory) -> Path:
    """Both of them side by side."""
    comparison = tmp_path_factory.mktemp("page") / "compare.html"
    assert cyclesr(["compare", str(whole.parent), str(crashed.parent), "--out", str(comparison)]) == 0
    return comparison


@pytest.fixture(scope="module")
def estimate(tiny_data, tmp_path_factory) -> Path:
    """What `cyclesr estimate` found between two folders."""
    out = tmp_path_factory.mktemp("estimate") / "out"
    folders = [write_photos(out.parent / name, 6, 320, 320, seed=seed) for seed, name in enumerate(("hr", "lr"))]
    command = ["estimate", "--hr", str(folders[0]), "--lr", str(folders[1]), "--out", str(out), "--quiet"]
    assert cyclesr(command) == 0
    return out / "degradation.html"


@pytest.fixture
def file(name: str, request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(name)
    return path


slow = pytest.mark.slow
NAMES = ["whole", "estimate", pytest.param("crashed", marks=slow), pytest.param("compare", marks=slow)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NAMES)
def test_page_opens_without_an_error_or_a_request_and_fits(name, width, file, browser, tmp_path) -> None:
    assert file.stat().st_size < 8_000_000
    said: list[str] = []
    asked: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width  # only tables scroll, by themselves
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width  # unfolded, too
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert page.evaluate("[...document.querySelectorAll('svg')].every(s => s.getBoundingClientRect().width > 200)")
    folder = Path(os.environ.get("CYCLESR_SCREENSHOTS", tmp_path))
    page.screenshot(path=folder / f"{name}-{width}.png", full_page=True)
    assert not said
    assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
    page.close()


@pytest.mark.parametrize("name", ["whole", pytest.param("compare", marks=slow)])
def test_the_slider_moves_the_line_by_mouse_and_by_keys(name, file, browser, tmp_path) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(file.as_uri())
    pair, slider = page.locator(".before-after .pair").first, page.locator(".before-after input").first
    before, after = (pair.locator("img").nth(i) for i in (0, 1))
    assert before.get_attribute("src") != after.get_attribute("src")

    def shown(file: str) -> np.ndarray:
        pair.screenshot(path=tmp_path / file)
        return np.asarray(Image.open(tmp_path / file).convert("RGB")).astype(int)

    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.95, box["y"] + box["height"] / 2)
    far_right = shown("right.png")
    assert float(slider.input_value()) > 85
    slider.press("Home")
    far_left = shown("left.png")
    assert slider.input_value() == "0"
    slider.press("ArrowRight")
    assert slider.input_value() == "1"
    middle = slice(far_left.shape[1] // 4, far_left.shape[1] // 2)
    assert np.abs(far_right[:, middle] - far_left[:, middle]).mean() > 0.2  # another picture is in view
    page.close()


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=slow)])
@pytest.mark.parametrize("name", NAMES)
def test_axe_finds_nothing(name, scheme, file, browser) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    context = browser.new_context(bypass_csp=True, color_scheme=scheme, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    found = axe.Axe().run(page).response["violations"]
    assert not found, [(v["id"], v["help"], [n["html"][:200] for n in v["nodes"][:3]]) for v in found]
    context.close()
