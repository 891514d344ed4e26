"""What the best, the median and the worst trial make of a validation photograph, side by side."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open

from cyclesr_dist.config.schema import Config
from cyclesr_dist.data.folders import images_folder, list_images, pairs_if_any
from cyclesr_dist.data.images import read_rgb8
from cyclesr_dist.errors import CycleSRError
from cyclesr_dist.models.infer import upscale_image
from cyclesr_dist.models.upscaler import NetUpscaler
from cyclesr_dist.nets.build import build_sr, inference_net
from cyclesr_dist.reports.strips import comparison_strip, most_detailed_crop
from cyclesr_dist.scoring.score import to_uint8

_CROP_PX, _ROOM_PX, _ZOOM = 40, 24, 2
"""Of LR: the crop, and what the networks see around it."""


def strips(config: Config, checkpoints: Mapping[str, Any], count: int) -> tuple[dict[str, bytes], str]:
    """PNG files by photograph, drawn by a worker of the cluster, which sees the photographs; and why there are none."""
    if not checkpoints or not count:
        return {}, ""
    drawing = ray.remote(num_cpus=1)(_draw).remote(config, dict(checkpoints), count)
    try:
        return ray.get(drawing), ""
    except (ray.exceptions.RayError, CycleSRError) as error:
        return {}, str(error).strip().splitlines()[-1]


def _draw(config: Config, checkpoints: Mapping[str, Any], count: int) -> dict[str, bytes]:
    scale = config.scale
    models = {}
    for label, checkpoint in checkpoints.items():
        with checkpoint.as_directory() as folder:
            models[label] = _last_model(Path(folder), config)
    folder = images_folder(Path(config.data.valid_lr), scale)
    photos = list_images(folder)
    sharp = _sharp(config, folder)
    drawn = {}
    for photo in photos[:count]:
        lr, (y, x, side) = _window(read_rgb8(photo))
        panels: list[tuple[str, NDArray[np.uint8]]] = [("LR", lr)]
        for label, model in models.items():
            panels.append((label, to_uint8(upscale_image(model, lr.astype(np.float32) / 255))))
        if hr := sharp.get(photo):
            panels.append(("HR", _cut(read_rgb8(hr), read_rgb8(photo), scale)))
        strip = comparison_strip(panels, (y * scale, x * scale, side * scale), _ZOOM)
        out = io.BytesIO()
        Image.fromarray(strip).save(out, "PNG")
        drawn[photo.stem] = out.getvalue()
    return drawn


def _last_model(folder: Path, config: Config) -> NetUpscaler:
    """What the trial was scored by at its last report; model.safetensors is of its best one."""
    (path,) = folder.glob("checkpoints/*/tensors.safetensors")
    with safe_open(path, framework="pt") as file:
        names = list(file.keys())
        averaged = [name for name in names if name.startswith("ema.")]
        chosen = averaged or [name for name in names if ".params.g_l2h." in name or ".buffers.g_l2h." in name]
        state = {name.rpartition("g_l2h.")[2].removeprefix("ema."): file.get_tensor(name) for name in chosen}
    net = build_sr(inference_net(config), config.scale)
    net.load_state_dict(state)
    return NetUpscaler("g_l2h", net.eval().requires_grad_(False), config.scale)


def _sharp(config: Config, folder: Path) -> dict[Path, Path]:
    """HR photographs by the LR photograph of the same scene."""
    if not config.data.valid_hr:
        return {}
    return {pair.lr: pair.hr for pair in pairs_if_any(images_folder(Path(config.data.valid_hr), config.scale), folder)}


def _place(lr: NDArray[np.uint8]) -> tuple[int, int, int, tuple[int, int, int]]:
    """Top, left and side of the part looked at, and the crop inside it."""
    y, x, side = most_detailed_crop(lr, _CROP_PX)
    top, left = max(0, y - _ROOM_PX), max(0, x - _ROOM_PX)
    return top, left, side + 2 * _ROOM_PX, (y - top, x - left, side)


def _window(lr: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], tuple[int, int, int]]:
    top, left, side, crop = _place(lr)
    return np.ascontiguousarray(lr[top : top + side, left : left + side]), crop


def _cut(hr: NDArray[np.uint8], lr: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """The same part of the HR photograph."""
    top, left, side, _ = _place(lr)
    return hr[top * scale : (top + side) * scale, left * scale : (left + side) * scale]
