"""VGG convolutions for the perceptual term, from torchvision's weights without torchvision."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from cyclesr_dist.errors import ConfigError, InputError
from cyclesr_dist.nets.features import VGG16, VGG19, FeatureMaps, vgg_layers
from cyclesr_dist.runtime.passing import failed, patiently

_TORCHVISION_VGG19 = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
TEXTURE_LAYERS = (0, 5, 10)
"""Of Gram matrices, behind the ReLU: conv1_1, conv2_1 and conv3_1, in VGG16 and VGG19."""


class VGGFeatures(FeatureMaps):
    """(N, 3, H, W) in [0, 1] -> the outputs of some convolutions before their ReLUs, in order.

    Layer 34 of VGG19 is conv5_4 (ESRGAN's choice). Raises ConfigError for a layer that is no convolution.
    """

    def __init__(self, layout: tuple[int | str, ...], taken: tuple[int, ...]) -> None:
        layers = vgg_layers(layout)
        convolutions = [i for i, module in enumerate(layers) if isinstance(module, nn.Conv2d)]
        for layer in taken:
            if layer not in convolutions:
                raise ConfigError(
                    f"perceptual.layer = {layer} is not a convolution of this network; allowed: {convolutions}"
                )
        super().__init__(layers, taken)


def build_vgg(source: str, layers: tuple[int, ...]) -> VGGFeatures:
    """The perceptual network of `perceptual.source`, giving the outputs of `layers`.

    `torchvision` fetches VGG19 through torch.hub (hash checked, weights-only loading); `random` is VGG19 with fixed
    random weights; anything else is a .safetensors file with torchvision's keys `features.N.weight` (VGG16 or VGG19).
    Raises InputError when the weights cannot be had, ConfigError for a layer that is no convolution.
    """
    if source == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return VGGFeatures(VGG19, layers)
    state = _from_torchvision() if source == "torchvision" else _from_file(Path(source))
    layout = VGG19 if "features.34.weight" in state else VGG16
    net = VGGFeatures(layout, layers)
    wanted = {key: state.get(key) for key in net.state_dict() if key.startswith("features.")}
    missing = [key for key, value in wanted.items() if value is None]
    if missing:
        raise InputError(f"perceptual.source = {source}: no tensor {missing[0]!r}; expected torchvision's VGG layout")
    try:
        net.load_state_dict({key: value.float() for key, value in wanted.items() if value is not None}, strict=False)
    except RuntimeError as error:
        raise InputError(f"perceptual.source = {source}: not torchvision's VGG layout: {error.args[0]}") from error
    return net


def _from_torchvision() -> dict[str, Tensor]:
    try:
        state: dict[str, Tensor] = patiently(
            lambda: torch.hub.load_state_dict_from_url(
                _TORCHVISION_VGG19, map_location="cpu", check_hash=True, weights_only=True, progress=False
            )
        )
    except (OSError, RuntimeError) as error:
        text = (
            f"perceptual.source = torchvision: cannot fetch {_TORCHVISION_VGG19} ({error}); allowed besides: a local "
            ".safetensors file with torchvision's keys, or random; or set weights.percep=0"
        )
        raise failed(text, error) from error
    return state


def _from_file(path: Path) -> dict[str, Tensor]:

    def read() -> dict[str, Tensor]:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # safe_open is no mapping

    try:
        return patiently(read)
    except (OSError, SafetensorError) as error:
        text = f"perceptual.source = {path}: not a readable .safetensors file ({error}); or: torchvision, random"
        raise failed(text, error) from error
