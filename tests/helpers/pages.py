"""Pages of runs, read as a browser reads them, and the files that they are made of."""

from __future__ import annotations

import json
import math
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image

from cyclesr_dist.reports.run_report import write_report

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


def change_summary(run: Path, **changes: object) -> None:
    path = run / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# What happened to the run


STARTED = {"event": "started", "at": 1.7e9, "step": 0, "num_ranks": 2}


def polylines(svg: str) -> list[list[tuple[float, float]]]:
    return [
        [(float(x), float(y)) for x, _, y in (place.partition(",") for place in str(attrs["points"]).split())]
        for attrs in Page(svg).tags("polyline")
    ]


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def finish(run: Path, **summary: object) -> None:
    """A run of photographs of one's own, which has ended."""
    write_lines(run / "events.jsonl", [STARTED, {"event": "finished", "at": 1.7e9 + 60}])
    (run / "summary.json").write_text(json.dumps({"completed": True, "track": None} | summary))


def add_upscaled(run: Path, name: str, side: int = 400, bicubic: int | None = 400) -> None:
    (run / "upscaled/bicubic").mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(side, side)).save(run / "upscaled" / name)
    if bicubic:
        Image.fromarray(noise(bicubic, bicubic, 1)).save(run / "upscaled/bicubic" / name)
