"""A search over a Ray client connection (`--address ray://host:port`): driven from the cluster's head, where it goes on
when this machine is switched off. What it writes is copied here at the end.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import ray

from cyclesr_dist.config.reader import dump
from cyclesr_dist.config.schema import Remote
from cyclesr_dist.data.remote import cache_folder
from cyclesr_dist.errors import ConfigError, CycleSRError, InputError, Preempted
from cyclesr_dist.runtime.files import write_text
from cyclesr_dist.runtime.lease import held
from cyclesr_dist.runtime.user_modules import FOLDER_VARIABLE
from cyclesr_dist.search.cluster import look_at
from cyclesr_dist.search.config import Search, absolute
from cyclesr_dist.search.run import run_search

_FILES = ("search.yaml", "results.jsonl", "trials.csv", "best.yaml", "report.html", "summary.json")


@dataclass(frozen=True)
class Outcome:
    """What the head sends back."""

    files: dict[str, str]
    error: str
    exit_code: int


def run_on_head(
    search: Search, run_dir: Path, address: str, *, resume: bool = False, dry_run: bool = False, quiet: bool = False
) -> None:
    """Like `run_search`, and raises the same. `storage` must be given: the head does not see this machine's disk."""
    if not search.storage:
        raise ConfigError("storage is empty; with --address ray://... give a folder that all nodes share, or a URL")
    look_at(address)
    base = dump(absolute(search.base_config()), signatures=True)  # the head does not see the file either
    search = replace(search, overrides=())
    try:
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=True)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(
            f"--address {address}: no Ray cluster answers: {' '.join(str(error).split())[-300:]}; "
            "a cluster that wants a token needs RAY_AUTH_MODE=token and RAY_AUTH_TOKEN here"
        ) from error
    try:
        task = ray.remote(num_cpus=0, max_retries=0)(_on_head)
        running = task.remote(search, base, run_dir.absolute().name, os.getcwd(), resume, dry_run, quiet)
        try:
            outcome: Outcome = ray.get(running)
        except KeyboardInterrupt:
            ray.cancel(running)
            raise Preempted("the search was told to stop; --resume continues") from None
        except ray.exceptions.RayError as error:
            raise CycleSRError(f"the search on the head failed: {str(error).strip().splitlines()[-1]}") from error
    finally:
        ray.shutdown()
    run_dir.mkdir(parents=True, exist_ok=True)
    for name, text in outcome.files.items():
        write_text(run_dir / name, text)
    if outcome.exit_code:
        raise _Failed(outcome.error, outcome.exit_code)


class _Failed(CycleSRError):
    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def _on_head(
    search: Search, base: str, name: str, working_dir: str, resume: bool, dry_run: bool, quiet: bool
) -> Outcome:
    """In a worker of the cluster. The search's own files stay in the user's cache folder there, for a resume."""
    from ray import tune

    own = hashlib.sha256(search.storage.encode()).hexdigest()[:12]
    run_dir = cache_folder(Remote()) / "searches" / own / name
    os.environ[FOLDER_VARIABLE] = working_dir
    local = run_dir / "base.yaml"
    error, code = "", 0
    try:
        with held(run_dir.parent, f"search {name} on the head", f".{name}"):
            if run_dir.exists() and not tune.Tuner.can_restore(f"{search.storage.rstrip('/')}/{name}"):
                shutil.rmtree(run_dir)  # of a search whose storage is gone
            run_dir.mkdir(parents=True, exist_ok=True)
            local.touch(mode=0o600)  # a URL in it may have a signature
            local.write_text(base, encoding="utf-8")
            run_search(replace(search, base=str(local)), run_dir, None, resume=resume, dry_run=dry_run, quiet=quiet)
    except CycleSRError as failure:
        error, code = str(failure), failure.exit_code
    sys.stdout.flush()
    files = {file: (run_dir / file).read_text(encoding="utf-8") for file in _FILES if (run_dir / file).is_file()}
    return Outcome(files, error, code)
