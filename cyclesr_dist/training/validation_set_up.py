"""From a configuration to its `Validator`: the photographs, copies of the networks, and what chooses the best."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from cyclesr_dist.config.metrics import ASKED_FOR, Need, metric_of
from cyclesr_dist.config.schema import MEASURED, Config, noise_channels, uses_estimate
from cyclesr_dist.config.systems import SYSTEMS, spec_of
from cyclesr_dist.data.covered import check_sizes
from cyclesr_dist.data.folders import images_folder, list_images, pairs_if_any
from cyclesr_dist.data.images import image_size
from cyclesr_dist.distributed.world import World
from cyclesr_dist.errors import ConfigError, InputError
from cyclesr_dist.method.systems.base import ESTIMATED, G_L2H
from cyclesr_dist.nets.build import build_g_s2r, build_sr, build_translator, inference_net
from cyclesr_dist.nets.measured import MeasuredDegradation
from cyclesr_dist.scoring.perceptual.scores import Perceptual
from cyclesr_dist.scoring.score import scorer_of
from cyclesr_dist.training.validation import Copies, Photographs, Validator

_TRANSLATING = ", ".join(name for name, spec in SYSTEMS.items() if spec.translates)


def open_validator(config: Config, world: World) -> Validator:
    """Raises InputError when the folders do not fit, ConfigError when the protocol or metric of `validate` cannot be
    had."""
    scorer_of(config.validate.protocol)  # refused now rather than at the first validation
    photographs = _photographs(config)
    metric = _metric(config, photographs) if photographs.real else ""
    perceptual = _perceptual(config, metric, photographs, world) if photographs.real else None
    copies = Copies(
        g_l2h=build_sr(inference_net(config), config.scale).to(world.device).eval(),
        translators=_translators(config, world.device),
        noise_channels=noise_channels(config),
        starts_measured=uses_estimate(config),
    )
    return Validator(photographs, copies, metric, config.validate.protocol, config.scale, world, perceptual)


def _photographs(config: Config) -> Photographs:
    data = config.data
    if not (data.valid_lr and config.train.validate_every_steps):
        return Photographs([], [], [])
    real = images_folder(Path(data.valid_lr), config.scale)
    if not data.valid_hr:
        return Photographs(list_images(real), [], [])
    sharp = images_folder(Path(data.valid_hr), config.scale)
    pairs = pairs_if_any(sharp, real)
    check_sizes(pairs, config.scale)
    return Photographs(list_images(real), list_images(sharp), pairs)


def _metric(config: Config, photographs: Photographs) -> str:
    """What `validate.metric` names, or chooses. Raises ConfigError where it needs what is not there."""
    system = spec_of(config.system)
    wanted: str = config.validate.metric
    if wanted == "auto":
        wanted = _usual_metric(photographs, _unpaired(config))
        if wanted == "agreement" and not system.translates:
            raise ConfigError(
                f"validate.metric = auto cannot choose for system = {config.system} without data.valid_hr; "
                "give a folder of sharp photographs, or data.valid_lr= for no validation"
            )
    _check_needs(config, photographs, "validate.metric", wanted)
    return wanted


def _check_needs(config: Config, photographs: Photographs, key: str, metric: str) -> None:
    """Raise ConfigError where validation has not what `metric`, of the configuration's `key`, needs."""
    system = spec_of(config.system)
    unpaired = _unpaired(config)
    needs = metric_of(key, metric).needs
    has: dict[Need, tuple[Any, str]] = {
        "pairs": (photographs.pairs, "HR of the same scenes in data.valid_hr"),
        "sharp": (photographs.sharp, "sharp photographs in data.valid_hr"),
        "translator": (system.translates, f"a system that translates LR: {_TRANSLATING}"),
        "estimate": (unpaired, "a system that trains on data.hr and data.lr"),
    }
    if not all(has[need][0] for need in needs):
        raise ConfigError(f"{key} = {metric} needs {' and '.join(has[need][1] for need in needs)}")


def _perceptual(config: Config, metric: str, photographs: Photographs, world: World) -> Perceptual | None:
    """Those of `validate.scores`, and the metric where it is one.

    Raises ConfigError where one needs pairs and there are none, InputError where weights cannot be had or a photograph
    is too small."""
    for name in config.validate.scores:
        _check_needs(config, photographs, "validate.scores", name)
    names = dict.fromkeys((*config.validate.scores, *((metric,) if metric in ASKED_FOR else ())))
    if not names:
        return None
    perceptual = Perceptual(tuple(names), world.device)
    for path in photographs.real:
        width, height = image_size(path)
        try:
            perceptual.check_size(height * config.scale, width * config.scale)
        except InputError as error:
            raise InputError(f"{path}, enlarged x{config.scale}: {error}") from error
    return perceptual


def _unpaired(config: Config) -> bool:
    return bool(spec_of(config.system).data == "unpaired" and config.data.hr and config.data.lr)


def _usual_metric(photographs: Photographs, unpaired: bool) -> str:
    """Of those without pairs the one that lost least by choosing with it (docs/results.md)."""
    if photographs.pairs:
        return "psnr"
    if photographs.sharp:
        return "psnr_estimated" if unpaired else "spectrum_hr"
    return "agreement"


def _translators(config: Config, device: torch.device) -> dict[str, dict[str, nn.Module]]:
    """Copies of what stands before g_l2h, for each network that a run may export."""
    found: dict[str, dict[str, nn.Module]] = {G_L2H: {}}
    spec = spec_of(config.system)
    if spec.measured:
        found[G_L2H] = {"g_s2r": MeasuredDegradation()}
    elif spec.translates:
        found[G_L2H] = {"g_s2r": build_g_s2r(config), "g_r2s": build_translator(config.nets.translator)}
        if config.nets.translator.kind == MEASURED and spec.keeps_estimated:
            found[ESTIMATED] = {"g_s2r": MeasuredDegradation()}
    return {name: {key: net.to(device).eval() for key, net in nets.items()} for name, nets in found.items()}
