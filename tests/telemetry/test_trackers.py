"""Numbers and pictures of real runs arrive at TensorBoard, W&B (offline) and MLflow (a folder), where installed."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.runs import run
from helpers.wandb_server import wandb_server

from cyclesr_dist.config.schema import Config, Telemetry
from cyclesr_dist.errors import ConfigError, InputError
from cyclesr_dist.telemetry.trackers import Sent, Trackers, grouped, open_trackers
from cyclesr_dist.training.main import main as train


@pytest.mark.parametrize("resumed", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_tensorboard_has_scalars_and_strips_once_each(resumed, config_file, tiny_data, tmp_path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    settings = [*tiny_data.overrides, "telemetry.trackers=[tensorboard]", "train.checkpoint_every_steps=3"]
    assert run(config_file, tmp_path / "run", *settings, "train.max_steps=4") == 0
    last = 4
    if resumed:  # as after a crash at step 4: what was written after the checkpoint of step 3 is written again
        last = 8
        (tmp_path / "run/checkpoints/step-00000004").rename(tmp_path / "gone")
        assert run(config_file, tmp_path / "run", *settings, "train.max_steps=8", "--resume") == 0
    events = accumulator.EventAccumulator(str(tmp_path / "run/tensorboard"), {"images": 0, "scalars": 0})
    events.Reload()
    assert [e.step for e in events.Scalars("loss/mse")] == list(range(1, last + 1))
    logged = [json.loads(line)["loss.mse"] for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [e.value for e in events.Scalars("loss/mse")] == pytest.approx(logged)
    assert [e.step for e in events.Scalars("validation/psnr")] == [4, 8][: last // 4]
    assert {"grad_norm/g", "network_norm/g_l2h", "drift/mean", "seconds/step"} <= set(events.Tags()["scalars"])
    assert events.Tags()["images"] == ["pictures/photo0x4m", "pictures/photo1x4m", "pictures/figure3"]
    assert [e.step for e in events.Images("pictures/figure3")] == [4, 8][: last // 4]


@pytest.mark.slow
def test_wandb_gets_the_run_offline_and_goes_on_with_it(config_file, tiny_data, tmp_path, monkeypatch, capfd) -> None:
    """Resumed after a crash, too: the command that it prints uploads all pieces, and every step stands there once."""
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    settings = [*tiny_data.overrides, "telemetry.trackers=[wandb]", "train.checkpoint_every_steps=3"]
    whole = ["--config", str(config_file), "--run-dir", str(tmp_path / "run"), *settings]
    assert train([*whole, "train.max_steps=4"]) == 0
    assert "wandb sync" not in capfd.readouterr().err
    name = json.loads((tmp_path / "run/trackers.json").read_text())["wandb"]
    (tmp_path / "run/checkpoints/step-00000004").rename(tmp_path / "gone")
    assert train([*whole, "train.max_steps=8", "--resume"]) == 0
    assert json.loads((tmp_path / "run/trackers.json").read_text())["wandb"] == name
    assert list((tmp_path / "run/wandb").glob("offline-run-*/files/media/images/pictures/figure3*.png"))
    (said,) = [line for line in capfd.readouterr().err.splitlines() if "wandb sync" in line]
    command = shlex.split(said[said.index("wandb sync") :])
    assert [Path(piece).name.endswith(name) for piece in command[2:]] == [True, True]
    with wandb_server() as server:
        environment = {name: value for name, value in os.environ.items() if name != "WANDB_MODE"}
        environment |= {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "0" * 40, "WANDB_ERROR_REPORTING": "false"}
        environment["WANDB_DIR"] = str(tmp_path)
        subprocess.run([sys.executable, "-m", *command], env=environment, check=True, timeout=300)
    for key, steps in (("loss/mse", list(range(1, 9))), ("validation/psnr", [4, 8])):
        assert [line["step"] for line in server.history if key in line] == steps


@pytest.mark.slow
def test_mlflow_gets_the_run_and_goes_on_with_it(config_file, tiny_data, tmp_path, monkeypatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "tiny")
    settings = [*tiny_data.overrides, "telemetry.trackers=[mlflow]"]
    settings.append("train.checkpoint_every_steps=3")
    assert run(config_file, tmp_path / "run", *settings, "train.max_steps=4") == 0
    (tmp_path / "run/checkpoints/step-00000004").rename(tmp_path / "gone")
    assert run(config_file, tmp_path / "run", *settings, "train.max_steps=8", "--resume") == 0
    client = mlflow.MlflowClient((tmp_path / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("tiny")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.run_name == "run"
    assert found.info.status == "FINISHED"
    assert [m.step for m in client.get_metric_history(found.info.run_id, "loss/mse")] == list(range(1, 9))
    assert any("figure3" in a.path for a in client.list_artifacts(found.info.run_id, "images"))


def test_what_a_service_has_is_not_sent_again(tmp_path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 3}\n{"step": 5}\nnot json\n{"st')
    (tmp_path / "validation.jsonl").write_text('{"step": 4}\n')
    values = {"loss/mse": 1.0, "validation/psnr": 2.0}
    sent = Sent(tmp_path, resumed=True)
    assert [sent.without(step, values) for step in (4, 5, 6)] == [{}, {"validation/psnr": 2.0}, values]
    assert Sent(tmp_path, resumed=False).without(1, values) == values
    assert Sent(tmp_path / "none", resumed=True).without(1, values) == values


class Broken:
    def scalars(self, step: int, values: object) -> None:
        raise ConnectionError("the service is down\nfor long")

    def picture(self, step: int, name: str, image: object) -> None:
        raise AssertionError("it was left out")

    def close(self) -> None:
        raise AssertionError("it was left out")


def test_a_tracker_that_fails_is_left_out_with_one_warning() -> None:
    said: list[str] = []
    trackers = Trackers({"broken": Broken()}, said.append)
    for step in (1, 2):
        trackers.scalars(step, {"loss/mse": 1.0})
    trackers.picture(2, "strip", np.zeros((2, 2, 3), np.uint8))
    trackers.close()
    assert said == ["telemetry.trackers: broken is left out from now on: the service is down"]


class Slow:
    def scalars(self, step: int, values: object) -> None: ...

    def picture(self, step: int, name: str, image: object) -> None: ...

    def close(self) -> None:
        threading.Event().wait(60)


def test_a_tracker_that_hangs_at_the_end_is_not_waited_for() -> None:
    said: list[str] = []
    trackers = Trackers({"slow": Slow()}, said.append)
    trackers.patience_seconds = 0.1
    began = time.monotonic()
    trackers.close()
    assert time.monotonic() - began < 10
    assert said == ["telemetry.trackers: slow: not everything was taken in 0.1 s"]


def test_a_package_that_is_missing_is_named_with_its_extra(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"names wandb, which is not installed.*pip install .*wandb"):
        open_trackers(Config(telemetry=Telemetry(trackers=("wandb",))), tmp_path, 0, print)


def test_a_tracker_that_cannot_be_begun_is_an_input_error(tmp_path) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "tensorboard").write_text("in the way")
    with pytest.raises(InputError, match="tensorboard cannot be begun"):
        open_trackers(Config(telemetry=Telemetry(trackers=("tensorboard",))), tmp_path, 0, print)


def test_numbers_of_a_log_line_are_grouped() -> None:
    line = {"step": 3, "phase": "joint", "loss.mse": 0.5, "lr_factor": 1, "network_norm.g_l2h": 2.0}
    assert grouped(line, leave_out=("step",)) == {"loss/mse": 0.5, "lr_factor": 1.0, "network_norm/g_l2h": 2.0}
