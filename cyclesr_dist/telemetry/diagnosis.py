"""Warnings in plain words: what a person will see, the number that says so, and one setting that mends it.

g_l2h's training loss falls all the same in these cases, so nothing else would tell.
"""

from __future__ import annotations

from collections.abc import Mapping

from cyclesr_dist.config.metrics import ASKED_FOR, METRICS
from cyclesr_dist.config.schema import MEASURED, Config, uses_estimate
from cyclesr_dist.config.systems import spec_of

# In [0, 1]. Good runs of the demo's networks stay below 0.01; the failures of docs/results.md are above 0.04.
LARGEST_DRIFT = 0.03
COLOURS = ("red", "green", "blue")
# Of the distance between synthetic and real spectra: a translator that closes less than this does next to nothing.
_SMALLEST_SHARE = 0.1
# Decades; photographs of one camera differ by as much.
_ALIKE = 0.05
# LSGAN's discriminator loss is 0.25 when it cannot tell and 0 when it always can.
SATURATED = 0.01
_LOGS_IN_A_ROW = 5
# Photographs are in [0, 1], so even a network of random weights is below 10.
_EXPLODED = 1000.0
_WEIGHTED = ("g", "d", "e", "sr", "percep", "texture")
"""Terms of another scale: a player's weighted sum, distances of features."""
# dB below bicubic enlargement that a person would not see.
_AS_GOOD_DB = 0.05


def drifts(scores: Mapping[str, float]) -> bool:
    """Whether g_l2h shifts brightness or colour of real photographs by what a person would see."""
    return any(abs(scores.get(f"drift_{name}", 0.0)) > LARGEST_DRIFT for name in ("brightness", *COLOURS))


def drift_seen(scores: Mapping[str, float]) -> str:
    """What a person sees of it: "5% too dark and 4% too red"; empty where there is nothing to see."""
    seen = []
    brightness = scores.get("drift_brightness", 0.0)
    if abs(brightness) > LARGEST_DRIFT:
        seen.append(f"{abs(brightness):.0%} too {'bright' if brightness > 0 else 'dark'}")
    tint = max(COLOURS, key=lambda colour: abs(scores.get(f"drift_{colour}", 0.0)))
    shift = scores.get(f"drift_{tint}", 0.0)
    if abs(shift) > LARGEST_DRIFT:
        seen.append(f"with {abs(shift):.0%} too {'much' if shift > 0 else 'little'} {tint}")
    return " and ".join(seen)


def over_bicubic(scores: Mapping[str, float]) -> tuple[str, float] | None:
    """`psnr`, or without pairs `psnr_estimated`, and by how many dB it is above that of bicubic enlargement."""
    for name in ("psnr", "psnr_estimated"):
        if name in scores and f"{name}_bicubic" in scores:
            return name, scores[name] - scores[f"{name}_bicubic"]
    return None


def under_bicubic(scores: Mapping[str, float], metric: str) -> float | None:
    """Where a perceptual distance to originals chooses: the share by which it is below that of bicubic enlargement."""
    if metric not in ASKED_FOR or "pairs" not in METRICS[metric].needs or not scores.get(f"{metric}_bicubic"):
        return None
    return 1 - scores[metric] / scores[f"{metric}_bicubic"]


def diagnosis_of(config: Config, num_steps: int) -> Diagnosis:
    """For a run of `num_steps` steps."""
    translates = spec_of(config.system).translates
    return Diagnosis(num_steps, uses_estimate(config), translates, config.optim.lr_cyclegan, config.validate.metric)


class Diagnosis:
    """Looks at what is logged; every warning is given once a run."""

    def __init__(
        self, num_steps: int, measured: bool, translates: bool, lr_cyclegan: float, metric: str = "auto"
    ) -> None:
        """`measured`: g_s2r starts from the estimate; `translates`: it learns; `metric` chooses the best network. See
        `diagnosis_of`."""
        self.metric = metric
        self.num_steps = num_steps
        self.measured = measured
        self.translates = translates
        self.lr_cyclegan = lr_cyclegan
        self.warnings: list[str] = []
        self.diverged = ""
        """What the last logged step says of it, as `mse 1e+30`; empty where its losses are of the usual size."""
        self._given: set[str] = set()
        self._saturated: dict[str, int] = {}

    def logged(self, step: int, losses: Mapping[str, float], drift: Mapping[str, float]) -> list[str]:
        """The new warnings from a logged step's means over ranks."""
        found = self._exploded(step, losses)
        brightness, colour = drift.get("mean", 0.0), drift.get("colour", 0.0)
        if abs(brightness) > LARGEST_DRIFT:
            found += self._warn(
                "brightness",
                f"step {step}: your enlarged photographs will come out about {abs(brightness):.0%} too "
                f"{'dark' if brightness > 0 else 'bright'}: brightness drift, g_s2r makes the photographs that g_l2h "
                f"learns from {abs(brightness):.3f} {'brighter' if brightness > 0 else 'darker'}; {self._way_out()}",
            )
        if colour > LARGEST_DRIFT:
            found += self._warn(
                "colour",
                f"step {step}: your enlarged photographs will come out with a tint of about {colour:.0%}: colour "
                f"drift, g_s2r shifts one colour by {colour:.3f} against the others; {self._way_out()}",
            )
        for name in ("d_r", "d_s", "d_h"):
            low = name in losses and losses[name] < SATURATED
            self._saturated[name] = self._saturated.get(name, 0) + 1 if low else 0
            if self._saturated[name] == _LOGS_IN_A_ROW:
                found += self._warn(
                    name,
                    f"step {step}: the adversarial training has stopped to improve your enlarged photographs: {name} "
                    f"tells real from fake without error (loss {losses[name]:.2g}), so it teaches nothing; "
                    f"optim.lr_cyclegan={self.lr_cyclegan / 4:g} slows it down",
                )
        return found

    def _exploded(self, step: int, losses: Mapping[str, float]) -> list[str]:
        """Losses that are finite and far beyond what photographs in [0, 1] can give."""
        large = {name: value for name, value in losses.items() if name not in _WEIGHTED and not value <= _EXPLODED}
        self.diverged = ", ".join(f"{name} {value:.3g}" for name, value in large.items())
        if not large:
            return []
        return self._warn(
            "diverged",
            f"step {step}: the training has diverged, and your enlarged photographs would be ruined: {self.diverged}, "
            "of photographs in [0, 1]; a smaller learning rate or loss weight may help",
        )

    def validated(self, step: int, scores: Mapping[str, float]) -> list[str]:
        """The new warnings from a validation. The networks are given half the run first."""
        if 2 * step < self.num_steps:
            return []
        return self._enlarged(step, scores) + self._translated(step, scores)

    def _enlarged(self, step: int, scores: Mapping[str, float]) -> list[str]:
        """What g_l2h does to photographs."""
        found = []
        if seen := drift_seen(scores):
            found += self._warn(
                "enlarged_drift",
                f"step {step}: your enlarged photographs come out {seen}: so much g_l2h shifts the real photographs of "
                f"data.valid_lr; {self._way_out()}",
            )
        nearer = under_bicubic(scores, self.metric)
        if nearer is not None:
            return found + self._farther(step, scores, nearer)
        gain = over_bicubic(scores)
        if gain is not None and gain[1] < -_AS_GOOD_DB:
            name, db = gain
            of = (
                "photographs damaged as yours were measured to be"
                if name == "psnr_estimated"
                else "validation photographs"
            )
            found += self._warn(
                "bicubic",
                f"step {step}: your enlarged photographs are worse than bicubic enlargement: {name} {scores[name]:.2f} "
                f"dB on {of}, {-db:.2f} dB less; {self._longer()}",
            )
        return found

    def _farther(self, step: int, scores: Mapping[str, float], nearer: float) -> list[str]:
        if nearer >= 0:
            return []
        own, bicubic = (scores[name] for name in (self.metric, f"{self.metric}_bicubic"))
        return self._warn(
            "bicubic",
            f"step {step}: your enlarged photographs are farther from their originals than bicubic enlargement: "
            f"{self.metric} {own:.4f} on validation photographs, bicubic {bicubic:.4f}; {self._longer()}",
        )

    def _translated(self, step: int, scores: Mapping[str, float]) -> list[str]:
        """What g_s2r, or the measured degradation, does to synthetic LR."""
        if "spectrum_lr" not in scores or "spectrum_syn" not in scores:
            return []
        left, whole = scores["spectrum_lr"], scores["spectrum_syn"]
        if left <= (1 - _SMALLEST_SHARE) * whole or max(left, whole) < _ALIKE:
            return []
        distances = f"fake_real's spectrum is {left:.3f} decades from real LR's, synthetic LR's {whole:.3f}"
        no_better = "your enlarged photographs will keep blur and noise that training was to remove"
        if self.measured:
            return self._warn(
                "measured",
                f"step {step}: {no_better}: the measured degradation is no nearer to real LR than none: {distances}; "
                "read the doubts of cyclesr estimate, or train without it: system=sr_syn",
            )
        if left > (1 + _SMALLEST_SHARE) * whole:
            return self._warn(
                "away",
                f"step {step}: {no_better}, and may get what they never had: g_s2r moves away from real LR: "
                f"{distances}; {self._way_out()}",
            )
        return self._warn(
            "identity", f"step {step}: {no_better}: g_s2r is near the identity: {distances}; {self._way_out()}"
        )

    def _way_out(self) -> str:
        """The one setting that mends a translator."""
        if self.measured or not self.translates:
            return self._longer()
        return f"nets.translator.kind={MEASURED} starts from the measured blur and noise, and cannot shift brightness"

    def _longer(self) -> str:
        return f"a longer run may mend it: train.steps={2 * self.num_steps}"

    def _warn(self, kind: str, text: str) -> list[str]:
        if kind in self._given:
            return []
        self._given.add(kind)
        self.warnings.append(text)
        return [text]
