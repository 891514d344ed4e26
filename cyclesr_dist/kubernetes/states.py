"""What the cluster says of a job and its pods, in plain words."""

from __future__ import annotations

import re
from typing import Any, Literal

from cyclesr_dist.errors import InputError
from cyclesr_dist.kubernetes.pod import PART

_EXIT_CODE = re.compile(r"entrypoint command failed with exit code (\d+)\b")
_REASON_LENGTH = 500

State = Literal["waiting", "running", "succeeded", "failed"]


def job_state(job: dict[str, Any]) -> tuple[State, str]:
    """Of a Job, JobSet, TrainJob or RayJob; with the reason where it failed or waits."""
    status = job.get("status") or {}
    if job["kind"] == "RayJob":
        return _ray_state(status)
    conditions = {c["type"]: c for c in status.get("conditions") or [] if c.get("status") == "True"}
    if failed := conditions.get("Failed"):
        return "failed", _reason(failed)
    if "Complete" in conditions or "Completed" in conditions:
        return "succeeded", ""
    if suspended := conditions.get("Suspended"):
        return "waiting", _reason(suspended)
    return "running", ""


def _ray_state(status: dict[str, Any]) -> tuple[State, str]:
    deployment = status.get("jobDeploymentStatus") or ""
    if deployment == "Complete" and status.get("jobStatus") == "SUCCEEDED":
        return "succeeded", ""
    if deployment in ("Complete", "Failed", "ValidationFailed"):
        reason = " ".join((_reason(status) or deployment).split())  # Ray adds the end of the log, which has been shown
        return "failed", reason[:_REASON_LENGTH]
    return ("running" if deployment == "Running" else "waiting"), deployment


def pod_state(pod: dict[str, Any]) -> str:
    """One line: phase, exit code, why it waits."""
    status = pod.get("status") or {}
    if pod["metadata"].get("deletionTimestamp"):
        return "being deleted"
    code = exit_code(pod)
    if code is not None:
        return f"{status.get('phase', 'ended')}, exit code {code}"
    for container in _containers(pod):
        if waiting := (container.get("state") or {}).get("waiting"):
            return f"{status.get('phase', 'Pending')}: {_reason(waiting)}"
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"Pending: {_reason(condition)}"
    return str(status.get("phase") or "Pending")


def exit_code(pod: dict[str, Any]) -> int | None:
    """Of the first container that failed, or else of the last that ended; None while it runs."""
    # Sidecars are ended with the pod, by a signal.
    sidecars = {
        container["name"]
        for container in (pod.get("spec") or {}).get("initContainers") or []
        if container.get("restartPolicy") == "Always"
    }
    codes = [
        state["terminated"].get("exitCode", 1)
        for container in _containers(pod)
        if container.get("name") not in sidecars and (state := container.get("state") or {}).get("terminated")
    ]
    failed = [code for code in codes if code]
    if failed:
        return int(failed[0])
    ended = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    return int(codes[-1]) if codes and ended else None


def leads(pod: dict[str, Any]) -> bool:
    """Whether rank 0 runs there; of a search, whether its log is the search's."""
    labels = pod["metadata"].get("labels") or {}
    part = labels.get(PART)
    return part == "submitter" or (part == "trainer" and labels.get("batch.kubernetes.io/job-completion-index") == "0")


def main_container(pod: dict[str, Any]) -> str:
    return str(pod["spec"]["containers"][0]["name"])


def failed_before(pod: dict[str, Any]) -> str:
    """The init container that failed, so that the pod's own never begin; empty if none did."""
    for container in (pod.get("status") or {}).get("initContainerStatuses") or []:
        ended = (container.get("state") or {}).get("terminated")
        if ended and ended.get("exitCode", 1):
            return str(container["name"])
    return ""


def failure_code(job: dict[str, Any], pods: list[dict[str, Any]]) -> int:
    """Of a job that failed: 2 if that is what a pod left with, or a search according to Ray, else 1."""
    codes = {exit_code(pod) for pod in pods}
    if job["kind"] == "RayJob" and (said := _EXIT_CODE.search(str((job.get("status") or {}).get("message")))):
        codes.add(int(said[1]))
    return InputError.exit_code if InputError.exit_code in codes else 1


def _containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def _reason(found: dict[str, Any]) -> str:
    return ": ".join(text for text in (found.get("reason"), found.get("message")) if text)
