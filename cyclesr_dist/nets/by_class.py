"""Networks from elsewhere, named `package.module:Class`, tried before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from cyclesr_dist.errors import ConfigError
from cyclesr_dist.runtime.user_modules import find_object

_SIZES = ((1, 24, 24), (2, 20, 28))
"""(N, h, w) that a network is tried on."""
_TRAINING_SIZES = ((2, 20, 28),)
"""The same in training mode, where a BatchNorm behind a global mean needs two samples."""


def build_by_class(module: str, arguments: dict[str, Any], scale: int) -> nn.Module:
    """The network `package.module:Class`, made with `arguments` and tried by `check_sr`. The module may be installed or
    lie in the working directory.

    Importing runs the module's code: names from files of others need the user's word first. Raises ConfigError naming
    nets.sr.module or nets.sr.arguments when there is no such class, it is no torch.nn.Module, it refuses the
    arguments, or it is no SR network for `scale`.
    """
    found = find_object("nets.sr.module", module, "package.module:Class")
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ConfigError(f"nets.sr.module = {module!r} is {found!r:.80}; allowed: a class of torch.nn.Module")
    try:
        net: nn.Module = found(**arguments)
    except (Exception, SystemExit) as error:  # whatever the class raises, it is about its arguments
        raise ConfigError(f"nets.sr.arguments = {arguments} do not make a {module} ({error})") from error
    check_sr(net, scale, module)
    return net


def translator_by_class(kind: str, channels: int, blocks: int, noise_channels: int) -> nn.Module:
    """The translator `package.module:Class`, made with (channels, blocks, noise_channels) and tried: (N, 3 +
    noise_channels, h, w) -> (N, 3, h, w), h and w multiples of 4.

    Raises ConfigError naming nets.translator.kind where it is none.
    """
    named = f"nets.translator.kind = {kind}"
    found = find_object("nets.translator.kind", kind, "package.module:Class")
    try:
        net = found(channels, blocks, noise_channels)
    except (Exception, SystemExit) as error:  # whatever the class raises, it is about its arguments
        raise ConfigError(f"{named} cannot be made of ({channels}, {blocks}, {noise_channels}): {error}") from error
    if not isinstance(net, nn.Module):
        raise ConfigError(f"{named} makes {net!r:.80}; allowed: a torch.nn.Module")
    _check(net, named, 3 + noise_channels, 1)
    return net


def check_sr(net: nn.Module, scale: int, name: str) -> None:
    """Raise ConfigError unless the network enlarges float32 images by `scale`, whatever their size, without dropping
    what a checkpoint needs: fp32 parameters; in training mode, too. Leaves modes, buffers and random generators as they
    were."""
    _check(net, f"nets.sr.module = {name}", 3, scale)


def _check(net: nn.Module, named: str, channels: int, scale: int) -> None:
    if not any(True for _ in net.parameters()):
        raise ConfigError(f"{named}: has no parameter to train")
    wrong = next((key for key, p in net.named_parameters() if p.dtype is not torch.float32), None)
    if wrong is not None:
        raise ConfigError(f"{named}: parameter {wrong} is {net.get_parameter(wrong).dtype}, not float32")
    if next(net.parameters()).is_meta:
        return  # shapes alone are asked for
    with torch.random.fork_rng(devices=[]), torch.no_grad(), _as_it_was(net):
        for training, sizes in ((False, _SIZES), (True, _TRAINING_SIZES)):
            net.train(training)
            said = f"{named}: in training mode" if training else f"{named}:"
            for n, h, w in sizes:
                output = _apply(net, torch.rand(n, channels, h, w), said)
                _check_output(said, output, (n, 3, h * scale, w * scale))


@contextmanager
def _as_it_was(net: nn.Module) -> Iterator[None]:
    """Afterwards every part is in its mode again, and buffers (the statistics of BatchNorm) have their values again."""
    modes = {part: part.training for part in net.modules()}
    buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training
        for name, buffer in net.named_buffers():
            if name in buffers and buffer.shape == buffers[name].shape:
                buffer.copy_(buffers[name])


def _apply(net: nn.Module, x: Tensor, named: str) -> Any:
    try:
        return net(x)
    except (Exception, SystemExit) as error:  # whatever it raises, it cannot be used
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{named} fails on an input of shape {tuple(x.shape)} ({reason})") from error


def _check_output(named: str, y: Any, wanted: tuple[int, ...]) -> None:
    if not isinstance(y, Tensor):
        raise ConfigError(f"{named} gives a {type(y).__name__}; a tensor is needed")
    if tuple(y.shape) != wanted:
        raise ConfigError(f"{named} gives shape {tuple(y.shape)}; the scale needs {wanted}")
    if y.dtype is not torch.float32:
        raise ConfigError(f"{named} gives {y.dtype}; float32 is needed")
    if not torch.isfinite(y).all():
        raise ConfigError(f"{named} gives values that are not finite")
