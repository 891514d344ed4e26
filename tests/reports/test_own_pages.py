"""Photographs of one's own on the page of a run."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
from helpers.pages import add_upscaled, noise, page_of
from PIL import Image

from cyclesr_dist.reports.strips import comparison_strip


def test_own_photographs_are_shown_before_and_after_at_full_size(run: Path) -> None:
    (run / "comparisons/osprey.png").unlink()
    add_upscaled(run, "a b#?.png")
    page = page_of(run)
    assert "This run has no pictures" not in page.text
    assert [s["aria-label"] for s in page.tags("input")] == [
        "a b#?: bicubic left of the line, this run right of it",
    ]
    assert {(i["width"], i["height"]) for i in page.tags("img")} == {("360", "360")}
    (link,) = page.tags("a")
    assert link["href"] == "upscaled/a%20b%23%3F.png"
    assert "400 x 400 px" in page.text


def test_own_photographs_without_a_partner_are_shown_alone_and_broken_ones_named(run: Path) -> None:
    add_upscaled(run, "alone.png", bicubic=None)
    add_upscaled(run, "other_size.png", bicubic=300)
    add_upscaled(run, "small.png", side=20, bicubic=20)
    (run / "upscaled/broken.png").write_bytes(b"no picture")
    (run / "upscaled/notes.txt").write_text("no picture")
    page = page_of(run)
    assert [s["aria-label"] for s in page.tags("input")] == ["small: bicubic left of the line, this run right of it"]
    assert "Not a PNG, left out: upscaled/broken.png." in page.text
    assert len(page.tags("a")) == 3


def test_of_many_own_photographs_some_are_shown(run: Path) -> None:
    for i in range(10):
        add_upscaled(run, f"{i}.png", side=40, bicubic=None)
    page = page_of(run)
    assert len(page.tags("a")) == 8
    assert "2 more are in the folder upscaled." in page.text


def test_the_part_shown_is_the_one_with_most_to_see(run: Path, tmp_path: Path) -> None:
    picture = np.full((900, 3000, 3), 90, np.uint8)
    picture[300:500, 2200:2400] = noise(200, 200)
    (run / "upscaled").mkdir()
    Image.fromarray(picture).save(run / "upscaled/a.png")
    source = next(str(i["src"]) for i in page_of(run).tags("img") if i["width"] == "360")
    (tmp_path / "a.webp").write_bytes(base64.b64decode(source.partition(",")[2]))
    with Image.open(tmp_path / "a.webp") as shown:
        assert (np.asarray(shown.convert("RGB")) != 90).any(-1).sum() > 0.95 * 200 * 200


def test_why_there_are_no_pictures(run: Path) -> None:
    (run / "comparisons/osprey.png").unlink()
    for config, why in (
        ("data: {valid_lr: ''}", "the run was given none (data.valid_lr)"),
        ("{data: {valid_lr: x}, validate: {pictures: 0}}", "validate.pictures = 0"),
        ("{data: {valid_lr: x}, train: {validate_every_steps: 0}}", "train.validate_every_steps = 0"),
        ("{data: {valid_lr: x}}", "the first validation, which the run has not reached"),
    ):
        (run / "validation.jsonl").unlink(missing_ok=True)
        (run / "config.yaml").write_text(config)
        assert why in page_of(run).text


def test_translated_photographs_lie_beside_real_ones(run: Path) -> None:
    (run / "pictures").mkdir()
    panels = [(name, noise(40, 40, i)) for i, name in enumerate(("translated", "real LR", "shrunk only"))]
    strip = comparison_strip(panels, (0, 0, 40), 3)
    Image.fromarray(strip).save(run / "pictures/translated.last.png")
    page = page_of(run)
    assert "It should be as soft and as noisy as the second" in page.text
    assert [i["width"] for i in page.tags("img")].count("120") == 3
