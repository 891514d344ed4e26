"""CycleSR and CycleSRGAN: super-resolution for real photographs without pairs, trained on many machines.

What `__all__` names is for other programs (docs/api.md); all else is private. Images are

- NumPy arrays (H, W, 3), (H, W, 4) with alpha, or grey (H, W): uint8, uint16, or floating point in [0, 1];
- Pillow images;
- paths of image files.

What cannot be used raises one of the exceptions below, with one line that says what is wrong and what is allowed.

>>> import cyclesr_dist
>>> model = cyclesr_dist.load_model("bicubic")
>>> large = model.upscale("photo.jpg")
>>> large.size
(384, 256)
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

from cyclesr_dist.errors import ConfigError, CycleSRError, InputError, Preempted, TrainingError

if TYPE_CHECKING:  # an import of this package is cheap: what a function needs, it imports when it is called
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from cyclesr_dist.config.schema import Config
    from cyclesr_dist.degradation.record import Degradation
    from cyclesr_dist.models.upscaler import Upscaler

    Pixels = TypeVar("Pixels", bound=np.generic)
    FilePath = str | os.PathLike[str]

__version__ = "0.1.0"
__all__ = [
    "ConfigError",
    "CycleSRError",
    "InputError",
    "Model",
    "Preempted",
    "TrainingError",
    "__version__",
    "estimate",
    "load_config",
    "load_model",
    "score",
    "simulate",
    "train",
]


def load_model(path: FilePath, *, scale: int | None = None, allow_module: bool = False) -> Model:
    """A trained network, or bicubic enlargement as the baseline.

    `path` is what `cyclesr upscale --model` takes: a run folder (its best network; "RUN@last": its last), a
    checkpoint's folder, a .safetensors or .onnx file, or "bicubic". `scale` is that of bicubic, 4 by default; of any
    other model it must be the model's own. A file may name a Python class to import for its network; only
    `allow_module` lets it. Raises InputError.

    >>> load_model("bicubic", scale=2)
    Model('bicubic', scale=2)
    """
    from cyclesr_dist.models.model_name import fingerprint, resolve_model
    from cyclesr_dist.runtime.arguments import text_of, whole

    wanted = None if scale is None else whole("scale", scale)
    name, scale_of_bicubic = text_of("model", path), 4 if wanted is None else wanted
    # First: results of a file that is replaced meanwhile must not pass for those of the later network.
    written_as = fingerprint(name, scale_of_bicubic)
    upscaler = resolve_model(name, scale_of_bicubic, allow_module)
    if wanted not in (None, upscaler.scale):
        raise InputError(f"model {upscaler.name!r}: enlarges by {upscaler.scale}, not by {wanted}")
    return Model(upscaler, written_as)


class Model:
    """What enlarges images; `load_model` makes it. Calls from one thread at a time."""

    def __init__(self, upscaler: Upscaler, fingerprint: str) -> None:
        self._upscaler = upscaler
        self._fingerprint = fingerprint

    @property
    def name(self) -> str:
        """As it was given to `load_model`."""
        return self._upscaler.name

    @property
    def scale(self) -> int:
        """How many times larger the result is, in each direction."""
        return self._upscaler.scale

    def __repr__(self) -> str:
        return f"Model({self.name!r}, scale={self.scale})"

    @overload
    def upscale(self, image: NDArray[Pixels], *, tile: int | None = None) -> NDArray[Pixels]: ...
    @overload
    def upscale(self, image: Image.Image | FilePath, *, tile: int | None = None) -> Image.Image: ...
    @overload
    def upscale(self, image: FilePath, *, out: FilePath, tile: int | None = None) -> Path: ...
    def upscale(self, image: Any, *, out: Any = None, tile: int | None = None) -> Any:
        """Enlarge one image.

        An array comes back as an array of the same type and number of dimensions; floating point is computed in
        float32 and clipped to [0, 1]. A Pillow image, or the path of a file, comes back as a Pillow image of mode L,
        LA, RGB, RGBA or I;16 (palettes and CMYK become RGB), upright, with its colour profile. With a path, `out`
        writes the PNG that `cyclesr upscale` writes instead, and returns its path. Transparency is enlarged too.

        `tile` is the side in px of the squares that large images are worked on in; None: by size, 0: one piece. A
        network that normalises by the whole image gives another result in tiles; None is one piece for it. Raises
        InputError.

        >>> import numpy as np
        >>> model = load_model("bicubic")
        >>> model.upscale(np.full((20, 30, 3), 0.5)).shape
        (80, 120, 3)
        >>> model.upscale("photo.jpg", out="large.png").name
        'large.png'
        """
        from cyclesr_dist.data.python_images import check_in_kind, in_kind, read_given
        from cyclesr_dist.models.infer import upscale_picture
        from cyclesr_dist.models.upscale_files import Enlarging
        from cyclesr_dist.runtime.arguments import is_path, path_of, png_target, whole

        if tile is not None and whole("tile", tile) < 0:
            raise InputError(f"tile = {tile}: must be 0 or more")
        if out is not None:
            if not is_path(image):
                raise InputError("out is for the path of an image; an array or a Pillow image is given back")
            source = path_of("image", image)
            target = png_target(out, source)
            Enlarging(self._upscaler, self._fingerprint, tile, overwrite=True).file(source, target)
            return target
        picture = read_given(image)
        check_in_kind(picture, image)
        return in_kind(upscale_picture(self._upscaler, picture, tile), image)


def estimate(
    hr: FilePath,
    lr: FilePath,
    *,
    out: FilePath | None = None,
    scale: int = 4,
    seed: int = 0,
    overwrite: bool = False,
) -> Degradation:
    """Measure what makes real LR photographs differ from HR photographs shrunk to their size: blur, noise and JPEG.

    `hr` and `lr` are folders of photographs or shard sets, paths or URLs; they need not show the same. The result has
    `facts` (a dict, explained in docs/estimate.md) and `sentences` (a list, in plain words). `out` is a folder to
    write as `cyclesr estimate` does; `overwrite` replaces what it holds. Raises InputError, and ConfigError for
    `scale` and `seed`.

    >>> found = estimate("hr", "lr")
    >>> found.facts["looked_at"]["lr"]["photographs"]
    4
    >>> print(found.sentences[0])
    Blur of about ... px, noise of ...% at mid grey; no JPEG to speak of.
    """
    from cyclesr_dist.runtime.arguments import text_of, whole
    from cyclesr_dist.workflows.estimate import measure

    return measure(
        text_of("hr", hr),
        text_of("lr", lr),
        out=None if out is None else text_of("out", out),
        scale=whole("scale", scale),
        seed=whole("seed", seed),
        overwrite=overwrite,
    )


@overload
def simulate(
    image: NDArray[Pixels],
    track: str | None = None,
    *,
    scale: int | None = None,
    seed: int | None = None,
    config: Config | None = None,
    name: str | None = None,
    variant: int = 0,
) -> NDArray[Pixels]: ...
@overload
def simulate(
    image: Image.Image | FilePath,
    track: str | None = None,
    *,
    scale: int | None = None,
    seed: int | None = None,
    config: Config | None = None,
    name: str | None = None,
    variant: int = 0,
) -> Image.Image: ...
@overload
def simulate(
    image: FilePath,
    track: str | None = None,
    *,
    out: FilePath,
    overwrite: bool = False,
    scale: int | None = None,
    seed: int | None = None,
    config: Config | None = None,
    name: str | None = None,
    variant: int = 0,
) -> Path: ...
def simulate(
    image: Any,
    track: str | None = None,
    *,
    out: Any = None,
    overwrite: bool = False,
    scale: int | None = None,
    seed: int | None = None,
    config: Config | None = None,
    name: str | None = None,
    variant: int = 0,
) -> Any:
    """LR of a simulated track: `unknown`, `mild`, `wild` or `camera` (`cyclesr degrade --help` says what they are), or
    `package.module:TRACK` of yours.

    An array (H, W, 3) or a Pillow image comes back in kind, with sides of H // scale and W // scale, on the 8-bit
    grid. Files and Pillow images become RGB; transparency is left out. The path of a file gives a Pillow image, or with
    `out` a PNG file. A folder needs `out`, a folder too, which is written as `cyclesr degrade` does; `overwrite`
    replaces what it holds.

    What is drawn depends on `seed`, `track`, `name` and `variant` (0 to 3 for `wild`, else 0): an image with a `name`
    comes out as the file with that stem. A file has its own stem. The levels are those of `config.degrade`; `config`
    also says `track`, `scale` and `seed` where they are not given. Raises InputError and ConfigError.

    >>> simulate("photo.jpg", "mild", seed=1).size
    (24, 16)
    >>> weak = load_config(None, ["degrade.noise=0.01", "track=camera", "scale=2"])
    >>> simulate("hr", config=weak, out="lr_camera").name
    'lr_camera'
    """
    from cyclesr_dist.degradation.simulate_given import simulate_given
    from cyclesr_dist.runtime.arguments import whole, word

    config = load_config() if config is None else _checked(config)
    return simulate_given(
        image,
        track=config.track if track is None else word("track", track),
        scale=config.scale if scale is None else whole("scale", scale),
        seed=config.seed if seed is None else whole("seed", seed),
        levels=config.degrade,
        name=name,
        variant=variant,
        out=out,
        overwrite=overwrite,
    )


def score(
    image: NDArray[Any] | Image.Image | FilePath,
    original: NDArray[Any] | Image.Image | FilePath,
    *,
    protocol: str = "plain",
    model: Model | None = None,
    scores: Sequence[str] = (),
) -> dict[str, float]:
    """PSNR in dB, infinite for equal images, and SSIM, after rounding to 8 bits.

    Of two images, or of two folders, whose files are matched by name as `cyclesr evaluate` does: then the means.
    `protocol` is `plain`, `ntire2017`, `ntire2018`, or `package.module:function` of yours. With a `model` the first
    image or folder is LR, and is enlarged before: the scores of `cyclesr evaluate`. `scores` are perceptual ones that
    are taken besides: `lpips`, `lpips_vgg`, `dists`, `niqe`; lower is better. Transparency is left out. Raises
    InputError, and ConfigError for a protocol that cannot be imported.

    >>> small = simulate("photo.jpg", "mild")
    >>> scores = score(load_model("bicubic").upscale(small), "photo.jpg")
    >>> sorted(scores)
    ['psnr', 'psnr_y', 'ssim', 'ssim_y']
    >>> score("lr", "hr", model=load_model("bicubic"))["psnr"] > 15
    True
    """
    from cyclesr_dist.scoring.score_given import score_given

    if model is not None and not isinstance(model, Model):
        raise InputError(f"model = {model!r:.80} is no Model; load_model makes one")
    names = (scores,) if isinstance(scores, str) else tuple(scores)
    return score_given(image, original, protocol, None if model is None else model._upscaler, names)


def load_config(path: FilePath | None = None, overrides: Sequence[str] = ()) -> Config:
    """A configuration from a YAML file (None: the defaults), then `key.sub=value` overrides in their order.

    It is frozen; `dataclasses.replace` makes another one. Raises ConfigError naming the file and line, or the override,
    the key, the value and what is allowed.

    >>> config = load_config("mine.yaml", ["train.max_steps=2"])
    >>> config.system, config.train.max_steps
    ('sr_syn', 2)
    """
    from cyclesr_dist.config.schema import load
    from cyclesr_dist.runtime.arguments import path_of

    listed = isinstance(overrides, Sequence) and not isinstance(overrides, str)
    if not listed or not all(isinstance(text, str) for text in overrides):
        raise ConfigError(f"overrides = {overrides!r:.80}; a list of 'key.sub=value' strings is needed")
    return load(None if path is None else path_of("path", path), overrides)


def train(
    config: Config, run_dir: FilePath, *, resume: bool = False, with_changes: bool = False, quiet: bool = False
) -> dict[str, Any]:
    """Train as `cyclesr train --run-dir RUN_DIR` does. Returns what summary.json of the run folder holds.

    In one process, or as one rank of many where a launcher (torchrun, deepspeed) has set its variables: then all ranks
    call it. `resume` goes on from the newest checkpoint, if there is one; `with_changes` also where weights, learning
    rates, schedule, seed, batch or samples are others than the checkpoint's. `quiet` shows no progress. It is called
    from the main thread. SIGTERM and Ctrl-C are taken meanwhile: the run saves, and Preempted is raised (before there
    is anything to save they end the process). Raises ConfigError, InputError, TrainingError.

    >>> summary = train(load_config("mine.yaml"), "runs/mine", quiet=True)
    >>> summary["completed"]
    True
    >>> load_model("runs/mine").scale
    4
    """
    from cyclesr_dist.runtime.arguments import path_of
    from cyclesr_dist.training.ahead import read_ahead

    config, folder = _checked(config), path_of("run_dir", run_dir)
    load = read_ahead(lambda: config)
    from cyclesr_dist.training.launched import run_training  # takes seconds

    return run_training(load, folder, resume=resume or with_changes, with_changes=with_changes, quiet=quiet)


def _checked(config: Config) -> Config:
    """Raise ConfigError unless it is a configuration whose values are allowed."""
    from cyclesr_dist.config.schema import Config, check

    if not isinstance(config, Config):
        raise ConfigError(f"config = {config!r:.80} is no configuration; load_config makes one")
    check(config)
    return config
