"""Whether all ranks run the same: configuration, samples, photographs, code and versions.

Ranks that a launcher starts read the same command line, but each reads its own files, and ranks may be started by hand.
Without this a rank with another learning rate would spoil the run without a word.
"""

from __future__ import annotations

import hashlib
import json
import sys
import sysconfig
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
from cyclesr_dist.runtime.files import reading, sha256
from cyclesr_dist.runtime.passing import patiently
from cyclesr_dist.runtime.redact import redacted
from cyclesr_dist.runtime.user_modules import import_user_module

Facts = Mapping[str, str]
"""What must be equal, as text, by the name that a user knows it by."""

_OF_THE_MACHINE = {"data.remote.cache_dir", "telemetry.host", "telemetry.port", "telemetry.port_search"}
_PLACES = {
    *(f"data.{key}" for key in DATA_KEYS),
    *("train.checkpoints", "train.start_from", "nets.sr.init", "nets.translator.estimate", "perceptual.source"),
}
"""Where a path may differ from host to host, as long as the same lies there."""
_LOCAL = "a local path"
_NOT_THE_USERS = ("cyclesr_dist", "__main__", "__mp_main__")
_SHOWN_KEYS = 3
_PART = 1 << 16


def facts_of_launch(config: Config, options: Mapping[str, bool]) -> Facts:
    """Of the configuration, of the command line's `options`, and of the code. Reads no data."""
    values = {key: value for key, value in leaves(config).items() if key not in _OF_THE_MACHINE}
    facts = {key: _fact(_without_paths(value) if key in _PLACES else value) for key, value in values.items()}
    facts |= {name: str(given).lower() for name, given in options.items()}
    facts["cyclesr_dist"] = f"{cyclesr_dist.__version__}, files {_own_code()}"
    facts["torch"] = torch.__version__
    facts["device"] = "cuda" if torch.cuda.is_available() else "cpu"
    facts |= _modules_of_the_user(values)
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
    """Of opened shard sets, given by their manifests' checksums, and of photographs, by name and content."""
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
    """Equal for photographs of the same names and contents; empty for none. Raises InputError."""
    listed = [f"{path.name} {_size_and_parts(path)}" for path in paths]
    if not listed:
        return ""
    return f"{len(listed)} files, {hashlib.sha256(chr(10).join(listed).encode()).hexdigest()[:12]}"


def _size_and_parts(path: Path) -> str:
    """Of a file: its size, and a checksum of its beginning, middle and end. Photographs without compression are all of
    one size, and to read hundreds of them whole would hold up the start."""

    def digest() -> str:
        size = path.stat().st_size
        summed = hashlib.sha256()
        with path.open("rb") as file:
            for place in dict.fromkeys((0, max(0, size // 2 - _PART // 2), max(0, size - _PART))):
                file.seek(place)
                summed.update(file.read(_PART))
        return f"{size} {summed.hexdigest()}"

    with reading(path):
        return patiently(digest)


def _modules_of_the_user(values: Mapping[str, object]) -> Facts:
    """Of the modules that the configuration names, which are imported here, and of those beside them that these use."""
    facts: dict[str, str] = {}
    for key, module in sorted(_modules_named(values)):
        try:
            path = getattr(import_user_module(key, module), "__file__", None)
        except ConfigError:  # the part that needs it says why, if this run does
            facts[f"module {module}"] = "one that cannot be imported"
            continue
        root = module.partition(".")[0]
        folder = None if path is None or _is_library(Path(path)) else _folder_of(root)
        for name, found in list(sys.modules.items()):
            top = name.partition(".")[0]
            beside = folder is not None and top not in _NOT_THE_USERS and _folder_of(top) == folder
            if (top == root or beside) and (file := getattr(found, "__file__", None)) and Path(file).is_file():
                facts[f"module {name}"] = f"files {sha256(Path(file))[:12]}"
    return facts


def _folder_of(module: str) -> Path | None:
    """Where a top-level module or package lies."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if not file:
        return None
    return Path(file).parents[Path(file).name == "__init__.py"]


def _is_library(path: Path) -> bool:
    return any(path.is_relative_to(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def _modules_named(values: Mapping[str, object]) -> set[tuple[str, str]]:
    """Keys of a configuration, and the modules of the user's own that they name."""
    named: set[tuple[str, str]] = set()
    for key, value in values.items():
        texts = [value] if isinstance(value, str) else value if isinstance(value, dict | tuple) else []
        found = (text for text in texts if isinstance(text, str) and OBJECT_NAME.fullmatch(text))
        named.update((key, text.partition(":")[0]) for text in found)
    return named


@cache
def _own_code() -> str:
    """Of the package's files: two checkouts have the same version number."""
    root = Path(cyclesr_dist.__file__).parent
    summed = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        summed.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return summed.hexdigest()[:12]
