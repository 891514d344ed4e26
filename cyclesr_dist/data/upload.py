"""Building a shard set at a URL: staged on local disk, then uploaded, the manifest last."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

from cyclesr_dist.config.schema import Remote
from cyclesr_dist.data.build import answers
from cyclesr_dist.data.remote import RemoteSource, cache_folder
from cyclesr_dist.data.shards import MANIFEST
from cyclesr_dist.data.source import shown
from cyclesr_dist.errors import InputError
from cyclesr_dist.runtime.bars import each

_OWN_NAME = re.compile(r"shard-\d{6}\.(tar|json)|manifest\.json")


def staging_folder(url: str, remote: Remote) -> Path:
    """Where the set for `url` is built before it is uploaded."""
    return cache_folder(remote) / "staging" / hashlib.sha256(shown(url).encode()).hexdigest()[:24]


def held_set(url: str, remote: Remote, request: dict[str, Any], overwrite: bool) -> dict[str, Any] | None:
    """The manifest of the set at `url` if it was made from the same images with the same settings.

    Raises InputError when something else is there, without `overwrite`. The shards of an upload that did not finish,
    having no manifest, are no obstacle.
    """
    source = RemoteSource(url, remote)
    names = source.names()
    if MANIFEST in names:
        try:
            manifest = json.loads(source.get(MANIFEST))
        except ValueError:
            manifest = None
        if isinstance(manifest, dict) and answers(manifest, request):
            return manifest
    if not overwrite and (MANIFEST in names or not all(_OWN_NAME.fullmatch(name) for name in names)):
        raise InputError(f"{source.url}: is not empty and holds something else; give --overwrite to replace it")
    return None


def upload(folder: Path, url: str, remote: Remote, progress: bool) -> None:
    """Upload a set and remove `folder`. While it lasts, `url` holds no valid set.

    Files of an earlier, larger set that this one has not are removed. Raises InputError naming the file that failed;
    called again, it begins anew.
    """
    source = RemoteSource(url, remote)
    files = sorted(path for path in folder.iterdir() if _OWN_NAME.fullmatch(path.name) and path.name != MANIFEST)
    for name in source.names():
        if name == MANIFEST or (_OWN_NAME.fullmatch(name) and not (folder / name).exists()):
            source.remove(name)
    for path in each(files, f"upload {source.url.rsplit('/', 1)[-1]}", "file", progress):
        source.put(path, path.name)
    source.put(folder / MANIFEST, MANIFEST)
    shutil.rmtree(folder)
