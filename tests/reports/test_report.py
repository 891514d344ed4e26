"""The pictures, the charts and the page of a run."""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cyclesr_dist.cli import report as report_command
from cyclesr_dist.cli.main import main as cyclesr
from cyclesr_dist.config.reader import to_dict
from cyclesr_dist.config.schema import load
from cyclesr_dist.errors import InputError
from cyclesr_dist.reports.album import SLIDER_SCRIPT, Album
from cyclesr_dist.reports.compare import write_comparison
from cyclesr_dist.reports.curves import MAX_POINTS, line_chart
from cyclesr_dist.reports.paper import differences
from cyclesr_dist.reports.run_report import MAX_PICTURES, write_report
from cyclesr_dist.reports.strips import comparison_strip, most_detailed_crop, panels_of, save_comparison
from cyclesr_dist.runtime.command import guarded

TABLE = {
    "bicubic": {"psnr": 22.35, "ssim": 0.601},
    "sr_syn": {"psnr": 21.72, "ssim": 0.572},
    "cyclesr": {"psnr": 22.54, "ssim": 0.633},
    "sr_paired": {"psnr": 24.03, "ssim": 0.668},
}
TERMS = ("adv_s2r", "adv_r2s", "cyc_forward", "cyc_backward", "id_real", "id_syn", "mse", "d_r", "d_s", "total")


class Page(HTMLParser):
    """Checks that every element is closed in order; collects elements and the text of each section."""

    VOID = frozenset({"meta", "img", "br", "hr", "link", "input", "wbr"})

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["script"]:
            self.scripts.append(data)
        elif self.open[-1:] != ["style"]:
            self.text += data

    def tags(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]

    @property
    def charts(self) -> list[str | None]:
        return [attrs["aria-label"] for attrs in self.tags("svg")]


def page_of(run: Path) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


def write_lines(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def metrics_row(step: int) -> dict[str, object]:
    row: dict[str, object] = {"step": step, "epoch": step // 100, "phase": "pretrain" if step < 100 else "joint"}
    row |= {f"loss.{term}": (i + 1) * math.exp(-step / 300) for i, term in enumerate(TERMS)}
    row |= {"grad_norm.g": 3.0 + step / 100, "grad_norm.d": 1.5, "patches_per_second": 40.0 + step % 7}
    return row | {"loss.drift_mean": 0.01, "loss.drift_std": 0.04}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "demo"
    (folder / "comparisons").mkdir(parents=True)
    (folder / "config.yaml").write_text(
        "system: cyclesr\nseed: 3\nscale: 4\ntrack: mild\nperceptual:\n  source: random\noptim:\n  clip_norm: 50.0\n"
    )
    write_lines(folder / "metrics.jsonl", [metrics_row(step) for step in range(10, 600, 10)])
    write_lines(
        folder / "validation.jsonl",
        [{"step": s, "psnr": 21 + s / 400 - (s > 500), "ssim": 0.6 + s / 1e4} for s in range(100, 601, 100)],
    )
    summary = {
        "table": TABLE,
        "best": {"step": 500, "psnr": 22.54},
        "wall_seconds": 723.4,
        "versions": {"torch": "2.13.0"},
        "notes": ["Trained on 11 photographs."],
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    Image.new("RGB", (60, 30), (200, 30, 40)).save(folder / "comparisons" / "osprey.png")
    return folder


def change_summary(run: Path, **changes: object) -> None:
    path = run / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# The page


def test_page_tells_who_won_and_by_how_much(run: Path) -> None:
    text = page_of(run).text
    assert "system cyclesr · track mild" in text
    assert "cyclesr wins with 22.54 dB: 0.19 dB over bicubic and 0.82 dB over sr_syn." in text
    assert "sr_paired, reaches 24.03 dB (+1.49 dB)" in text
    assert "best validation PSNR, at step 500" in text
    assert "Took 12 min 3 s." in text
    assert "torch 2.13.0" in text
    assert "Trained on 11 photographs." in text


def test_page_says_when_the_run_lost(run: Path) -> None:
    change_summary(run, table=TABLE | {"cyclesr": {"psnr": 21.0, "ssim": 0.5}})
    text = page_of(run).text
    assert "bicubic wins with 22.35 dB: 0.63 dB over sr_syn." in text
    assert "The system of this run, cyclesr, reaches 21.00 dB (\u22121.35 dB)." in text


def test_table_marks_the_best_without_pairs_and_gives_deltas(run: Path) -> None:
    source = write_report(run).read_text(encoding="utf-8")
    rows = {r.split("<small>")[0].split('row">')[1]: r for r in re.findall(r"<tr><th scope=\"row\">.*?</tr>", source)}
    assert list(rows) == list(TABLE)
    assert [name for name, row in rows.items() if "<strong>" in row] == ["cyclesr"]
    assert "<strong>22.54</strong>" in rows["cyclesr"]
    assert "<strong>0.6330</strong>" in rows["cyclesr"]
    assert "<td>+0.19</td>" in rows["cyclesr"]
    assert "<td>\u22120.63</td>" in rows["sr_syn"]
    assert "<td>+1.68</td>" in rows["sr_paired"]


def test_every_section_has_its_charts(run: Path) -> None:
    page = page_of(run)
    assert page.charts == [
        "PSNR on real LR",
        "SSIM on real LR",
        "Translator terms, equation (2)",
        "SR terms, equation (4)",
        "Discriminators",
        "Weighted total, equation (3)",
        "fake_real \u2212 syn",
        "Gradient norms by player",
        "Throughput",
    ]
    assert "bicubic 22.35" not in page.text  # it is of test photographs, the chart of validation photographs
    assert "clipped at 50" in page.text
    assert "Median throughput: 43 patches per second." in page.text
    for what in ("pictures", "validation scores", "logged losses", "drift", "gradient norms", "throughput", "config"):
        assert f"This run has no {what}" not in page.text


def test_page_needs_nothing_but_itself(run: Path) -> None:
    page = page_of(run)
    (image,) = page.tags("img")
    assert str(image["src"]).startswith("data:image/webp;base64,")
    assert (image["width"], image["height"]) == ("60", "30")
    assert page.scripts == [SLIDER_SCRIPT]
    policy = next(str(meta["content"]) for meta in page.tags("meta") if "http-equiv" in meta)
    digest = base64.b64encode(hashlib.sha256(SLIDER_SCRIPT.encode()).digest()).decode()
    assert policy.endswith(f"script-src 'sha256-{digest}'")
    assert "default-src 'none'" in policy
    assert not page.tags("link")
    attributes = [value for _, attrs in page.elements for name, value in attrs.items() if name in ("src", "href")]
    assert all(str(value).startswith("data:") for value in attributes)


def test_page_is_the_same_every_time(run: Path) -> None:
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first
    assert not [path for path in run.iterdir() if path.name.endswith(".tmp")]


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("config.yaml", "This run has no config.yaml."),
        ("metrics.jsonl", "This run has no logged losses."),
        ("validation.jsonl", "This run has no validation scores."),
        ("comparisons/osprey.png", "This run has no pictures."),
    ],
)
def test_missing_file_costs_its_section_only(run: Path, missing: str, sentence: str) -> None:
    (run / missing).unlink()
    page = page_of(run)
    assert sentence in page.text
    assert page.charts or page.tags("td")


def test_best_comes_from_validation_when_the_summary_names_none(run: Path) -> None:
    change_summary(run, best=None)
    assert "best validation PSNR, at step 500" in page_of(run).text


@pytest.mark.parametrize("rest", [b'{"step": 600, "loss.m', b'{"step": 600, "phase": "\xc3', b"\x00\x00\x00"])
def test_half_written_last_line_is_skipped_and_noted(run: Path, rest: bytes) -> None:
    before = page_of(run)
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(rest)
    after = page_of(run)
    assert "metrics.jsonl: line 60 could not be read and was skipped" in after.text
    assert after.charts == before.charts


def test_text_from_files_is_escaped(run: Path) -> None:
    attack = "<script>alert('x')</script>"
    with (run / "config.yaml").open("a") as file:
        file.write(f'data:\n  hr: "{attack}"\n')
    (run / "config.yaml").write_text((run / "config.yaml").read_text().replace("track: mild", f'track: "{attack}"'))
    write_lines(run / "metrics.jsonl", [{"step": s, f"loss.{attack}": 0.5, f"grad_norm.{attack}": 1.0} for s in (1, 2)])
    change_summary(
        run,
        table=TABLE | {attack: {"psnr": 20.0}},
        notes=[attack],
        verdict=attack,
        versions={attack: attack},
    )
    (run / "comparisons" / "osprey.png").rename(run / "comparisons" / '"><script>.png')
    page = page_of(run)
    assert page.scripts == [SLIDER_SCRIPT]
    assert page.text.count(attack) >= 8


def test_random_perceptual_features_are_owned_up_to(run: Path) -> None:
    assert "random VGG features" not in page_of(run).text  # cyclesr has no perceptual loss
    (run / "config.yaml").write_text("system: cyclesrgan\nperceptual:\n  source: random\n")
    assert "random VGG features" in page_of(run).text
    (run / "config.yaml").write_text("system: cyclesrgan\nperceptual:\n  source: torchvision\n")
    assert "random VGG features" not in page_of(run).text


def test_values_that_are_not_finite_do_not_break_the_page(run: Path) -> None:
    write_lines(
        run / "metrics.jsonl", [{"step": s, "loss.mse": float("nan"), "patches_per_second": None} for s in (1, 2)]
    )
    write_lines(run / "validation.jsonl", [{"step": 1, "psnr": float("inf"), "ssim": float("nan")}])
    change_summary(run, table={"bicubic": {"psnr": float("nan")}, "cyclesr": None}, best={"psnr": None}, notes="none")
    page = page_of(run)
    assert "no values to draw" in page.text
    assert "Scores" not in page.text


def test_many_pictures_are_cut_off_and_broken_ones_named(run: Path) -> None:
    for i in range(MAX_PICTURES + 2):
        Image.new("RGB", (4, 4)).save(run / "comparisons" / f"p{i:02}.png")
    (run / "comparisons" / "a.png").write_bytes(b"no picture")
    page = page_of(run)
    assert len(page.tags("img")) == MAX_PICTURES - 1
    assert "4 more are in the folder comparisons." in page.text
    assert "Not a PNG, left out: a.png." in page.text


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("config.yaml", "a: [", "config.yaml: not valid YAML"),
        ("config.yaml", "- a", "config.yaml: holds a list; a mapping is needed"),
        ("config.yaml", b"\xff\xfe", "config.yaml: not UTF-8"),
        ("summary.json", "{", "summary.json: not valid JSON"),
    ],
)
def test_unreadable_config_or_summary_is_an_input_error(
    run: Path, name: str, content: str | bytes, expected: str
) -> None:
    (run / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=re.escape(expected)) as error:
        write_report(run)
    assert "\n" not in str(error.value)
    assert not (run / "report.html").exists()


# What happened to the run


STARTED = {"event": "started", "at": 1.7e9, "step": 0, "num_ranks": 2}


def environment() -> dict[str, object]:
    return {"host": "node7", "device": "a GPU", "versions": {"torch": "2.13.0"}}


def test_a_run_still_going_says_so_and_how_far_it_is(run: Path) -> None:
    (run / "summary.json").unlink()
    write_lines(run / "events.jsonl", [STARTED | {"environment": environment()}])
    page = page_of(run)
    assert "Still going, or killed without a word; last logged: step 590." in page.text
    assert "Started once." in page.text
    assert "node7" in page.text


def test_a_crashed_run_says_why(run: Path) -> None:
    write_lines(run / "events.jsonl", [STARTED, {"event": "failed", "at": 1.7e9 + 60, "reason": "rank 1 burnt"}])
    text = page_of(run).text
    assert "Failed at step 590: rank 1 burnt" in text
    assert "2023-11-14 22:14:20" in text


def test_restarts_and_bad_steps_are_listed(run: Path) -> None:
    again = STARTED | {"step": 100, "at": 1.7e9 + 5}
    events = [STARTED, again, {"event": "rolled_back", "at": 1.7e9 + 9, "step": 50, "reason": "bad gradients"}]
    write_lines(run / "events.jsonl", [*events, {"event": "finished", "at": 1.7e9 + 20}])
    bad = {"step": 77, "grad_norm": {"g": "nan"}, "ranks": [{"hr": ["a_0_0", "b_0_0"]}, {"hr": ["c_0_0"] * 9}]}
    write_lines(run / "bad_steps.jsonl", [bad])
    text = page_of(run).text
    assert "Restarted once." in text
    assert "the start before ended without a word" in text
    assert "went back" in text
    assert "g nan" in text
    assert "a_0_0, b_0_0, c_0_0, c_0_0 and 7 more" in text
    assert "Still going" not in text


def test_time_by_part_and_phases_are_shown(run: Path) -> None:
    rows = [metrics_row(step) | {"seconds.step": 3.0, "seconds.data_wait": 1.0} for step in range(10, 600, 10)]
    write_lines(run / "metrics.jsonl", rows)
    page = page_of(run)
    assert "waiting for batches59.0 s25.0%" in page.text.replace("\n", "")
    assert page.text.count("joint") >= 5  # a mark in every chart of losses and of validation
    assert "Time by part, between two logs" in page.charts


def test_sliders_come_from_the_pictures_of_the_run(run: Path) -> None:
    (run / "pictures").mkdir()
    for name in ("a.lr", "a.bicubic", "a.first", "a.last", "a.hr", "figure3.first", "figure3.last"):
        Image.new("RGB", (32, 32), (len(name) * 9, 5, 5)).save(run / f"pictures/{name}.png")
    page = page_of(run)
    sliders = page.tags("input")
    assert [s["aria-label"] for s in sliders] == [
        "a, centre: bicubic left of the line, g_l2h, last validation right of it",
        "a, what training changed: first validation left of the line, last validation right of it",
        "a, against the original: g_l2h, last validation left of the line, original right of it",
    ]
    assert len(page.tags("img")) == 6 + 2 + 1
    assert all(image["alt"] for image in page.tags("img"))
    (run / "pictures/a.best.png").write_bytes((run / "pictures/a.last.png").read_bytes())
    assert "g_l2h, best validation" in str(page_of(run).tags("input")[0]["aria-label"])


def test_pictures_stay_within_their_budget(tmp_path: Path) -> None:
    noise_image = Image.fromarray(noise(128, 128))
    for i in range(3):
        noise_image.save(tmp_path / f"{i}.png")
    album = Album(100_000)
    shown = [album.picture(tmp_path / f"{i}.png", "noise") for i in range(3)]
    assert sum(map(len, shown)) < 100_000 + 3 * 200
    assert len(shown[0]) > 2 * len(shown[1])  # lossless, then lossy
    tiny = Album(10)
    assert tiny.picture(tmp_path / "0.png", "noise") == ""
    assert tiny.notes() == ["No room on the page for: 0.png."]


def test_differences_are_from_the_papers_configuration_of_the_track() -> None:
    shipped = Path(__file__).parents[2] / "configs"
    for name in ("ntire17_t2", "ntire17_t2_gan", "ntire18_t2", "ntire18_t2_gan", "ntire18_t4", "ntire18_t4_gan"):
        found = differences(to_dict(load(shipped / f"{name}.yaml")))
        assert [key for key, *_ in found] == ["precision"], name  # the paper has no bf16
    changed = differences(to_dict(load(shipped / "ntire18_t2.yaml", ["weights.mse=1000", "precision=fp32"])))
    assert changed == [("weights.mse", "1000", "100")]


def test_the_page_lists_differences_from_the_paper(run: Path) -> None:
    (run / "config.yaml").write_text("track: unknown\nweights:\n  mse: 20.0\n  cyc: 10.0\nunheard_of: 1\n")
    text = page_of(run).text
    assert "weights.mse201000" in text
    assert "unheard_of1\u2013" in text
    assert "weights.cyc10" not in text


# Several runs


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


# The command


def call(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    report_command.add_parser(parser.add_subparsers())
    args = parser.parse_args(["report", *arguments])
    return guarded(lambda: args.run(args), debug=False)


def test_command_prints_the_path_of_each_page(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(str(run), str(run)) == 0
    assert capsys.readouterr().out == f"{run / 'report.html'}\n" * 2


def test_command_refuses_what_is_no_run_folder(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = run.parent / "empty"
    empty.mkdir()
    for wrong in (empty, run / "config.yaml", run / "nowhere"):
        assert call(str(run), str(wrong)) == 2
        captured = capsys.readouterr()
        assert str(wrong) in captured.err
        assert captured.err.count("\n") == 1
        assert captured.out == ""
    assert not (run / "report.html").exists()


# The charts


def polylines(svg: str) -> list[list[tuple[float, float]]]:
    return [
        [(float(x), float(y)) for x, _, y in (place.partition(",") for place in str(attrs["points"]).split())]
        for attrs in Page(svg).tags("polyline")
    ]


def test_chart_rises_where_the_values_rise() -> None:
    for log_y in (False, True):
        (line,) = polylines(line_chart("t", {"a": [(0, 1), (1, 10), (2, 100)]}, "step", "y", log_y=log_y))
        assert line[0][0] < line[1][0] < line[2][0]
        assert line[0][1] > line[1][1] > line[2][1]  # y grows downwards in SVG
        middle = (line[0][1] + line[2][1]) / 2
        assert (abs(line[1][1] - middle) < 0.2) == log_y


def test_chart_of_a_long_series_is_thinned_but_keeps_its_spike() -> None:
    points = [(float(i), 1.0) for i in range(10_000)]
    points[5_432] = (5_432.0, 9.0)
    points[7_000] = (7_000.0, -4.0)
    full = polylines(line_chart("t", {"a": [points[0], points[5_432], points[7_000], points[-1]]}, "x", "y"))[0]
    (line,) = polylines(line_chart("t", {"a": points}, "x", "y"))
    assert len(line) <= MAX_POINTS
    assert line[0] == full[0]
    assert line[-1] == full[-1]
    assert {full[1], full[2]} <= set(line)
    assert [x for x, _ in line] == sorted(x for x, _ in line)


def test_chart_leaves_out_what_it_cannot_draw_and_says_so() -> None:
    points = [(0.0, 1.0), (1.0, math.nan), (2.0, math.inf), (3.0, 0.0), (4.0, 2.0)]
    linear, logarithmic = (line_chart("t", {"a": points}, "x", "y", log_y=log_y) for log_y in (False, True))
    assert [len(line) for line in polylines(linear) + polylines(logarithmic)] == [3, 2]
    assert "2 values not drawn" in linear
    assert "3 values not drawn" in logarithmic


@pytest.mark.parametrize("values", [[], [3.0], [0.0, 0.0], [1e-12, 1.0000001e-12], [1e9, 1e9 + 1], [-5.0, 5e6]])
@pytest.mark.parametrize("log_y", [False, True])
def test_chart_of_any_range_stays_inside_its_frame(values: list[float], log_y: bool) -> None:
    svg = line_chart("t", {"a": list(enumerate(values))}, "x", "y", {"base": 2.0}, log_y=log_y)
    page = Page(svg)
    _, _, width, height = (float(v) for v in str(page.tags("svg")[0]["viewbox"]).split())
    for line in polylines(svg):
        assert all(0 <= x <= width and 0 <= y <= height for x, y in line)
    assert len(page.tags("text")) < 40


def test_chart_shows_references_inside_its_range() -> None:
    svg = line_chart("t", {"a": [(0, 20), (1, 21)]}, "x", "dB", {"bicubic": 22.35, "sr_syn": 22.34})
    dashed = [attrs for attrs in Page(svg).tags("line") if attrs.get("stroke-dasharray")]
    ((_, low), (_, high)) = polylines(svg)[0]
    assert [40 < float(str(attrs["y1"])) < high < low for attrs in dashed] == [True, True]
    labels = [
        float(str(attrs["y"]))
        for attrs, name in zip(Page(svg).tags("text"), re.findall(r"<text[^>]*>(.*?)</text>", svg), strict=True)
        if name in ("bicubic 22.35", "sr_syn 22.34")
    ]
    assert len(labels) == 2
    assert abs(labels[0] - labels[1]) >= 11  # close lines, labels that do not overlap


# The pictures


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_crop_finds_the_detail() -> None:
    hr = np.full((120, 200, 3), 90, np.uint8)
    hr[50:80, 130:160] = noise(30, 30)
    y, x, size = most_detailed_crop(hr, 40)
    assert size == 40
    assert y <= 50
    assert y + size >= 80
    assert x <= 130
    assert x + size >= 160


@pytest.mark.parametrize("axis", [0, 1])
def test_crop_counts_edges_of_both_directions(axis: int) -> None:
    hr = np.full((160, 160, 3), 90, np.uint8)
    hr[80:110] = noise(30, 1)  # stripes across the whole picture, without an end
    start = most_detailed_crop(hr if axis == 0 else hr.swapaxes(0, 1), 40)[axis]
    assert 70 <= start <= 80


def test_crop_keeps_away_from_the_border_and_inside_small_pictures() -> None:
    hr = np.zeros((100, 100, 3), np.uint8)
    hr[:10, :10] = noise(10, 10)
    y, x, _ = most_detailed_crop(hr, 40)
    assert (y, x) == (16, 16)
    assert most_detailed_crop(noise(30, 50), 64)[2] == 30
    assert most_detailed_crop(np.zeros((100, 100, 3), np.uint8), 20) == (16, 16, 20)


def test_strip_shows_the_same_place_of_every_panel() -> None:
    hr, lr = noise(40, 60), noise(10, 15, seed=1)
    strip = comparison_strip([("LR", lr), ("HR\n23.41 dB", hr)], (8, 12, 16), 3)
    gutter = (strip.shape[1] - 2 * 48) // 3
    left, right = strip[:48, gutter : gutter + 48], strip[:48, 2 * gutter + 48 : 2 * gutter + 96]
    assert np.array_equal(right[::3, ::3], hr[8:24, 12:28])
    assert np.array_equal(right[1::3, 2::3], hr[8:24, 12:28])
    assert np.array_equal(left[::12, ::12], lr[2:6, 3:7])
    assert np.array_equal(left[11::12, 11::12], lr[2:6, 3:7])
    assert (strip[:, :gutter] == 255).all()
    caption = strip[48:]
    assert caption.min() < 80  # dark text
    assert np.median(caption) == 255  # on white


def test_caption_that_is_too_long_is_set_smaller_not_cut() -> None:
    panels = [("a name of a method much too long for it", noise(40, 40)), ("b", noise(40, 40))]
    strip = comparison_strip(panels, (0, 0, 40), 6)
    gutter = (strip.shape[1] - 480) // 3
    caption = strip[240:, gutter : gutter + 240]
    assert caption.min() < 80
    assert (caption[:, :2] == 255).all()
    assert (caption[:, -2:] == 255).all()


def test_strip_refuses_a_panel_that_does_not_cover_the_crop() -> None:
    with pytest.raises(InputError, match="'cyclesr' of 60x38 px"):
        comparison_strip([("cyclesr\n20.00 dB", noise(38, 60)), ("HR", noise(40, 60))], (24, 0, 16), 2)


def test_saved_comparison_is_a_deterministic_png_with_scores(tmp_path: Path) -> None:
    hr, lr = noise(160, 320), noise(40, 80, seed=1)
    columns = {"bicubic": noise(160, 320, 2), "cyclesr": noise(160, 320, 3)}
    paths = [tmp_path / "comparisons" / name for name in ("a.png", "b.png", "c.png")]
    for path, scores in zip(paths, ({"cyclesr": 23.41}, {"cyclesr": 23.41}, {}), strict=True):
        save_comparison(path, lr, columns, hr, scores)
    with Image.open(paths[0]) as image:
        assert image.format == "PNG"
        assert image.width > 4 * 112 * 2
        assert image.height > 2 * 112 * 2  # two crops
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].read_bytes() != paths[2].read_bytes()
    assert sorted(path.name for path in (tmp_path / "comparisons").iterdir()) == ["a.png", "b.png", "c.png"]


def test_comparison_of_a_small_picture_has_one_crop(tmp_path: Path) -> None:
    hr = noise(64, 80)
    save_comparison(tmp_path / "a.png", noise(16, 20), {"bicubic": hr}, hr, {"bicubic": math.inf})
    with Image.open(tmp_path / "a.png") as image:
        assert 128 < image.height < 256


def test_a_finished_run_says_what_it_took(run: Path) -> None:
    change_summary(run, completed=True, steps=1200, train_seconds=75.0, num_ranks=2)
    assert "Finished: 1,200 steps in 1 min 15 s on 2 ranks." in page_of(run).text


def test_pictures_that_are_the_same_are_shown_once(run: Path) -> None:
    pictures = run / "pictures"
    pictures.mkdir()
    for name, grey in (("lr", 1), ("bicubic", 2), ("first", 3), ("best", 3), ("last", 4)):
        Image.new("RGB", (8, 8), (grey, grey, grey)).save(pictures / f"a.{name}.png")
    for name, grey in (("first", 3), ("best", 3), ("last", 4)):
        Image.new("RGB", (8, 8), (grey, grey, grey)).save(pictures / f"figure3.{name}.png")
    text = page_of(run).text
    assert "first and best validation" in text
    assert "last validation" in text
    assert text.count("what training changed") == 1  # from the first, which was the best, to the last
    (pictures / "a.last.png").unlink()
    assert "what training changed" not in page_of(run).text


def test_marks_are_in_view_and_their_names_inside() -> None:
    chart = line_chart("PSNR", {"psnr": [(60.0, 1.0), (100.0, 2.0)]}, "step", "dB", marks={"joint": 50.0, "late": 99.9})
    assert "joint" in chart
    ends = re.findall(r'text-anchor="(\w+)"[^>]*>(joint|late)<', chart)
    assert ends == [("start", "joint"), ("end", "late")]


# Did it work?


def finish(run: Path, **summary: object) -> None:
    """A run of photographs of one's own, which has ended."""
    write_lines(run / "events.jsonl", [STARTED, {"event": "finished", "at": 1.7e9 + 60}])
    (run / "summary.json").write_text(json.dumps({"completed": True, "track": None} | summary))


@pytest.mark.parametrize(
    ("ok", "said"), [(True, "Yes."), (False, "No."), (None, "That cannot be known."), ("true", "That cannot be known.")]
)
def test_the_verdict_comes_first_and_what_to_do_next(run: Path, ok: object, said: str) -> None:
    following = ["cyclesr upscale --model runs/a --in x", "cyclesr fit --hr 'my photos'"]
    finish(run, verdict="It is 1.2 dB better than bicubic.", verdict_ok=ok, next=following)
    text = page_of(run).text
    assert f"Did it work? {said}" in text
    places = [text.index(part) for part in (said, "It is 1.2 dB better", following[0], following[1], "Pictures")]
    assert places == sorted(places)
    assert "The verdict comes at the end" not in text


@pytest.mark.parametrize("following", [None, "cyclesr report", [], [None, "a"], {"a": 1}])
def test_what_to_do_next_may_be_anything(run: Path, following: object) -> None:
    finish(run, verdict="Good.", verdict_ok=True, next=following)
    assert ("What to do next" in page_of(run).text) == (following in ("cyclesr report", [None, "a"]))


@pytest.mark.parametrize(
    ("end", "question", "why"),
    [
        (None, "Not known yet.", "Still going, or killed without a word; last logged: step 590 of 2,000."),
        ({"event": "stopped", "reason": "SIGTERM: saved at step 590"}, "Not known yet.", "Stopped: SIGTERM"),
        ({"event": "failed", "reason": "no memory"}, "No, the run failed.", "Failed at step 590 of 2,000: no memory"),
    ],
)
def test_a_run_without_a_verdict_says_how_it_stands(run: Path, end: dict | None, question: str, why: str) -> None:
    (run / "summary.json").unlink()
    write_lines(run / "events.jsonl", [STARTED | {"num_steps": 2000}, *([end] if end else [])])
    text = page_of(run).text
    assert f"Did it work? {question}" in text
    assert why in text
    assert "The verdict comes at the end of the run." in text


def test_a_run_that_failed_at_once_and_an_old_one_without_a_verdict(run: Path) -> None:
    finish(run)
    text = page_of(run).text
    assert "Did it work? Its folder does not say." in text
    assert "It has finished, but its summary.json holds no verdict." in text
    (run / "metrics.jsonl").unlink()
    (run / "summary.json").unlink()
    write_lines(run / "events.jsonl", [STARTED, {"event": "failed", "reason": "no memory"}])
    assert "Failed before the first logged step: no memory" in page_of(run).text
    (run / "events.jsonl").unlink()
    assert "The folder does not say how the run stands. No step is logged." in page_of(run).text


def test_the_verdict_of_a_run_that_was_started_again_is_not_of_now(run: Path) -> None:
    finish(run, verdict="It helps.", verdict_ok=True, steps=9, train_seconds=1.0, num_ranks=1)
    with (run / "events.jsonl").open("a") as file:
        file.write(json.dumps({"event": "failed", "reason": "no memory"}) + "\n")
    text = page_of(run).text
    assert "Did it work? No, the run failed." in text
    assert "It had ended before, with this verdict: It helps." in text
    assert "Finished:" not in text


def test_the_headline_is_of_test_photographs_where_there_are_some(run: Path) -> None:
    change_summary(run, table=TABLE | {"cyclesr": {"psnr": 22.61, "ssim": 0.6}})
    text = page_of(run).text
    assert "22.61 dB PSNR on test photographs, +0.26 dB to bicubic" in text
    assert "On validation photographs 22.54 dB" in text
    assert text.index("22.61") < text.index("22.54")
    assert "Did it work? Yes." in text
    change_summary(run, table=TABLE | {"cyclesr": {"psnr": 22.1}})
    assert "Did it work? No." in page_of(run).text
    change_summary(run, table=None)
    assert "22.54 dB on validation photographs" in page_of(run).text
    assert "test photographs" not in page_of(run).text.replace("Test photographs, enlarged", "")


def test_the_track_is_of_simulated_photographs_alone(run: Path) -> None:
    finish(run)  # config.yaml has track: mild
    assert "track mild" not in page_of(run).text
    assert "not known to be on one of them" in page_of(run).text  # the paper's tracks
    (run / "summary.json").unlink()
    assert "track mild" not in page_of(run).text
    finish(run, track="wild")
    assert "system cyclesr · track wild · x4" in page_of(run).text


def test_a_track_that_is_not_in_the_paper_is_not_compared_with_it(run: Path) -> None:
    finish(run, track="camera")
    text = page_of(run).text
    assert "The track camera is not in the paper" in text
    assert "Where the method differs" not in text
    for track in ("camera", "", "unheard_of"):
        with pytest.raises(ValueError, match="the paper has no configuration"):
            differences({"track": track})


# Photographs of one's own


def add_upscaled(run: Path, name: str, side: int = 400, bicubic: int | None = 400) -> None:
    (run / "upscaled/bicubic").mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(side, side)).save(run / "upscaled" / name)
    if bicubic:
        Image.fromarray(noise(bicubic, bicubic, 1)).save(run / "upscaled/bicubic" / name)


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


def test_panels_of_a_strip_are_found_again() -> None:
    for count in range(1, 9):
        panels = [(f"panel {i}\n20.00 dB", noise(40, 40, i)) for i in range(count)]
        strip = comparison_strip(panels, (0, 0, 40), 2)
        found = panels_of(strip)
        assert len(found) == count
        assert all(np.array_equal(one[:80:2, ::2], image) for one, (_, image) in zip(found, panels, strict=True))
        assert len({one.shape for one in found}) == 1
    picture = noise(50, 230)
    (found,) = panels_of(picture)
    assert found is picture
    assert [one.shape for one in panels_of(noise(5, 3))] == [(5, 3, 3)]


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


def test_a_chart_makes_room_for_long_labels() -> None:
    def left(values: list[float]) -> float:
        ((x, _), *_) = polylines(line_chart("t", {"a": list(enumerate(values))}, "x", "y"))[0]
        return x

    assert left([23.12345, 23.12346]) > left([1.0, 2.0]) + 5
    chart = line_chart("n" * 300, {"m" * 300: [(0, 1)]}, "x", "y", {"l" * 300: 1.0})
    assert max(map(len, re.findall(r"<text[^>]*>(.*?)</text>", chart))) < 90
