"""The degradation that a run starts from, or judges its networks by: measured by the main rank, or read from a file;
the same on all ranks."""

from __future__ import annotations

from pathlib import Path

from cyclesr_dist.config.schema import Config, uses_estimate
from cyclesr_dist.data.loader import Sources
from cyclesr_dist.degradation.estimate import estimate_from
from cyclesr_dist.degradation.record import FACTS, Degradation, checked, load, save
from cyclesr_dist.degradation.sample import sample_shards
from cyclesr_dist.distributed.world import World
from cyclesr_dist.errors import ConfigError, InputError
from cyclesr_dist.runtime.files import is_file


def degradation_of_run(config: Config, sources: Sources, folder: Path, world: World, resumed: bool) -> Degradation:
    """The main rank also writes it into the run folder, where a resumed run finds it. All ranks call it.

    Raises ConfigError or InputError when it cannot be read or measured.
    """
    found = world.together(lambda: _find(config, sources, folder, resumed) if world.is_main else None)
    facts = world.share(found.facts if found else {})
    tensors = world.share_tensors(found.tensors() if found else {})
    return checked(tensors, facts, "the estimate")


def _find(config: Config, sources: Sources, folder: Path, resumed: bool) -> Degradation:
    path = config.nets.translator.estimate
    if resumed and is_file(folder / FACTS):
        return load(folder)
    if path:
        found = load(Path(path).expanduser())
        if found.facts.get("scale") != config.scale:
            raise ConfigError(
                f"nets.translator.estimate = {path} was measured for scale {found.facts.get('scale')}, this run has "
                f"scale = {config.scale}"
            )
    else:
        found = measure(config, sources)
    save(folder, found)
    return found


def measure(config: Config, sources: Sources) -> Degradation:
    assert sources.hr is not None  # systems that train on unpaired photographs have both
    assert sources.lr is not None
    data, seed, scale = config.data, config.seed, config.scale
    try:
        sharp = sample_shards(sources.hr, "hr", scale, data, seed)
        real = sample_shards(sources.lr, "lr", scale, data, seed)
    except InputError as error:
        way_out = "" if uses_estimate(config) else "; validate.metric=spectrum_hr does without"
        raise type(error)(f"the degradation cannot be measured: {error}{way_out}") from error
    return estimate_from(sharp, real, scale=scale, seed=seed)
