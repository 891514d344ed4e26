"""The paper's ablation of weights.mse: scores by its value, and Figure 3's pictures of what the translator made."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cyclesr_dist.config.schema import Track, noise_channels
from cyclesr_dist.data.folders import list_images
from cyclesr_dist.data.images import read_rgb8, write_png
from cyclesr_dist.reports.album import Album
from cyclesr_dist.reports.curves import line_chart
from cyclesr_dist.reports.page import charts, page, paragraph, section, table
from cyclesr_dist.reports.strips import comparison_strip, most_detailed_crop, renormalised
from cyclesr_dist.scoring.score import to_uint8
from cyclesr_dist.training.run_folder import read_summary
from cyclesr_dist.workflows.table.config import Table
from cyclesr_dist.workflows.table.data import TableData
from cyclesr_dist.workflows.table.jobs import Job
from cyclesr_dist.workflows.table.results import versions
from cyclesr_dist.workflows.table.translator import translator_of

Sweep = Mapping[tuple[Track, float], Job]

_CROP_PX, _ZOOM = 64, 3  # of LR
_HEAD = ("weights.mse", "PSNR, dB", "SSIM", "brightness drift", "std of the change", "spectrum_lr")


_TEXT = (
    "weights.mse is the weight of the enlargement's error in training. syn: a photograph shrunk; fake_real: what g_s2r "
    "(the network that makes LR photographs look real) makes of it; renormalised: the same in syn's colours, so that "
    "only the degradation is left. spectrum_lr: how far the spectrum of fake_real is from that of real LR, in decades, "
    "on validation photographs; lower is better."
)


def collect(table: Table, jobs: Sweep) -> dict[str, Any]:
    """By track, a row for every value whose run is done: scores, drift at the last logged step, last validation."""
    tracks: dict[str, list[dict[str, float]]] = {}
    for (track, mse), job in jobs.items():
        if not job.done:
            continue
        scores = json.loads(job.scores(track).read_text(encoding="utf-8"))["mean"]
        logged, validated = (_last_line(job.folder / f"{name}.jsonl") for name in ("metrics", "validation"))
        row = {"mse": mse, "psnr": scores["psnr"], "ssim": scores["ssim"]}
        row |= {f"drift_{key}": logged[f"drift.{key}"] for key in ("mean", "std", "colour") if f"drift.{key}" in logged}
        row |= {key: validated[key] for key in ("spectrum_lr", "spectrum_syn") if key in validated}
        row["train_seconds"] = read_summary(job.folder)["train_seconds"]
        tracks.setdefault(track, []).append(row)
    return {
        "protocol": table.protocol,
        "seed": table.seeds[0],
        "runs": {"done": sum(job.done for job in jobs.values()), "of": len(jobs)},
        "train_seconds": sum(row["train_seconds"] for rows in tracks.values() for row in rows),
        "threads": table.cpus_per_run,
        "tracks": tracks,
        "versions": versions(),
    }


def draw(table: Table, data: TableData, jobs: Sweep, root: Path) -> dict[str, list[Path]]:
    """A strip for every value, like Figure 3: syn, fake_real, and fake_real with the mean and variance of syn.

    The photograph is the first for validation, cropped where it has most detail.
    """
    syn = read_rgb8(list_images(data.syn_valid_lr)[0])
    crop = most_detailed_crop(syn, _CROP_PX)
    written: dict[str, list[Path]] = {}
    for (track, mse), job in jobs.items():
        if not job.done:
            continue
        fake = _fake_real(job, syn)
        panels = [
            (f"syn\nmse {mse:g}", syn),
            ("fake_real", to_uint8(fake)),
            ("renormalised\nto syn's colours", to_uint8(renormalised(fake, syn.astype(np.float32) / 255))),
        ]
        path = root / "strips" / track / f"mse{mse:g}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_png(path, comparison_strip(panels, crop, _ZOOM))
        written.setdefault(track, []).append(path)
    return written


def markdown(content: Mapping[str, Any]) -> str:
    parts = []
    for track, rows in content["tracks"].items():
        lines = [f"### {track}", "", "| " + " | ".join(_HEAD) + " |", "|---" * len(_HEAD) + "|"]
        lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def html(content: Mapping[str, Any], pictures: Mapping[str, Sequence[Path]]) -> str:
    album = Album()
    facts = "system cyclesr · PSNR and SSIM on test photographs"
    lines = [paragraph(f"Track {track}: {_best(rows)}", "lead") for track, rows in content["tracks"].items() if rows]
    head = f"<h1>Ablation of weights.mse</h1>\n{paragraph(facts, 'facts')}\n{''.join(lines)}\n{paragraph(_TEXT)}"
    sections = [f"<header>\n{head}\n</header>"]
    for track, rows in content["tracks"].items():
        points = {"PSNR": [(math.log10(row["mse"]), row["psnr"]) for row in rows if row["mse"] > 0]}
        drift = {
            name: [(math.log10(row["mse"]), row[key]) for row in rows if row["mse"] > 0 and key in row]
            for name, key in (("mean", "drift_mean"), ("colour", "drift_colour"), ("std", "drift_std"))
        }
        body = table(_HEAD, [_cells(row) for row in rows]) + charts(
            line_chart("PSNR on real LR, test photographs", points, "log10 of weights.mse", "dB"),
            line_chart("fake_real \u2212 syn", drift, "log10 of weights.mse", "in [0, 1]"),
        )
        body += "\n".join(
            album.strip(path, path.stem, f"syn, fake_real, renormalised: {path.stem}")
            for path in pictures.get(track, ())
        )
        sections.append(section(f"Track {track}", body, ""))
    sections.append("".join(paragraph(note, "quiet") for note in album.notes()))
    return page("CycleSR: ablation of weights.mse", sections)


def _cells(row: Mapping[str, float]) -> list[str]:
    values = [f"{row['mse']:g}", f"{row['psnr']:.3f}", f"{row['ssim']:.4f}"]
    return values + [f"{row[k]:.4f}" if k in row else "\u2013" for k in ("drift_mean", "drift_std", "spectrum_lr")]


def _best(rows: Sequence[Mapping[str, float]]) -> str:
    first = max(rows, key=lambda row: row["psnr"])
    return f"weights.mse = {first['mse']:g} has the highest PSNR, {first['psnr']:.2f} dB."


def _last_line(path: Path) -> dict[str, float]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    last: dict[str, float] = json.loads(lines[-1]) if lines else {}
    return last


@torch.no_grad()
def _fake_real(job: Job, syn: Any) -> Any:
    """g_s2r at the end of a run on (h, w, 3) uint8; (h, w, 3) float32, about [0, 1]. The noise is always the same."""
    net = translator_of(job, "g_s2r")
    height, width = (size // 4 * 4 for size in syn.shape[:2])
    x = torch.from_numpy(syn.astype(np.float32) / 255).permute(2, 0, 1)[None]
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, noise_channels(job.config), height, width, generator=generator)
    made: Tensor = net(torch.cat([x[..., :height, :width], noise], 1))
    full = x.clone()  # the rest of a size that is no multiple of 4 stays syn
    full[..., :height, :width] = made
    return full[0].permute(1, 2, 0).numpy()
