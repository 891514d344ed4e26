"""The configuration that `cyclesr fit` chooses: a commented file that `cyclesr train` and a person can read."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cyclesr_dist.config.schema import Config, load
from cyclesr_dist.workflows.fit.machine import Machine
from cyclesr_dist.workflows.fit.photos import Photo, Split

SECONDS_ASIDE = 60.0
"""For looking, measuring, packing and enlarging."""
_TRAINING_SHARE = 0.8
"""Of what remains; validations, checkpoints and reading take the rest."""
_MOST_STEPS = 100_000
_FEWEST_STEPS = 100
_PATCHES = {"cpu": 4_000, "gpu": 30_000}
"""Roughly how many to cut: more of the same photographs help little, and take time and room on the disk."""
_SMALLEST_STRIDE = 8


@dataclass(frozen=True)
class Size:
    """A network and its batch, from the largest to the smallest; `steps`: with fewer a smaller one comes further."""

    channels: int
    blocks: int
    batch: int
    patch: int
    lr: float
    steps: int


CPU_SIZES = (Size(64, 8, 8, 32, 5e-4, 6000), Size(48, 6, 8, 32, 8e-4, 3000), Size(32, 4, 8, 24, 1e-3, 0))
GPU_SIZES = (Size(64, 16, 16, 48, 2e-4, 20000), Size(64, 8, 16, 48, 4e-4, 0))


def choose(
    split: Split,
    machine: Machine,
    scale: int,
    hours: float,
    run: Path,
    seconds_a_step: Callable[[Config, int], float],
    say: Callable[[str], None],
) -> str:
    """The text of the configuration: the largest network that trains long enough in `hours`."""
    sizes = GPU_SIZES if machine.gpus else CPU_SIZES
    budget = max(0.0, hours * 3600 - SECONDS_ASIDE) * _TRAINING_SHARE
    for size in sizes:
        patch = patch_px(split, scale, size.patch)
        measured = seconds_a_step(load(None, _overrides(size, scale)), patch)
        ranks = max(1, machine.gpus)
        steps = int(budget / measured)
        say(f"a network of {size.channels} x {size.blocks}: {measured:.2g} s a step, {steps:,} steps in the time")
        if steps >= size.steps:
            break
    steps = min(_MOST_STEPS, max(_FEWEST_STEPS, steps))
    stride = stride_px(split.train_hr, scale, patch, _PATCHES["gpu" if machine.gpus else "cpu"])
    return _text(size, scale, patch, stride, steps, ranks, run)


def patch_px(split: Split, scale: int, wanted: int) -> int:
    """LR side of the patches: `wanted`, or less where a fifth of the photographs of a side are smaller than that."""
    sides = [
        sorted(photo.side // (scale if photos is split.train_hr else 1) for photo in photos)
        for photos in (split.train_hr, split.train_lr)
    ]
    fits = min(of[len(of) // 5] for of in sides)
    return max(16, min(wanted, fits) // 4 * 4)


def stride_px(hr: Sequence[Photo], scale: int, patch: int, patches: int) -> int:
    """Distance of LR patches, so that about as many are cut."""
    area = sum(photo.width * photo.height for photo in hr) / scale**2
    return max(_SMALLEST_STRIDE, min(patch * 3 // 4, round(math.sqrt(area / 1000))), round(math.sqrt(area / patches)))


def _overrides(size: Size, scale: int) -> list[str]:
    return [
        "system=estimated",
        "backend=single",
        f"scale={scale}",
        f"global_batch={size.batch}",
        "micro_batch=auto",
        "weights.mse=0.5",
        "nets.sr.kind=compact",
        f"nets.sr.channels={size.channels}",
        f"nets.sr.blocks={size.blocks}",
        "nets.sr.bicubic_skip=true",
    ]


def _text(size: Size, scale: int, patch: int, stride: int, steps: int, ranks: int, run: Path) -> str:
    every = max(10, steps // 8)

    def at(name: str) -> str:
        return json.dumps(str(run.absolute() / name))  # JSON strings are YAML strings

    return f"""\
# Written by cyclesr fit. Change it and give the same command again, or train by hand:
#   cyclesr train --config {run / "fit.yaml"} --run-dir {run} --resume
system: estimated # trains on the blur and noise that were measured; cyclesr: adversarially besides, 4 times as long
scale: {scale} # how many times larger the result is
backend: {"ddp" if ranks > 1 else "single"}
global_batch: {size.batch * ranks} # patches a step
micro_batch: auto # of these at once as many as fit into memory; the result is the same
ema_decay: {0.999 if steps >= 10_000 else 0.99} # what is exported is a running average

shards:
  patch: {patch} # px of an LR patch; HR patches are {scale} times larger
  stride: {stride} # px from one patch to the next; smaller: more patches of the same photographs

weights:
  mse: 0.5

nets:
  sr: {{kind: compact, channels: {size.channels}, blocks: {size.blocks}, bicubic_skip: true}} # larger: needs more time
  translator:
    kind: degradation
    estimate: {at("estimate")} # what cyclesr estimate found
    channels: 32 # these three are for system: cyclesr alone
    blocks: 2
  d_lr: {{channels: 32, layers: 1}}

optim:
  lr_sr: {size.lr:g}
  lr_cyclegan: 1.0e-4 # for system: cyclesr alone

train:
  steps: {steps} # longer is better; the time grows with it
  epochs: 10 # with steps above only shares count: the learning rate falls from 3 tenths on
  constant_epochs: 3
  pretrain_epochs: 0
  log_every_steps: {max(1, min(50, steps // 20))}
  validate_every_steps: {every}
  checkpoint_every_steps: {every}

data:
  hr: {at("data/hr")}
  lr: {at("data/lr")}
  valid_hr: {at("photos/valid_hr")} # held back from training
  valid_lr: {at("photos/valid_lr")}
  tail: wrap
  workers: {4 if ranks > 1 or size in GPU_SIZES else 0}
  augment: {{lr_rotate: false, hr_colours: true, lr_colours: true}}
"""
