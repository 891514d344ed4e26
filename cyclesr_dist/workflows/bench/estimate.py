"""`cyclesr bench estimate`: the degradation estimator against degradations that are known, and what it costs."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from PIL import Image

from cyclesr_dist.config.schema import Degrade
from cyclesr_dist.degradation.estimate import blur_std_px, estimate
from cyclesr_dist.degradation.record import Degradation
from cyclesr_dist.runtime.bars import each
from cyclesr_dist.workflows.bench.estimate_cases import (
    BRIGHTNESSES,
    KERNEL_PX,
    SCALE,
    SMALLEST_TILE,
    Case,
    Truth,
    cuts,
    split,
    truth,
    write_hr,
    write_lr,
)
from cyclesr_dist.workflows.bench.plans import EstimateBench
from cyclesr_dist.workflows.bench.processes import in_a_process, resident_mb

_FWHM = 2 * math.sqrt(2 * math.log(2))
_MILD, _JPEG = Degrade(6, 0.08), Degrade(6, 0.03)
_DIFFERENT = {
    "calm hr": "HR with less detail than LR",
    "calm lr": "LR with less detail than HR",
}
_UNKNOWABLE = {
    "sharpened": "LR sharpened",
    "blurred hr": "HR blurred by 6 px",
    "flat": "flat photographs",
    "few": "three photographs",
    "grey": "LR grey",
}
_TILE, _DIFFERENT_TILES = 512, 60  # px of the many files, and how many of them differ
_LARGE = (4000, 3000)


def plan_cases(plan: EstimateBench) -> list[Case]:
    """Of the table, row by row."""
    if plan.quick:
        return [
            Case("mild", 6, levels=_MILD),
            Case(_DIFFERENT["calm hr"], 6, levels=_MILD, split="calm hr"),
            Case("JPEG 75", 6, levels=_JPEG, jpeg=75),
            Case(_UNKNOWABLE["few"], 3, levels=_MILD, change="few"),
        ]
    tracks = [("unknown", Degrade(13, 0)), ("mild", _MILD), ("wild", Degrade(8, 0.12)), ("none", Degrade(0, 0, 0))]
    cases = [
        Case(name, count, track="unknown" if name == "unknown" else "wild" if name == "wild" else "mild", levels=levels)
        for name, levels in tracks
        for count in plan.counts
    ]
    cases += [Case(name, 40, levels=_MILD, split=how) for how, name in _DIFFERENT.items()]
    cases += [Case(f"JPEG {quality}", 40, levels=_JPEG, jpeg=quality) for quality in (95, 75, 50)]
    noisy = {"few", "grey"}
    return cases + [
        Case(name, 3 if change == "few" else 20, levels=_MILD if change in noisy else Degrade(0, 0, 0), change=change)
        for change, name in _UNKNOWABLE.items()
    ]


def bench_estimate(photos: Sequence[Path], plan: EstimateBench, place: Path, progress: bool) -> dict[str, Any]:
    """Estimate each case of `plan` and compare, or measure what an estimate costs; photographs are written to folders
    in `place`. Returns what the command prints and writes: lengths in LR px, noise in [0, 1], distances of spectra in
    decades. Raises InputError for fewer than two photographs, for one that cannot be read or has below 256 px a side.
    """
    cases = [] if plan.cost else plan_cases(plan)
    rows = [_row(case, photos, plan.seed, place) for case in each(cases, "estimates", "case", progress and bool(cases))]
    return {
        "photographs": len(photos),
        "scale": SCALE,
        "seed": plan.seed,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cases": rows,
        "cost": _costs(photos, plan, place, progress) if plan.cost else [],
    }


def _row(case: Case, photos: Sequence[Path], seed: int, place: Path) -> dict[str, Any]:
    hr_photos, lr_photos = split(photos, case.split)
    (hr, hr_tile), (lr, lr_tile) = cuts(hr_photos, case.count, seed), cuts(lr_photos, case.count, seed)
    with TemporaryDirectory(dir=place) as folder:
        write_hr(case, hr, Path(folder) / "hr")
        write_lr(case, lr, Path(folder) / "lr", seed)
        start = time.perf_counter()
        found = estimate(f"{folder}/hr", f"{folder}/lr", scale=SCALE, seed=seed)
        seconds = time.perf_counter() - start
    row: dict[str, Any] = {
        "name": case.name,
        "photographs": {"hr": len(hr), "lr": len(lr)},
        # Of how many photographs the tiles are, and their side in HR px; None: whole photographs.
        "tiles": {
            name: {"of": len({cut.path for cut in of}), "px": side} if side else None
            for name, of, side in (("hr", hr, hr_tile), ("lr", lr, lr_tile))
        },
        "seconds": seconds,
        "doubts": found.facts["doubts"],
        "unknowable": bool(case.change),
    }
    return row if case.change else row | _compared(found, truth(case, lr, seed))


def _compared(found: Degradation, true: Truth) -> dict[str, Any]:
    kernel = torch.tensor(found.facts["kernel"])
    margin = (len(kernel) - KERNEL_PX) // 2
    kernel = kernel[margin : margin + KERNEL_PX, margin : margin + KERNEL_PX]
    kernel = kernel / kernel.sum()
    return {
        "kernel_l2": float((kernel - true.kernel).norm() / true.kernel.norm()),
        "kernel_true": [[round(float(value), 6) for value in line] for line in true.kernel],
        "width_px": {"found": found.facts["blur"]["width_px"], "true": _FWHM * blur_std_px(true.kernel)},
        "spread": {"blur": found.facts["blur"]["spread"], "noise": found.facts["noise"]["spread"]},
        "noise_std": {
            f"{m:g}": {"found": found.facts["noise"]["std_at"][f"{m:g}"], "true": std}
            for m, std in zip(BRIGHTNESSES, true.noise_std, strict=True)
        },
        "spectrum_distance": found.facts["spectrum_distance"],
        "jpeg_quality": found.facts["jpeg_quality"],
    }


def _costs(photos: Sequence[Path], plan: EstimateBench, place: Path, progress: bool) -> list[dict[str, Any]]:
    """Seconds and memory of `estimate` on folders, each in a process of its own."""
    cases = [("as they are", 20), (f"tiles of {_TILE} px", 2000), ("12 megapixels", 20)]
    if plan.quick:
        cases = [(f"tiles of {_TILE} px", 4)]
    costs = []
    for name, count in each(cases, "costs", "case", progress):
        with TemporaryDirectory(dir=place) as folder:
            for domain, of in zip(("hr", "lr"), split(photos, "parity"), strict=True):
                _write_many(of, Path(folder) / domain, name, count, plan.seed)
            found = in_a_process(name, _measure, folder, plan.seed, torch.get_num_threads())
            costs.append({"name": name, "photographs": count} | found)
    return costs


def _write_many(photos: Sequence[Path], folder: Path, name: str, count: int, seed: int) -> None:
    """`count` JPEG files of one side; beyond the first 60 they are links to these, which cost as much to read."""
    folder.mkdir()
    different = min(count, _DIFFERENT_TILES)
    chosen = cuts(photos, different, seed)[0]
    for i, cut in enumerate(chosen):
        image = Image.fromarray(cut.read())
        if name == "12 megapixels":
            image = image.resize(_LARGE, Image.Resampling.BICUBIC)
        elif name.startswith("tiles"):
            image = image.resize((_TILE, _TILE), Image.Resampling.BICUBIC, _square(image))
        image.save(folder / f"{i:05d}.jpg", quality=95)
    for i in range(different, count):
        os.link(folder / f"{i % different:05d}.jpg", folder / f"{i:05d}.jpg")


def _square(image: Image.Image) -> tuple[float, float, float, float]:
    side = min(image.size)
    return (0, 0, side, side)


def _measure(folder: str, seed: int, threads: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    before, start = resident_mb("VmRSS"), time.perf_counter()
    estimate(f"{folder}/hr", f"{folder}/lr", scale=SCALE, seed=seed)
    seconds = time.perf_counter() - start
    # Not getrusage: Linux hands ru_maxrss on through fork and exec, so that a child of a large process seems large.
    return {"seconds": seconds, "memory_mb": resident_mb("VmHWM"), "start_mb": before}


def describe(result: dict[str, Any]) -> str:
    """The figures as text for the terminal."""
    lines = [
        f"{result['photographs']} photographs, scale {SCALE}, seed {result['seed']}; {result['threads']} threads, "
        f"torch {result['torch']}"
    ]
    known = [row for row in result["cases"] if not row["unknowable"]]
    if known:
        lines += [
            "found / true; lengths in LR px, noise in % of the range, spectra in decades before > after",
            f"{'':29}{'a side':>7}{'kernel':>8}{'width':>13}{'noise at 0.1':>15}{'at 0.5':>15}{'at 0.9':>15}"
            f"{'spectra':>16}{'JPEG':>6}{'doubts':>8}{'s':>7}",
            *(_line(row) for row in known),
            *_tiles(known),
            "What cannot be known, and must be said:",
        ]
    for row in result["cases"]:
        if row["unknowable"]:
            said = f"said: {row['doubts'][0]}" if row["doubts"] else "NOT SAID"
            lines.append(f"{row['name']:29}{_sides(row):>7}  {said}")
    if result["cost"]:
        lines.append(f"{'a whole estimate':29}{'a side':>7}{'s':>9}{'peak MB':>9}{'at start':>10}")
    lines += [
        f"{c['name']:29}{c['photographs']:7}{c['seconds']:9.1f}{c['memory_mb']:9.0f}{c['start_mb']:10.0f}"
        for c in result["cost"]
    ]
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    width, gap = row["width_px"], row["spectrum_distance"]
    noise = "".join(f"{100 * std['found']:8.2f} /{100 * std['true']:5.2f}" for std in row["noise_std"].values())
    quality = "" if row["jpeg_quality"] is None else str(row["jpeg_quality"])
    return (
        f"{row['name']:29}{_sides(row):>7}{row['kernel_l2']:8.3f}{width['found']:7.2f} /{width['true']:4.2f}{noise}"
        f"{gap['synthetic']:8.3f} >{gap['translated']:6.3f}{quality:>6}{len(row['doubts']):8}{row['seconds']:7.1f}"
    )


def _sides(row: dict[str, Any]) -> str:
    hr, lr = row["photographs"].values()
    return str(hr) if hr == lr else f"{hr}, {lr}"


def _tiles(rows: list[dict[str, Any]]) -> list[str]:
    """Which rows have tiles instead of photographs."""
    notes: dict[str, None] = {}
    for row in rows:
        for name, of in row["tiles"].items():
            if of:
                overlap = ", which overlap where there are more than fit" if of["px"] == SMALLEST_TILE else ""
                notes[
                    f"{row['photographs'][name]} a side: {name.upper()} is tiles of {of['px']} px from {of['of']} "
                    f"photographs{overlap}"
                ] = None
    return list(notes)
