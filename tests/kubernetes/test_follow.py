"""A submitted run is followed: its log, its pods, its end, whatever the connection does."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from helpers.kube_server import KINDS, Cluster, cluster
from helpers.lab import NAME, as_in, job_ends, pod
from helpers.waiting import until

from cyclesr_dist.errors import CycleSRError, InputError
from cyclesr_dist.kubernetes.api import Api, Manifest
from cyclesr_dist.kubernetes.follow import follow


class Following:
    """follow() in a thread, and what it has said, warned of and written so far. Its pauses are short."""

    def __init__(self, lab: Cluster, kind: str = "Job", version: str = "batch/v1") -> None:
        self.job = {"apiVersion": version, "kind": kind, "metadata": {"name": NAME}}
        lab.put(f"{kind.lower()}s", self.job | {"metadata": {"name": NAME}})
        with as_in(lab):
            api = Api("lab")
        self.said: list[str] = []
        self.warned: list[str] = []
        self.written: list[str] = []
        pool = ThreadPoolExecutor(1)
        self.code = pool.submit(follow, api, self.job, self.said.append, self.warned.append, self.written.append)
        pool.shutdown(wait=False)

    def until_said(self, text: str) -> None:
        until(lambda: any(text in line for line in self.said + self.warned))


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
    assert following.code.result(180) == 0
    assert following.written == ["from demo-0-aaaaa", "from demo-0-bbbbb"]
    assert [line for line in following.said if line.startswith("pod demo-0-aaaaa")] == [
        "pod demo-0-aaaaa: Running",
        "pod demo-0-aaaaa: Failed, exit code 1",
    ]
    assert lab.server.expiring_watches == 0
    assert not [line for line in following.warned if "trying again" in line]


@pytest.mark.usefixtures("quick")
def test_a_job_deleted_meanwhile_ends_the_following(lab: Cluster) -> None:
    following = Following(lab)
    lab.put("pods", pod("demo-0-aaaaa", 0, "Running"))
    following.until_said("Running")
    lab.do(lambda s: s.ended_logs.add("demo-0-aaaaa"))
    lab.remove("jobs", NAME)
    with pytest.raises(InputError, match="Job demo has been deleted"):
        following.code.result(180)


@pytest.mark.usefixtures("quick")
def test_a_token_that_expires_while_following_may_come_back(lab: Cluster) -> None:
    following = Following(lab)
    until(lambda: lab.server.watches > 0)
    lab.do(lambda s: setattr(s, "expired_token", True))
    following.until_said("Unauthorized (401); trying again")
    lab.do(lambda s: setattr(s, "expired_token", False))
    job_ends(lab, "Complete")
    assert following.code.result(180) == 0


def test_a_token_that_stays_expired_ends_the_following(lab: Cluster, quick: pytest.MonkeyPatch) -> None:
    quick.setattr("cyclesr_dist.kubernetes.follow.PATIENCE", 1)
    following = Following(lab)
    until(lambda: lab.server.watches > 0)
    lab.do(lambda s: setattr(s, "expired_token", True))
    with pytest.raises(CycleSRError, match=r"Unauthorized \(401\); the run may go on") as error:
        following.code.result(180)
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
    assert following.code.result(180) == 0
    assert lab.server.silent_logs == 0
    assert not [line for line in following.warned if "no more" in line]


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
    assert following.code.result(180) == 0
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
    assert following.code.result(180) == 2
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
    assert following.code.result(180) == 2
    assert time.monotonic() - begin < 120
    assert following.written == ["cyclesr: error: no space in /work"]
    assert "pod demo-1-aaaaa: container prepare has failed; the end of its log:" in following.warned


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
        assert following.code.result(180) == code
        assert following.warned[-1].startswith(says)
