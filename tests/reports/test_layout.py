"""Every kind of page in a Chromium 400 and 1280 px wide: nothing hangs over, is cut off or stands askew."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html import escape, unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cyclesr_dist.data.images import write_png
from cyclesr_dist.degradation.record import Degradation, save
from cyclesr_dist.degradation.sample import Sample
from cyclesr_dist.reports.album import Album
from cyclesr_dist.reports.compare import write_comparison
from cyclesr_dist.reports.estimate_page import estimate_page
from cyclesr_dist.reports.run_report import write_report
from cyclesr_dist.reports.strips import comparison_strip, save_comparison
from cyclesr_dist.workflows.table import ablation, render

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")

LONG = "a_name_of_a_run_or_of_a_photograph_that_is_much_longer_than_a_telephone_is_wide"
MEASURE = """
const d = frame.contentDocument, w = WIDTH;
d.querySelectorAll('details').forEach(e => e.open = true);
const scrolls = e => e.closest('.wide, pre');
const box = e => e.getBoundingClientRect();
const found = {overflow: d.documentElement.scrollWidth, inner: frame.contentWindow.innerWidth, images: [], texts: [],
  heads: [], boxes: []};
for (const e of d.images) if (!scrolls(e) && box(e).right > w) found.images.push(e.alt);
for (const e of d.images) if (!e.complete || !e.naturalWidth) found.images.push('broken: ' + e.alt);
for (const s of d.querySelectorAll('svg')) for (const t of s.querySelectorAll('text'))
  if (box(t).left < box(s).left - 1 || box(t).right > box(s).right + 1) found.texts.push(t.textContent);
for (const t of d.querySelectorAll('table')) for (const h of t.tHead.rows[0].cells) for (const r of t.tBodies[0].rows) {
  const of = e => d.defaultView.getComputedStyle(e).textAlign.replace('start', 'left');
  if (h.textContent && of(h) !== of(r.cells[h.cellIndex])) found.heads.push(h.textContent);
}
for (const e of d.querySelectorAll('table')) if (!e.closest('.wide')) found.boxes.push(e.outerHTML.slice(0, 80));
document.body.textContent = JSON.stringify(found);
"""


def measured(page: str, width: int, folder: Path) -> dict[str, Any]:
    """What the browser finds of a page in a frame so wide, all of it unfolded."""
    frame = f'<iframe id="frame" style="border:0;width:{width}px;height:900px" srcdoc="{escape(page)}"></iframe>'
    script = f"onload = () => {{{MEASURE.replace('WIDTH', str(width))}}}"
    file = folder / "frame.html"
    file.write_text(f"<!DOCTYPE html><meta charset='utf-8'><body style='margin:0'>{frame}<script>{script}</script>")
    assert CHROMIUM
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command += [f"--window-size={width + 200},1000", "--dump-dom", file.as_uri()]
    said = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
    body = re.search(r"<body[^>]*>(\{.*\})</body>", said, re.DOTALL)
    assert body, said[-2000:]
    found: dict[str, Any] = json.loads(unescape(body[1]))
    return found


def noise(side: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def degradation() -> Degradation:
    kernel = torch.zeros(1, 5, 5)
    kernel[0, 1:4, 1:4] = 1 / 9
    facts = {
        "version": 1,
        "scale": 4,
        "seed": 0,
        "kernel": kernel[0].tolist(),
        "blur": {"width_px": 2.0, "std_px": 0.9, "spread": 0.2},
        "noise": {"std_at": {"0.1": 0.01, "0.5": 0.02, "0.9": 0.03}, "spread": 0.1, "flat_patches": 9},
        "looked_at": {name: {"photographs": 6, "of": 6, "patches": 60} for name in ("hr", "lr")} | {"patch_px": 16},
        "spectrum_distance": {"synthetic": 0.5, "translated": 0.1},
        "doubts": [f"This is doubtful: {LONG}."],
    }
    parts = (kernel, torch.full((3,), 1e-4), torch.ones(1), torch.eye(3)[:, :, None, None], torch.zeros(0, 3, 1, 1))
    return Degradation(*parts, facts)


def make_run(folder: Path, **summary: object) -> Path:
    """A run with everything that a page shows."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(
        f"system: cyclesr\nseed: 3\nscale: 4\ntrack: mild\ndata:\n  hr: /{LONG}/{LONG}\n"
    )
    rows = [
        {"step": s, "phase": "joint", "loss.mse": 1 / s, f"loss.{LONG}": 2 / s, "drift.mean": -1e-5 * s}
        | {"patches_per_second": 123456.7 + s, "grad_norm.g": 1e-6 * s, "seconds.step": 1.0}
        for s in range(100, 1_000_100, 100_000)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scores = [{"step": s, "psnr": 23.123401 + s / 1e9, "ssim": 0.6} for s in (100, 500_000, 1_000_000)]
    (folder / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in scores))
    started = {"event": "started", "at": 1.7e9, "step": 0, "num_steps": 10, "environment": {"host": LONG}}
    (folder / "events.jsonl").write_text(json.dumps(started) + "\n" + json.dumps({"event": "finished"}) + "\n")
    if summary:
        (folder / "summary.json").write_text(json.dumps({"completed": True} | summary))
    (folder / "pictures").mkdir()
    for i, name in enumerate(("bicubic", "first", "best", "last", "hr", "lr")):
        write_png(folder / "pictures" / f"{LONG}.{name}.png", noise(200, i))
    panels = [(name, noise(64, i)) for i, name in enumerate(("a", "b", "c"))]
    for name in ("figure3", "translated"):
        write_png(folder / "pictures" / f"{name}.last.png", comparison_strip(panels, (0, 0, 64), 3))
    columns = {name: noise(256, i) for i, name in enumerate(("bicubic", "sr_syn", "cyclesr", "cycle_sr_separate"))}
    save_comparison(folder / "comparisons" / "a.png", noise(64), columns, noise(256), {"bicubic": 20.0})
    (folder / "upscaled/bicubic").mkdir(parents=True)
    for part in ("upscaled", "upscaled/bicubic"):
        write_png(folder / part / f"{LONG}.png", noise(500))
    save(folder, degradation())
    return folder


def report(folder: Path) -> str:
    table = {
        name: {"psnr": 22.35, "ssim": 0.6}
        for name in ("bicubic", "sr_syn", "cyclesr", "sr_paired", "cycle_sr_separate")
    }
    words = {
        "verdict": f"It helps, says {LONG}.",
        "verdict_ok": True,
        "next": [f"cyclesr upscale --model /{LONG}/{LONG}"],
    }
    run = make_run(folder / LONG, table=table, track="mild", warnings=[f"step 5: {LONG}"], **words)
    return write_report(run).read_text()


def crashed(folder: Path) -> str:
    run = make_run(folder / "run")
    (run / "events.jsonl").write_text(json.dumps({"event": "failed", "at": 1.7e9, "reason": f"no {LONG}"}) + "\n")
    for name in ("pictures", "comparisons", "upscaled"):
        shutil.rmtree(run / name)
    return write_report(run).read_text()


def compare(folder: Path) -> str:
    runs = [make_run(folder / name / LONG, track=None) for name in ("one", "other", "third")]
    shutil.rmtree(runs[1] / "pictures")
    write_comparison(runs, folder / "compare.html")
    return (folder / "compare.html").read_text()


def estimate(folder: Path) -> str:
    patches, scene = torch.from_numpy(noise(16).transpose(2, 0, 1)[None] / 255).float(), torch.zeros(1)
    samples = [Sample(patches, scene.long(), 1, 1, tuple(noise(150, s + i) for i in range(3)), ()) for s in (0, 10)]
    return estimate_page(degradation(), *samples)


def stat(value: float) -> dict[str, float]:
    return {"mean": value, "std": 0.01, "n": 3}


def table(folder: Path) -> str:
    columns = {name: noise(256) for name in ("bicubic", "sr_syn", "estimated", "cyclegan", "cyclesr", "cyclesrgan")}
    save_comparison(folder / "a.png", noise(64), columns, noise(256), {})
    rows = {
        name: {"psnr": stat(22.0), "ssim": stat(0.6), "psnr_y": stat(23), "to_bicubic": 0.1, "train_seconds": 1.0}
        for name in ("bicubic", "sr_syn", "cycle_sr_separate", "sr_paired")
    }
    content = {
        "protocol": "plain",
        "seeds": [0, 1, 2],
        "runs": {"done": 1, "of": 2},
        "tracks": {"mild": rows, "camera": {}},
        "stages": {"mild": {"one_stage": {"psnr": 22.0, "seconds": 0.1, "peak_memory_mb": 100.0}}},
        "correlations": {"mild": {"spectrum_lr": {"checkpoints": 0.9, "num_runs": 3.0}}},
        "versions": {"torch": "2"},
    }
    return render.html(content, "The table", {"mild": [folder / "a.png"]})


def sweep(folder: Path) -> str:
    strip = comparison_strip([(name, noise(64)) for name in ("syn", "fake_real", "renormalised")], (0, 0, 64), 3)
    write_png(folder / "mse5.png", strip)
    rows = [
        {"mse": m, "psnr": 23.12345 + i / 1e5, "ssim": 0.6, "drift_mean": -1e-6 * i, "drift_std": 1e-6}
        for i, m in enumerate((0.005, 5.0, 1000.0))
    ]
    return ablation.html({"tracks": {"mild": rows}}, {"mild": [folder / "mse5.png"]})


def search(folder: Path) -> str:
    pytest.importorskip("ray.tune", reason="Ray is not installed")
    from cyclesr_dist.search.config import Search
    from cyclesr_dist.search.page import html
    from cyclesr_dist.search.results import Row

    space = {key: {"loguniform": [1e-6, 1000.0]} for key in ("weights.mse", "optim.lr_cyclegan", "weights.cyc")}
    (folder / "a.yaml").write_text("system: cyclesr\n")
    wanted = Search(base=str(folder / "a.yaml"), space=space, second_metric="spectrum_lr", steps=8)
    rows = [
        Row(
            f"t{i}",
            i,
            "finished",
            dict.fromkeys(space, 0.1 + i),
            8,
            8,
            {"psnr": 22.0 + i, "spectrum_lr": 0.1},
            1,
            "",
            None,
        )
        for i in range(3)
    ]
    rows.append(Row("t9", 9, "failed", dict.fromkeys(space, 0.1), 0, 0, {}, 1, f"no {LONG}", None))
    write_png(folder / "a.png", comparison_strip([(n, noise(64)) for n in ("LR", "best", "worst")], (0, 0, 64), 2))
    return html(wanted, rows, [], {"a": (folder / "a.png").read_bytes()}, "")


PAGES = (report, crashed, compare, estimate, table, sweep, search)


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("make", PAGES, ids=lambda make: make.__name__)
def test_a_page_fits_its_window(make: Callable[[Path], str], width: int, tmp_path: Path) -> None:
    page = make(tmp_path)
    assert len(page) < 10_000_000
    found = measured(page, width, tmp_path)
    assert found["inner"] == width
    assert found["overflow"] <= width  # tables scroll by themselves
    assert not found["images"], "pictures that cannot be seen"
    assert not found["texts"], "labels that are cut off"
    assert not found["heads"], "heads that are not set as their columns"
    assert not found["boxes"], "tables that cannot scroll"


def test_a_page_that_does_not_fit_is_found(tmp_path: Path) -> None:
    svg = '<svg width="50" height="20"><text x="-40" y="9">label</text></svg>'
    dot = Album().picture(noise(1), "wide").replace('width="1"', 'width="900"')
    table = (
        "<table><thead><tr><th>a</th></tr></thead><tbody><tr><td style='text-align:right'>1</td></tr></tbody></table>"
    )
    found = measured(f"<!DOCTYPE html><body>{svg}{dot}{table}</body>", 400, tmp_path)
    assert found["overflow"] > 400
    assert found["texts"] == ["label"]
    assert found["heads"] == ["a"]
    assert found["images"] == ["wide"]
    assert len(found["boxes"]) == 1
