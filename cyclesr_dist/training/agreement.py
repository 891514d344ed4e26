"""Whether all ranks run the same: configuration, samples, photographs, code and versions.

Ranks that a launcher starts read the same command line, but each reads its own files, and ranks may be started by hand.
Without this a rank with another learning rate would spoil the run without a word.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NoReturn

import torch

import cyclesr_dist
from cyclesr_dist.config.paths import DATA_KEYS, is_local
from cyclesr_dist.config.reader import OBJECT_NAME, leaves
from cyclesr_dist.config.schema import Config
from cyclesr_dist.distributed.world import World
from cyclesr_dist.errors import ConfigError
from cyclesr_dist.runtime.files import sha256
from cyclesr_dist.runtime.redact import redacted

Facts = Mapping[str, str]
"""What must be equal, as text, by the name that a user knows it by."""

_OF_THE_MACHINE = {"data.remote.cache_dir", "telemetry.host", "telemetry.port", "telemetry.port_search"}
_PLACES = {
    *(f"data.{key}" for key in DATA_KEYS),
    *("train.checkpoints", "train.start_from", "nets.sr.init", "nets.translator.estimate", "perceptual.source"),
}
"""Where a path may differ from host to host, as long as the same lies there."""
_LOCAL = "a local path"
_SHOWN_KEYS = 3


def facts_of_launch(config: Config, options: Mapping[str, bool]) -> Facts:
    """Of the configuration, of the command line's `options`, and of the code. Reads no data."""
    values = {key: value for key, value in leaves(config).items() if key not in _OF_THE_MACHINE}
    facts = {key: _fact(_without_paths(value) if key in _PLACES else value) for key, value in values.items()}
    facts |= {name: str(given).lower() for name, given in options.items()}
    facts["cyclesr_dist"] = f"{cyclesr_dist.__version__}, files {_own_code()}"
    facts["torch"] = torch.__version__
    facts["device"] = "cuda" if torch.cuda.is_available() else "cpu"
    for module in sorted(_modules_named(values.values())):
        if (path := getattr(sys.modules.get(module), "__file__", None)) and Path(path).is_file():
            facts[f"module {module}"] = f"files {sha256(Path(path))[:12]}"
    source = config.perceptual.source
    if is_local(source) and Path(source).is_file():
        facts["perceptual.source"] = f"SHA-256 {sha256(Path(source))[:12]}"
    return facts


def _without_paths(value: object) -> object:
    """Of a key that names places."""
    if isinstance(value, tuple):
        return tuple(map(_without_paths, value))
    if isinstance(value, dict):
        return {name: _without_paths(of) for name, of in value.items()}
    return _LOCAL if isinstance(value, str) and is_local(value) else value


def _fact(value: object) -> str:
    return value if value is _LOCAL else json.dumps(redacted(value), default=str)


def facts_of_data(samples: Mapping[str, str], photographs: Mapping[str, Iterable[Path]]) -> Facts:
    """Of opened shard sets, given by their manifests' checksums, and of photographs, by name and size."""
    facts = {key: f"the manifest {checksum[:12]}" for key, checksum in samples.items()}
    return facts | {key: _listing(paths) for key, paths in photographs.items()}


def check_equal(facts: Callable[[], Facts], world: World) -> None:
    """Raises ConfigError, on all ranks, naming what differs, each value and whose it is. All ranks call it."""
    if world.num_ranks == 1:
        return
    own = world.together(facts)
    digest = hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()
    if len(set(world.gather_objects(digest))) == 1:
        return
    every = world.gather_objects(dict(own))

    def refuse() -> NoReturn:
        raise ConfigError(_differences(every))

    world.together(refuse)


def _differences(every: Sequence[Facts]) -> str:
    names = dict.fromkeys(name for each in every for name in each)
    differing = {name: values for name in names if len(set(values := [each.get(name) for each in every])) > 1}
    shown = "; ".join(_difference(name, values) for name, values in list(differing.items())[:_SHOWN_KEYS])
    more = len(differing) - _SHOWN_KEYS
    tail = f"; and {more} more" if more > 0 else ""
    return f"the ranks do not run the same: {shown}{tail}; start all with the same configuration and data"


def _difference(name: str, values: list[str | None]) -> str:
    """`optim.lr_sr = 0.0001 on rank 0, 0.01 on ranks 1-3`."""
    ranks: dict[str | None, list[int]] = {}
    for rank, value in enumerate(values):
        ranks.setdefault(value, []).append(rank)
    parts = [f"{'not there' if value is None else value} on {_ranks(who)}" for value, who in ranks.items()]
    return f"{name} = {', '.join(parts)}"


def _ranks(ranks: list[int]) -> str:
    """`rank 0`, `ranks 0-6, 8`."""
    runs: list[list[int]] = []
    for rank in ranks:
        if runs and rank == runs[-1][1] + 1:
            runs[-1][1] = rank
        else:
            runs.append([rank, rank])
    text = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
    return f"rank{'s' * (len(ranks) > 1)} {text}"


def _listing(paths: Iterable[Path]) -> str:
    listed = [f"{path.name} {path.stat().st_size}" for path in paths]
    return f"{len(listed)} files, {hashlib.sha256(chr(10).join(listed).encode()).hexdigest()[:12]}"


def _modules_named(values: Iterable[object]) -> set[str]:
    """The modules of the user's own that a configuration names."""
    texts: set[str] = set()
    for value in values:
        if isinstance(value, str):
            texts.add(value)
        elif isinstance(value, dict | tuple):
            texts.update(text for text in value if isinstance(text, str))
    return {text.partition(":")[0] for text in texts if OBJECT_NAME.fullmatch(text)}


@cache
def _own_code() -> str:
    """Of the package's files: two checkouts have the same version number."""
    root = Path(cyclesr_dist.__file__).parent
    summed = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        summed.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return summed.hexdigest()[:12]
