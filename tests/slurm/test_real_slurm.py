"""launch/submit.py --target slurm on a real Slurm: what happens to jobs, their exit codes, equal weights afterwards."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers.processes import TRAIN, arguments, outcome, started, steps_done, tensors
from helpers.runs import lines
from helpers.slurm import Slurm
from helpers.waiting import until

pytestmark = pytest.mark.slow
STEPS = 60
ODD = "a \"b\" 'c' $HOME %j #1"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("desk") / ODD
    folder.mkdir()
    return folder


@pytest.fixture
def words(config_file, tiny_data) -> list[str]:
    """Two nodes, a rank each; enough steps that something can happen meanwhile."""
    train = [f"train.max_steps={STEPS}", "train.epochs=100", "train.validate_every_steps=1000"]
    train += ["train.checkpoint_every_steps=20", "train.log_every_steps=1"]
    of_cluster = ["cluster.nodes=2", "cluster.cpus=1", "cluster.memory_gib=2", "slurm.partition=low", "slurm.time=30"]
    given = [*tiny_data.overrides, *train, *of_cluster, "backend=ddp"]
    return ["--config", str(config_file), "--target", "slurm", *given]


class Running:
    """A job that has trained some steps."""

    def __init__(self, cluster: Slurm, desk: Path, name: str, words: list[str]) -> None:
        self.run_dir = desk / "runs" / name
        self.words = [*words, f"cluster.name={name}"]
        self.process = cluster.submit(desk, *self.words)
        try:
            assert self.process.stdout is not None
            said = self.process.stdout.readline()
            found = re.search(r"job (\d+) submitted", said)
            assert found, said
            self.number = found[1]
            until(lambda: steps_done(self.run_dir) >= 10, 120)
        except BaseException:
            self.process.kill()
            print(*self.process.communicate(), sep="\n")
            raise

    def end(self) -> tuple[int, str]:
        """Exit code of launch/submit.py, and what it said."""
        out, err = self.process.communicate(timeout=300)
        print(out, err)
        return self.process.returncode, err


@pytest.fixture
def running(cluster: Slurm, desk: Path, words: list[str]) -> Iterator[object]:
    begun: list[Running] = []

    def begin(name: str, *more: str) -> Running:
        begun.append(Running(cluster, desk, name, [*words, *more]))
        return begun[-1]

    yield begin
    for one in begun:
        one.process.kill()
        one.process.wait()
        cluster.call("scancel", one.number)
    until(lambda: not cluster.call("squeue", "--noheader"), 60)


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.fixture(scope="module")
def reference() -> dict[str, torch.Tensor]:
    """Weights of the run that nothing disturbs, which the first test makes."""
    return {}


def test_a_run_is_submitted_once_and_followed_to_its_end(cluster, desk, words, reference) -> None:
    name = [*words, "cluster.name=whole"]
    code, out, _ = cluster.submitted(desk, *name, "--detach")
    assert code == 0
    number = re.match(r"cyclesr submit: job (\d+) submitted: whole\n", out)[1]  # type: ignore[index]
    code, _, err = cluster.submitted(desk, *name, "weights.mse=7", "--detach")
    assert code == 2
    assert f"job {number} is called whole and has other settings" in err
    code, out, err = cluster.submitted(desk, *name)
    assert code == 0
    assert f"job {number} is there already: following it" in out
    assert f"step {STEPS}/{STEPS}" in out
    assert "running on n[1-2]" in err
    assert f"job {number} succeeded" in err
    assert cluster.submitted(desk, *name, "--status")[:2] == (0, f"job {number} succeeded\n")
    reference.update(tensors(desk / "runs/whole"))


def test_a_preempted_run_goes_on_elsewhere_and_ends_with_the_same_weights(cluster, running, reference) -> None:
    run = running("preempted")
    other = cluster.call(
        "sbatch", "--parsable", "--partition=high", "--nodelist=n1", "--exclusive", "--wrap", "sleep 600", cwd="/tmp"
    ).strip()
    cluster.begins_again(run.number)
    code, err = run.end()
    cluster.call("scancel", other)
    assert code == 0, err
    assert "running on n[2-3], restart 1" in err
    assert equal(tensors(run.run_dir), reference)


def test_ahead_of_the_time_limit_it_saves_and_queues_again_and_a_deleted_run_saves(cluster, desk, running) -> None:
    endless = ["slurm.warning_seconds=125", "train.epochs=100000", "train.checkpoint_every_steps=100000"]
    run = running("limited", "train.max_steps=0", *endless)
    minutes = int(cluster.job(run.number, "RunTime").split(":")[1]) + 2  # 60 to 120 s are left: it is warned, not ended
    cluster.call("scontrol", "update", f"JobId={run.number}", f"TimeLimit={minutes}")
    cluster.begins_again(run.number)
    cluster.call("scontrol", "update", f"JobId={run.number}", "TimeLimit=30")
    saved = max((run.run_dir / "checkpoints").iterdir()).name
    log = run.run_dir / f"slurm/{run.number}.log"
    until(lambda: f"resuming at step {int(saved.partition('-')[2])} from {saved}" in log.read_text(), 120)
    assert "stopped: SIGUSR1: saved" in log.read_text()
    until(lambda: steps_done(run.run_dir) > int(saved.partition("-")[2]) + 5, 120)

    code, out, _ = cluster.submitted(desk, *run.words, "--delete")
    assert (code, out) == (0, f"cyclesr submit: deleted: job {run.number}\n")
    assert max((run.run_dir / "checkpoints").iterdir()).name > saved
    code, err = run.end()
    assert code == 1
    assert f"job {run.number} has ended: failed, restart 1, exit code 75" in err
    assert cluster.call("squeue", "--noheader") == ""
    until(lambda: not cluster.processes(), 30)
    assert cluster.submitted(desk, *run.words, "--delete")[:2] == (0, "cyclesr submit: deleted: nothing was there\n")
    assert cluster.submitted(desk, *run.words, "--status")[0] == 1


def test_a_lost_node_leaves_a_smaller_run_that_goes_on(cluster, running) -> None:
    cluster.call("scontrol", "update", "NodeName=n3", "State=DRAIN", "Reason=test")
    try:
        run = running("lost", "slurm.min_nodes=1")
        cluster.lose("n1")  # which has the batch script, and rank 0
        cluster.begins_again(run.number)
        code, err = run.end()
    finally:
        cluster.repair("n1")
        cluster.repair("n3")
    assert code == 0, err
    assert "running on n2, restart 1" in err
    assert lines(run.run_dir / "metrics.jsonl")[-1]["step"] == STEPS


def test_a_bad_configuration_ends_with_2_and_is_not_requeued(cluster, desk, words) -> None:
    code, out, err = cluster.submitted(desk, *words, "cluster.name=bad", "data.hr=nowhere")
    assert code == 2
    number = re.match(r"cyclesr submit: job (\d+)", out)[1]  # type: ignore[index]
    assert "cyclesr: error: " in out
    assert f"job {number} has ended: failed, exit code 2" in err
    assert cluster.job(number, "Restarts") == "0"
    assert cluster.submitted(desk, *words, "cluster.name=bad", "data.hr=nowhere", "--status")[0] == 1


def test_of_three_submissions_at_a_time_one_makes_the_job(cluster, desk, words) -> None:
    held = [*words, "cluster.name=held", "slurm.options=[--hold]"]
    all_at_once = [cluster.submit(desk, *held, "--detach") for _ in range(3)]
    said = [process.communicate(timeout=120)[0] for process in all_at_once]
    assert [process.returncode for process in all_at_once] == [0, 0, 0]
    assert sum("submitted" in text for text in said) == 1
    assert sum("is there already" in text for text in said) == 2
    code, out, _ = cluster.submitted(desk, *held, "--status")
    assert code == 0
    assert "(held): pending (JobHeldUser)" in out
    assert cluster.submitted(desk, *held, "--delete")[0] == 0
    assert cluster.call("squeue", "--noheader") == ""


def test_plain_srun_starts_ranks(cluster, config_file, words, reference, tmp_path) -> None:
    given = [word for word in words[4:] if not word.startswith(("cluster.", "slurm."))]
    command = [*("srun", "--partition=low", "--ntasks=2", "--nodes=1", "--cpus-per-task=1", sys.executable, TRAIN)]
    with started([*command, *arguments(config_file, tmp_path / "run", *given)], **cluster.environment) as process:
        code, stderr = outcome(process, 200)
    assert code == 0, stderr
    assert equal(tensors(tmp_path / "run"), reference)


def test_a_search_runs_on_ray_inside_its_job(cluster, desk, tiny_data) -> None:
    pytest.importorskip("ray")
    (desk / "base.yaml").write_text("system: cyclesr\nbackend: single\n")
    search = "base: base.yaml\noverrides:\n" + "".join(f"- {text}\n" for text in tiny_data.overrides)
    search += "space: {weights.mse: {grid: [1.0]}}\nnum_samples: 1\nsteps: 4\nreport_every_steps: 4\npictures: 0\n"
    (desk / "found.yaml").write_text(search)
    code, out, err = cluster.submitted(
        desk, "--config", "found.yaml", "--target", "slurm-search", "cluster.nodes=2", "cluster.cpus=1", "slurm.time=10"
    )
    assert code == 0, err
    assert "cyclesr tune: best psnr" in out
    assert (desk / "runs/found/best.yaml").is_file()
    until(lambda: not cluster.processes(), 30)


@pytest.mark.parametrize("name", [ODD, "back`tick` ;&|", 'it\'s "it" $(id)', "trailing "])
def test_sbatch_reads_the_folder_that_was_meant(cluster, name, tmp_path, words) -> None:
    folder = tmp_path / name
    folder.mkdir()
    code, script, _ = cluster.submitted(folder, *words, "cluster.name=odd", "--dry-run", "slurm.options=['--hold']")
    assert code == 0
    number = cluster.call("sbatch", "--parsable", input=script).strip()
    try:
        shown = cluster.call("scontrol", "show", "job", number)
    finally:
        cluster.call("scancel", number)
    assert f"   WorkDir={folder}\n" in shown
    if "%" not in name:  # Slurm writes to the right place, see `desk`, and shows another one
        assert f"   StdOut={folder}/runs/odd/slurm/{number}.log\n" in shown
