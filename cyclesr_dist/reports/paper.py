"""The paper's configuration for a track, and what differs from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from cyclesr_dist.config.reader import to_dict
from cyclesr_dist.config.schema import Config, SRNet

# Where a run works and what is kept of it: no part of the method.
_OF_THE_MACHINE = (
    "telemetry.",
    "cluster.",
    "speed.",
    "data.hr",
    "data.lr",
    "data.pairs",
    "data.valid_",
    "data.remote.",
    "data.workers",
    "data.prefetch",
    "data.log_keys",
    "data.max_",
    "shards.hr_scenes",
    "shards.lr_scenes",
    "shards.samples_per_shard",
    "shards.encoding",
    "degrade.",
    "backend",
    "zero_stage",
    "system",
    "track",
    "validate.",
    "train.log_every_steps",
    "train.checkpoint",
    "train.validate_every_steps",
    "train.keep_checkpoints",
    "train.grace_seconds",
    "train.lost_rank_seconds",
    "train.max_bad_steps",
    "train.max_rollbacks",
)


_NTIRE17, _NTIRE18 = ("unknown",), ("mild", "wild")


def in_paper(track: str | None) -> bool:
    """Whether the paper has a configuration for it; for `camera`, and for photographs of one's own, it has none."""
    return track in _NTIRE17 + _NTIRE18


def paper_config(track: str) -> Config:
    """The defaults, which are the paper's on NTIRE17 T2 (`unknown`); on NTIRE18's tracks SRResNet and a smaller MSE.

    Raises ValueError for a track that is not in the paper.
    """
    if not in_paper(track):
        raise ValueError(f"the paper has no configuration for track = {track}")
    config = Config()
    if track in _NTIRE17:
        return config
    return replace(
        config,
        weights=replace(config.weights, mse=100.0),
        nets=replace(config.nets, sr=SRNet(kind="srresnet", blocks=16)),
    )


def differences(config: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(key, value, the paper's) of a resolved configuration, for keys of the method alone.

    Raises ValueError where its track is not in the paper.
    """
    paper = flat(to_dict(paper_config(str(config.get("track")))))
    own = flat(config)
    return [
        (key, shown(own[key]), shown(paper[key]) if key in paper else "\u2013")
        for key in own
        if not key.startswith(_OF_THE_MACHINE) and (key not in paper or shown(own[key]) != shown(paper[key]))
    ]


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Nested keys with dots."""
    return dict(_flat(config, ""))


def shown(value: Any) -> str:
    """As YAML has it, near enough; tuples and lists alike, whole floats as integers."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, list | tuple):
        return "[" + ", ".join(shown(v) for v in value) + "]"
    return str(value)


def _flat(config: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
