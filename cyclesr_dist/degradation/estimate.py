"""From two folders or shard sets, in seconds, to what makes the one look like the other."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cyclesr_dist import __version__
from cyclesr_dist.config.schema import Data
from cyclesr_dist.degradation.apply import degraded
from cyclesr_dist.degradation.fit import KNOTS, Fit, fit, variance_at
from cyclesr_dist.degradation.jpeg import SMALLEST_PX, describe
from cyclesr_dist.degradation.jpeg_blocks import through_jpeg
from cyclesr_dist.degradation.noise import Noise, find_noise
from cyclesr_dist.degradation.record import VERSION, Degradation
from cyclesr_dist.degradation.sample import Sample, read_sample
from cyclesr_dist.degradation.spectra import Spectra, gain_of, radial, spectra
from cyclesr_dist.degradation.variation import blur_spread, kernels_of, noise_spread, to_powers
from cyclesr_dist.runtime.threads import one_thread

FEW_PHOTOS = 6
_ROUNDING = 1 / (12 * 255**2)  # variance of rounding to 8 bits, which g_s2r does again
_GREY = 1 / 255
_JPEG_SHARE = 0.5  # of LR photographs with it, from which it is part of the degradation
_JPEG_QUALITY = 92  # the highest that is: beyond it JPEG does next to nothing
_NO_BLUR_PX = 0.2
_POWERS = (0.0, 0.25, 0.5, 0.75, 1.0)
_FLAT = 3e-5  # mean contrast below which there is nothing to see the blur by
_SHARPER = 1.15  # gain at middle frequencies from which LR counts as sharper than synthetic LR
_CONTENT_DECADES = 0.15  # by which the high frequencies of two sets of _CONTENT_SCENES photographs differ (std)
_CONTENT_SCENES = 21
_DECADES_PER_SQUARE_PX = 0.31  # of gain that a blur of 1 px width costs there, and width squared times that
_FWHM = 2 * math.sqrt(2 * math.log(2))


def estimate(hr: str, lr: str, *, scale: int, seed: int = 0, data: Data | None = None) -> Degradation:
    """Estimate equation (1) between HR (`hr`: photographs or a shard set, folder or URL) and real LR (`lr`).

    A seeded sample of at most 120 photographs a side is looked at. Raises InputError when one of them cannot be read,
    or patches are below 16 LR px.
    """
    data = data or Data()
    sharp = read_sample(hr, "hr", scale, data, seed)
    real = read_sample(lr, "lr", scale, data, seed)
    return estimate_from(sharp, real, scale=scale, seed=seed)


def estimate_from(sharp: Sample, real: Sample, *, scale: int, seed: int = 0) -> Degradation:
    """The same from samples; those of HR are on the LR grid. Patches of the larger side are cut to the smaller's.

    Works on one thread: its arrays are small, and sums are then the same whatever the number of threads.
    """
    with one_thread():
        return _estimate(sharp, real, scale, seed)


def _estimate(sharp: Sample, real: Sample, scale: int, seed: int) -> Degradation:
    side = min(sharp.patches.shape[-1], real.patches.shape[-1])
    sharp, real = _to_side(sharp, side), _to_side(real, side)
    jpeg = describe(real.paths, real.views)
    quality = _imitated_quality(jpeg)
    original, of_original, of_real = sharp.patches, spectra(sharp.patches), spectra(real.patches)
    of_syn = of_original
    if quality:
        sharp = replace(sharp, patches=through_jpeg(original, quality))
        of_syn = spectra(sharp.patches)
    fitted = fit(original, of_syn, of_real, partial(through_jpeg, quality=quality) if quality else lambda x: x)
    noise = find_noise(real, of_real, of_syn, fitted)
    spread = blur_spread(sharp, real, of_syn, of_real, fitted)
    variance = (noise.variance - _ROUNDING).clamp(min=0)
    qualities = torch.tensor([float(quality)] if quality else [])
    found = Degradation(fitted.kernel[None], variance, noise.levels, noise.colouring, noise.patches, {}, qualities)
    if quality:
        fitted = replace(fitted, kernel=_beside_jpeg(found, original, of_real, seed))
    found = replace(found, kernels=kernels_of(fitted.kernel, spread))
    translated = degraded(found, original, seed)
    facts = _facts(sharp, real, fitted, noise, found, spread, jpeg) | {
        "scale": scale,
        "seed": seed,
        "spectrum_distance": {
            "synthetic": _distance(of_original, of_real),
            "translated": _distance(spectra(translated), of_real),
        },
    }
    facts["doubts"] = doubts(sharp, real, of_syn, of_real, fitted, facts)
    return replace(found, facts=facts)


def _beside_jpeg(found: Degradation, original: Tensor, of_real: Spectra, seed: int) -> Tensor:
    """The kernel (k, k), weakened as far as brings LR that goes through all of `found` nearest to real LR.

    JPEG takes fine detail away where there is little of it. The fit, which knows JPEG's mean effect alone, takes a part
    of that for blur, and JPEG would then take it once more.
    """
    powers = to_powers(found.kernels[0], torch.tensor(_POWERS))
    apart = [
        _distance(spectra(degraded(replace(found, kernels=kernel[None]), original, seed)), of_real) for kernel in powers
    ]
    return powers[apart.index(min(apart))]


def _imitated_quality(jpeg: dict[str, Any] | None) -> int:
    """The quality of JPEG that is part of the degradation; 0 where few files have it or it does next to nothing."""
    if jpeg is None or jpeg["share"] < _JPEG_SHARE or jpeg["quality"] > _JPEG_QUALITY:
        return 0
    return int(jpeg["quality"])


def _facts(
    sharp: Sample,
    real: Sample,
    fitted: Fit,
    noise: Noise,
    found: Degradation,
    spread: float | None,
    jpeg: dict[str, Any] | None,
) -> dict[str, Any]:
    """What degradation.json says; docs/estimate.md explains the fields."""
    variance = found.variance
    std_at = {f"{knot:g}": round(float(variance_at(variance, torch.tensor(knot)).sqrt()), 5) for knot in KNOTS}
    width = blur_std_px(fitted.kernel)
    return {
        "version": VERSION,
        "made_with": f"cyclesr-dist {__version__}",
        "kernel": [[round(float(value), 6) for value in row] for row in fitted.kernel],
        "blur": {
            "width_px": round(_FWHM * width, 3),
            "least_px": round(_least_width_px(min(sharp.num_photos, real.num_photos)), 2),
            "std_px": round(width, 3),
            "spread": None if spread is None else round(spread, 3),
        },
        "noise": {
            "std_at": std_at,
            "spread": _rounded(noise_spread(noise), 3),
            "colouring": [[round(float(value), 4) for value in row] for row in fitted.colouring],
            "colour_correlation": [[round(float(value), 3) for value in row] for row in noise.correlation],
            "kind": "patches" if len(noise.patches) else "gaussian",
            "flat_patches": noise.num_flat,
        },
        "jpeg_quality": jpeg["quality"] if jpeg else None,
        "jpeg": jpeg,
        "jpeg_looked_for": bool(real.paths) or any(min(view.shape[:2]) >= SMALLEST_PX for view in real.views),
        "fit_distance": {"synthetic": round(fitted.distance_before, 4), "fitted": round(fitted.distance, 4)},
        "looked_at": {
            name: {"photographs": s.num_photos, "of": s.num_there, "patches": len(s.patches)}
            for name, s in (("hr", sharp), ("lr", real))
        }
        | {"patch_px": sharp.patches.shape[-1]},
    }


def doubts(
    sharp: Sample, real: Sample, of_syn: Spectra, of_real: Spectra, fitted: Fit, facts: dict[str, Any]
) -> list[str]:
    """What the estimate cannot know here, in plain sentences; empty where nothing speaks against it."""
    found = []
    for name, sample in (("HR", sharp), ("LR", real)):
        if sample.num_photos < FEW_PHOTOS:
            count = (
                f"are only {sample.num_photos} {name} photographs; what they show"
                if sample.num_photos > 1
                else f"is only one {name} photograph; what it shows"
            )
            found.append(
                f"There {count} may be taken for blur or its absence. {FEW_PHOTOS} or more make this "
                "unlikely, 20 or more are better."
            )
    blur = facts["blur"]
    if _NO_BLUR_PX < blur["width_px"] < blur["least_px"]:
        found.append(
            f"A blur of {blur['width_px']:.1f} px may be none at all: so few photographs differ by as much in what "
            f"they show. With these, blur counts from about {blur['least_px']:.1f} px."
        )
    grey = [name for name, sample in (("HR", sharp), ("LR", real)) if _is_grey(sample)]
    if len(grey) == 1:
        found.append(f"{grey[0]} photographs are grey and the others are not: nothing is known of noise in colours.")
    p = of_syn.power.shape[-2]
    for name, of in (("HR", of_syn), ("LR", of_real)):
        if float(of.contrast().mean()) < _FLAT:
            found.append(f"{name} photographs show hardly any detail, so that blur cannot be seen.")
    frequency, gain = radial(gain_of(fitted.kernel, p))
    middle = float(gain[(frequency > 0.15) & (frequency < 0.35)].mean())
    if middle > _SHARPER:
        found.append(
            "LR photographs are sharper than HR photographs shrunk to their size: sharpened, or HR is itself blurred. "
            "A sharper HR folder is the remedy if it is the latter."
        )
    gap = facts["spectrum_distance"]
    if gap["translated"] > max(0.12, 0.5 * gap["synthetic"]):
        found.append(
            f"Translated LR is still {gap['translated']:.2f} decades from real LR ({gap['synthetic']:.2f} before): the "
            "two folders show different things, or the degradation is no blur with noise."
        )
    darker = float(of_real.brightness.mean() - of_syn.brightness.mean())
    if abs(darker) > 0.15:
        found.append(
            f"LR photographs are {abs(darker):.0%} of the range {'brighter' if darker > 0 else 'darker'} than HR "
            "photographs; blur and noise are compared at equal brightness, where there is less to compare."
        )
    return found


def blur_std_px(kernel: Tensor) -> float:
    """Standard deviation in LR px of the Gaussian whose gain is nearest to the kernel's; 0 for one that sharpens."""
    frequency, gain = radial(gain_of(kernel, 64))
    seen = (gain > 0.05) & (frequency <= 0.5)
    if not bool(seen.any()):
        return 0.0
    square = (2 * math.pi * frequency[seen]) ** 2
    variance = float((square * -gain[seen].log()).sum() / square.square().sum())
    return math.sqrt(max(0.0, variance))


def _least_width_px(num_photos: int) -> float:
    """Width of the blur that two sets of so many photographs may seem to have by what they show.

    Measured on halves of 42 photographs, drawn 30 times (docs/estimate.md); errors of means fall with the square root.
    """
    decades = _CONTENT_DECADES * math.sqrt(_CONTENT_SCENES / num_photos)
    return math.sqrt(decades / _DECADES_PER_SQUARE_PX)


def _distance(a: Spectra, b: Spectra) -> float:
    """Mean |log10| of the ratio of two sets' radial mean spectra, in decades."""
    powers = [radial(of.power.mean(0))[1].clamp(min=1e-9).log10() for of in (a, b)]
    return round(float((powers[0] - powers[1]).abs().mean()), 4)


def _to_side(sample: Sample, side: int) -> Sample:
    patches = sample.patches[..., :side, :side].contiguous()
    return Sample(patches, sample.photo, sample.num_photos, sample.num_there, sample.views, sample.paths)


def _is_grey(sample: Sample) -> bool:
    chroma = (sample.patches - sample.patches.mean(1, keepdim=True)).abs().mean()
    return float(chroma) < _GREY


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
