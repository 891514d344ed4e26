"""The places on disk that a configuration names, for those who run it in another folder or on another machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cyclesr_dist.config.schema import Config, WeightedSet

DATA_KEYS = ("hr", "lr", "pairs", "valid_hr", "valid_lr")
"""Of the section `data`."""


def is_local(place: str) -> bool:
    """Whether it is a path: no URL, and not empty."""
    return bool(place) and "://" not in place


def places(key: str, value: str | tuple[str | WeightedSet, ...]) -> dict[str, str]:
    """The paths and URLs of a key by the names that errors have for them: `data.hr`, or `data.hr[0]`, `data.hr[1]` and
    so on where it is a list. None where it is empty."""
    if isinstance(value, str):
        return {key: value} if value else {}
    return {f"{key}[{i}]": one if isinstance(one, str) else one.url for i, one in enumerate(value)}


def with_places(value: Any, change: Callable[[str], str]) -> Any:
    """The same value with `change` applied to each of its paths and URLs."""
    if isinstance(value, str):
        return change(value)
    return tuple(replace(one, url=change(one.url)) if isinstance(one, WeightedSet) else change(one) for one in value)


def with_paths(config: Config, change: Callable[[str], str]) -> Config:
    """The configuration with `change` applied to every local path of data, checkpoints, weights, estimate and TLS."""

    def changed(place: str) -> str:
        return change(place) if is_local(place) else place

    perceptual = config.perceptual
    if perceptual.source not in ("torchvision", "random"):
        perceptual = replace(perceptual, source=changed(perceptual.source))
    tls: dict[str, Any] = {key: changed(getattr(config.telemetry, key)) for key in ("tls_certificate", "tls_key")}
    translator = replace(config.nets.translator, estimate=changed(config.nets.translator.estimate))
    train: dict[str, Any] = {key: changed(getattr(config.train, key)) for key in ("checkpoints", "start_from")}
    data: dict[str, Any] = {key: with_places(getattr(config.data, key), changed) for key in DATA_KEYS}
    return replace(
        config,
        data=replace(config.data, **data),
        train=replace(config.train, **train),
        perceptual=perceptual,
        nets=replace(config.nets, translator=translator, sr=replace(config.nets.sr, init=changed(config.nets.sr.init))),
        telemetry=replace(config.telemetry, **tls),
    )
