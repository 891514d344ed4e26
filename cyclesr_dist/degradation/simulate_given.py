"""A simulated track for an image that a Python program holds, an image file, or a folder."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cyclesr_dist.config.schema import Degrade
from cyclesr_dist.data.images import Picture, write_png
from cyclesr_dist.data.python_images import in_kind, read_given
from cyclesr_dist.degradation.simulate import degrade_image
from cyclesr_dist.degradation.simulate_folder import degrade_folder
from cyclesr_dist.errors import InputError
from cyclesr_dist.runtime.arguments import is_path, path_of, png_target, whole, word
from cyclesr_dist.runtime.passing import unwritable


def simulate_given(
    image: object,
    *,
    track: str,
    scale: int,
    seed: int,
    levels: Degrade,
    name: str | None,
    variant: int,
    out: object,
    overwrite: bool,
) -> Any:
    """LR of `image`, in kind, or the path `out` of what was written. Raises InputError and ConfigError."""
    path = path_of("image", image) if is_path(image) else None
    if path is not None and path.is_dir():
        if out is None:
            raise InputError(f"{path}: is a folder; out must name the folder to write")
        if name is not None or variant:
            raise InputError(f"{path}: is a folder; name and variant are for one image, and files have their own")
        folder = path_of("out", out)
        degrade_folder(
            path, folder, track=track, scale=scale, seed=seed, levels=levels, overwrite=overwrite, progress=False
        )
        return folder
    if overwrite:
        raise InputError("overwrite is for folders; the file of one image is replaced in any case")
    if out is not None and path is None:
        raise InputError("out is for the path of an image or folder; an array or a Pillow image is given back")
    target = None if path is None or out is None else png_target(out, path)
    picture = read_given(image, srgb=True)
    if isinstance(image, np.ndarray) and (picture.grey or picture.alpha is not None):
        raise InputError(f"an array of shape {image.shape} cannot have a track simulated; allowed: (H, W, 3), RGB")
    if name is None:
        name = path.stem if path else ""
    lr = degrade_image(
        _as_files_are_read(picture),
        track=track,
        scale=scale,
        seed=seed,
        levels=levels,
        name=word("name", name),
        variant=whole("variant", variant),
        where=str(path) if path else "the image",
    )
    if target is None:
        bits = picture.bits if isinstance(image, np.ndarray) else 8
        return in_kind(Picture(lr.astype(np.float32) / np.float32(255), None, bits, grey=False), image)
    try:
        write_png(target, lr)
    except OSError as error:
        raise unwritable(target, error) from error
    return target


def _as_files_are_read(picture: Picture) -> NDArray[np.float32]:
    """Colours in [0, 1]; 16 bits are rounded to 8, as `read_rgb8` does."""
    if picture.bits == 8:
        return picture.rgb
    return np.asarray(np.rint(picture.rgb * np.float32(255)) / np.float32(255), dtype=np.float32)
