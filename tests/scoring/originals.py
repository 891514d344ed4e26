"""Compares the perceptual scores with the original programs on ten bundled photographs, in environments of your own:

    python -m venv --system-site-packages originals && originals/bin/pip install scipy opencv-python-headless
    pip download --no-deps --no-build-isolation --dest originals lpips==0.1.4 DISTS-pytorch==0.1 basicsr==1.4.2
    for file in originals/*.whl; do python -m zipfile -e $file originals; done; tar xzf originals/*.gz -C originals
    originals/bin/python tests/scoring/originals.py originals

Both sides have the backbones of CYCLESR_WEIGHTS, or where that is not set those of tests/helpers/backbones.py.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from helpers.backbones import drawn_weights

import cyclesr_dist
from cyclesr_dist.data.images import read_rgb8
from cyclesr_dist.data.resize import bicubic_down, bicubic_up
from cyclesr_dist.nets.features import VGG16, alexnet_layers, vgg_layers
from cyclesr_dist.scoring.perceptual.backbones import FOLDER_VARIABLE, backbone_weights
from cyclesr_dist.scoring.perceptual.distances import Dists, Lpips
from cyclesr_dist.scoring.perceptual.niqe import niqe
from cyclesr_dist.scoring.psnr import luma
from cyclesr_dist.scoring.score import to_uint8

Image8 = NDArray[np.uint8]
SIDE = 320
FLAT = 1e-9
GREY = np.array([0.298936021293775, 0.587043074451121, 0.114020904255103])


def pairs() -> Iterator[tuple[Image8, Image8]]:
    """(enlarged and noisy, original)."""
    photos = sorted((Path(cyclesr_dist.__file__).parent / "workflows/demo_photos").glob("*.webp"))[:10]
    for number, path in enumerate(photos):
        hr8 = read_rgb8(path)[:SIDE, :SIDE]
        noise = torch.randn(1, 3, *hr8.shape[:2], generator=torch.Generator().manual_seed(number))
        sr = bicubic_up(bicubic_down(tensor(hr8), 4), 4) + 0.01 * number * noise
        yield to_uint8(sr[0].permute(1, 2, 0).numpy()), hr8


def tensor(image: Image8) -> Tensor:
    return torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1)[None]


def weights(name: str) -> dict[str, Tensor]:
    return backbone_weights(name) if os.environ.get(FOLDER_VARIABLE) else drawn_weights(name)


def stand_in_for_torchvision() -> None:
    """All that lpips and DISTS_pytorch take from it: `features` with weights."""

    def network(name: str, layers: list[nn.Module]) -> Callable[..., nn.Module]:
        layers = [*layers, *(nn.MaxPool2d(3, 2) for _ in range(13 - len(layers)))]
        net = nn.Module()
        net.features = nn.Sequential(*layers)
        net.load_state_dict({key: value.float() for key, value in weights(name).items()})
        return lambda *_, **__: net

    models, transforms = module("torchvision.models"), module("torchvision.transforms")
    torchvision = module("torchvision")
    torchvision.models, torchvision.transforms = models, transforms  # type: ignore[attr-defined]
    models.alexnet = network("alexnet", alexnet_layers())  # type: ignore[attr-defined]
    models.vgg16 = network("vgg16", vgg_layers(VGG16))  # type: ignore[attr-defined]


def module(name: str, path: Path | None = None) -> ModuleType:
    made = ModuleType(name)
    if path is not None:
        made.__path__ = [str(path)]
    sys.modules[name] = made
    return made


def their_niqe(folder: Path) -> tuple[ModuleType, dict[str, Any]]:
    """BasicSR's module, without what its package imports besides, and its model."""
    import scipy.ndimage

    for name in ("basicsr", "basicsr.utils", "basicsr.metrics"):
        module(name, folder / name.replace(".", "/"))
    module("scipy.ndimage.filters").convolve = scipy.ndimage.convolve  # type: ignore[attr-defined]
    from basicsr.utils.color_util import bgr2ycbcr

    sys.modules["basicsr.utils"].bgr2ycbcr = bgr2ycbcr  # type: ignore[attr-defined]
    import basicsr.metrics.niqe as found

    model = dict(np.load(folder / "basicsr/metrics/niqe_pris_params.npz"))
    return found, model


def in_float64(found: ModuleType, folder: Path) -> None:
    """Shrink in float64, and let what is flat be exactly flat."""
    source = (folder / "basicsr/utils/matlab_functions.py").read_text()
    names: dict[str, Any] = {}
    exec(source.replace("FloatTensor", "DoubleTensor").replace(".float()", ".double()"), names)
    torch.set_default_dtype(torch.float64)
    plain = found.convolve

    def convolve(plane: NDArray[Any], window: NDArray[Any], mode: str) -> NDArray[Any]:
        mean = plain(plane, window, mode=mode)
        return np.where(np.abs(mean - plane) < FLAT, plane, mean)

    found.imresize, found.convolve = names["imresize"], convolve  # type: ignore[attr-defined]


def compare(name: str, ours: list[float], theirs: list[float]) -> None:
    a, b = np.array(ours), np.array(theirs)
    print(f"{name:36} {b.min():8.4f} to {b.max():8.4f}, largest difference {np.abs(a - b).max():.1e}", flush=True)


@torch.no_grad()
def main(folder: Path) -> None:
    sys.path[:0] = [str(folder)]
    stand_in_for_torchvision()
    images = list(pairs())
    tensors = [(tensor(sr), tensor(hr)) for sr, hr in images]
    load = torch.load
    torch.load = lambda file, **_: load(  # type: ignore[assignment]
        folder / "DISTS_pytorch/weights.pt" if str(file).endswith("weights.pt") else file,
        map_location="cpu",
        weights_only=True,
    )
    import lpips
    from DISTS_pytorch.DISTS_pt import DISTS

    for net, backbone in (("alex", "alexnet"), ("vgg", "vgg16")):
        ours, theirs = Lpips(backbone, weights(backbone)), lpips.LPIPS(net=net, verbose=False)
        compare(
            f"lpips {net}",
            [float(ours(x, y)) for x, y in tensors],
            [float(theirs(x, y, normalize=True)) for x, y in tensors],
        )
    ours, theirs = Dists(weights("vgg16")), DISTS()
    compare("dists", [float(ours(x, y)) for x, y in tensors], [float(theirs(x, y)) for x, y in tensors])

    (basicsr,) = folder.glob("basicsr-*/")
    found, model = their_niqe(basicsr)
    both = [image for pair in images for image in pair]
    of_luma = [niqe(image, y=True) for image in both]
    compare("niqe of luma", of_luma, [float(found.calculate_niqe(image[:, :, ::-1], 0)) for image in both])
    in_float64(found, basicsr)
    fixed = [model[name] for name in ("mu_pris_param", "cov_pris_param", "gaussian_window")]
    compare("niqe of luma, theirs in float64", of_luma, [float(found.niqe(np.rint(luma(i)), *fixed)) for i in both])
    of_grey = [float(found.niqe(np.rint(i @ GREY), *fixed)) for i in both]
    compare("niqe of grey, theirs in float64", [niqe(image) for image in both], of_grey)
    hr = [image for _, image in images]
    small = np.mean([niqe(image[:192, :192]) for image in hr])
    print(f"niqe of the originals, mean: {np.mean([niqe(i) for i in hr]):.2f}, of 192 x 192 px {small:.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
