"""Searches on real Ray clusters: raylets, trials and ranks are processes, and some are killed."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers.ports import free_port
from helpers.processes import kill
from helpers.searches import printed, reports, search, searching, trials
from helpers.waiting import until

from cyclesr_dist.config.reader import dump
from cyclesr_dist.config.schema import load
from cyclesr_dist.search.config import load_search
from cyclesr_dist.search.space import with_values

pytest.importorskip("ray.tune", reason="Ray is not installed")
pytestmark = pytest.mark.timeout(900)

REPOSITORY = Path(__file__).parents[2]
TRAIN = [sys.executable, str(REPOSITORY / "launch/train.py")]


def ranks(scratch: Path) -> list[psutil.Process]:
    """All processes that train for a trial."""
    found = []
    for process in psutil.process_iter():
        try:
            if "cyclesr_dist.training" in process.cmdline() and process.cwd().startswith(str(scratch)):
                found.append(process)
        except psutil.Error:
            continue
    return found


def raylet(node: Any) -> psutil.Process:
    return psutil.Process(node.all_processes["raylet"][0].process.pid)


def validating(scratch: Path, machine: psutil.Process) -> bool:
    """Whether a trial under that raylet is past its first validation, and not over."""
    for rank in ranks(scratch):
        with suppress(psutil.NoSuchProcess):
            scores = Path(rank.cwd()) / "run/validation.jsonl"
            if machine in rank.parents() and scores.is_file() and scores.stat().st_size:
                return True
    return False


def plain_psnr(config: Path, run_dir: Path, values: dict[str, float]) -> float:
    """Of the same training without a search."""
    made = load_search(config)
    path = run_dir.with_suffix(".yaml")
    path.write_text(dump(with_values(Path(made.base), made.overrides, values)))
    environment = os.environ | {"CYCLESR_NUM_THREADS": "1"}
    command = [*TRAIN, "--config", str(path), "--run-dir", str(run_dir), "--quiet", *made.trial_overrides()]
    subprocess.run(command, check=True, env=environment)
    return float(json.loads((run_dir / "validation.jsonl").read_text().splitlines()[-1])["psnr"])


@pytest.mark.slow
def test_a_search_from_end_to_end(write_search, scratch, tmp_path) -> None:
    """One value trains, one cannot; a trial is the plain run in every digit; a second call changes no files."""
    # Adam's step is of the size of the learning rate: with 1e30 float32 overflows.
    space = {"optim.lr_sr": {"grid": [1.0e-4, 1.0e30]}}
    impatient = ["weights.mse=20", "train.max_bad_steps=0", "train.max_rollbacks=0"]
    impatient += [f"telemetry.port={20000 + os.getpid() % 10000}"]  # which only one of two trials could have
    config, run = write_search(space=space, overrides=impatient, steps=16, report_every_steps=0), tmp_path / "run"
    code, said = search(config, run)
    assert code == 0, said
    good, lost = sorted(trials(run), key=lambda trial: float(trial["optim.lr_sr"]))
    assert (good["state"], lost["state"]) == ("finished", "failed")
    assert "not finite" in lost["cause"]
    assert lost["cause"].endswith("in bad_steps.jsonl; a smaller learning rate or loss weight may help")
    assert len(list((run / "ray/run" / lost["id"]).glob("checkpoint_*/bad_steps.jsonl"))) == 1
    best = json.loads((run / "summary.json").read_text())["best"]
    assert best["values"] == {"optim.lr_sr": 1.0e-4}
    assert best["psnr"] == plain_psnr(config, tmp_path / "plain", best["values"])
    assert (run / "report.html").read_text().count("<figcaption>") == 1
    made = load(run / "best.yaml")
    assert (made.weights.mse, made.optim.lr_sr, made.train.steps) == (20.0, 1.0e-4, 0)
    assert not ranks(scratch)
    assert not list(scratch.glob("cyclesr-trial-*"))

    files = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    assert search(config, run)[0] == 2
    code, said = search(config, run, "--resume")
    assert code == 0, said
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == files
    code, said = search(config, run, "--resume", "steps=12")
    assert code == 2
    assert "other settings" in said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"space": {"weights.mze": {"choice": [1, 2]}}}, "weights.mse"),
        pytest.param({"workers": {"gpus": 8}}, "a trial needs 1 times 1 CPU and 8 GPU", marks=pytest.mark.slow),
        pytest.param(
            {"workers": {"num": 2, "cpus": 500}, "overrides": ["backend=ddp"]},
            "needs 2 times 500 CPU",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"overrides": ["data.valid_hr="]},
            "validate.metric = psnr needs HR of the same scenes",
            marks=pytest.mark.slow,
        ),
        pytest.param({"overrides": ["data.lr=/nowhere"]}, "/nowhere", marks=pytest.mark.slow),
    ],
)
def test_what_cannot_work_is_said_at_once(changes, said, write_search, tmp_path) -> None:
    config = write_search(**changes)
    code, printed = search(config, tmp_path / "run", seconds=300)
    assert code == 2, printed
    assert said in printed.strip().splitlines()[-1]
    assert not reports(tmp_path / "run")


@pytest.mark.slow
def test_a_killed_rank_a_stop_and_a_resume(write_search, scratch, tmp_path) -> None:
    """A trial that loses a process goes on from its checkpoint, SIGTERM stops in order, --resume ends what is left."""
    config, run = write_search(space={"weights.mse": {"grid": [1.0, 10.0, 100.0, 1000.0]}}), tmp_path / "run"
    port = 20000 + os.getpid() % 10000
    more = ["steps=24", "max_concurrent=1", f"telemetry.port={port}"]
    with searching(config, run, *more) as process:
        until(lambda: len(reports(run)) >= 1)
        kill(ranks(scratch))
        until(lambda: any(r["step"] == 24 for r in reports(run)))
        until(lambda: len(reports(run)) >= 8)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
            metrics = page.read().decode()
        process.send_signal(signal.SIGTERM)
        process.wait(90)
    assert process.returncode == 75
    assert "lost a process: it goes on from its last checkpoint" in printed(run)
    assert 'cyclesr_trial_validation{score="psnr",trial="' in metrics
    assert 'cyclesr_search_trials{state="terminated"} 1.0' in metrics
    until(lambda: not ranks(scratch), 60)
    before = reports(run)
    code, said = search(config, run, "--resume", *more)
    assert code == 0, said
    assert [t["state"] for t in trials(run)] == ["finished"] * 4
    again = Counter((r["trial"], r["step"]) for r in reports(run))
    assert all(count <= 2 for count in again.values())
    done = {(r["trial"], r["step"]) for r in before}
    assert sum(again[key] - 1 for key in done) <= 1  # at most the report whose checkpoint was not yet kept
    (first,) = [t for t in trials(run) if t["trial"] == "1"]
    plain = plain_psnr(write_search(steps=24), tmp_path / "plain", {"weights.mse": float(first["weights.mse"])})
    assert float(first["psnr"]) == pytest.approx(plain, rel=1e-5)  # trials.csv has six digits


@pytest.mark.slow
def test_three_raylets_one_is_lost_and_the_driver_too(write_search, scratch, tmp_path) -> None:
    """Twelve trials of two ranks each, on machines that each hold two ranks."""
    import ray
    from ray.cluster_utils import Cluster

    space = {"weights.mse": {"loguniform": [0.1, 1000.0]}}
    config = write_search(
        space=space,
        num_samples=12,
        overrides=["backend=ddp"],
        workers={"num": 2},
        scheduler="asha",
        steps=64,
        asha={"reduction_factor": 2, "grace_steps": 16},
    )
    run = tmp_path / "run"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
        cluster.wait_for_nodes()
        with searching(config, run, "--address", cluster.address) as process:
            until(lambda: validating(scratch, raylet(nodes[0])))
            machine = raylet(nodes[0]).children(recursive=True)
            cluster.remove_node(nodes[0], allow_graceful=False)
            kill(machine)  # they outlive their raylet by long enough to end a trial
            until(lambda: "goes on from its last checkpoint" in printed(run), 400)
            until(lambda: len({r["trial"] for r in reports(run)}) >= 5, 400)
            process.kill()
            process.wait()
        until(lambda: not ranks(scratch), 120)
        begun = {r["trial"] for r in reports(run)}
        code, said = search(config, run, "--address", cluster.address, "--resume", seconds=280)
        assert code == 0, said
        found = trials(run)
        assert len(found) == 12
        assert {t["state"] for t in found} <= {"finished", "stopped early"}
        assert {t["id"] for t in found} >= begun
        assert all(r["step"] in range(4, 65, 4) for r in reports(run))
        ray.init(cluster.address, log_to_driver=False)
        until(lambda: ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"] == 4, 180)
        assert not [g for g in ray.util.placement_group_table().values() if g["state"] == "CREATED"]
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert not ranks(scratch)


@pytest.mark.slow
def test_a_node_whose_loss_nobody_noticed_yet(write_search, tmp_path) -> None:
    """The cluster calls a node alive until its heartbeats are missed: a search begun by then does without it."""
    from ray.cluster_utils import Cluster

    config = write_search(workers={"num": 1})
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        node = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        raylet(node).suspend()  # it keeps its connections, as a machine that lost its power does
        code, said = search(config, tmp_path / "run", "--address", cluster.address, "--dry-run")
        raylet(node).kill()
    finally:
        cluster.shutdown()
    assert code == 0, said
    assert f"gone while the cluster was looked at: node {node.node_ip_address} {node.node_id[:8]}" in said
    assert "on 1 node; none begun" in said


@pytest.mark.slow
def test_populations_exploit_and_stay_inside_the_space(write_search, scratch, tmp_path) -> None:
    space = {"weights.mse": {"loguniform": [1.0, 100.0]}, "optim.lr_sr": {"choice": [1.0e-4, 1.0e-2]}}
    config, run = write_search(space=space, scheduler="pbt", num_samples=4, steps=64), tmp_path / "run"
    code, said = search(config, run, "max_concurrent=2")
    assert code == 0, said
    found = reports(run)
    assert all(1.0 <= record["values"]["weights.mse"] <= 100.0 for record in found)
    by_trial = [[r for r in found if r["trial"] == name] for name in {r["trial"] for r in found}]
    steps = [pair for reported in by_trial for pair in itertools.pairwise(reported)]
    # With the small learning rate a report gains 0.02 dB, and 1 dB with the large one.
    copied = [after["psnr"] - before["psnr"] for before, after in steps if before["values"] != after["values"]]
    assert copied, "no trial was given another's checkpoint and new values"
    assert max(copied) > 0.3
    assert {t["state"] for t in trials(run)} == {"finished"}


@pytest.mark.slow
def test_optuna_looks_for_the_front_of_two_scores(write_search, scratch, tmp_path) -> None:
    space = {"weights.mse": {"loguniform": [1.0, 100.0]}}
    more = {"overrides": ["ema_decay=0"], "shared_steps": 4}
    config = write_search(space=space, searcher="optuna", second_metric="spectrum_hr", num_samples=4, **more)
    code, said = search(config, tmp_path / "run", "max_concurrent=2")
    assert code == 0, said
    assert {r["step"] for r in reports(tmp_path / "run")} == {8}
    found = trials(tmp_path / "run")
    assert len(found) == 4
    assert any(t["front"] == "1" for t in found)
    page = (tmp_path / "run/report.html").read_text()
    assert "psnr against spectrum_hr" in page
    assert page.count("<figcaption>") == 1


@pytest.mark.slow
def test_a_trial_from_shared_steps_is_the_plain_run(write_search, scratch, tmp_path) -> None:
    config = write_search(
        space={"weights.mse": {"choice": [20.0]}}, overrides=["weights.mse=20"], steps=12, shared_steps=4
    )
    run = tmp_path / "run"
    code, said = search(config, run)
    assert code == 0, said
    assert [r["step"] for r in reports(run)] == [8, 12]
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["steps"], summary["steps_without_stopping"]) == (12, 12)
    assert summary["best"]["psnr"] == plain_psnr(config, tmp_path / "plain", {"weights.mse": 20.0})


@pytest.mark.slow
def test_a_search_driven_over_a_client_connection(write_search, scratch, tmp_path) -> None:
    from ray.cluster_utils import Cluster

    port = free_port()
    head = {"num_cpus": 2, "include_dashboard": False, "ray_client_server_port": port}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    address = f"ray://{cluster.address.split(':')[0]}:{port}"
    run = tmp_path / "run"
    try:
        code, said = search(write_search(), run, "--address", address)
        assert code == 2
        assert "storage is empty" in said
        for more, expected in (([], 0), ([], 2), (["--resume"], 0)):
            code, said = search(write_search(storage=str(tmp_path / "store")), run, "--address", address, *more)
            assert code == expected, said
        assert [t["state"] for t in trials(run)] == ["finished"] * 2
        assert (run / "best.yaml").is_file()
        assert "<svg" in (run / "report.html").read_text()
    finally:
        cluster.shutdown()
