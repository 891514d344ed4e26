"""What each `system:` is: one description each, which all others ask instead of its name.

The classes behind them are in method/systems/, and are imported when one is built: this module imports no torch.
docs/extending.md shows how to add one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

from cyclesr_dist.errors import ConfigError
from cyclesr_dist.runtime.user_modules import ours_or_yours


class Phase(Enum):
    """Training phases (the paper's training details)."""

    PRETRAIN = "pretrain"
    """CycleGAN on unpaired LR; g_l2h on bicubic pairs, not connected with each other."""
    JOINT = "joint"
    """Equation (3): g_l2h sees only fake_real, and its gradient reaches g_s2r."""
    TRANSLATE = "translate"
    """First half of cycle_sr_separate, CycleGAN on unpaired LR, or of a one-way degradation; g_l2h waits."""
    SEPARATE = "separate"
    """Their second half: g_l2h on fake_real of the frozen g_s2r."""
    CYCLEGAN = "cyclegan"
    """`system: cyclegan`: equation (2) at HR size."""
    SR = "sr"
    """g_l2h on pairs, whatever LR is made of."""

    @property
    def trains_g_l2h(self) -> bool:
        """Whether g_l2h learns in it, so that scoring it makes sense."""
        return self is not Phase.TRANSLATE


@dataclass(frozen=True)
class Round:
    """`train.epochs` epochs, or `train.steps` steps, with a learning rate that falls to zero."""

    phase: Phase
    first: Phase | None = None
    """What the first `train.pretrain_epochs` of it are instead."""


@dataclass(frozen=True)
class SystemSpec:
    """One `system`, as far as anyone but itself has to know it."""

    build: str | Callable[..., Any]
    """Its class (`package.module:Class`): (config, make_player, world, degradation) -> method/systems/base.py's System.
    """
    title: str
    """For reports: what it is, in a few words."""
    rounds: tuple[Round, ...] = (Round(Phase.SR),)
    data: Literal["unpaired", "hr", "pairs"] = "unpaired"
    """The shard sets it draws from: `data.hr` and `data.lr`, `data.hr` alone, or `data.pairs`."""
    cycle: Literal["none", "lr", "hr"] = "none"
    """The size of the images that equation (2) translates; with "hr", g_l2h is one of the two translators."""
    measured: bool = False
    """Whether g_s2r is the measured degradation itself, whatever `nets.translator` says."""
    perceptual: bool = False
    """Whether it reads the weights `percep`, `texture` and `advsr` of equation (4)."""
    translates_first: bool = False
    """Whether two networks are used at inference: a translator, then `nets.sr`. It judges HR by `weights.advsr`."""
    draws: int = 0
    """Channels of noise that its degradation has, where `nets.translator` has fewer."""
    keeps_estimated: bool = False
    """Whether a second g_l2h is trained on the measured degradation alone, where g_s2r starts from that degradation."""

    def __post_init__(self) -> None:
        if not self.rounds or not all(isinstance(one, Round) for one in self.rounds):
            raise ConfigError(f"SystemSpec(rounds={self.rounds!r:.80}); allowed: one Round or more")
        for name, allowed in (("data", ("unpaired", "hr", "pairs")), ("cycle", ("none", "lr", "hr"))):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"SystemSpec({name}={getattr(self, name)!r}); allowed: {', '.join(allowed)}")
        if self.measured and self.data != "unpaired":
            raise ConfigError(f"SystemSpec(measured=True, data={self.data!r}): measuring needs data='unpaired'")

    @property
    def translates(self) -> bool:
        """Whether it has a g_s2r and a g_r2s that learn."""
        return self.cycle == "lr"

    def needs_estimate(self, translator_is_measured: bool) -> bool:
        """Whether the degradation must be there before training begins."""
        return self.measured or (self.translates and translator_is_measured)


_PAPER = "cyclesr_dist.method.systems"
_JOINT = (Round(Phase.JOINT, first=Phase.PRETRAIN),)
_TWO_HALVES = (Round(Phase.TRANSLATE), Round(Phase.SEPARATE))

SYSTEMS: dict[str, SystemSpec] = {
    "sr_syn": SystemSpec(f"{_PAPER}.sr_only:SyntheticSystem", "trained on bicubic pairs", data="hr"),
    "sr_paired": SystemSpec(
        f"{_PAPER}.sr_only:PairedSystem", "supervised reference: trained on real pairs", data="pairs"
    ),
    "estimated": SystemSpec(
        f"{_PAPER}.estimated:EstimatedSystem", "trained on the measured degradation", measured=True
    ),
    "cyclegan": SystemSpec(
        f"{_PAPER}.cyclegan:CycleGANSystem", "CycleGAN at HR size", rounds=(Round(Phase.CYCLEGAN),), cycle="hr"
    ),
    "cycle_sr_separate": SystemSpec(
        f"{_PAPER}.separate:SeparateSystem",
        "CycleGAN first, then SR",
        rounds=_TWO_HALVES,
        cycle="lr",
    ),
    "cyclesr": SystemSpec(f"{_PAPER}.joint:JointSystem", "joint, MSE", rounds=_JOINT, cycle="lr", keeps_estimated=True),
    "cyclesrgan": SystemSpec(
        f"{_PAPER}.joint:JointSystem",
        "joint, MSE, perceptual and adversarial",
        rounds=_JOINT,
        cycle="lr",
        perceptual=True,
    ),
    # Of other papers (docs/decisions/0009-rivals.md).
    "high_to_low": SystemSpec(
        f"{_PAPER}.high_to_low:HighToLowSystem", "one-way GAN from HR to LR, then SR", rounds=_TWO_HALVES, draws=1
    ),
    "cincgan": SystemSpec(
        f"{_PAPER}.cincgan:CinCGANSystem", "cycle in cycle, two networks", rounds=_JOINT, translates_first=True
    ),
    "pseudo_supervision": SystemSpec(
        f"{_PAPER}.pseudo_supervision:PseudoSupervisionSystem",
        "SR on LR that was real meanwhile, two networks",
        rounds=_JOINT,
        translates_first=True,
    ),
    "pdm": SystemSpec(f"{_PAPER}.pdm:PDMSystem", "learned kernels and noise, then SR", rounds=_TWO_HALVES, draws=4),
    "dsgan": SystemSpec(f"{_PAPER}.dsgan:DSGANSystem", "GAN on high frequencies, then SR", rounds=_TWO_HALVES),
}


def spec_of(system: str) -> SystemSpec:
    """Of one of ours, or of one of yours (`package.module:SPEC`). Raises ConfigError when it is neither."""
    return ours_or_yours("system", system, SYSTEMS, "package.module:Name", "a SystemSpec", SystemSpec)
