"""Warnings in plain words when a run shows colour drift, a translator that does nothing, or a discriminator that won.

g_l2h's training loss falls all the same in these cases, so nothing else would tell.
"""

from __future__ import annotations

from collections.abc import Mapping

# In [0, 1]. Good runs of the demo's networks stay below 0.01; the failures of docs/results.md are above 0.04.
LARGEST_DRIFT = 0.03
# Of the distance between synthetic and real spectra: a translator that closes less than this does next to nothing.
_SMALLEST_SHARE = 0.1
# Decades; photographs of one camera differ by as much.
_ALIKE = 0.05
# LSGAN's discriminator loss is 0.25 when it cannot tell and 0 when it always can.
SATURATED = 0.01
_LOGS_IN_A_ROW = 5


class Diagnosis:
    """Looks at what is logged; every warning is given once a run."""

    def __init__(self, num_steps: int, measured: bool = False) -> None:
        """measured: g_s2r starts from the measured degradation."""
        self.num_steps = num_steps
        self.measured = measured
        self.warnings: list[str] = []
        self._given: set[str] = set()
        self._saturated: dict[str, int] = {}

    def logged(self, step: int, losses: Mapping[str, float], drift: Mapping[str, float]) -> list[str]:
        """The new warnings from a logged step's means over ranks."""
        found = []
        brightness, colour = drift.get("mean", 0.0), drift.get("colour", 0.0)
        if abs(brightness) > LARGEST_DRIFT:
            found += self._warn(
                "brightness",
                f"step {step}: brightness drift: g_s2r makes images {abs(brightness):.3f} of the range "
                f"{'brighter' if brightness > 0 else 'darker'}; a larger weights.cyc or weights.id holds it, "
                "InstanceNorm in the discriminators (nets.d_lr.norm=instance) prevents most of it",
            )
        if colour > LARGEST_DRIFT:
            found += self._warn(
                "colour",
                f"step {step}: colour drift: g_s2r shifts one colour by {colour:.3f} of the range against the others; "
                "a larger weights.mse, cyc or id holds it, data.augment.hr_colours and lr_colours with few photographs",
            )
        for name in ("d_r", "d_s", "d_h"):
            low = name in losses and losses[name] < SATURATED
            self._saturated[name] = self._saturated.get(name, 0) + 1 if low else 0
            if self._saturated[name] == _LOGS_IN_A_ROW:
                found += self._warn(
                    name,
                    f"step {step}: {name} tells real from fake without error (loss {losses[name]:.2g}), so it teaches "
                    "nothing; a smaller optim.lr_cyclegan or smaller discriminators may help",
                )
        return found

    def validated(self, step: int, scores: Mapping[str, float]) -> list[str]:
        """The new warnings from a validation. The translator is given half the run to leave the identity."""
        if 2 * step < self.num_steps or "spectrum_lr" not in scores or "spectrum_syn" not in scores:
            return []
        left, whole = scores["spectrum_lr"], scores["spectrum_syn"]
        if left <= (1 - _SMALLEST_SHARE) * whole or max(left, whole) < _ALIKE:
            return []
        distances = f"fake_real's spectrum is {left:.3f} decades from real LR's, synthetic LR's {whole:.3f}"
        if self.measured:
            return self._warn(
                "measured",
                f"step {step}: the measured degradation is no nearer to real LR than none, on validation photographs: "
                f"{distances}; look at the page and the doubts of cyclesr estimate",
            )
        measured = "nets.translator.kind=degradation starts from the blur and noise that are measured"
        if left > (1 + _SMALLEST_SHARE) * whole:
            return self._warn(
                "away",
                f"step {step}: g_s2r moves away from real LR: {distances}; a smaller optim.lr_cyclegan or weights.adv, "
                f"or larger weights.cyc, hold it; {measured}",
            )
        return self._warn(
            "identity",
            f"step {step}: g_s2r is near the identity: {distances}; smaller weights.id and cyc, or a longer run, let "
            f"it change more; {measured}",
        )

    def _warn(self, kind: str, text: str) -> list[str]:
        if kind in self._given:
            return []
        self._given.add(kind)
        self.warnings.append(text)
        return [text]
