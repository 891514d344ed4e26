"""Feature maps of networks that were trained on ImageNet: what perceptual losses and scores compare.

Layers are numbered as in torchvision's `features`, whose weights fit; torchvision itself is not needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# A number is a 3x3 convolution of that width with a ReLU behind it, "M" pooling.
VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")
VGG19 = (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512, 512, 512, 512, "M")
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class FeatureMaps(nn.Module):
    """(N, 3, H, W) in [0, 1] -> the outputs of the layers `taken`, in order.

    Frozen; gradients flow to the input only. The ImageNet normalisation is inside. Layers behind the last one that is
    taken are left out.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, layers: Sequence[nn.Module], taken: Sequence[int]) -> None:
        super().__init__()
        self.taken = frozenset(taken)
        self.features = nn.Sequential(*layers[: max(taken) + 1])
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1))
        self.requires_grad_(False)
        self.eval()

    def forward(self, x: Tensor) -> list[Tensor]:
        return list(self.maps(x))

    def maps(self, x: Tensor) -> Iterator[Tensor]:
        """One after another, so that no more than one need be kept."""
        y = (x - self.mean) / self.std
        for index, layer in enumerate(self.features):
            y = layer(y)
            if index in self.taken:
                yield y


def vgg_layers(
    layout: Sequence[int | str], pooling: Callable[[int], nn.Module] = lambda width: nn.MaxPool2d(2)
) -> list[nn.Module]:
    """Of VGG (Simonyan and Zisserman 2015). `pooling` is given the number of channels."""
    layers: list[nn.Module] = []
    width = 3
    for item in layout:
        if isinstance(item, int):
            layers += [nn.Conv2d(width, item, 3, padding=1), nn.ReLU()]  # not in place: its input may be taken
            width = item
        else:
            layers.append(pooling(width))
    return layers


def alexnet_layers() -> list[nn.Module]:
    """Of AlexNet as torchvision has it (Krizhevsky 2014, "One weird trick")."""
    return [
        *(nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
    ]


class L2Pool(nn.Module):
    """Halves (N, C, H, W): the root of the mean square under a Hann window of 3 x 3 px (Hénaff and Simoncelli 2016),
    which aliases less than max pooling."""

    window: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        line = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("window", (line[:, None] * line).repeat(channels, 1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        mean = F.conv2d(x.square(), self.window, stride=2, padding=1, groups=self.window.shape[0])
        return (mean + 1e-12).sqrt()
