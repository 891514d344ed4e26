"""The page of a run, and `cyclesr report`."""

from __future__ import annotations

import argparse
import base64
import hashlib
import re
from pathlib import Path

import pytest
from helpers.pages import STARTED, TABLE, change_summary, metrics_row, noise, page_of, write_lines
from PIL import Image

from cyclesr_dist.cli import report as report_command
from cyclesr_dist.config.reader import to_dict
from cyclesr_dist.config.schema import load
from cyclesr_dist.errors import InputError
from cyclesr_dist.reports.album import SLIDER_SCRIPT, Album
from cyclesr_dist.reports.paper import differences
from cyclesr_dist.reports.run_report import MAX_PICTURES, write_report
from cyclesr_dist.runtime.command import guarded

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
