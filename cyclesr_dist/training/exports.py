"""The networks that a run exports: the best so far and the last. All ranks call what is here, the main one writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cyclesr_dist.distributed.player import TensorDict
from cyclesr_dist.errors import NotFiniteError, TrainingError
from cyclesr_dist.method.systems.base import ESTIMATED, G_L2H
from cyclesr_dist.models.model_file import save_model
from cyclesr_dist.models.model_name import BEST, LAST
from cyclesr_dist.nets.build import inference_net
from cyclesr_dist.telemetry.record import ValidationRecord
from cyclesr_dist.training.ema import Averages
from cyclesr_dist.training.pictures import Pictures
from cyclesr_dist.training.run import Run


class Exports:
    """Scores networks, and keeps the best."""

    def __init__(self, run: Run, averages: Averages, best: dict[str, float]) -> None:
        self.run = run
        self.averages = averages
        self.best = dict(best)
        """`step` and scores of the best validation; `estimated` 1.0 where it is of the network trained beside."""

    def validate(self, step: int) -> ValidationRecord | None:
        """Score all that may be exported, and export the last, and the best where it is a new one.

        None when a stop was requested meanwhile; nothing is exported then.
        """
        run = self.run
        found: dict[str, dict[str, float]] = {}
        for name in reversed(run.system.sr_players):  # the system's own comes last: its networks stay in the validator
            scores = self._scores(name, step)
            if scores is None:
                return None
            found[name] = scores
        improved = [name for name in found if self._keep_better(name, found[name], step)]
        last = self.averages.weights(G_L2H)
        chosen = self.averages.weights(improved[-1]) if improved else {}
        if run.world.is_main:
            self._write(run.folder.last, last, step, LAST)
            if improved:
                self._write(run.folder.model, chosen, step, BEST)
                run.validator.g_l2h.load_state_dict(chosen)  # pictures show what is exported
            pictures = Pictures(run.validator, run.folder.pictures, run.config.validate.pictures)
            for name, strip in pictures.draw(bool(improved)).items():
                run.trackers.picture(step, f"pictures/{name}", strip)
        return ValidationRecord(step, found[G_L2H], found.get(ESTIMATED, {}))

    def last_models(self, step: int, learns: bool) -> Callable[[], None]:
        """Writes copies of the present weights as the last network, and where none was chosen yet as the run's. Does
        nothing before g_l2h begins to learn (`learns`)."""
        weights = self.averages.weights(G_L2H) if learns else {}
        if not self.run.world.is_main:
            return lambda: None
        paths = [self.run.folder.last] + ([] if self.best else [self.run.folder.model])
        state = {name: tensor.detach().to("cpu", copy=True) for name, tensor in weights.items()}

        def write() -> None:
            for path in paths if state else []:
                self._write(path, state, step, LAST)

        return write

    def finish(self, step: int) -> None:
        """At the end: where nothing was chosen, the last network is the run's.

        Raises TrainingError, on all ranks, when it has weights that are not finite: no later step has shown it.
        """
        if not self.best:
            weights = self.averages.weights(G_L2H)
            if not all(bool(tensor.isfinite().all()) for tensor in weights.values()):
                message = (
                    f"after step {step} the network has weights that are not finite; a smaller learning rate may help"
                )
                raise self.run.world.told_once(TrainingError(message))
            if self.run.world.is_main:
                self._write(self.run.folder.model, weights, step, LAST)

    def _scores(self, name: str, step: int) -> dict[str, float] | None:
        """Raises TrainingError when the network has diverged: that is nobody's input."""
        try:
            return self.run.validator.score(name, self.averages.weights(name), self._translators(name), self.run.stop)
        except NotFiniteError as error:
            raise TrainingError(
                f"after step {step} training has diverged: {error}; a smaller learning rate or loss weight may help"
            ) from error

    def _keep_better(self, name: str, scores: dict[str, float], step: int) -> bool:
        """Whether they are the best so far."""
        if not self.run.validator.better(scores, self.best):
            return False
        self.best = {"step": step, **scores} | ({"estimated": 1.0} if name == ESTIMATED else {})
        return True

    def _translators(self, name: str) -> dict[str, TensorDict]:
        """Weights of g_s2r and g_r2s where validation uses them."""
        run = self.run
        player = run.system.players["g"] if name == G_L2H else run.system.sr_players[name]
        return {net: player.full_params(f"{net}.") for net in run.validator.translators[name]}

    def _write(self, path: Path, weights: TensorDict, step: int, chosen: str) -> None:
        config = self.run.config
        state = {name: tensor.detach().cpu() for name, tensor in weights.items()}
        self.run.ownership.verify()
        extra = {"system": config.system, "step": step, "chosen": chosen}
        if start := self.run.identity.get("start"):
            extra["start"] = start
        try:
            save_model(path, state, inference_net(config), config.scale, extra)
        except OSError as error:
            raise TrainingError(f"{path} cannot be written: {error}; checkpoints are intact") from error
