"""Whether the step's mathematics is the reference loop's: first gradients, in float64 and as they are trained with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from cyclesr_dist.config.schema import Config
from cyclesr_dist.data.batch import Batch
from cyclesr_dist.workflows.bench.project_step import ProjectStep
from cyclesr_dist.workflows.bench.reference import Moments, ReferenceLoop

_SAMPLES = 2


def first_gradients_apart(config: Config, batch: Batch, device: torch.device) -> dict[str, float]:
    """Largest relative distances (see `gradients_apart`) to the reference loop in float64, after one step.

    Of the step in float64 (`float64`: the mathematics alone), of the step in the configuration's precision (`ours`),
    and of the reference loop in float32 (`reference`: what rounding alone does). Two samples of the batch are used.
    """
    few = replace(_changed(batch, lambda tensor: tensor[:_SAMPLES]), noise=batch.noise[:, :_SAMPLES])
    precise = _changed(few, lambda tensor: tensor.double())
    truth = ReferenceLoop(config, device)
    in_double(truth)
    truth.step(precise)
    expected = truth.first_moments()
    del truth
    ours = ProjectStep(replace(config, precision="fp32"))
    in_double(ours)
    ours.step(precise)
    apart = {"float64": gradients_apart(ours.first_moments(), expected)}
    ours = ProjectStep(config)
    ours.step(few)
    apart["ours"] = gradients_apart(ours.first_moments(), expected)
    del ours
    plain = ReferenceLoop(config, device)
    plain.step(few)
    apart["reference"] = gradients_apart(plain.first_moments(), expected)
    return apart


def in_double(stepper: ProjectStep | ReferenceLoop) -> None:
    """The same weights, computed with in float64."""
    if isinstance(stepper, ReferenceLoop):
        modules = [*stepper.nets.values(), *([stepper.vgg] if stepper.vgg else [])]
    else:
        players = stepper.system.players
        terms = players["g"].module.sr_terms[0]  # type: ignore[index]  # JointGenerators'
        modules = [p.module for p in players.values()] + [n for n in (terms.percep, terms.texture) if n is not None]  # type: ignore[union-attr]
    for module in modules:
        module.double()


def gradients_apart(actual: Moments, expected: Moments) -> float:
    """The largest relative distance of a parameter's first gradients.

    After one update from zero, Adam's first moment is (1 - beta1) times the clipped gradient. The slope of a PReLU is
    one number, the sum of a million terms that may cancel: those of a network are taken as one vector.
    """
    worst = 0.0
    for name, moments in expected.items():
        pairs = [(actual[name][key].cpu().double(), moment.cpu().double()) for key, moment in moments.items()]
        slopes = [pair for pair in pairs if pair[0].numel() == 1]
        pairs = [pair for pair in pairs if pair[0].numel() > 1]
        if slopes:
            own, other = zip(*slopes, strict=True)
            pairs.append((torch.cat(own), torch.cat(other)))
        worst = max(worst, *(float((a - e).norm() / e.norm()) for a, e in pairs))
    return worst


def _changed(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    return replace(
        batch, syn=change(batch.syn), real=change(batch.real), hr=change(batch.hr), noise=change(batch.noise)
    )
