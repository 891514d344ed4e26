"""Which samples a search is about: the manifests of its shard sets, on a disk or behind a URL."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cyclesr_dist.config.paths import places
from cyclesr_dist.config.schema import Config, Remote
from cyclesr_dist.config.systems import spec_of
from cyclesr_dist.data.shards import MANIFEST, open_source
from cyclesr_dist.data.source import is_remote
from cyclesr_dist.errors import InputError
from cyclesr_dist.search.config import Search

_SHARD_SETS = ("hr", "lr", "pairs")


@dataclass(frozen=True)
class Known:
    """A shard set as it was when the search began."""

    key: str
    url: str
    remote: Remote
    sha256: str
    """Of the manifest."""


def manifests(config: Config, search: Search) -> dict[str, str]:
    """SHA-256 of the manifest of each shard set, by its key (`data.hr`, or `data.hr[0]` of several): of those on a disk
    that is seen from here, and of those behind a URL that the trials read. Raises InputError for a URL that cannot be
    read."""
    found = {}
    for name in _SHARD_SETS:
        for key, url in places(f"data.{name}", getattr(config.data, name)).items():
            if is_remote(url) and name not in _read(config, search):
                continue
            if sha256 := _sha256(url, config.data.remote):
                found[key] = sha256
    return found


def known(config: Config, search: Search, found: Mapping[str, str]) -> list[Known]:
    """What trials compare with; not the sets that they have values of their own for. `found`: of `manifests`."""
    own = {domain.key for domain in search.domains}
    urls = {
        key: url
        for name in _SHARD_SETS
        if f"data.{name}" not in own
        for key, url in places(f"data.{name}", getattr(config.data, name)).items()
    }
    return [Known(key, url, config.data.remote, found[key]) for key, url in urls.items() if key in found]


def changed(sets: Iterable[Known]) -> str:
    """What is another set by now, in a sentence; empty: nothing. What cannot be read is left to the training."""
    for one in sets:
        try:
            now = _sha256(one.url, one.remote)
        except InputError:
            continue
        if now and now != one.sha256:
            return (
                f"{one.key} was built anew since the search began: its manifest had SHA-256 {one.sha256[:12]}, and now "
                f"has {now[:12]}"
            )
    return ""


def _read(config: Config, search: Search) -> set[str]:
    """Names of the sets that trials open."""
    systems = {config.system}.union(*(domain.values for domain in search.domains if domain.key == "system"))
    sets = {"pairs": {"pairs"}, "hr": {"hr"}}
    return set().union(*(sets.get(spec_of(str(system)).data, {"hr", "lr"}) for system in systems))


def _sha256(url: str, remote: Remote) -> str:
    """Empty where there is none on a disk: trials may see another one."""
    source = open_source(url, remote)
    if not is_remote(url) and not source.exists(MANIFEST):
        return ""
    return hashlib.sha256(source.get(MANIFEST)).hexdigest()
