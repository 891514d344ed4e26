"""launch/submit.py against an API server over HTTP; as a process where signals and kubectl matter."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.kube_server import KINDS, Cluster, cluster
from helpers.waiting import stays, until

from cyclesr_dist.errors import CycleSRError, InputError
from cyclesr_dist.kubernetes import submit as submission
from cyclesr_dist.kubernetes.api import Api, Manifest
from cyclesr_dist.kubernetes.follow import follow

ROOT = Path(__file__).parents[2]
NAME = "demo"
WHOLE = [f"configmaps/{NAME}", f"jobs/{NAME}", f"networkpolicies/{NAME}", f"services/{NAME}"]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path) as found:
        yield found


def command(*arguments: str, config: str = "configs/demo.yaml") -> list[str]:
    return ["--config", str(ROOT / config), *arguments]


def begun(lab: Cluster, *arguments: str, **more: Any) -> subprocess.Popen[str]:
    environment = os.environ | {"KUBECONFIG": str(lab.kubeconfig)}
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    words = [sys.executable, "launch/submit.py", *command(*arguments, **more)]
    return subprocess.Popen(words, cwd=ROOT, env=environment, **pipes)


def submit(lab: Cluster, *arguments: str, **more: Any) -> tuple[int, str, str]:
    """In this process: starting one takes longer than most tests."""
    out, err = io.StringIO(), io.StringIO()
    with as_in(lab), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = submission.main(command(*arguments, **more))
    return code, out.getvalue(), err.getvalue()


@contextlib.contextmanager
def as_in(lab: Cluster) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:  # the client has read the variable when it was imported
        patch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(lab.kubeconfig))
        patch.setenv("KUBECONFIG", str(lab.kubeconfig))
        yield


def pod(name: str, index: int, phase: str, code: int | None = None, waiting: str = "") -> dict[str, Any]:
    state: dict[str, Any] = {}
    if code is not None:
        state = {"terminated": {"exitCode": code}}
    elif waiting:
        state = {"waiting": {"reason": waiting}}
    labels = {"cyclesr-dist/run": NAME, "cyclesr-dist/part": "trainer"}
    labels["batch.kubernetes.io/job-completion-index"] = str(index)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"containers": [{"name": "trainer"}]},
        "status": {"phase": phase, "containerStatuses": [{"name": "trainer", "state": state}]},
    }


def job_ends(lab: Cluster, condition: str, reason: str = "") -> None:
    found = {"type": condition, "status": "True"} | ({"reason": reason} if reason else {})
    lab.patch("jobs", NAME, {"status": {"conditions": [found]}})


def until_said(process: subprocess.Popen[str], text: str) -> str:
    """All that it has written to stderr, up to the line with `text`."""
    said = ""
    while text not in said:
        line = process.stderr.readline()  # type: ignore[union-attr]
        assert line, said
        said += line
    return said


def wait_for_job(lab: Cluster) -> None:
    until(lambda: f"jobs/{NAME}" in lab.objects())


def test_a_run_is_followed_to_its_end_over_broken_connections(lab: Cluster) -> None:
    lab.do(lambda s: setattr(s, "breaking_watches", 2))
    lab.do(lambda s: setattr(s, "breaking_logs", 2))
    process = begun(lab)
    wait_for_job(lab)
    assert lab.objects() == WHOLE
    lab.put("pods", pod("demo-0-aaaaa", 0, "Pending", waiting="ContainerCreating"))
    lab.put("pods", pod("demo-1-aaaaa", 1, "Running"))
    said = until_said(process, "demo-0-aaaaa: Pending: ContainerCreating")
    lines = [(f"2026-11-23T10:00:0{i // 2}Z", f"line {i}") for i in range(6)]  # two of each second
    lab.do(lambda s: s.logs.update({"demo-0-aaaaa": lines[:3]}))
    lab.put("pods", pod("demo-0-aaaaa", 0, "Running"))
    until(lambda: lab.server.breaking_watches == lab.server.breaking_logs == 0)
    lab.do(lambda s: s.logs.update({"demo-0-aaaaa": lines}))
    lab.do(lambda s: s.ended_logs.add("demo-0-aaaaa"))
    lab.put("pods", pod("demo-0-aaaaa", 0, "Succeeded", code=0))
    lab.put("pods", pod("demo-1-aaaaa", 1, "Succeeded", code=0))
    job_ends(lab, "Complete")
    err = said + process.stderr.read()  # type: ignore[union-attr]
    out = process.stdout.read()  # type: ignore[union-attr]
    process.wait(60)
    assert process.returncode == 0, err
    assert out.splitlines() == ["cyclesr submit: Job demo submitted to lab", *(line for _, line in lines)]
    for news in (
        "demo-0-aaaaa: Pending: ContainerCreating",
        "demo-0-aaaaa: Running",
        "exit code 0",
        "Job demo succeeded",
    ):
        assert news in err
    assert lab.server.watches > 2
    assert lab.server.breaking_watches == lab.server.breaking_logs == 0


def test_called_again_it_follows_and_changes_nothing(lab: Cluster) -> None:
    assert submit(lab, "--detach")[0] == 0
    before = lab.contents()
    code, out, _ = submit(lab, "--detach")
    assert (code, out) == (0, "cyclesr submit: Job demo is there already: following it\n")
    assert lab.contents() == before

    code, _, err = submit(lab, "--detach", "weights.mse=21")
    assert code == 2
    assert "Job demo is there with other settings; --delete it first, or choose another cluster.name" in err
    assert lab.contents() == before


@pytest.mark.parametrize(("pods", "code"), [((2, 143), 2), ((1, 1), 1), ((137, 1), 1)])
def test_a_job_that_failed_gives_its_exit_code(lab: Cluster, pods: tuple[int, int], code: int) -> None:
    assert submit(lab, "--detach")[0] == 0
    for index, left in enumerate(pods):
        lab.put("pods", pod(f"demo-{index}-bbbbb", index, "Failed", code=left))
    lab.do(lambda s: s.ended_logs.update({"demo-0-bbbbb"}))
    lab.do(lambda s: s.logs.update({"demo-0-bbbbb": [("2026-11-23T10:00:00Z", "cyclesr: error: data.hr = nowhere")]}))
    job_ends(lab, "Failed", "PodFailurePolicy")
    got, out, err = submit(lab)
    assert got == code
    assert "cyclesr: error: data.hr = nowhere" in out
    assert "Job demo failed: PodFailurePolicy" in err
    status, out, _ = submit(lab, "--status")
    assert status == 1
    assert f"demo-0-bbbbb  Failed, exit code {pods[0]}" in out


def test_what_is_forbidden_is_said_and_leaves_nothing(lab: Cluster) -> None:
    lab.do(lambda s: s.forbidden.add(("create", "jobs")))
    code, _, err = submit(lab)
    assert code == 2
    assert err.splitlines()[-1].startswith("cyclesr: error: the cluster refuses to create Job demo in namespace lab: ")
    assert 'User "eve" cannot create' in err
    assert lab.objects() == []
    assert "create configmaps" not in lab.server.seen  # all were tried dry before


def test_a_refusal_after_the_dry_run_takes_back_what_was_made(lab: Cluster) -> None:
    lab.do(lambda s: s.fail_creating.add("jobs"))
    code, _, err = submit(lab)
    assert code == 2
    assert "exceeded quota" in err
    assert "create configmaps" in lab.server.seen
    assert lab.objects() == []


def test_an_operator_that_is_not_installed_is_named(lab: Cluster) -> None:
    code, _, err = submit(lab, "--target", "jobset")
    assert code == 2
    assert "the cluster knows no JobSet (jobset.x-k8s.io/v1alpha2)" in err
    assert lab.objects() == []


@pytest.mark.parametrize(
    ("target", "config", "kinds", "end"),
    [
        ("jobset", "demo", [("jobset.x-k8s.io", "v1alpha2", "jobsets")], {"conditions": [{"type": "Completed"}]}),
        (
            "trainjob",
            "demo",
            [("trainer.kubeflow.org", "v1alpha1", kind) for kind in ("trainjobs", "trainingruntimes")],
            {"conditions": [{"type": "Complete"}]},
        ),
        ("rayjob", "tune_demo", [("ray.io", "v1", "rayjobs")], {"jobDeploymentStatus": "Complete"}),
    ],
)
def test_the_operators_jobs_are_submitted_followed_and_deleted(
    target: str, config: str, kinds: Any, end: dict[str, Any], tmp_path: Path
) -> None:
    with cluster(tmp_path, [*KINDS, *kinds]) as lab:
        file = f"configs/{config}.yaml"
        assert submit(lab, "--target", target, "--detach", config=file)[0] == 0
        name = config.replace("_", "-")
        assert f"{target}s/{name}" in lab.objects()
        for condition in end.get("conditions", []):
            condition["status"] = "True"
        status = end | ({"jobStatus": "SUCCEEDED"} if target == "rayjob" else {})
        lab.patch(f"{target}s", name, {"status": status})
        code, _, err = submit(lab, "--target", target, config=file)
        assert (code, "succeeded" in err) == (0, True)
        code, out, _ = submit(lab, "--target", target, "--delete", config=file)
        assert code == 0
        assert f"{name}" in out
        assert lab.objects() == []


def test_delete_takes_all_and_nothing_else(lab: Cluster) -> None:
    other = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other"}, "data": {}}
    lab.put("configmaps", other)
    assert submit(lab, "--detach")[0] == 0
    code, out, _ = submit(lab, "--delete")
    assert (code, lab.objects()) == (0, ["configmaps/other"])
    assert out.startswith("cyclesr submit: deleted: Job demo, ")
    assert submit(lab, "--delete")[:2] == (0, "cyclesr submit: deleted: nothing was there\n")
    assert submit(lab, "--status")[0] == 2


def test_an_object_of_somebody_else_is_left_alone(lab: Cluster) -> None:
    other = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME}, "data": {"theirs": "1"}}
    lab.put("configmaps", other)
    code, _, err = submit(lab)
    assert code == 2
    assert "ConfigMap demo is there and is not of a run of ours; choose another cluster.name" in err
    assert lab.objects() == [f"configmaps/{NAME}"]


def test_ctrl_c_leaves_the_run_alone_and_at_once(lab: Cluster) -> None:
    process = begun(lab)
    wait_for_job(lab)
    for index in (0, 1):
        lab.put("pods", pod(f"demo-{index}-aaaaa", index, "Running"))
    until(lambda: len(lab.server.asked_logs) == 1)  # and stays open
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - begin < 20
    assert process.returncode == 130
    assert "the run goes on" in err
    assert lab.objects() == WHOLE


@pytest.mark.parametrize(
    ("kubeconfig", "says", "code"),
    [
        ("nowhere", "no usable kubeconfig", 2),
        ("{]", "no usable kubeconfig", 2),
        ("dead", "the cluster does not answer", 1),
    ],
)
def test_no_cluster_is_said_in_a_line(kubeconfig: str, says: str, code: int, tmp_path: Path, lab: Cluster) -> None:
    file = tmp_path / "other"
    if kubeconfig == "dead":
        content = yaml.safe_load(lab.kubeconfig.read_text())
        content["clusters"][0]["cluster"]["server"] = "http://127.0.0.1:9"
        file.write_text(yaml.safe_dump(content))
    elif kubeconfig != "nowhere":
        file.write_text(kubeconfig)
    lab.kubeconfig = file
    got, _, err = submit(lab, "--status")
    assert got == code
    assert says in err.splitlines()[-1]
    assert "Traceback" not in err


def test_dry_run_prints_what_kubectl_reads_and_asks_no_cluster(lab: Cluster) -> None:
    code, out, err = submit(lab, "--dry-run", "cluster.nodes=4")
    assert code == 0
    assert [manifest["kind"] for manifest in yaml.safe_load_all(out)] == [
        "ConfigMap",
        "NetworkPolicy",
        "Service",
        "Job",
    ]
    assert "note: cluster.work_claim is empty" in err
    assert lab.server.seen == []
    code, out, err = submit(lab, "--dry-run", "cluster.nodes=3")
    assert (code, out) == (2, "")
    assert "global_batch = 8 is no multiple of the 3 ranks" in err


def test_kubectl_takes_what_dry_run_prints(lab: Cluster) -> None:
    _, manifests, _ = submit(lab, "--dry-run")
    kubectl = Path(sys.executable).with_name("kubectl")
    create = [str(kubectl), "create", "--validate=false", "-f", "-"]
    environment = os.environ | {"KUBECONFIG": str(lab.kubeconfig)}
    done = subprocess.run(create, input=manifests, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert lab.objects() == WHOLE
    assert submit(lab, "--detach")[1] == "cyclesr submit: Job demo is there already: following it\n"


TRAINER = [("trainer.kubeflow.org", "v1alpha1", kind) for kind in ("trainjobs", "trainingruntimes")]


@pytest.mark.parametrize(("late", "code"), [(2, 0), (10**6, 2)])
def test_a_trainjob_waits_for_its_runtime(
    late: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission, "PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(submission, "RUNTIME_SECONDS", 1.0)
    with cluster(tmp_path, [*KINDS, *TRAINER]) as lab:
        lab.do(lambda s: setattr(s, "late_runtimes", late))
        got, _, err = submit(lab, "--target", "trainjob", "--detach")
        assert got == code
        assert "create trainjobs (dry run)" not in lab.server.seen
        assert lab.server.seen.count("create trainjobs") > 2
        assert ("must be created before the TrainJob is created" in err) == (code == 2)
        assert lab.objects() == (
            [f"{kind}/{NAME}" for kind in ("configmaps", "networkpolicies", "trainingruntimes", "trainjobs")]
            if code == 0
            else []
        )


def test_delete_waits_until_the_pods_have_saved(lab: Cluster) -> None:
    assert submit(lab, "--detach")[0] == 0
    lab.put("pods", pod("demo-0-aaaaa", 0, "Running"))
    lab.put("pods", pod("demo-1-aaaaa", 1, "Failed", code=1))
    process = begun(lab, "--delete")
    until(lambda: "delete jobs" in lab.server.seen)
    stays(lambda: process.poll() is None, 1.5)
    assert lab.objects() == WHOLE
    code, _, err = submit(lab, "--detach")
    assert (code, "Job demo is still being deleted; submit again when it is gone" in err) == (2, True)
    lab.remove("pods", "demo-0-aaaaa")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, lab.objects()) == (0, [])
    assert "Job demo is being deleted: waiting until its pods have saved, 1" in err
    assert out == "cyclesr submit: deleted: Job demo, Service demo, NetworkPolicy demo, ConfigMap demo\n"


def test_delete_is_left_with_ctrl_c_and_called_again(lab: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    assert submit(lab, "--detach")[0] == 0
    lab.put("pods", pod("demo-0-aaaaa", 0, "Running"))
    process = begun(lab, "--delete")
    until(lambda: "delete jobs" in lab.server.seen and lab.server.seen[-2:] == ["list pods"] * 2)  # it waits
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "left; Job demo is being deleted, --delete takes the rest" in err
    assert lab.objects() == WHOLE

    monkeypatch.setattr(submission, "SECONDS_BEYOND_GRACE", -1e9)  # as if that long had passed
    code, _, err = submit(lab, "--delete")
    assert (code, lab.objects()) == (1, WHOLE)
    assert "Job demo is still being deleted after" in err
    monkeypatch.undo()
    lab.remove("pods", "demo-0-aaaaa")
    code, out, _ = submit(lab, "--delete")
    assert (code, lab.objects()) == (0, [])
    assert "ConfigMap demo" in out


def test_pods_that_outlive_their_job_are_waited_for(lab: Cluster) -> None:
    lab.put("pods", pod("demo-0-aaaaa", 0, "Running"))
    lab.put("pods", pod("demo-1-aaaaa", 1, "Failed", code=1))
    code, _, err = submit(lab, "--detach")
    assert (code, lab.objects()) == (2, [])
    assert "Job demo is gone, but not its pods (demo-0-aaaaa); submit again when they have saved" in err
    process = begun(lab, "--delete")
    stays(lambda: process.poll() is None, 2)
    lab.remove("pods", "demo-0-aaaaa")
    assert process.communicate(timeout=60)[0] == "cyclesr submit: deleted: nothing was there\n"
    assert submit(lab, "--detach")[0] == 0


@pytest.mark.parametrize("what", ["--detach", "--delete", "--status"])
def test_a_run_of_another_target_is_left_alone(what: str, tmp_path: Path) -> None:
    with cluster(tmp_path, [*KINDS, ("jobset.x-k8s.io", "v1alpha2", "jobsets")]) as lab:
        assert submit(lab, "--detach")[0] == 0
        code, _, err = submit(lab, "--target", "jobset", what)
        assert code == 2
        assert "ConfigMap demo belongs to a run that was submitted with --target job, not jobset" in err
        assert lab.objects() == WHOLE
        assert not [verb for verb in lab.server.seen if verb.startswith("delete")]


@pytest.mark.parametrize("same", [True, False])
def test_another_submission_may_be_faster(same: bool, lab: Cluster) -> None:
    assert submit(lab, "--detach", *(() if same else ("weights.mse=21",)))[0] == 0
    theirs = lab.contents()
    assert submit(lab, "--delete")[0] == 0
    lab.do(lambda s: s.faster.update({"configmaps": theirs[f"configmaps/{NAME}"]}))
    lab.do(lambda s: s.seen.clear())
    code, _, err = submit(lab, "--detach")
    if same:
        assert (code, lab.objects()) == (0, WHOLE), err
    else:
        assert (code, lab.objects()) == (2, [f"configmaps/{NAME}"])
        assert "ConfigMap demo has just been submitted with other settings" in err
    assert "create configmaps (dry run)" in lab.server.seen


def test_a_refusal_leaves_what_a_faster_submission_made(lab: Cluster) -> None:
    assert submit(lab, "--detach")[0] == 0
    theirs = lab.contents()
    assert submit(lab, "--delete")[0] == 0
    lab.do(lambda s: s.faster.update({"configmaps": theirs[f"configmaps/{NAME}"]}))
    lab.do(lambda s: s.fail_creating.add("jobs"))
    assert submit(lab, "--detach")[0] == 2
    assert lab.objects() == [f"configmaps/{NAME}"]


def test_what_is_left_of_other_settings_is_replaced_unless_somebody_else_changes_it(lab: Cluster) -> None:
    assert submit(lab, "--detach")[0] == 0
    lab.remove("jobs", NAME)
    lab.do(lambda s: setattr(s, "conflicts", 1))
    code, _, err = submit(lab, "--detach", "weights.mse=21")
    assert (code, err.count("\n")) == (1, 2), err  # a note, and the error
    assert "the cluster refuses to replace ConfigMap demo in namespace lab: the object has been modified" in err
    assert f"jobs/{NAME}" not in lab.objects()
    assert submit(lab, "--detach", "weights.mse=21")[0] == 0
    kept = lab.contents()[f"configmaps/{NAME}"]
    assert "mse: 21" in kept["data"]["config.yaml"]


class Following:
    """follow() in a thread, and what it has said and written so far. Its pauses are short."""

    def __init__(self, lab: Cluster, kind: str = "Job", version: str = "batch/v1") -> None:
        self.job = {"apiVersion": version, "kind": kind, "metadata": {"name": NAME}}
        lab.put(f"{kind.lower()}s", self.job | {"metadata": {"name": NAME}})
        with as_in(lab):
            api = Api("lab")
        self.said: list[str] = []
        self.written: list[str] = []
        pool = ThreadPoolExecutor(1)
        self.code = pool.submit(follow, api, self.job, self.said.append, self.written.append)
        pool.shutdown(wait=False)

    def until_said(self, text: str) -> None:
        until(lambda: any(text in line for line in self.said))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in (("WATCH_SECONDS", 1), ("PAUSE_SECONDS", 0.05), ("LOG_PAUSE_SECONDS", 0.05)):
        monkeypatch.setattr(f"cyclesr_dist.kubernetes.follow.{name}", value)
    return monkeypatch


def lines(*texts: str) -> list[tuple[str, str]]:
    """With a time of now, and one second more for each."""
    begin = datetime.now(UTC)
    return [(f"{begin + timedelta(seconds=i):%Y-%m-%dT%H:%M:%S.%f}000Z", text) for i, text in enumerate(texts)]


@pytest.mark.usefixtures("quick")
def test_the_log_goes_on_in_the_pod_that_takes_the_place_of_the_first(lab: Cluster) -> None:
    lab.do(lambda s: setattr(s, "expiring_watches", 2))
    following = Following(lab)
    for name, phase, code in (("demo-0-aaaaa", "Failed", 1), ("demo-0-bbbbb", "Succeeded", 0)):
        lab.do(lambda s, name=name: s.logs.update({name: lines(f"from {name}")}))
        lab.put("pods", pod(name, 0, "Running"))
        following.until_said(f"pod {name}: Running")
        until(lambda name=name: f"from {name}" in following.written)
        lab.do(lambda s, name=name: s.ended_logs.add(name))
        lab.put("pods", pod(name, 0, phase, code=code))
        following.until_said(f"pod {name}: {phase}, exit code {code}")
        if phase == "Failed":
            lab.remove("pods", name)
    job_ends(lab, "Complete")
    assert following.code.result(30) == 0
    assert following.written == ["from demo-0-aaaaa", "from demo-0-bbbbb"]
    assert [line for line in following.said if line.startswith("pod demo-0-aaaaa")] == [
        "pod demo-0-aaaaa: Running",
        "pod demo-0-aaaaa: Failed, exit code 1",
    ]
    assert lab.server.expiring_watches == 0
    assert not [line for line in following.said if "trying again" in line]


@pytest.mark.usefixtures("quick")
def test_a_job_deleted_meanwhile_ends_the_following(lab: Cluster) -> None:
    following = Following(lab)
    lab.put("pods", pod("demo-0-aaaaa", 0, "Running"))
    following.until_said("Running")
    lab.do(lambda s: s.ended_logs.add("demo-0-aaaaa"))
    lab.remove("jobs", NAME)
    with pytest.raises(InputError, match="Job demo has been deleted"):
        following.code.result(30)


@pytest.mark.usefixtures("quick")
def test_a_token_that_expires_while_following_may_come_back(lab: Cluster) -> None:
    following = Following(lab)
    until(lambda: lab.server.watches > 0)
    lab.do(lambda s: setattr(s, "expired_token", True))
    following.until_said("Unauthorized (401); trying again")
    lab.do(lambda s: setattr(s, "expired_token", False))
    job_ends(lab, "Complete")
    assert following.code.result(30) == 0


def test_a_token_that_stays_expired_ends_the_following(lab: Cluster, quick: pytest.MonkeyPatch) -> None:
    quick.setattr("cyclesr_dist.kubernetes.follow.PATIENCE", 1)
    following = Following(lab)
    until(lambda: lab.server.watches > 0)
    lab.do(lambda s: setattr(s, "expired_token", True))
    with pytest.raises(CycleSRError, match=r"Unauthorized \(401\); the run may go on") as error:
        following.code.result(30)
    assert error.value.exit_code == 1


def test_a_silent_log_is_asked_again_without_end(lab: Cluster, quick: pytest.MonkeyPatch) -> None:
    quick.setattr("cyclesr_dist.kubernetes.follow.PATIENCE", 1)
    quick.setattr("cyclesr_dist.kubernetes.api.LOG_TIMEOUT_SECONDS", (10, 0.3))
    lab.do(lambda s: setattr(s, "silent_logs", 4))
    lab.do(lambda s: s.logs.update({"demo-0-aaaaa": lines("at last")}))
    following = Following(lab)
    lab.put("pods", pod("demo-0-aaaaa", 0, "Running"))
    until(lambda: following.written == ["at last"])
    job_ends(lab, "Complete")
    lab.do(lambda s: s.ended_logs.add("demo-0-aaaaa"))
    lab.put("pods", pod("demo-0-aaaaa", 0, "Succeeded", code=0))
    assert following.code.result(30) == 0
    assert lab.server.silent_logs == 0
    assert not [line for line in following.said if "no more" in line]


@pytest.mark.usefixtures("quick")
def test_lines_out_of_order_are_written_once_and_a_reconnection_reads_no_old_ones(lab: Cluster) -> None:
    lab.do(lambda s: setattr(s, "breaking_logs", 1))
    old, first, second, third = lines("old", "first", "second", "third")
    hours_ago = f"2020-01-01{old[0][10:]}"
    # The connection breaks after two lines, with a newer line before an older one.
    lab.do(lambda s: s.logs.update({"demo-0-aaaaa": [second, first, third, (second[0], "late"), (hours_ago, "old")]}))
    following = Following(lab)
    lab.put("pods", pod("demo-0-aaaaa", 0, "Running"))
    until(lambda: "late" in following.written)
    lab.do(lambda s: s.ended_logs.add("demo-0-aaaaa"))
    lab.put("pods", pod("demo-0-aaaaa", 0, "Succeeded", code=0))
    job_ends(lab, "Complete")
    assert following.code.result(30) == 0
    assert following.written == ["second", "first", "third", "late"]
    asked = [request.get("sinceSeconds") for request in lab.server.asked_logs]
    assert asked[0] is None
    assert 60 <= int(asked[1]) < 120


def test_a_pod_that_ends_with_its_job_between_two_requests_is_seen(lab: Cluster, quick: pytest.MonkeyPatch) -> None:
    ask, happened = Api.get, threading.Event()

    def get_late(api: Api, manifest: Manifest) -> Manifest | None:
        """The pods have been listed, and the job is asked for: all ends in between."""
        if not happened.is_set():
            happened.set()
            lab.put("pods", pod("demo-0-aaaaa", 0, "Failed", code=2))
            job_ends(lab, "Failed", "PodFailurePolicy")
        return ask(api, manifest)

    quick.setattr(Api, "get", get_late)
    lab.do(lambda s: s.logs.update({"demo-0-aaaaa": lines("cyclesr: error: key scale")}))
    lab.do(lambda s: s.ended_logs.add("demo-0-aaaaa"))
    following = Following(lab)
    assert following.code.result(30) == 2
    assert following.written == ["cyclesr: error: key scale"]


@pytest.mark.usefixtures("quick")
def test_a_pod_that_fails_in_its_preparation_shows_why(lab: Cluster) -> None:
    failed = pod("demo-1-aaaaa", 1, "Failed", waiting="PodInitializing")
    failed["status"]["initContainerStatuses"] = [{"name": "prepare", "state": {"terminated": {"exitCode": 2}}}]
    lab.do(lambda s: s.logs.update({"demo-1-aaaaa/prepare": lines("cyclesr: error: no space in /work")}))
    following = Following(lab)
    lab.put("pods", pod("demo-0-aaaaa", 0, "Failed", waiting="PodInitializing"))  # its main container never begins
    lab.put("pods", failed)
    job_ends(lab, "Failed", "PodFailurePolicy")
    begin = time.monotonic()
    assert following.code.result(30) == 2
    assert time.monotonic() - begin < 20
    assert following.written == ["cyclesr: error: no space in /work"]
    assert "pod demo-1-aaaaa: container prepare has failed; the end of its log:" in following.said


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (
            {"jobDeploymentStatus": "ValidationFailed", "reason": "ValidationFailed", "message": "no head group"},
            1,
            "RayJob demo failed: ValidationFailed: no head group",
        ),
        (
            {
                "jobDeploymentStatus": "Failed",
                "jobStatus": "FAILED",
                "reason": "AppFailed",
                "message": "Job entrypoint command failed with exit code 2, last available logs:\ncyclesr: error",
            },
            2,
            "RayJob demo failed: AppFailed: Job entrypoint command failed with exit code 2, last available logs: cycle",
        ),
    ],
)
def test_the_end_states_of_a_rayjob(status: dict[str, str], code: int, says: str, tmp_path: Path) -> None:
    with cluster(tmp_path, [*KINDS, ("ray.io", "v1", "rayjobs")]) as lab:
        following = Following(lab, "RayJob", "ray.io/v1")
        lab.patch("rayjobs", NAME, {"status": status})
        assert following.code.result(30) == code
        assert following.said[-1].startswith(says)
