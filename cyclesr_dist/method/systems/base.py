"""What the training loop knows of a system: its data, its step, its state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from cyclesr_dist.config.systems import Phase
from cyclesr_dist.data.batch import Batch
from cyclesr_dist.distributed.player import Player, PlayerState
from cyclesr_dist.method.step import StepResult

G_L2H, ESTIMATED = "g_l2h", "g_l2h_estimated"


@dataclass
class SystemState:
    """Everything that training changes, but for the position in the data."""

    players: dict[str, PlayerState]
    pools: dict[str, Tensor] = field(default_factory=dict)


class System(Protocol):
    players: dict[str, Player]

    @property
    def sr_players(self) -> dict[str, Player]:
        """The players whose `g_l2h.` may be the network used at inference.

        `G_L2H` is the system's own, `ESTIMATED`, where there is one, is trained beside it on the measured degradation
        alone. The better one is exported.
        """

    def step(self, batch: Batch, phase: Phase) -> StepResult:
        """One update of every player. All ranks call it, each with its share of the global batch."""

    def state(self) -> SystemState:
        """All ranks call it."""

    def load(self, saved: SystemState) -> None:
        """Take over such a state. All ranks call it."""
