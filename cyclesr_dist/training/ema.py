"""Exponential moving averages of g_l2h: what is validated and exported when `ema_decay` is positive."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from cyclesr_dist.distributed.player import Player, TensorDict
from cyclesr_dist.method.systems.base import G_L2H

_NETWORK = "g_l2h."


class EMA:
    """avg = decay * avg + (1 - decay) * value, from the first step on; buffers (BatchNorm statistics) are copied."""

    def __init__(self, decay: float, initial: TensorDict) -> None:
        self.decay = decay
        self.average = {name: t.detach().clone() for name, t in initial.items()}

    @torch.no_grad()
    def update(self, params: TensorDict, trainable: set[str]) -> None:
        """`params` by name; those not in `trainable` are copied."""
        for name, value in params.items():
            if name in trainable:
                self.average[name].lerp_(value.to(self.average[name].dtype), 1 - self.decay)
            else:
                self.average[name].copy_(value)

    def state(self) -> dict[str, Tensor]:
        return {name: t.cpu().clone() for name, t in self.average.items()}


class Averages:
    """One average for each player that may give the network used at inference; none with a decay of 0."""

    def __init__(self, decay: float, players: Mapping[str, Player], saved: TensorDict) -> None:
        """`saved` is what `state` gave. All ranks call it."""
        self.players = players
        self._averages: dict[str, EMA] = {}
        for name, player in players.items() if decay else ():
            initial = player.full_params(_NETWORK)
            kept = {key.removeprefix(_prefix(name)): t for key, t in saved.items() if key.startswith(_prefix(name))}
            if kept.keys() >= initial.keys():
                initial = {key: kept[key].to(t.device) for key, t in initial.items()}
            self._averages[name] = EMA(decay, initial)

    def update(self) -> None:
        """After a step. All ranks call it."""
        for name, average in self._averages.items():
            player = self.players[name]
            trainable = {key.removeprefix(_NETWORK) for key, _ in player.module.named_parameters()}
            average.update(player.full_params(_NETWORK), trainable)

    def weights(self, name: str) -> TensorDict:
        """What is validated and exported of a player: its average, or g_l2h as it is. All ranks call it."""
        if name in self._averages:
            return self._averages[name].average
        return self.players[name].full_params(_NETWORK)

    def state(self) -> dict[str, Tensor]:
        return {
            _prefix(name) + key: tensor
            for name, average in self._averages.items()
            for key, tensor in average.state().items()
        }


def _prefix(name: str) -> str:
    """Of the tensors' names in a checkpoint; the system's own network has none."""
    return "" if name == G_L2H else f"{name}."
