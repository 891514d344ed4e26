"""What makes two calls one search: search.yaml, and beside it identity.json, which has what search.yaml only names.

A resumed search may have more `num_samples`; whatever else differs is refused, since trials of both would be ranked as
if they were alike.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cyclesr_dist.config.reader import read, to_show, write_resolved
from cyclesr_dist.config.schema import load
from cyclesr_dist.errors import ConfigError, InputError
from cyclesr_dist.runtime.files import write_text
from cyclesr_dist.runtime.passing import failed
from cyclesr_dist.search.config import Search, absolute
from cyclesr_dist.search.samples import manifests
from cyclesr_dist.training.run_folder import SEARCH, RunFolder

_FILE = "identity.json"


@dataclass(frozen=True)
class Identity:
    """identity.json."""

    training: Mapping[str, Any]
    """The training configuration of the trials, without their own values."""
    data: Mapping[str, str]
    """SHA-256 of the manifest of each shard set, by its key; see `samples.manifests`."""
    rounds: tuple[int, ...]
    """The `num_samples` that were asked for one after the other, each more than the one before."""
    token: str
    """Tells the places of later rounds in `storage` from those of another search."""

    def places(self, name: str) -> list[tuple[int, str]]:
        """Of each round `num_samples` and the name of its experiment."""
        return [(end, f"{name}-to-{end}-{self.token}" if index else name) for index, end in enumerate(self.rounds)]


def recognise(search: Search, run_dir: Path, resume: bool) -> tuple[bool, Identity]:
    """Whether the run folder holds something to resume, and what the search is then. Nothing is written.

    Raises InputError and ConfigError when it holds another search.
    """
    held = run_dir / SEARCH
    begun = held.exists()
    if begun and not resume:
        raise InputError(f"run folder {run_dir} already holds a search; use --resume, or another --run-dir")
    if not begun and RunFolder(run_dir).holds_run():
        raise InputError(f"run folder {run_dir} holds a training, which has files of the same names; use another")
    identity = _identity(search)
    if begun:
        identity = _continued(run_dir, read(Search, held, beside=False), search, identity)
    return begun, identity


def claim(search: Search, run_dir: Path, identity: Identity) -> None:
    """Make the run folder this search's. Raises InputError."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        write_text(run_dir / _FILE, json.dumps(asdict(identity), indent=1) + "\n")
        write_resolved(search, run_dir / SEARCH)
    except OSError as error:
        raise failed(f"run folder {run_dir} is not writable: {error.strerror or error}", error) from error


def _identity(search: Search) -> Identity:
    config = absolute(load(search.base, [*search.overrides, *search.trial_overrides()]))
    training = json.loads(json.dumps(to_show(config)))  # as it is when it is read back: lists for tuples
    return Identity(training, manifests(config, search), (search.num_samples,), secrets.token_hex(4))


def _continued(run_dir: Path, held: Search, search: Search, identity: Identity) -> Identity:
    """Of the search in `run_dir` when it goes on as `search`. Raises ConfigError for what differs."""
    way_out = "put it back, or begin a search of its own with another --run-dir"
    # The folder of `base` may have another name where it is resumed.
    bases = {"base": Path(held.base).name}, {"base": Path(search.base).name}
    own = replace(held, base=search.base, num_samples=search.num_samples)
    for key, before, now in _differences(to_show(own) | bases[0], to_show(search) | bases[1]):
        raise ConfigError(
            f"{run_dir} holds a search with other settings: search.yaml has {key} = {before!r}, and now it is {now!r}; "
            f"{way_out}"
        )
    known = _read(run_dir, held, identity)
    known = replace(known, data={**identity.data, **known.data})
    for key, before, now in _differences(known.training, identity.training):
        raise ConfigError(
            f"{run_dir} holds a search of another training: {key} was {before!r}, and {search.base} with its overrides "
            f"now has {now!r}; {way_out}"
        )
    for key in known.data.keys() & identity.data.keys():
        if known.data[key] != identity.data[key]:
            raise ConfigError(
                f"{run_dir} holds a search on other data: the manifest of {key} = {_place(identity, key)} had SHA-256 "
                f"{known.data[key][:12]}, and now has {identity.data[key][:12]}; {way_out}"
            )
    last = known.rounds[-1]
    if search.num_samples < last:
        raise ConfigError(
            f"num_samples = {search.num_samples}, and {run_dir} holds a search of {last}; allowed: {last} or more, or "
            "another --run-dir"
        )
    if search.num_samples == last:
        return known
    if search.scheduler == "pbt":
        raise ConfigError(
            f"num_samples = {search.num_samples}, and {run_dir} holds a population of {last}; scheduler: pbt "
            "trains all together, so that none can join later: begin a search of its own with another --run-dir"
        )
    return replace(known, rounds=(*known.rounds, search.num_samples))


def _read(run_dir: Path, held: Search, present: Identity) -> Identity:
    """identity.json; of a search that was begun before there was one, the present one. Raises InputError."""
    path = run_dir / _FILE
    if not path.is_file():
        return replace(present, rounds=(held.num_samples,))
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        content["rounds"] = tuple(content["rounds"])
        return Identity(**content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read: {error}; the search cannot go on without it") from error


def _place(identity: Identity, key: str) -> str:
    """Of a key as `samples.manifests` names it: `data.hr`, or `data.hr[0]` of a list."""
    section, name, number = re.fullmatch(r"(\w+)\.(\w+)(?:\[(\d+)\])?", key).groups()  # type: ignore[union-attr]  # it is one
    place = identity.training[section][name]
    one = place[int(number)] if number else place
    return str(one["url"] if isinstance(one, Mapping) else one)


def _differences(before: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted keys whose values differ, with both."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in [*before, *(name for name in now if name not in before)]:
            yield from _differences(before.get(name), now.get(name), f"{key}.{name}" if key else name)
    elif before != now:
        yield key, before, now
