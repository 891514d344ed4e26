"""Several runs on one page."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.pages import Page, add_upscaled
from PIL import Image

from cyclesr_dist.cli.main import main as cyclesr
from cyclesr_dist.reports.compare import write_comparison


def test_comparison_shows_runs_side_by_side(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name in ("metrics.jsonl", "validation.jsonl"):
        (other / name).write_text((run / name).read_text())
    (other / "config.yaml").write_text("system: cyclesr\nseed: 4\nscale: 4\ntrack: mild\n")
    for folder in (run, other):
        (folder / "pictures").mkdir()
        Image.new("RGB", (32, 32)).save(folder / "pictures/a.last.png")
    out = tmp_path / "compare.html"
    assert cyclesr(["compare", str(run), str(other), "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    page = Page(out.read_text())
    assert "demo · other" in page.text
    assert "22.54 at 500" in page.text
    assert "seed34" in page.text  # values of the two runs
    assert "scale44" not in page.text
    assert {"PSNR on real LR", "mse", "Throughput"} <= set(page.charts)
    assert page.tags("input")[0]["aria-label"] == "a: demo left of the line, other right of it"
    assert all(str(image["src"]).startswith("data:") for image in page.tags("img"))


def test_comparison_of_folders_of_one_name_tells_them_apart(run: Path, tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / name / "demo").mkdir(parents=True)
        (tmp_path / name / "demo/metrics.jsonl").write_text((run / "metrics.jsonl").read_text())
    write_comparison([tmp_path / "x/demo", tmp_path / "y/demo"], tmp_path / "out.html")
    assert "x/demo · y/demo" in (tmp_path / "out.html").read_text()
    write_comparison([run, run, tmp_path / "x/demo"], tmp_path / "out.html")
    assert "demo (2)" in (tmp_path / "out.html").read_text()


def test_comparison_refuses_one_run_and_what_is_none(run: Path, tmp_path: Path, capsys) -> None:
    assert cyclesr(["compare", str(run), "--out", str(tmp_path / "a.html")]) == 2
    assert cyclesr(["compare", str(run), str(tmp_path / "none"), "--out", str(tmp_path / "a.html")]) == 2
    assert cyclesr(["compare", str(run), str(run), "--out", str(tmp_path / "none/a.html")]) == 2
    assert not (tmp_path / "a.html").exists()
    assert capsys.readouterr().err.count("cyclesr: error:") == 3


# Several runs, some of which lack what others have


def test_comparison_shows_what_there_is(run: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "metrics.jsonl").write_text((run / "metrics.jsonl").read_text())
    (run / "pictures").mkdir()
    for name in ("a.bicubic", "a.last", "figure3.last", "translated.last"):
        Image.new("RGB", (32, 32), (len(name), 5, 5)).save(run / f"pictures/{name}.png")
    add_upscaled(run, "own.png", side=80, bicubic=80)
    write_comparison([run, bare], tmp_path / "out.html")
    page = Page((tmp_path / "out.html").read_text())
    assert page.text.count("no picture") == 2
    assert not page.tags("input")
    assert [image["alt"] for image in page.tags("img")] == ["own: bicubic", "own: demo", "a: bicubic", "a: demo"]
    assert "did it workyesnot known yet" in page.text.replace("\n", "")
    assert "PSNR on test photographs, dB22.54\u2013" in page.text
    write_comparison([bare, bare], tmp_path / "out.html")
    assert "The runs have no pictures." in (tmp_path / "out.html").read_text()


def test_comparison_has_a_slider_only_over_pictures_of_one_size(run: Path, tmp_path: Path) -> None:
    for name, side in (("one", 32), ("other", 48)):
        (tmp_path / name / "pictures").mkdir(parents=True)
        (tmp_path / name / "metrics.jsonl").write_text((run / "metrics.jsonl").read_text())
        Image.new("RGB", (side, side)).save(tmp_path / name / "pictures/a.last.png")
    write_comparison([tmp_path / "one", tmp_path / "other"], tmp_path / "out.html")
    page = Page((tmp_path / "out.html").read_text())
    assert not page.tags("input")
    assert len(page.tags("img")) == 2
