"""The charts."""

from __future__ import annotations

import math
import re

import pytest
from helpers.pages import Page, polylines

from cyclesr_dist.reports.curves import MAX_POINTS, line_chart


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


def test_marks_are_in_view_and_their_names_inside() -> None:
    chart = line_chart("PSNR", {"psnr": [(60.0, 1.0), (100.0, 2.0)]}, "step", "dB", marks={"joint": 50.0, "late": 99.9})
    assert "joint" in chart
    ends = re.findall(r'text-anchor="(\w+)"[^>]*>(joint|late)<', chart)
    assert ends == [("start", "joint"), ("end", "late")]


def test_a_chart_makes_room_for_long_labels() -> None:
    def left(values: list[float]) -> float:
        ((x, _), *_) = polylines(line_chart("t", {"a": list(enumerate(values))}, "x", "y"))[0]
        return x

    assert left([23.12345, 23.12346]) > left([1.0, 2.0]) + 5
    chart = line_chart("n" * 300, {"m" * 300: [(0, 1)]}, "x", "y", {"l" * 300: 1.0})
    assert max(map(len, re.findall(r"<text[^>]*>(.*?)</text>", chart))) < 90
