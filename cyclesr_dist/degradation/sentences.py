"""What an estimate says, in plain sentences: from the facts of degradation.json, for the terminal and for the page.

Figures are rounded to what another sample of the same photographs would say as well. Lengths are in LR px.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

Facts = Mapping[str, Any]

LEAST_BLUR_PX = 0.4
"""Width below which there is no blur to speak of."""
LEAST_NOISE = 0.003
"""Standard deviation, of a range of 1, below which there is no noise to speak of."""
_LEAST_SPREAD = 0.1  # as `spread.kernels_of` has it: less is one kernel for all
_SHARPENED = 1.15  # gain at a quarter of a cycle a px
_HARMLESS_QUALITY = 90  # JPEG that is hard to see
_PIXELS_STEP = 5  # how finely pixels tell JPEG's quality
_PLACES = {"0.1": "in dark parts", "0.5": "at mid grey", "0.9": "in bright parts"}


def sentences(facts: Facts) -> list[str]:
    """What was found, by how much photographs differ, what remains; then the doubts. None of them is empty."""
    said = (measured(facts), differences(facts), unexplained(facts))
    return [text for text in said if text] + doubts(facts)


def doubts(facts: Facts) -> list[str]:
    """What speaks against the estimate; empty where nothing does."""
    return [str(text) for text in facts.get("doubts") or []]


def measured(facts: Facts) -> str:
    """Blur, noise and JPEG."""
    found, missing = [], []
    width = blur_px(facts)
    if width >= LEAST_BLUR_PX:
        found.append(f"blur of about {figure(width, 1)} px")
    elif _is_sharpened(facts):
        found.append("details stronger than in shrunk HR")
    else:
        missing.append("blur")
    if noise := _noise(facts):
        found.append(noise)
    else:
        missing.append("noise")
    if jpeg := _jpeg(facts):
        found.append(jpeg)
    elif facts.get("jpeg_looked_for", True):
        missing.append("JPEG")
    nothing = f"no {' or '.join([', '.join(missing[:-1])] * (len(missing) > 1) + missing[-1:])} to speak of"
    if not missing:
        return _sentence(", ".join(found))
    return _sentence(f"{', '.join(found)}; {nothing}" if found else nothing)


def differences(facts: Facts) -> str:
    """By how much photographs differ in what they have; empty where they have neither blur nor noise."""
    differ, alike, unknown = [], [], []
    if has_noise(facts):
        spread = finite(facts, "noise", "spread")
        if spread is None:
            unknown.append("noise")
        elif spread < _LEAST_SPREAD:
            alike.append("noise")
        else:
            differ.append(f"noise levels by a factor of {figure(math.exp(spread), 1)}")
    if has_blur(facts):
        spread = finite(facts, "blur", "spread")
        if spread is None:
            unknown.append("blur")
        elif spread < _LEAST_SPREAD:
            alike.append("blur")
        else:
            low, high = (blur_px(facts) * math.sqrt(max(0.0, 1 + sign * spread)) for sign in (-1, 1))
            least = f"{figure(low, 1)}" if low >= LEAST_BLUR_PX else "hardly any"
            differ.append(f"blur from {least} to {figure(high, 1)} px")
    if differ:
        rest = [f"{name} hardly" for name in alike] + [f"for {name} it is not known" for name in unknown]
        return f"Photographs differ from each other: {'; '.join(differ + rest)}."
    if alike:
        rest = [f"whether they differ in {name} is not known" for name in unknown]
        return f"{'; '.join([f'Photographs hardly differ in {_and(alike)}', *rest])}."
    if not unknown:
        return ""
    why = ": there is only one" if photographs(facts, "lr") == 1 else ""
    return f"It is not known whether photographs differ in {_and(unknown)}{why}."


def unexplained(facts: Facts) -> str:
    """How far translated LR's spectrum is from real LR's, and how far synthetic LR's is."""
    before, after = (finite(facts, "spectrum_distance", key) for key in ("synthetic", "translated"))
    if before is None or after is None:
        return "How much remains unexplained is not known."
    if float(figure(before, 2)) == 0:
        return "The spectra of shrunk HR and of real LR are almost equal."
    apart = f"{figure(before, 2)} decades"
    if after >= before or figure(after, 2) == figure(before, 2):
        return f"The spectra of shrunk HR and of real LR are {apart} apart, and the estimate brings them no nearer."
    share = figure(100 * (1 - after / before), 0)
    return (
        f"The estimate explains {share}% of the difference between the spectra of shrunk HR and real LR; "
        f"{figure(after, 2)} of {apart} remain."
    )


def what_follows(facts: Facts, folder: str) -> tuple[str, str]:
    """What to do now, and the settings for it, to be given to training. `folder` is where the estimate lies."""
    if has_blur(facts) or has_noise(facts) or _is_sharpened(facts):
        settings = f"nets.translator.kind=degradation nets.translator.estimate={shlex.quote(folder)}"
        return "To train from it, add these settings:", settings
    if doubts(facts):
        return "Nothing was found that training on shrunk HR would miss, but there are doubts:", "system=sr_syn"
    quality = facts.get("jpeg_quality")
    but = ", but for JPEG" if quality is not None and quality < _HARMLESS_QUALITY else ""
    return f"Real LR looks like shrunk HR{but}, so training on shrunk HR will do:", "system=sr_syn"


def has_blur(facts: Facts) -> bool:
    return blur_px(facts) >= LEAST_BLUR_PX


def has_noise(facts: Facts) -> bool:
    return max(_levels(facts).values(), default=0.0) >= LEAST_NOISE


def blur_px(facts: Facts) -> float:
    """Full width at half maximum; 0 where it is not known."""
    return finite(facts, "blur", "width_px") or 0.0


def photographs(facts: Facts, domain: str) -> int | None:
    """How many of `hr` or `lr` were looked at."""
    count = finite(facts, "looked_at", domain, "photographs")
    return None if count is None else round(count)


def finite(facts: Facts, *keys: str) -> float | None:
    """The number under `keys`; None where there is none, or one that is not finite."""
    value: Any = facts
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def figure(value: float, decimals: int) -> str:
    """Two significant digits, and at most `decimals` behind the point."""
    value = float(f"{value:.1e}")
    places = 1 - math.floor(math.log10(abs(value))) if value else decimals
    return f"{value:.{max(0, min(decimals, places))}f}"


def _levels(facts: Facts) -> dict[str, float]:
    """Standard deviation of the noise by brightness, where it is known."""
    found = {place: finite(facts, "noise", "std_at", place) for place in _PLACES}
    return {place: level for place, level in found.items() if level is not None}


def _noise(facts: Facts) -> str:
    """At mid grey, or where there is most of it if mid grey has none; empty where there is none."""
    if not has_noise(facts):
        return ""
    levels = _levels(facts)
    place = "0.5" if levels.get("0.5", 0.0) >= LEAST_NOISE else max(levels, key=lambda name: levels[name])
    return f"noise of {figure(100 * levels[place], 1)}% {_PLACES[place]}"


def _jpeg(facts: Facts) -> str:
    """Empty where it was not found."""
    quality = finite(facts, "jpeg_quality")
    if quality is None:
        return ""
    of_files = isinstance(facts.get("jpeg"), Mapping) and facts["jpeg"].get("from") == "files"
    # Of a high quality the nearest step would be 100, which looks like no JPEG at all.
    shown = round(quality) if of_files else min(round(quality / _PIXELS_STEP), 95 // _PIXELS_STEP) * _PIXELS_STEP
    share = finite(facts, "jpeg", "share")
    where = "" if share is None or figure(share, 2) == "1.0" else f" in {figure(100 * share, 0)}% of the photographs"
    about, by = ("", "by the files' headers") if of_files else ("about ", "seen in the pixels")
    return f"JPEG quality {about}{shown}{where} ({by})"


def _is_sharpened(facts: Facts) -> bool:
    """Whether the kernel raises details: its gain along rows and columns, at a quarter of a cycle a px."""
    kernel = facts.get("kernel")
    if not isinstance(kernel, Sequence) or not kernel:
        return False
    half = len(kernel) // 2
    waves = [math.cos(math.pi / 2 * (i - half)) for i in range(len(kernel))]
    along = sum(float(value) * wave for row in kernel for value, wave in zip(row, waves, strict=True))
    across = sum(float(sum(row)) * wave for row, wave in zip(kernel, waves, strict=True))
    return (along**2 + across**2) / 2 > _SHARPENED


def _and(names: Sequence[str]) -> str:
    return " and ".join(names)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
