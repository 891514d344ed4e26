"""A real Prometheus scrapes real runs: every query of the dashboard has data, every alert fires for its real cause."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml
from helpers.ports import free_ports
from helpers.processes import FAULTY, TRAIN, below, kill, slowed, steps_done
from helpers.waiting import until
from PIL import Image

from cyclesr_dist.cli.main import main as cyclesr
from cyclesr_dist.telemetry import dashboard, monitoring
from cyclesr_dist.telemetry.alerts import Hold, Limits

TORCHRUN = [str(Path(sys.executable).parent / "torchrun"), "--standalone", "--nproc-per-node", "2"]
# Endless; nothing moves by itself in a healthy run.
QUIET = ["train.epochs=1000000", "train.constant_epochs=1000000", "train.pretrain_epochs=0", "optim.lr_cyclegan=1e-7"]
QUIET += ["train.validate_every_steps=20", "train.checkpoint_every_steps=20", "train.lost_rank_seconds=600"]
# Of the alerts' own, minutes become seconds.
LIMITS = Limits(
    stall_seconds=20,
    checkpoint_seconds=40,
    rate_seconds=12,
    memory_seconds=300,
    final_seconds=1,
    data_wait_share=0.6,  # six trainings share two cores here; the starved one waits for nine tenths of its time
    slow_rank=2.0,  # on two cores that others use, too, healthy ranks differ
    starved_rank=0.5,
    hold=Hold.all(2),
)

pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")


class Prometheus:
    """A server that scrapes runs by their prometheus_targets.json."""

    def __init__(self, folder: Path, runs: list[Path]) -> None:
        (self.port,) = free_ports(1)
        (folder / "rules.yml").write_text(monitoring.files(LIMITS)["rules.yml"])
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yml"],
            "scrape_configs": [
                {
                    "job_name": "cyclesr",
                    "file_sd_configs": [
                        {"files": [f"{run}/prometheus_targets.json" for run in runs], "refresh_interval": "1s"}
                    ],
                }
            ],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{self.port}",
                "--log.level=error",
            ]
        )

    def ask(self, path: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def value(self, query: str) -> list[dict[str, Any]]:
        return list(self.ask("query", query=query)["result"])

    def firing(self) -> dict[str, set[str]]:
        """Alerts by run."""
        found: dict[str, set[str]] = {}
        for alert in self.ask("alerts")["alerts"]:
            if alert["state"] == "firing":
                found.setdefault(alert["labels"]["run"], set()).add(alert["labels"]["alertname"])
        return found


@contextmanager
def prometheus(folder: Path, runs: list[Path]) -> Iterator[Prometheus]:
    folder.mkdir()
    server = Prometheus(folder, runs)
    try:
        until(lambda: _answers(server), 400)
        yield server
    finally:
        server.process.terminate()
        server.process.wait(20)


def _answers(server: Prometheus) -> bool:
    assert server.process.poll() is None
    try:
        return isinstance(server.value("vector(1)"), list)
    except OSError:
        return False


@contextmanager
def training(command: list[str], **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """In a session of its own, nothing of which outlives the block."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        kill(below(process.pid))
        process.kill()
        process.wait()


def arguments(config: Path, run_dir: Path, overrides: list[str]) -> list[str]:
    (port,) = free_ports(1)
    ports = [f"telemetry.port={port}", "telemetry.port_search=50"]
    return ["--config", str(config), "--run-dir", str(run_dir), "--quiet", *overrides, *QUIET, *ports]


@pytest.mark.slow
def test_two_ranks_are_scraped_and_a_stall_and_a_killed_rank_are_told(config_file, tiny_data, tmp_path) -> None:
    runs = tmp_path / "runs"
    command = [*TORCHRUN, TRAIN, *arguments(config_file, runs / "two", [*tiny_data.overrides, "backend=ddp"])]
    with prometheus(tmp_path / "prometheus", [runs / "two"]) as server, training(command) as launcher:
        until(lambda: steps_done(runs / "two") >= 42, 150)  # two validations and checkpoints
        until(lambda: {r["metric"]["rank"] for r in server.value("cyclesr_world_size")} == {"0", "1"}, 400)
        assert {r["value"][1] for r in server.value("cyclesr_world_size")} == {"2"}
        until(lambda: server.value("cyclesr:data_wait:share"), 400)
        empty = [
            (title, query)
            for title, query in dashboard.queries()
            if not server.value(dashboard.resolved(query, window="12s"))
        ]
        assert not empty
        assert server.firing() == {}

        children = psutil.Process(launcher.pid).children(recursive=True)
        (rank_1,) = [c for c in children if TRAIN in c.cmdline() and c.environ().get("RANK") == "1"]
        with slowed(rank_1):
            until(lambda: server.firing() == {"two": {"CyclesrStraggler"}}, 400)
        (ratio,) = server.value("cyclesr:slow_rank:ratio")
        assert ratio["metric"]["rank"] == "1"
        until(lambda: server.firing() == {}, 400)
        rank_1.send_signal(signal.SIGSTOP)
        until(lambda: server.firing() == {"two": {"CyclesrNoProgress", "CyclesrRankMissing"}}, 400)
        rank_1.send_signal(signal.SIGCONT)
        until(lambda: server.firing() == {}, 400)
        rank_1.kill()
        until(lambda: server.firing() == {"two": {"CyclesrRankMissing"}}, 400)


def tinted_shards(data: Path, out: Path, tint: list[float], config: Path) -> str:
    """LR photographs with a colour cast, as a shard set."""
    photographs = out / "photographs"
    photographs.mkdir(parents=True)
    for path in (data / "lr").glob("*.png"):
        image = np.asarray(Image.open(path)) * np.array(tint)
        Image.fromarray(image.astype(np.uint8)).save(photographs / f"tinted_{path.name}")
    build = ["shards", "build", "--hr", str(data / "hr"), "--lr", str(photographs), "--out", str(out / "shards")]
    assert cyclesr([*build, "--config", str(config), "--quiet"]) == 0
    return str(out / "shards/lr")


@pytest.mark.slow
def test_each_cause_fires_its_alert_and_no_other(config_file, tiny_data, tmp_path) -> None:
    shards = tiny_data.root / "shards.yaml"
    red = tinted_shards(tiny_data.root, tmp_path / "red", [1.0, 0.4, 0.2], shards)
    warm = tinted_shards(tiny_data.root, tmp_path / "warm", [1.0, 0.85, 0.8], shards)
    causes: dict[str, tuple[str, str, list[str], set[str]]] = {
        "nan": (FAULTY, "nan:0:200", ["train.max_bad_steps=9"], {"CyclesrBadGradients"}),
        "starved": (FAULTY, "starved:0:0", [], {"CyclesrDataStarvation"}),
        "unsaved": (TRAIN, "", ["train.checkpoint_every_steps=1000000"], {"CyclesrCheckpointTooOld"}),
        "drift": (
            TRAIN,
            "",
            [f"data.lr={warm}", "weights.cyc=0", "weights.id=0", "weights.mse=0.1", "optim.lr_cyclegan=0.003"],
            {"CyclesrColourDrift"},
        ),
        "saturated": (
            TRAIN,
            "",
            [f"data.lr={red}", "weights.adv=0", "weights.mse=0.001", "optim.lr_cyclegan=0.01"],
            {"CyclesrDiscriminatorSaturated"},
        ),
        "healthy": (TRAIN, "", [], set()),
    }
    runs = tmp_path / "runs"
    seen: dict[str, set[str]] = {name: set() for name in causes}
    with ExitStack() as stack:
        server = stack.enter_context(prometheus(tmp_path / "prometheus", [runs / name for name in causes]))
        for name, (script, fault, overrides, _) in causes.items():
            command = [sys.executable, script, *arguments(config_file, runs / name, tiny_data.overrides)]
            stack.enter_context(training([*command, *overrides], FAULT=fault, CYCLESR_NUM_THREADS="1"))

        def all_fired() -> bool:
            for run, found in server.firing().items():
                seen[run] |= found
            return all(seen[name] >= expected for name, (*_, expected) in causes.items())

        until(all_fired, 280)
    # Images that drift far are easy to tell from true ones.
    consequences = {"drift": {"CyclesrDiscriminatorSaturated"}}
    for name, (*_, expected) in causes.items():
        assert expected <= seen[name] <= expected | consequences.get(name, set()), (name, seen[name])
