"""A real run is scraped: every metric that is defined is there, and moves for its cause."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from helpers.ports import free_port
from helpers.processes import FAULTY
from helpers.waiting import until
from prometheus_client.parser import text_string_to_metric_families

from cyclesr_dist.telemetry import definitions as d
from cyclesr_dist.training.main import main as train

SHARED = {"run": "run", "rank": "0"}
Samples = dict[str, list[tuple[dict[str, str], float]]]


def damaged(shards: Path, out: Path) -> Path:
    """A copy of the HR set with one sample that cannot be read."""
    shutil.copytree(shards / "hr", out)
    index = json.loads((out / "shard-000000.json").read_text())
    with (out / "shard-000000.tar").open("r+b") as tar:
        tar.seek(index["samples"][3]["members"]["hr.tiff"][0] + 200)
        tar.write(b"damaged!")
    return out


def scrape(port: int) -> Samples:
    """By name of the series; empty while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert sample.labels.items() >= SHARED.items(), sample
            labels = {name: value for name, value in sample.labels.items() if name not in SHARED}
            found.setdefault(sample.name, []).append((labels, sample.value))
    return found


def value(samples: Samples, name: object, **labels: str) -> float:
    return next((v for found, v in samples.get(str(name), ()) if labels.items() <= found.items()), 0.0)


def labels_of(samples: Samples, definition: d.Definition) -> set[str]:
    (name,) = definition.labels
    return {labels[name] for labels, _ in samples.get(str(definition), ())}


def alive(process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None
    return True


def of_later(samples: Samples) -> Samples:
    """Those from step 40 on, when a step has been skipped; before that nothing."""
    far = value(samples, d.STEP) >= 40 and value(samples, d.SKIPPED, reason="not_finite")
    return samples if far else {}


def test_every_metric_is_there_and_moves(config_file: Path, tiny_data: Any, tmp_path: Path) -> None:
    port = free_port()
    hr = damaged(tiny_data.root / "shards", tmp_path / "hr")
    settings = [*tiny_data.overrides, f"data.hr={hr}", "data.max_bad_samples=1", "train.max_bad_steps=9"]
    settings += ["optim.clip_norm=0.01", "train.epochs=1000000", "train.constant_epochs=1000000"]
    arguments = ["--config", str(config_file), "--run-dir", str(tmp_path / "run"), "--quiet", *settings]
    assert train([*arguments, "train.max_steps=4"]) == 0
    command = [sys.executable, FAULTY, *arguments, "--resume", f"telemetry.port={port}"]
    environment = os.environ | {"FAULT": "nan:0:20", "OMP_NUM_THREADS": "1", "CYCLESR_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as process:
        try:
            early = until(lambda: alive(process) and scrape(port), 400)
            late = until(lambda: alive(process) and of_later(scrape(port)), 400)
            targets = json.loads((tmp_path / "run/prometheus_targets.json").read_text())
        finally:
            process.kill()
    assert targets == [{"targets": [f"127.0.0.1:{port}"]}]

    names = {f"{x}_count" if x.kind == "histogram" else str(x) for x in d.TRAINING}
    assert names <= set(late)
    assert not [name for name in late if not name.startswith("cyclesr_")]

    counted = [d.STEP, d.STEPS, d.LAST_STEP, d.LAST_CHECKPOINT, *(f"{x}_count" for x in d.TRAINING if x.buckets)]
    assert not [str(name) for name in counted if value(late, name) <= value(early, name)]
    assert value(late, d.PATCHES, domain="hr") > value(early, d.PATCHES, domain="hr")
    assert value(late, d.PHOTOGRAPHS, domain="hr") == 3
    assert value(late, d.PHOTOGRAPHS, domain="lr") == 2
    assert value(late, d.CLIPPED, player="g") > 0 < value(late, d.CLIPPED, player="d")
    assert value(late, d.SKIPPED, reason="not_finite") == 1
    assert value(late, d.CORRUPT_SAMPLES) == 1
    assert value(late, d.RESTARTS) == 1
    assert value(late, d.ROLLBACKS) == 0
    assert value(late, d.PHASE, phase="joint") == 1
    assert value(late, d.EPOCH) > 0
    assert value(late, d.WORLD_SIZE) == 1
    assert value(late, d.LEARNING_RATE, group="cyclegan") == 2e-4
    assert value(late, d.LOSS_SCALE, player="g") == 1
    assert value(late, d.MEMORY, kind="resident") > 1e7
    assert 0 < value(late, d.REMAINING) < float("inf")

    assert labels_of(late, d.LOSS) >= {"adv_s2r", "adv_r2s", "cyc_forward", "id_real", "id_syn", "mse", "d_r", "d_s"}
    assert labels_of(late, d.GRAD_NORM) == {"g", "d"}
    assert labels_of(late, d.NETWORK_GRAD_NORM) == {"g_s2r", "g_r2s", "g_l2h", "d_r", "d_s"}
    assert labels_of(late, d.DRIFT) == {"mean", "std", "colour"}
    assert labels_of(late, d.VALIDATION) >= {"psnr", "ssim", "spectrum_lr", "agreement"}
    assert sum(map(len, late.values())) < 250  # labels are bounded
