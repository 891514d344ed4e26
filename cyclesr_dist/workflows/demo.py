"""`make demo`: the whole job on the bundled photographs, every stage through the product's own commands.

    photos -> HR halves, LR halves (degraded), validation and test photographs -> shard sets
           -> sr_syn, sr_paired, cyclesr trained by the launcher on two ranks -> scores on the test photographs

No pixel is in two places: left halves of the training photographs are HR, right halves LR; validation and test use
whole other photographs, and nothing is chosen on the test photographs. Each stage is skipped where its result exists.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cyclesr_dist.config.schema import Config, load
from cyclesr_dist.data.build import build_set
from cyclesr_dist.data.folders import list_images, match_pairs
from cyclesr_dist.data.images import read_rgb8, write_png
from cyclesr_dist.data.shards import Kind
from cyclesr_dist.degradation.simulate_folder import degrade_folder
from cyclesr_dist.errors import CycleSRError, InputError
from cyclesr_dist.models.infer import upscale_image
from cyclesr_dist.models.model_name import resolve_model
from cyclesr_dist.reports.run_report import write_report
from cyclesr_dist.reports.strips import save_comparison
from cyclesr_dist.runtime.children import run_child
from cyclesr_dist.runtime.files import write_text
from cyclesr_dist.runtime.lease import Lease, held
from cyclesr_dist.scoring.score import evaluate_folder, to_uint8
from cyclesr_dist.training.run_folder import read_summary

BASELINES = ("sr_syn", "sr_paired")
_NUM_RANKS = 2


@dataclass(frozen=True)
class Layout:
    """Where the demo keeps things, all below one run folder."""

    run: Path

    @property
    def data(self) -> Path:
        return self.run / "data"

    def baseline(self, system: str) -> Path:
        return self.run / "baselines" / system


def run_demo(config_path: Path, run_dir: Path, overrides: list[str], quiet: bool) -> dict[str, Any]:
    """Run what is not there yet and return the summary. Raises CycleSRError when a stage fails."""
    config = load(config_path, overrides)
    with held(run_dir, f"run folder {run_dir}") as lease:
        return _stages(config, config_path, Layout(run_dir), lease, overrides, quiet)


def _stages(
    config: Config, config_path: Path, layout: Layout, lease: Lease, overrides: list[str], quiet: bool
) -> dict[str, Any]:
    started = time.monotonic()
    prepare_data(config, layout.run, quiet)
    lease.hold(sure=True)
    _announce(f"4/5 training {', '.join(BASELINES)} and {config.system} on {_NUM_RANKS} ranks")
    for system in BASELINES:
        _train(config_path, layout.baseline(system), [*overrides, f"system={system}"], quiet)
    lease.hold(sure=True)
    _train(config_path, layout.run, overrides, quiet)
    lease.hold(sure=True)
    _announce("5/5 scoring on the test photographs")
    summary = _score(config, layout, quiet)
    lease.hold(sure=True)
    summary["demo_seconds"] = round(time.monotonic() - started, 1)
    write_text(layout.run / "summary.json", json.dumps(summary, indent=1) + "\n")
    write_report(layout.run)
    return summary


def prepare_data(config: Config, run_dir: Path, quiet: bool) -> None:
    """The first three stages: the bundled photographs to shard sets and validation folders, the same on any machine."""
    layout = Layout(run_dir)
    _announce("1/5 photographs: HR halves, LR halves, validation, test")
    split_photos(_photos(config), layout.data)
    _announce(f"2/5 simulating the track {config.track!r} on LR halves, validation and test photographs")
    for part in ("train_lr_clean", "valid_hr", "test_hr"):
        _degrade(config, layout, part, quiet)
    _announce("3/5 packing WebDataset shards")
    _pack(config, layout, quiet)


def _announce(line: str) -> None:
    print(f"cyclesr demo: {line}", flush=True)


def _photos(config: Config) -> list[Path]:
    return list_images(Path(str(resources.files("cyclesr_dist.workflows") / "demo_photos")))


def split_photos(photos: list[Path], out: Path) -> None:
    """Cut the photographs, in name order, into the demo's regions under `out`; nothing to do when they are there.

    Every fifth photograph (from the fourth) is for the test, every seventh (from the sixth) for validation, whole. Of
    the others the left half goes to `train_hr`, the right half to `train_lr_clean`, yet to be degraded.
    """
    if (out / "split.json").exists():
        return
    temporary = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    record: dict[str, list[str]] = {"train_hr": [], "train_lr_clean": [], "valid_hr": [], "test_hr": []}
    for index, photo in enumerate(photos):
        image = read_rgb8(photo)
        middle = image.shape[1] // 2
        if index % 5 == 3:
            parts = {"test_hr": image}
        elif index % 7 == 5:
            parts = {"valid_hr": image}
        else:
            parts = {"train_hr": image[:, :middle], "train_lr_clean": image[:, middle:]}
        for part, pixels in parts.items():
            (temporary / part).mkdir(parents=True, exist_ok=True)
            write_png(temporary / part / f"{photo.stem}.png", np.ascontiguousarray(pixels))
            record[part].append(photo.stem)
    write_text(temporary / "split.json", json.dumps(record, indent=1) + "\n")
    temporary.rename(out)


def _degrade(config: Config, layout: Layout, part: str, quiet: bool) -> None:
    target = {"train_lr_clean": "train_lr", "valid_hr": "valid_lr", "test_hr": "test_lr"}[part]
    degrade_folder(
        layout.data / part,
        layout.data / target,
        track=config.track,
        scale=config.scale,
        seed=config.seed,
        levels=config.degrade,
        progress=not quiet,
    )


def _pack(config: Config, layout: Layout, quiet: bool) -> None:
    data = layout.data
    folders: dict[Kind, tuple[Path | None, Path | None]] = {
        "hr": (data / "train_hr", None),
        "lr": (None, data / "train_lr"),
        "pairs": (data / "train_lr_clean", data / "train_lr"),
    }
    for kind, (hr, lr) in folders.items():
        out = data / "shards" / kind
        build_set(kind, out, config.shards, scale=config.scale, hr_dir=hr, lr_dir=lr, progress=not quiet)


def _train(config_path: Path, run_dir: Path, overrides: list[str], quiet: bool) -> None:
    """Train through the real launcher, unless the run is complete; a stopped one is resumed."""
    if read_summary(run_dir).get("completed"):
        if load(run_dir / "config.yaml", beside=False) != load(config_path, overrides):
            raise InputError(f"{run_dir} holds a run with other settings; remove it or choose another --run-dir")
        _announce(f"{run_dir} is complete: reused")
        return
    supervise = [sys.executable, "-m", "cyclesr_dist.cli.main", "supervise", "--"]
    command = [
        str(Path(sys.executable).with_name("deepspeed")),
        *("--num_accelerators", str(_NUM_RANKS), "--log_level", "warning", "--module", "cyclesr_dist.training"),
        *("--config", str(config_path), "--run-dir", str(run_dir), "--resume"),
        *(["--quiet"] if quiet else []),
        *overrides,
    ]
    print(f"cyclesr demo: $ {' '.join(command)}", flush=True)
    environment = {} if torch.cuda.is_available() else {"DS_ACCELERATOR": "cpu"}
    code = run_child([*supervise, *command], "cyclesr demo", environment)
    if code or not read_summary(run_dir).get("completed"):
        raise CycleSRError(f"training in {run_dir} did not complete (exit code {code}); see its lines above")


def _score(config: Config, layout: Layout, quiet: bool) -> dict[str, Any]:
    """The table on the test photographs, comparisons of them, and the verdict in plain words."""
    lr, hr = layout.data / "test_lr", layout.data / "test_hr"
    rows = {
        "bicubic": resolve_model("bicubic", scale=config.scale),
        "sr_syn": resolve_model(str(layout.baseline("sr_syn"))),
        config.system: resolve_model(str(layout.run)),
        "sr_paired": resolve_model(str(layout.baseline("sr_paired"))),
    }
    scores = {
        name: evaluate_folder(model, lr, hr, config.validate.protocol, progress=not quiet)
        for name, model in rows.items()
    }
    table = {
        name: {key: round(score["mean"][key], 4) for key in ("psnr", "ssim", "psnr_y")}
        for name, score in scores.items()
    }
    for pair in match_pairs(hr, lr):
        low = read_rgb8(pair.lr)
        with torch.no_grad():
            unit = low.astype(np.float32) / 255
            pictures = {name: to_uint8(upscale_image(model, unit)) for name, model in rows.items()}
        of_image = {
            name: next(image["psnr"] for image in score["images"] if image["name"] == pair.name)
            for name, score in scores.items()
        }
        high = read_rgb8(pair.hr)[: low.shape[0] * config.scale, : low.shape[1] * config.scale]
        shown = {name: pictures[name] for name in ("bicubic", "sr_syn", config.system)}
        save_comparison(layout.run / "comparisons" / f"{pair.name}.png", low, shown, high, of_image)
    return read_summary(layout.run) | {
        "table": table,
        "images": {name: score["images"] for name, score in scores.items()},
        "verdict": verdict(table, config.system),
        "verdict_ok": is_best(table, config.system),
        "protocol": config.validate.protocol,
    }


def verdict(table: dict[str, dict[str, float]], system: str) -> str:
    """Which row won among those that use no pairs, and how far it is from the one that does, in plain words."""
    own = table[system]["psnr"]
    over_bicubic, over_syn = own - table["bicubic"]["psnr"], own - table["sr_syn"]["psnr"]
    differences = f"{over_bicubic:+.2f} dB to bicubic, {over_syn:+.2f} dB to sr_syn"
    if is_best(table, system):
        shares = " and ".join(
            f"{share:.0%} in {name}"
            for name, key in (("colour", "psnr"), ("luma", "psnr_y"))
            if (share := gap_closed(table, system, key)) is not None
        )
        way = f"; it closes the gap from sr_syn to sr_paired, which needs pairs, by {shares}" if shares else ""
        return f"{system} is the best without pairs: {differences}{way}."
    best = max(("bicubic", "sr_syn"), key=lambda row: table[row]["psnr"])
    return f"{best} is better than {system} here: {system} has {differences}."


def is_best(table: dict[str, dict[str, float]], system: str) -> bool:
    """Among the rows that use no pairs."""
    return table[system]["psnr"] > max(table["bicubic"]["psnr"], table["sr_syn"]["psnr"])


def gap_closed(table: dict[str, dict[str, float]], system: str, key: str) -> float | None:
    """How much of the way from sr_syn to sr_paired; None where there is none."""
    if any(key not in table.get(row, {}) for row in ("sr_syn", "sr_paired", system)):
        return None
    low, high = table["sr_syn"][key], table["sr_paired"][key]
    return (table[system][key] - low) / (high - low) if high > low else None


def format_table(summary: dict[str, Any]) -> str:
    """The table as text for the terminal, to the digits that other processors give, too."""
    bicubic = summary["table"]["bicubic"]["psnr"]
    lines = [f"{'':12}{'PSNR dB':>9}{'luma dB':>9}{'SSIM':>7}{'to bicubic':>12}"]
    for name, row in summary["table"].items():
        figures = f"{row['psnr']:9.1f}{row['psnr_y']:9.1f}{row['ssim']:7.2f}{row['psnr'] - bicubic:+12.1f}"
        lines.append(f"{name:12}{figures}")
    return "\n".join(lines)
