"""Submissions to the API server of `kube_server.py`."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cyclesr_dist.kubernetes import submit as submission
from helpers.kube_server import Cluster
from helpers.waiting import until

ROOT = Path(__file__).parents[2]


NAME = "demo"


WHOLE = [f"configmaps/{NAME}", f"jobs/{NAME}", f"networkpolicies/{NAME}", f"services/{NAME}"]


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
