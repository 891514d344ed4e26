"""Columns, marks and the perception-distortion plane of a table, from the content of table.json."""

from __future__ import annotations

import re
from typing import Any

import pytest

from cyclesr_dist.workflows.table.render import html, markdown, planes
from cyclesr_dist.workflows.table.results import best


def row(psnr: float, lpips: float | None = None, niqe: float | None = None, seeds: int = 0) -> dict[str, Any]:
    scores = {"psnr": psnr, "ssim": psnr / 50} | {
        name: value for name, value in (("lpips", lpips), ("niqe", niqe)) if value is not None
    }
    stats: dict[str, Any] = {name: {"mean": value, "std": 0.0, "n": max(1, seeds)} for name, value in scores.items()}
    return stats | ({"seeds": {str(seed): scores for seed in range(seeds)}} if seeds else {})


ROWS = {
    "bicubic": row(20.0, 0.60, 9.0),
    "estimated": row(24.0, 0.40, 6.0, seeds=3),
    "cyclesrgan": row(23.0, 0.30, 4.0, seeds=2),
    "sr_paired": row(25.0, 0.20, 3.0, seeds=1),
}


def content(*scores: str, **rows: dict[str, Any]) -> dict[str, Any]:
    return {
        "protocol": "plain",
        "scores": list(scores),
        "seeds": [0],
        "runs": {"done": 1, "of": 1},
        "tracks": {"wild": rows or ROWS},
        "versions": {},
    }


def test_the_best_is_the_largest_or_the_smallest_as_the_score_says() -> None:
    assert best(ROWS, "psnr") == ["estimated", "cyclesrgan"]
    assert best(ROWS, "lpips") == best(ROWS, "niqe") == ["cyclesrgan", "estimated"]


def test_perceptual_columns_are_marked_by_their_own_direction() -> None:
    text = markdown(content("niqe", "lpips"))
    head, _, *lines = [line for line in text.splitlines() if line.startswith("|")]
    column = [name.strip() for name in head.split("|")].index("LPIPS (AlexNet)")
    assert "| NIQE | LPIPS (AlexNet) |" in head
    cells = {line.split("|")[1].strip(): line.split("|")[column].strip() for line in lines}
    assert cells["cyclesrgan"] == "**0.3000 ± 0.0000**"
    assert cells["estimated"] == "<u>0.4000 ± 0.0000</u>"
    assert cells["sr_paired"] == "0.2000"
    assert "NIQE, LPIPS (AlexNet): lower is better." in text


def test_a_table_without_perceptual_scores_is_as_it_was() -> None:
    text = markdown(content())
    assert "lower is better" not in text
    assert "plane" not in text
    assert planes(content()) == {}
    assert planes({key: value for key, value in content().items() if key != "scores"}) == {}  # of an older version
    assert "<svg" not in html(content(), "t", {})


def test_the_plane_has_a_point_for_every_seed_and_distortion_to_the_right() -> None:
    chart = planes(content("lpips", "niqe"))["wild"]
    assert chart in html(content("lpips", "niqe"), "t", {})
    assert "LPIPS (AlexNet), lower is better" in chart
    points = [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', chart)]
    assert len(points) == 1 + 3 + 2 + 1
    bicubic, estimated, gan = points[0], points[1], points[4]
    assert bicubic[0] > gan[0] > estimated[0], "20, 23 and 24 dB"
    assert bicubic[1] < estimated[1] < gan[1], "SVG's y grows downwards, and the lower score is the better one"


@pytest.mark.parametrize("rows", [{"estimated": row(24, 0.4)}, {"estimated": row(24, 0.4), "bicubic": row(20)}])
def test_one_system_makes_no_plane(rows: dict[str, dict[str, Any]]) -> None:
    assert planes(content("lpips", **rows)) == {}


def test_what_a_row_costs_at_inference() -> None:
    cost = {"networks": 2, "parameters": 12345, "seconds": 0.25, "peak_memory_mb": 700.4}
    text = markdown(content() | {"inference": {"cincgan": cost}})
    assert "| cincgan | 2 | 12,345 | 0.250 | 700 |" in text
    assert "<td>12,345</td>" in html(content() | {"inference": {"cincgan": cost}}, "t", {})
    assert "At inference" not in markdown(content())
