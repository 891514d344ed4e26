"""`launch/submit.py`: render, check, submit, follow; for Slurm `cyclesr_dist/slurm` does."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cyclesr_dist.errors import ConfigError, CycleSRError, InputError
from cyclesr_dist.kubernetes.objects import HASH, TARGET, stamped
from cyclesr_dist.kubernetes.plan import Plan, search_plan, training_plan
from cyclesr_dist.kubernetes.pod import RUN, exempt
from cyclesr_dist.kubernetes.rules import check, loosened
from cyclesr_dist.kubernetes.rules import pods as pods_of
from cyclesr_dist.kubernetes.states import exit_code, job_state, pod_state
from cyclesr_dist.kubernetes.targets import TARGETS, manifests, target_of
from cyclesr_dist.kubernetes.text import to_yaml
from cyclesr_dist.runtime.command import Parser, add_common_arguments, checked_overrides, guarded, own_process
from cyclesr_dist.runtime.extras import install_hint
from cyclesr_dist.runtime.interrupts import Interrupted, uninterrupted
from cyclesr_dist.slurm import plan as slurm

if TYPE_CHECKING:
    from cyclesr_dist.kubernetes.api import Api, Manifest

_NO_RUNTIME = "must be created before the TrainJob is created"
RUNTIME_SECONDS = 30.0
SECONDS_BEYOND_GRACE = 60.0
PAUSE_SECONDS = 1.0

_EPILOG = """\
The kubeconfig is kubectl's: $KUBECONFIG, or ~/.kube/config with its current context.

exit codes: 0 done, 2 bad config or input (also in a pod or a rank), 1 anything else; 130 when left with Ctrl-C, 128 and
the number of any other signal: the run goes on.

examples:
  python launch/submit.py --config configs/demo.yaml --dry-run
  python launch/submit.py --config configs/ntire18_t2.yaml cluster.nodes=4 cluster.gpus_per_node=8 \\
      cluster.work_claim=runs data.hr=s3://bucket/t2/hr data.lr=s3://bucket/t2/lr cluster.s3_secret=s3
  python launch/submit.py --config configs/tune_demo.yaml --target rayjob cluster.work_claim=runs
  python launch/submit.py --config configs/ntire18_t2.yaml --target slurm cluster.nodes=4 cluster.gpus_per_node=8 \\
      slurm.partition=gpu slurm.time=8:00:00"""


def build_parser(prog: str = "submit.py") -> argparse.ArgumentParser:
    parser = Parser(
        prog=prog,
        description="Run a training, or a search, on a Kubernetes or Slurm cluster. Given again, it follows the run.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", required=True, type=Path, help="training configuration; of a search for rayjob")
    parser.add_argument(
        "--target",
        default="job",
        metavar="NAME",
        help=f"{', '.join(TARGETS)}: a plain Job (default), JobSet, Kubeflow Trainer, KubeRay (a search); "
        f"{', '.join(slurm.TARGETS)}: a training or a search on Slurm; or package.module:TARGET of yours",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--dry-run", action="store_true", help="print the manifests or the batch script, ask no cluster")
    what.add_argument("--status", action="store_true", help="show the job and its pods")
    what.add_argument("--delete", action="store_true", help="delete all that was submitted; running ranks save first")
    what.add_argument("--detach", action="store_true", help="submit and leave")
    parser.add_argument(
        "--resume-with-changes",
        action="store_true",
        help="of a training: go on from the run folder's checkpoint as another experiment",
    )
    add_common_arguments(parser)
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value", help="config overrides")
    return parser


def main(argv: Sequence[str] | None = None, prog: str = "submit.py") -> int:
    """Returns the exit code: the job's, or 2 for bad config or input, 1 when the cluster fails."""
    args = build_parser(prog).parse_intermixed_args(argv)
    if argv is None:
        own_process()
    return guarded(lambda: _run(args), debug=args.debug)


def _run(args: argparse.Namespace) -> int:
    if args.target in slurm.TARGETS:
        from cyclesr_dist.slurm.submit import run

        return run(args)
    plan = _plan(args.config, args.target, checked_overrides(args.overrides))
    if args.resume_with_changes:
        if plan.kind == "search":
            raise ConfigError("--resume-with-changes is for a training; a search that changes begins anew")
        plan = replace(plan, with_changes=True)
    objects = stamped(manifests(plan, args.target), args.target)
    # What a patch brings is the user's; what it must not change patch.py has refused.
    check(manifests(replace(plan, cluster=replace(plan.cluster, pod_patch={})), args.target), exempt(plan))
    plan = replace(plan, notes=(*plan.notes, *loosened(objects)))
    if args.dry_run:
        _note(plan)
        print(to_yaml(objects), end="")
        return 0
    try:
        from cyclesr_dist.kubernetes.api import Api
    except ImportError as error:
        raise InputError(f"this needs the Kubernetes client: {install_hint('kubernetes')}") from error
    api = Api(plan.cluster.namespace)
    news = (lambda line: None) if args.quiet else _say
    if args.status:
        return status(api, objects)
    if args.delete:
        return delete(api, objects, news)
    _note(plan)
    print(f"cyclesr submit: {submit(api, objects)}", flush=True)
    if args.detach:
        return 0
    from cyclesr_dist.kubernetes.follow import follow

    try:
        return follow(api, objects[-1], news, _say, _write)
    except KeyboardInterrupt as interrupt:
        print("\ncyclesr submit: left; the run goes on (--status, --delete)", file=sys.stderr)
        return _code_of(interrupt)


def _plan(config: Path, target: str, overrides: Sequence[str]) -> Plan:
    searches = target_of(target).runs == "search"
    try:
        return search_plan(config, overrides) if searches else training_plan(config, overrides)
    except ConfigError as error:
        if "unknown key" not in str(error):
            raise
        wanted = "the configuration of a search" if searches else "that of a training; a search's takes rayjob"
        raise ConfigError(f"{error} (--target {target} takes {wanted})") from error


def submit(api: Api, objects: Sequence[Manifest]) -> str:
    """Create what is not there, and say what was done. Called again with the same objects it changes nothing.

    Raises InputError when the job is there with other settings, an object of that name is not ours, or the cluster
    refuses one of them; then nothing of this call remains.
    """
    job, name = objects[-1], _name(objects[-1])
    found = {index: api.get(manifest) for index, manifest in enumerate(objects)}
    for index, manifest in enumerate(objects):
        _check_ours(manifest, found[index])
    running = found[len(objects) - 1]
    if running is not None and _hash(running) != _hash(job):
        raise InputError(f"{name} is there with other settings; --delete it first, or choose another cluster.name")
    if running is None and (pods := _alive(api, job)):
        raise InputError(f"{name} is gone, but not its pods ({', '.join(pods)}); submit again when they have saved")
    missing = [manifest for index, manifest in enumerate(objects) if found[index] is None]
    without_runtime = any(manifest["kind"] == "TrainingRuntime" for manifest in missing)
    for manifest in missing:
        if manifest["kind"] == "TrainJob" and without_runtime:
            continue  # Trainer refuses it, also dry, until the runtime is there
        _create(api, manifest, dry_run=True)
    created: list[Manifest] = []
    try:
        for index, manifest in enumerate(objects):
            there = found[index]
            if there is None:
                with uninterrupted():  # else it may be there and not be known to be
                    if _create(api, manifest):
                        created.append(manifest)
            elif _hash(there) != _hash(manifest):
                api.replace(manifest, version=there["metadata"]["resourceVersion"])
    except BaseException:
        with uninterrupted():
            for manifest in reversed(created):
                api.delete(manifest)
        raise
    return f"{name} is there already: following it" if running is not None else f"{name} submitted to {api.namespace}"


def _create(api: Api, manifest: Manifest, *, dry_run: bool = False) -> bool:
    """Whether it is this call that created it. Waits for what Trainer's webhook has not seen yet."""
    from cyclesr_dist.kubernetes.api import AlreadyThereError

    deadline = time.monotonic() + RUNTIME_SECONDS
    while True:
        try:
            api.create(manifest, dry_run=dry_run)
            return True
        except AlreadyThereError:  # another submission was faster
            there = api.get(manifest)
            if there is None or _hash(there) != _hash(manifest) or _target(there) != _target(manifest):
                raise InputError(f"{_name(manifest)} has just been submitted with other settings") from None
            return False
        except InputError as error:  # the webhook asks a cache, which is late
            if _NO_RUNTIME not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(PAUSE_SECONDS)


def _check_ours(manifest: Manifest, found: Manifest | None) -> None:
    if found is None:
        return
    metadata, name = found["metadata"], _name(manifest)
    if not _ours(found):
        raise InputError(f"{name} is there and is not of a run of ours; choose another cluster.name")
    _check_target(manifest, found)
    if metadata.get("deletionTimestamp"):
        raise InputError(f"{name} is still being deleted; submit again when it is gone")


def _check_target(manifest: Manifest, found: Manifest) -> None:
    """Raise InputError for an object of a run that was submitted with another --target."""
    theirs, wanted = _target(found), _target(manifest)
    if theirs is not None and theirs != wanted:
        raise InputError(
            f"{_name(manifest)} belongs to a run that was submitted with --target {theirs}, not {wanted}; "
            f"give --target {theirs}, or choose another cluster.name"
        )


def _ours(found: Manifest) -> bool:
    name: str = found["metadata"]["name"]
    return (found["metadata"].get("labels") or {}).get(RUN) == name


def _target(manifest: Manifest) -> str | None:
    found: str | None = (manifest["metadata"].get("annotations") or {}).get(TARGET)
    return found


def _hash(manifest: Manifest) -> str:
    return str((manifest["metadata"].get("annotations") or {}).get(HASH))


def _name(manifest: Manifest) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def _found(api: Api, objects: Sequence[Manifest]) -> list[Manifest | None]:
    """What is there of a run, in the order of `objects`. Raises InputError if it has another target."""
    everything = [api.get(manifest) for manifest in objects]
    found = [there if there is not None and _ours(there) else None for there in everything]
    for manifest, there in zip(objects, found, strict=True):
        if there is not None:
            _check_target(manifest, there)
    return found


def status(api: Api, objects: Sequence[Manifest]) -> int:
    """Print job and pods. Returns 0, or 1 when the job has failed.

    Raises InputError when there is no such job, or one of another target.
    """
    job, name = objects[-1], _name(objects[-1])
    found = _found(api, objects)[-1]
    if found is None:
        raise InputError(f"{name} is not in namespace {api.namespace}")
    state, reason = job_state(found)
    print(f"{name}: {state}{': ' * bool(reason)}{reason}")
    pods, _ = api.pods(f"{RUN}={job['metadata']['name']}")
    for pod in sorted(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp"))):
        node = pod["spec"].get("nodeName") or "no node yet"
        print(f"  {pod['metadata']['name']}  {pod_state(pod)}  ({node})")
    if state == "failed":
        codes = sorted({code for pod in pods if (code := exit_code(pod)) is not None})
        print(f"  exit codes: {', '.join(map(str, codes)) or 'none'}")
    return int(state == "failed")


def delete(api: Api, objects: Sequence[Manifest], say: Callable[[str], None]) -> int:
    """Delete the job, wait until its pods have saved and are gone, and then delete the rest.

    The job stays until then: another submission of the same name is refused, and never shares the run folder. Returns
    0, also when nothing is there. Raises InputError for a run of another target, CycleSRError when the pods stay.
    """
    found = _found(api, objects)
    job, running = objects[-1], found[-1]
    deleted = []
    if running is not None and api.delete(job, foreground=True):
        deleted.append(_name(job))
    try:
        _wait_until_gone(api, running, objects, say)
    except KeyboardInterrupt as interrupt:
        print(f"\ncyclesr submit: left; {_name(job)} is being deleted, --delete takes the rest", file=sys.stderr)
        return _code_of(interrupt)
    for manifest, there in reversed([*zip(objects[:-1], found[:-1], strict=True)]):
        if there is not None and api.delete(manifest):
            deleted.append(_name(manifest))
    print(f"cyclesr submit: deleted: {', '.join(deleted) if deleted else 'nothing was there'}")
    return 0


def _code_of(interrupt: KeyboardInterrupt) -> int:
    """As a shell has it for a process that a signal ends."""
    return 128 + (interrupt.number if isinstance(interrupt, Interrupted) else signal.SIGINT)


def _wait_until_gone(
    api: Api, running: Manifest | None, objects: Sequence[Manifest], say: Callable[[str], None]
) -> None:
    """For as long as a pod has to save, and some more."""
    job = objects[-1]
    templates = [pod for manifest in objects for pod in pods_of(manifest)]
    seconds = max(pod["spec"]["terminationGracePeriodSeconds"] for pod in templates) + SECONDS_BEYOND_GRACE
    deadline = time.monotonic() + seconds
    said = False
    while True:
        there = api.get(job)
        if there is not None and (running is None or there["metadata"].get("uid") != running["metadata"].get("uid")):
            raise InputError(f"{_name(job)} has been submitted meanwhile; what it needs is left")
        pods = _alive(api, job)
        if there is None and not pods:
            return
        if time.monotonic() > deadline:
            raise CycleSRError(
                f"{_name(job)} is still being deleted after {seconds:.0f} s ({', '.join(pods) or 'no pod is left'}), "
                "and the rest is left; call --delete again"
            )
        if not said:
            say(f"{_name(job)} is being deleted: waiting until its pods have saved, {seconds:.0f} s at most")
            said = True
        time.sleep(PAUSE_SECONDS)


def _alive(api: Api, job: Manifest) -> list[str]:
    """Names of the pods that may still write to the run folder.

    They outlive a job that was deleted by somebody who did not wait, as kubectl does by default.
    """
    pods, _ = api.pods(f"{RUN}={job['metadata']['name']}")
    ended = ("Succeeded", "Failed")
    return sorted(pod["metadata"]["name"] for pod in pods if (pod.get("status") or {}).get("phase") not in ended)


def _note(plan: Plan) -> None:
    """Also with --quiet: each says what may go wrong."""
    for note in plan.notes:
        print(f"cyclesr submit: note: {note}", file=sys.stderr)


def _say(line: str) -> None:
    print(f"cyclesr submit: {line}", file=sys.stderr, flush=True)


def _write(line: str) -> None:
    print(line, flush=True)
