"""launch/submit.py against an API server over HTTP; as a process where signals and kubectl matter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.kube_server import KINDS, Cluster, cluster
from helpers.lab import NAME, WHOLE, begun, job_ends, pod, submit, until_said, wait_for_job
from helpers.waiting import stays, until

from cyclesr_dist.kubernetes import submit as submission


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
    _, err = process.communicate(timeout=180)
    assert time.monotonic() - begin < 120
    assert process.returncode == 130
    assert "the run goes on" in err
    assert lab.objects() == WHOLE


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1"])
def test_other_signals_leave_the_run_alone_as_well(name: str, lab: Cluster) -> None:
    process = begun(lab)
    wait_for_job(lab)
    until(lambda: lab.server.watches)
    process.send_signal(signal.Signals[name])
    _, err = process.communicate(timeout=180)
    assert process.returncode == 128 + signal.Signals[name]
    assert "the run goes on" in err
    assert lab.objects() == WHOLE


def test_a_signal_while_it_submits_leaves_nothing_also_of_what_was_not_answered(lab: Cluster) -> None:
    lab.do(lambda s: s.unanswered.add("jobs"))
    process = begun(lab)
    wait_for_job(lab)
    process.send_signal(signal.SIGTERM)
    lab.do(lambda s: s.unanswered.clear())
    _, err = process.communicate(timeout=180)
    assert process.returncode == 128 + signal.SIGTERM, err
    assert lab.objects() == []


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
    code, out, err = submit(lab, "--dry-run", "--quiet", "cluster.nodes=4")
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


@pytest.mark.parametrize("flags", [[], ["--resume-with-changes"]])
def test_a_pod_that_is_begun_again_resumes(flags: list[str], lab: Cluster) -> None:
    code, out, _ = submit(lab, "--dry-run", *flags)
    assert code == 0
    (job,) = (manifest for manifest in yaml.safe_load_all(out) if manifest["kind"] == "Job")
    assert job["spec"]["template"]["spec"]["containers"][0]["command"][-1] == (flags or ["--resume"])[0]


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
    out, err = process.communicate(timeout=180)
    assert (process.returncode, lab.objects()) == (0, [])
    assert "Job demo is being deleted: waiting until its pods have saved, 1" in err
    assert out == "cyclesr submit: deleted: Job demo, Service demo, NetworkPolicy demo, ConfigMap demo\n"


def test_delete_is_left_with_ctrl_c_and_called_again(lab: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    assert submit(lab, "--detach")[0] == 0
    lab.put("pods", pod("demo-0-aaaaa", 0, "Running"))
    process = begun(lab, "--delete")
    until(lambda: "delete jobs" in lab.server.seen)
    deleted = lab.server.seen.index("delete jobs")
    until(lambda: lab.server.seen[deleted:].count("list pods") >= 2)  # it waits
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=180)
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
    assert process.communicate(timeout=180)[0] == "cyclesr submit: deleted: nothing was there\n"
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
