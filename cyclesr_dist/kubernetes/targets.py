"""A plan as what a cluster can run: a plain Job, a JobSet, a Kubeflow TrainJob, a KubeRay RayJob.

In all of them one lost pod ends the others, too (a rank that fails stops all, see distributed/watch.py), and all begin
again from the last checkpoint. Exit codes say which way: 2 is for people, 75 and disruptions do not count, the rest
does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from cyclesr_dist.errors import ConfigError, InputError, Preempted
from cyclesr_dist.kubernetes.objects import config_map, headless_service, metadata, network_policy, pod_monitor
from cyclesr_dist.kubernetes.plan import CONFIG, MEETING_PORT, Plan
from cyclesr_dist.kubernetes.pod import MEETING_SECONDS, PATIENCE, ray_pod, submitter_pod, training_pod, variable
from cyclesr_dist.runtime.user_modules import call_of_user, ours_or_yours
from cyclesr_dist.slurm import plan as slurm

RAY_VERSION = "2.60.0"
"""What k8s/Dockerfile installs; KubeRay is told."""

_INDEX = "metadata.labels['batch.kubernetes.io/job-completion-index']"


def _job(plan: Plan) -> list[dict[str, Any]]:
    pod = training_pod(plan, "trainer", _meeting(plan, f"{plan.name}-0.{plan.name}"))
    pod["spec"]["subdomain"] = plan.name
    # By pod number, because pods leave together: counted as one they would wait for the sum of their back-offs.
    retries = {"backoffLimitPerIndex": plan.cluster.restarts, "maxFailedIndexes": 0}
    spec = _job_spec(plan, pod, retries) | _deadline(plan) | _ttl(plan)
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata(plan, queued=True), "spec": spec}
    return [headless_service(plan), job]


def _job_set(plan: Plan) -> list[dict[str, Any]]:
    pod = training_pod(plan, "trainer", _meeting(plan, f"{plan.name}-node-0-0.{plan.name}"))
    spec = _job_set_spec(plan, _job_spec(plan, pod, {"backoffLimit": 0}) | _deadline(plan)) | _ttl(plan)
    return [
        {
            "apiVersion": "jobset.x-k8s.io/v1alpha2",
            "kind": "JobSet",
            "metadata": metadata(plan, queued=True),
            "spec": spec,
        }
    ]


def _train_job(plan: Plan) -> list[dict[str, Any]]:
    """With a runtime of its own, in the namespace: a cluster's runtimes know no exit codes and no security context."""
    _refuse_ttl(plan, "trainjob", "a TrainJob has no such field")
    pod = training_pod(plan, "node", _patience())  # the operator sets the other PET_*
    template = _job_set_spec(plan, _job_spec(plan, pod, {"backoffLimit": 0}))
    step = {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}
    template["replicatedJobs"][0]["template"]["metadata"] = {"labels": step}
    runtime = {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainingRuntime",
        "metadata": metadata(plan),
        "spec": {
            "mlPolicy": {"numNodes": plan.cluster.nodes, "torch": {}},
            "template": {"spec": template},
        },
    }
    job = {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": metadata(plan, queued=True),
        "spec": {
            "runtimeRef": {"apiGroup": "trainer.kubeflow.org", "kind": "TrainingRuntime", "name": plan.name},
            "trainer": {"numNodes": plan.cluster.nodes, "numProcPerNode": plan.cluster.ranks},
            **_deadline(plan),
        },
    }
    return [runtime, job]


def _ray_job(plan: Plan) -> list[dict[str, Any]]:
    _refuse_ttl(plan, "rayjob", "KubeRay keeps the Ray cluster and its GPUs for so long, and the job itself for ever")
    nodes = plan.cluster.nodes
    command = (
        f"python -m cyclesr_dist.search --config {CONFIG}/search.yaml --run-dir {plan.run_dir} --address auto --resume"
    )
    group = {
        "groupName": "workers",
        "replicas": nodes,
        "minReplicas": nodes,
        "maxReplicas": nodes,
        "rayStartParams": {},
        "template": ray_pod(plan, "worker"),
    }
    head = {
        # No trials on the head, which must outlive them.
        "rayStartParams": {"num-cpus": "0", "num-gpus": "0", "dashboard-host": "0.0.0.0"},
        "template": ray_pod(plan, "head"),
    }
    spec = {
        "entrypoint": command,
        "submissionMode": "K8sJobMode",
        "submitterPodTemplate": submitter_pod(plan),
        "backoffLimit": plan.cluster.restarts,
        "shutdownAfterJobFinishes": True,
        **_deadline(plan),
        "rayClusterSpec": {"rayVersion": RAY_VERSION, "headGroupSpec": head, "workerGroupSpecs": [group]},
    }
    return [{"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": metadata(plan, queued=True), "spec": spec}]


def _meeting(plan: Plan, first: str) -> list[dict[str, Any]]:
    """torchrun's own variables: how many nodes, which is this, where the first one is."""
    return [
        variable("PET_NNODES", str(plan.cluster.nodes)),
        variable("PET_NPROC_PER_NODE", str(plan.cluster.ranks)),
        {"name": "PET_NODE_RANK", "valueFrom": {"fieldRef": {"fieldPath": _INDEX}}},
        variable("PET_MASTER_ADDR", first),
        variable("PET_MASTER_PORT", str(MEETING_PORT)),
        *_patience(),
    ]


def _patience() -> list[dict[str, Any]]:
    """Of torchrun for the other nodes, and of ranks for each other."""
    return [variable("PET_RDZV_CONF", f"timeout={MEETING_SECONDS}"), variable(PATIENCE, str(MEETING_SECONDS))]


def _job_spec(plan: Plan, pod: dict[str, Any], retries: dict[str, int]) -> dict[str, Any]:
    nodes = plan.cluster.nodes
    return {
        "completionMode": "Indexed",
        "completions": nodes,
        "parallelism": nodes,
        **retries,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {
            "rules": [
                {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [InputError.exit_code]}},
                {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [Preempted.exit_code]}},
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            ]
        },
        "template": pod,
    }


def _deadline(plan: Plan) -> dict[str, int]:
    return {"activeDeadlineSeconds": plan.cluster.deadline_seconds} if plan.cluster.deadline_seconds else {}


def _ttl(plan: Plan) -> dict[str, int]:
    return {"ttlSecondsAfterFinished": plan.cluster.ttl_seconds} if plan.cluster.ttl_seconds else {}


def _refuse_ttl(plan: Plan, target: str, why: str) -> None:
    if plan.cluster.ttl_seconds:
        raise ConfigError(
            f"cluster.ttl_seconds = {plan.cluster.ttl_seconds} with --target {target}: {why}; allowed: 0, and --delete"
        )


def _job_set_spec(plan: Plan, job: dict[str, Any]) -> dict[str, Any]:
    # "DeadlineExceeded" is what a Job beyond its activeDeadlineSeconds says.
    reasons = ["PodFailurePolicy", *(["DeadlineExceeded"] if "activeDeadlineSeconds" in job else [])]
    for_people = {"name": "badInput", "action": "FailJobSet", "onJobFailureReasons": reasons}
    return {
        "network": {"enableDNSHostnames": True, "subdomain": plan.name, "publishNotReadyAddresses": True},
        "failurePolicy": {"maxRestarts": plan.cluster.restarts, "rules": [for_people]},
        "replicatedJobs": [{"name": "node", "replicas": 1, "template": {"spec": job}}],
    }


@dataclass(frozen=True)
class Target:
    """One kind of job that a cluster can run."""

    render: Callable[[Plan], list[dict[str, Any]]]
    """Its own objects in the order of creation, the job last; what all targets have comes before them."""
    runs: Literal["training", "search"] = "training"


JOBS = ("Job", "JobSet", "TrainJob", "RayJob")
"""Kinds whose end `follow` can tell."""
TARGETS: dict[str, Target] = {
    "job": Target(_job),
    "jobset": Target(_job_set),
    "trainjob": Target(_train_job),
    "rayjob": Target(_ray_job, runs="search"),
}


def target_of(name: str) -> Target:
    """One of ours, or of yours (`package.module:TARGET`). Raises ConfigError when it is neither."""
    if name not in TARGETS and ":" not in name:
        raise ConfigError(
            f"--target {name} is unknown; allowed: {', '.join((*TARGETS, *slurm.TARGETS))}, or package.module:TARGET"
        )
    return ours_or_yours("--target", name, TARGETS, "package.module:TARGET", "a Target", Target)


def manifests(plan: Plan, target: str) -> list[dict[str, Any]]:
    """All objects of the run in the order of creation, the job last.

    Raises ConfigError for an unknown target, for a search with a target that runs trainings, and the other way round.
    """
    chosen = target_of(target)
    if plan.kind != chosen.runs:
        raise ConfigError(f"--target {target} runs a {chosen.runs}, and the configuration describes a {plan.kind}")
    objects = [config_map(plan), network_policy(plan)]
    if plan.cluster.pod_monitor and plan.kind == "training":
        objects.append(pod_monitor(plan))
    if target in TARGETS:
        return [*objects, *chosen.render(plan)]
    rendered = call_of_user(f"--target {target}", lambda: chosen.render(plan))
    _check(target, rendered)
    return [*objects, *rendered]


def _check(target: str, rendered: Any) -> None:
    """Raise ConfigError unless they are manifests that can be submitted, and followed to their end."""
    if not isinstance(rendered, list) or not rendered:
        raise ConfigError(f"--target {target} renders {rendered!r:.80}; allowed: a list of manifests, the job last")
    for manifest in rendered:
        if not isinstance(manifest, dict) or not manifest.get("kind") or not manifest.get("metadata", {}).get("name"):
            raise ConfigError(
                f"--target {target} renders {manifest!r:.80}; allowed: manifests with kind and metadata.name"
            )
    if rendered[-1]["kind"] not in JOBS:
        raise ConfigError(f"--target {target} renders {rendered[-1]['kind']} last; allowed: {', '.join(JOBS)}")
