"""The cluster that a search runs on: reached or started, and looked at before anything is begun."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray._raylet import Config  # type: ignore[attr-defined]  # it has no types
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import cyclesr_dist
from cyclesr_dist.distributed.launchers import ALONE
from cyclesr_dist.errors import ConfigError, CycleSRError, InputError
from cyclesr_dist.runtime.lifeline import started_by_this
from cyclesr_dist.runtime.user_modules import FOLDER_VARIABLE
from cyclesr_dist.search.config import Search, Workers
from cyclesr_dist.search.fitting import questionable
from cyclesr_dist.search.own_cluster import own_cluster

_CHECK_SECONDS = 180
_LOOK_SECONDS = 20


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """With Ray at `address`, or a cluster started here: for `local`, and with neither an address nor RAY_ADDRESS.

    Raises InputError when there is none, and as `own_cluster`.
    """
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the other kind of output is silent when asked to be: progress.py speaks
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    if ray.is_initialized():  # in a worker of the cluster, see client.py
        yield
        return
    wanted = address or ("auto" if os.environ.get("RAY_ADDRESS") else "local")
    with ExitStack() as ending:
        here = wanted == "local"
        if not here:
            look_at(os.environ["RAY_ADDRESS"] if wanted == "auto" and "RAY_ADDRESS" in os.environ else wanted)
        place = ending.enter_context(own_cluster()) if here else wanted
        if here:  # it wants the user's token, as one that `ray.init` begins; Ray looks at the variable when imported
            Config.initialize("")
        try:
            ray.init(address=place, logging_level=logging.ERROR, log_to_driver=False)
        except Exception as error:  # Ray raises all kinds, plain Exception too
            why = (str(error).strip() or repr(error)).splitlines()[0]
            if here:
                raise CycleSRError(f"Ray ended while it started on this machine: {why}") from error
            raise InputError(f"--address {wanted}: no Ray cluster answers: {why}") from error
        ending.callback(ray.shutdown)
        yield


def look_at(address: str) -> None:
    """Raise InputError when nobody listens at an address with a port: Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and port.isdigit()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_LOOK_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"--address {address}: no Ray cluster answers: {error}") from error


def bundles(workers: Workers) -> tune.PlacementGroupFactory:
    """What Tune reserves for a trial: a bundle a rank."""
    return tune.PlacementGroupFactory([_bundle(workers)] * workers.num)


def _bundle(workers: Workers) -> dict[str, float]:
    return {"CPU": workers.cpus} | ({"GPU": workers.gpus} if workers.gpus else {})


def living_nodes() -> list[Mapping[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def check_fits(workers: Workers) -> list[Mapping[str, Any]]:
    """The nodes that can hold a worker. Raises InputError when the cluster can never hold a whole trial."""
    wanted = _bundle(workers)
    nodes = living_nodes()
    room = {node["NodeID"]: _times(node["Resources"], wanted) for node in nodes}
    if sum(room.values()) >= workers.num:
        return [node for node in nodes if room[node["NodeID"]]]
    has = "; ".join(
        ", ".join(f"{node['Resources'].get(name, 0):g} {name}" for name in ("CPU", "GPU")) for node in nodes
    )
    each = " and ".join(f"{amount:g} {name}" for name, amount in wanted.items())
    raise InputError(
        f"workers: a trial needs {workers.num} times {each}, and the cluster has room for {sum(room.values())} such "
        f"workers; its {len(nodes)} nodes have {has}"
    )


def _times(resources: Mapping[str, float], wanted: Mapping[str, float]) -> int:
    return min(int(resources.get(name, 0.0) / amount + 1e-9) for name, amount in wanted.items())


def ready_nodes(workers: Workers, storage: str) -> list[Mapping[str, Any]]:
    """The nodes that can hold a worker, each looked at: see check_nodes. Raises InputError when too few are left.

    A node whose loss the cluster notices only now, because it was asked, is named on stderr and left out.
    """
    nodes = check_fits(workers)
    while lost := check_nodes(nodes, storage):
        print(f"cyclesr tune: gone while the cluster was looked at: node {', node '.join(lost)}", file=sys.stderr)
        nodes = check_fits(workers)
    return nodes


def check_nodes(nodes: list[Mapping[str, Any]], storage: str) -> list[str]:
    """Look from each node: is this version installed, and a shared folder there? Raises InputError naming one.

    Returns the names of the nodes that were lost meanwhile.
    """
    marker = None
    if "://" not in storage:
        Path(storage).mkdir(parents=True, exist_ok=True)
        marker = Path(storage) / ".cyclesr-seen"
        marker.write_text("")
    look = ray.remote(num_cpus=0)(_look)  # retried by Ray: a lost node can show as a crashed worker before it is known
    asked = {
        node["NodeID"]: look.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(None if marker is None else str(marker))
        for node in nodes
    }
    names = {node["NodeID"]: f"{node['NodeManagerAddress']} {node['NodeID'][:8]}" for node in nodes}
    lost = []
    for node_id, answer in asked.items():
        name = names[node_id]
        try:
            version, sees = ray.get(answer, timeout=_CHECK_SECONDS)
        except (ray.exceptions.RayError, ImportError) as error:
            if node_id not in {node["NodeID"] for node in living_nodes()}:
                lost.append(name)
                continue
            raise InputError(f"node {name} cannot run this package: {str(error).strip().splitlines()[-1]}") from error
        if version != cyclesr_dist.__version__:
            raise InputError(f"node {name} has cyclesr-dist {version}, and this is {cyclesr_dist.__version__}")
        if not sees:
            raise InputError(
                f"storage = {storage} is not seen from node {name}; give a folder that all nodes share, or a URL"
            )
    if marker is not None:
        marker.unlink()
    return lost


def _look(marker: str | None) -> tuple[str, bool]:
    return cyclesr_dist.__version__, marker is None or Path(marker).exists()


def check_training(search: Search, base: str, working_dir: str, *, here: bool = False) -> None:
    """Let a worker of the cluster open the data, without training: as `base` has it, and with the values of searched
    keys that another opening may depend on. With `here` this process does it, before there is a cluster.

    Raises ConfigError with what it says, naming the searched key.
    """
    looks = [("", ""), *questionable(search)]
    settings = [[*search.trial_overrides(), *filter(None, [change])] for _, change in looks]
    if here:
        answers: Iterable[tuple[int, str]] = (_dry_run(base, overrides, working_dir) for overrides in settings)
    else:
        answers = _looked_at(search.workers, [(base, overrides, working_dir) for overrides in settings])
    for (key, change), (code, words) in zip(looks, answers, strict=True):
        if code:
            said = words.removeprefix("cyclesr: error: ")
            raise ConfigError(f"space.{key}: with {change}: {said}" if key else f"no trial could start: {said}")


def _looked_at(workers: Workers, settings: list[tuple[str, list[str], str]]) -> list[tuple[int, str]]:
    task = ray.remote(num_cpus=workers.cpus, num_gpus=workers.gpus)(_dry_run)
    try:
        answers: list[tuple[int, str]] = ray.get(
            [task.remote(*setting) for setting in settings], timeout=_CHECK_SECONDS * len(settings)
        )
    except ray.exceptions.RayError as error:
        raise CycleSRError(f"no worker could look at the data: {str(error).strip().splitlines()[-1]}") from error
    return answers


def is_elsewhere(address: str | None) -> bool:
    """Whether the trials may run on other machines than this one."""
    return bool(address or os.environ.get("RAY_ADDRESS") or ray.is_initialized())


def _dry_run(base: str, overrides: list[str], working_dir: str) -> tuple[int, str]:
    with tempfile.TemporaryDirectory() as name:
        config = Path(name) / "config.yaml"
        config.write_text(base, encoding="utf-8")
        command = [sys.executable, "-m", "cyclesr_dist.training", "--config", str(config), "--dry-run", *overrides]
        alone = os.environ | ALONE | {FOLDER_VARIABLE: working_dir} | started_by_this("the search")
        done = subprocess.run(command, capture_output=True, text=True, env=alone, cwd=name, check=False)
    lines = done.stderr.strip().splitlines()
    return done.returncode, lines[-1] if lines else ""
