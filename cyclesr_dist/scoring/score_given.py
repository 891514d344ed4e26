"""Scores of two images that a Python program holds, two image files, or two folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cyclesr_dist.data.folders import images_folder
from cyclesr_dist.data.python_images import read_given
from cyclesr_dist.errors import InputError
from cyclesr_dist.models.upscaler import Upscaler
from cyclesr_dist.runtime.arguments import is_path, path_of, word
from cyclesr_dist.runtime.patterns import pattern_of
from cyclesr_dist.scoring.perceptual.scores import Perceptual, device_of
from cyclesr_dist.scoring.score import evaluate_folder, score_image, scorer_of, to_uint8


def score_given(
    image: object, original: object, protocol: str, upscaler: Upscaler | None, scores: Sequence[str] = ()
) -> dict[str, float]:
    """Of `image`, or of its enlargement where there is an `upscaler`, against `original`; of folders the means.

    `scores` are perceptual ones that are taken besides.

    Raises InputError.
    """
    scorer_of(word("protocol", protocol))  # an unknown one is refused before any work
    more = Perceptual(scores, device_of(upscaler)) if scores else None
    first, second = (_folder(name, value) for name, value in (("image", image), ("original", original)))
    if first and second:
        lr = images_folder(first, upscaler.scale) if upscaler else first
        mean: dict[str, float] = evaluate_folder(upscaler, lr, second, protocol, perceptual_scores=more)["mean"]
        return mean
    if first or second:
        raise InputError(f"{first or second}: is a folder; a folder is scored against another folder")
    named = _named(image, "the image"), _named(original, "the original")
    first_rgb, second_rgb = (read_given(value, srgb=True).rgb for value in (image, original))
    return score_image(upscaler, first_rgb, to_uint8(second_rgb), protocol, named=named, perceptual_scores=more)


def _folder(name: str, value: object) -> Path | None:
    path = path_of(name, value) if is_path(value) else None
    return path if path and (path.is_dir() or pattern_of(path)) else None


def _named(value: object, otherwise: str) -> str:
    return str(value) if is_path(value) else otherwise
