"""What a run that is resumed may do otherwise than the run that wrote the checkpoint.

What the saved state does not fit is refused. What makes it another experiment, other data among it, needs
`--resume-with-changes`. How or where the same is computed may change from start to start. All that differ
are printed and noted in events.jsonl.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from cyclesr_dist.errors import ConfigError


class Kind(Enum):
    """Of a key of the configuration, or of what else a checkpoint knows of its run."""

    FITS_THE_STATE = "the saved networks, moments or pools do not fit"
    ORDER = "other data, or in another order"
    EXPERIMENT = "another experiment"
    EXECUTION = "computed, kept or shown in another way"


KINDS: dict[str, Kind] = {
    "system": Kind.FITS_THE_STATE,
    "scale": Kind.FITS_THE_STATE,
    "nets": Kind.FITS_THE_STATE,
    "nets.translator.estimate": Kind.EXECUTION,  # the checkpoint holds what was read there
    "nets.sr.init": Kind.EXECUTION,  # the same
    "nets.sync_batchnorm": Kind.EXPERIMENT,
    "pool": Kind.FITS_THE_STATE,
    "patch": Kind.FITS_THE_STATE,
    "seed": Kind.ORDER,
    "global_batch": Kind.ORDER,
    "micro_batch": Kind.EXECUTION,
    "ema_decay": Kind.EXPERIMENT,
    "weights": Kind.EXPERIMENT,
    "optim": Kind.EXPERIMENT,
    "perceptual": Kind.EXPERIMENT,
    "samples": Kind.ORDER,
    "num_samples": Kind.ORDER,
    "train.epochs": Kind.EXPERIMENT,
    "train.pretrain_epochs": Kind.EXPERIMENT,
    "train.constant_epochs": Kind.EXPERIMENT,
    "train.decay": Kind.EXPERIMENT,
    "train.warmup_steps": Kind.EXPERIMENT,
    "train.steps": Kind.EXPERIMENT,
    "train": Kind.EXECUTION,
    "data.downsampling": Kind.EXPERIMENT,
    "data.tail": Kind.ORDER,
    "data.augment": Kind.EXPERIMENT,
    "data": Kind.EXECUTION,
    "photographs": Kind.EXPERIMENT,  # the best so far was chosen by another score
    "validate.protocol": Kind.EXPERIMENT,
    "validate.metric": Kind.EXPERIMENT,
    "validate": Kind.EXECUTION,
    "backend": Kind.EXECUTION,
    "zero_stage": Kind.EXECUTION,
    "precision": Kind.EXECUTION,
    "speed": Kind.EXECUTION,
    "telemetry": Kind.EXECUTION,
    "track": Kind.EXECUTION,
    "shards": Kind.EXECUTION,
    "degrade": Kind.EXECUTION,
    "cluster": Kind.EXECUTION,
    "slurm": Kind.EXECUTION,
}
"""By key, or by section for all keys in it that are not named themselves."""
_OF_SCORES = ("photographs", "validate.protocol", "validate.metric")
"""With others of these a validation gives numbers that cannot be compared with those before."""


@dataclass(frozen=True)
class Change:
    key: str
    before: Any
    after: Any
    kind: Kind

    def __str__(self) -> str:
        return f"{self.key} {self.before} -> {self.after}"


def kind_of(key: str) -> Kind:
    """Of a dotted key: that of the longest part of it that KINDS names."""
    parts = key.split(".")
    for length in range(len(parts), 0, -1):
        if kind := KINDS.get(".".join(parts[:length])):
            return kind
    return Kind.EXPERIMENT  # of a version that knows more


def changes(saved: Mapping[str, Any], current: Mapping[str, Any]) -> list[Change]:
    """What differs between two identities (models/checkpoint.py), in the order of the newer one.

    A checkpoint of an earlier version knows less: that is no difference. What it knows and the run does not is one.
    """
    found = [Change(k, saved[k], now, kind_of(k)) for k, now in current.items() if k in saved and saved[k] != now]
    found += [Change(k, saved[k], None, kind_of(k)) for k in saved if k not in current]
    # Validation that is begun or left out compares nothing with what was before.
    return [c for c in found if not c.key.startswith("photographs.") or (c.before and c.after)]


def scores_differ(found: list[Change]) -> bool:
    """Whether scores are not comparable with those before the changes: then there is no best so far."""
    return any(change.key.startswith(_OF_SCORES) for change in found)


def told(found: list[Change]) -> tuple[str, bool]:
    """A line with all of them, empty where there is none; and whether it is a warning: of another experiment."""
    line = f"changed since the checkpoint: {', '.join(map(str, found))}" if found else ""
    return line, any(change.kind is not Kind.EXECUTION for change in found)


def check_resumable(where: str, found: list[Change], with_changes: bool) -> None:
    """Raises ConfigError, naming what differs and what to do, unless the run may go on with these changes."""
    if unfit := [change for change in found if change.kind is Kind.FITS_THE_STATE]:
        raise ConfigError(
            f"checkpoint {where} has {_told(unfit)}: the saved state does not fit; go on with the old value, or begin "
            "a new run in another --run-dir"
        )
    other = [change for change in found if change.kind in (Kind.ORDER, Kind.EXPERIMENT)]
    if other and not with_changes:
        raise ConfigError(
            f"checkpoint {where} has {_told(other)}: from here on it would be another experiment; go on with the old "
            "value, begin a new run in another --run-dir, or say --resume-with-changes"
        )


def _told(found: list[Change]) -> str:
    """`seed = 0, this run has 1; weights.mse = 0.5, this run has 5`."""
    return "; ".join(f"{change.key} = {change.before}, this run has {change.after}" for change in found)
