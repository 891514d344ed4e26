"""Whether a run has worked, as its page says it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.pages import STARTED, TABLE, change_summary, finish, page_of, write_lines

from cyclesr_dist.reports.paper import differences


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
