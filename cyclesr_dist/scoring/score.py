"""Scores of a model on photographs: enlarge, round to 8 bits as a submitted file would be, compare with HR."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cyclesr_dist.data.covered import covered
from cyclesr_dist.data.folders import Pair, match_pairs
from cyclesr_dist.data.images import read_picture, read_rgb8
from cyclesr_dist.errors import ConfigError, InputError, NothingLeftError
from cyclesr_dist.method.losses.perceptual import perceptual
from cyclesr_dist.models.infer import upscale_image
from cyclesr_dist.models.upscaler import Upscaler
from cyclesr_dist.runtime.bars import each
from cyclesr_dist.runtime.files import write_text
from cyclesr_dist.runtime.passing import unwritable
from cyclesr_dist.runtime.tally import Tally, trying
from cyclesr_dist.runtime.user_modules import call_of_user, ours_or_yours
from cyclesr_dist.scoring import ntire, psnr
from cyclesr_dist.scoring.perceptual.scores import Perceptual

Scorer = Callable[[NDArray[np.uint8], NDArray[np.uint8]], dict[str, float]]
"""(sr8, hr8), both (H, W, 3) uint8 -> scores by name."""


def _plain(sr8: NDArray[np.uint8], hr8: NDArray[np.uint8]) -> dict[str, float]:
    return {name: getattr(psnr, name)(sr8, hr8) for name in ("psnr", "ssim", "psnr_y", "ssim_y")}


SCORERS: dict[str, Scorer] = {"plain": _plain, "ntire2017": ntire.ntire2017, "ntire2018": ntire.ntire2018}


def scorer_of(protocol: str) -> Scorer:
    """One of ours, or of yours (`package.module:function`). Raises InputError when it is neither."""
    if protocol not in SCORERS and ":" not in protocol:
        raise InputError(f"protocol = {protocol!r}; allowed: {', '.join(SCORERS)}, or package.module:function")
    return ours_or_yours("protocol", protocol, SCORERS, "package.module:function", "a function of (sr8, hr8)", callable)


def score_pair(sr8: NDArray[np.uint8], hr8: NDArray[np.uint8], protocol: str) -> dict[str, float]:
    """Scores of one image, both (H, W, 3) uint8; `psnr` in dB (infinite for equal images) and `ssim` among them.

    Raises InputError when the images are too small for the protocol, or a protocol of yours gives no `psnr` and `ssim`.
    """
    scorer = scorer_of(protocol)
    if protocol in SCORERS:
        return scorer(sr8, hr8)
    scores = call_of_user(f"protocol = {protocol}", lambda: scorer(sr8, hr8))
    if not isinstance(scores, dict) or not {"psnr", "ssim"} <= scores.keys():  # tables, reports, the choice of the best
        given = sorted(map(str, scores)) if isinstance(scores, dict) else f"a {type(scores).__name__}"
        raise ConfigError(f"protocol = {protocol} gives {given}; allowed: a dict, psnr and ssim among its names")
    for name, value in scores.items():
        if not isinstance(value, int | float | np.number) or math.isnan(value) or value == -math.inf:
            raise ConfigError(f"protocol = {protocol} gives {name} = {value!r:.80}; allowed: numbers")
    return {str(name): float(value) for name, value in scores.items()}


def to_uint8(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """[0, 1] -> the nearest of 0..255; values outside are clipped."""
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


@dataclass(frozen=True)
class Part:
    """What of two images is compared."""

    crop_border: int = 0
    """Pixels that are cut from every side of both first, whatever the protocol cuts itself."""
    y: bool = False
    """`psnr` and `ssim` are those of luma, as other toolkits have them (protocol `plain` alone); so is `niqe`."""

    def check(self, protocol: str) -> None:
        """Raises InputError."""
        if self.crop_border < 0:
            raise InputError(f"--crop-border {self.crop_border}: must be 0 or more")
        if self.y and protocol != "plain":
            raise InputError(f"--y: protocol {protocol} does not score luma; allowed: plain")

    def score(self, sr8: NDArray[np.uint8], hr8: NDArray[np.uint8], protocol: str) -> dict[str, float]:
        """`score_pair` of the part. Raises InputError when that is too small."""
        scores = score_pair(self.cut(sr8), self.cut(hr8), protocol)
        return scores | ({"psnr": scores["psnr_y"], "ssim": scores["ssim_y"]} if self.y else {})

    def cut(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Less the border. Raises InputError when nothing is left."""
        height, width = image.shape[:2]
        if min(height, width) <= 2 * self.crop_border:
            raise InputError(f"{width}x{height} px is too small for --crop-border {self.crop_border}")
        return image[self.crop_border : height - self.crop_border, self.crop_border : width - self.crop_border]


WHOLE = Part()


def score_file(
    upscaler: Upscaler | None,
    pair: Pair,
    protocol: str,
    tile: int | None = None,
    features: nn.Module | None = None,
    part: Part = WHOLE,
    perceptual_scores: Perceptual | None = None,
) -> dict[str, float]:
    """`score_image` of the files of `pair`. Raises InputError also when one cannot be read."""
    named = (str(pair.lr), str(pair.hr))
    return score_image(
        upscaler,
        read_picture(pair.lr, srgb=True).rgb,
        read_rgb8(pair.hr),
        protocol,
        tile,
        features,
        named,
        part,
        perceptual_scores,
    )


def score_image(
    upscaler: Upscaler | None,
    lr: NDArray[np.float32],
    hr8: NDArray[np.uint8],
    protocol: str,
    tile: int | None = None,
    features: nn.Module | None = None,
    named: tuple[str, str] = ("the image", "the original"),
    part: Part = WHOLE,
    perceptual_scores: Perceptual | None = None,
) -> dict[str, float]:
    """Scores of the enlargement of `lr` (h, w, 3) in [0, 1], or of `lr` itself where `upscaler` is None; with
    `features`, VGG's, also `perceptual`, their L1 distance, and with `perceptual_scores` these.

    Where the sides of HR are no multiple of the scale, what both show is compared (`covered`). Raises InputError, with
    what the two are `named`, when sizes do not fit.
    """
    scale = upscaler.scale if upscaler else 1
    height, width = (side * scale for side in covered(lr.shape, hr8.shape, scale, named))
    hr8 = hr8[:height, :width]
    try:
        sr8 = to_uint8(upscale_image(upscaler, lr, tile) if upscaler else lr)[:height, :width]
        scores = part.score(sr8, hr8, protocol)
        if features is not None:
            scores["perceptual"] = _perceptual(features, part.cut(sr8), part.cut(hr8))
        if perceptual_scores is not None:
            scores |= perceptual_scores.of_pair(part.cut(sr8), part.cut(hr8), part.y)
        return scores
    except InputError as error:
        raise type(error)(f"{named[1]}: {error}") from error


def evaluate_folder(
    upscaler: Upscaler | None,
    lr_dir: Path,
    hr_dir: Path,
    protocol: str,
    progress: bool = False,
    features: nn.Module | None = None,
    part: Part = WHOLE,
    recursive: bool | None = None,
    tally: Tally | None = None,
    perceptual_scores: Perceptual | None = None,
) -> dict[str, Any]:
    """Score all pairs of two folders (see `match_pairs`): `{"protocol", "model", "images": [{"name", ...}], "mean"}`,
    with `crop_border` and `y`, and with a `tally` `failed` and `skipped`: `[{"name", "reason"}]`.

    With `upscaler` None the files of `lr_dir` are as large as those of `hr_dir`, and are scored as they are; `model` is
    then empty. `progress` shows a bar on stderr. Raises InputError as `match_pairs` and `score_file` do; with a
    `tally`, that hears of what fails, NothingLeftError when nothing is left.
    """
    name = upscaler.name if upscaler else ""
    images: list[dict[str, Any]] = []
    pairs = match_pairs(hr_dir, lr_dir, tally, recursive)
    for pair in each(pairs, f"{name} {protocol}".strip(), "image", progress):
        with trying(tally, str(pair.lr), pair.lr):
            of = score_file(upscaler, pair, protocol, features=features, part=part, perceptual_scores=perceptual_scores)
            images.append({"name": pair.name, **of})
    if not images:
        raise NothingLeftError(f"{lr_dir}: not one image could be scored")
    keys = [key for key in images[0] if key != "name"]
    scores = {
        "protocol": protocol,
        "crop_border": part.crop_border,
        "y": part.y,
        "model": name,
        "images": images,
        "mean": {key: float(np.mean([image[key] for image in images])) for key in keys},
    }
    if tally is None:
        return scores
    tally.done = len(images)
    return scores | {"failed": _listed(tally.failed), "skipped": _listed(tally.skipped)}


def _listed(reasons: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "reason": reason} for name, reason in reasons.items()]


def write_scores(path: Path, scores: dict[str, Any]) -> None:
    """Write the result of `evaluate_folder` as JSON; atomic. An infinite PSNR becomes null, which JSON can say.

    Raises UnwritableError.
    """
    finite = scores | {"images": [_finite(image) for image in scores["images"]], "mean": _finite(scores["mean"])}
    try:
        write_text(path, json.dumps(finite, indent=2, allow_nan=False) + "\n")
    except OSError as error:
        raise unwritable(path, error) from error


def _finite(record: dict[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(value, float) and math.isinf(value) else value for key, value in record.items()}


@torch.no_grad()
def _perceptual(features: nn.Module, sr8: NDArray[np.uint8], hr8: NDArray[np.uint8]) -> float:
    x, y = (torch.from_numpy(a.astype(np.float32) / 255).permute(2, 0, 1)[None] for a in (sr8, hr8))
    return float(perceptual(features, x, y))
