"""FLOPs of a step, counted while it runs, and what the device can do at most, measured beside it.

`cyclesr bench train` and every training take both from here, so that their figures mean the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

_ROUNDS, _ROUND_SECONDS = 9, 1.0
_BRIEF_SECONDS = 0.1
_SMALL_ROUNDS = 10


class OperationCount(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own annotation
    """A context manager that counts what is computed in it, forward and backward: a multiplication and an addition are
    two FLOPs, of matrix products, convolutions and attention, by torch's own formulas. The rest counts nothing.

    It looks on: every operation is the one that would run without it. What is computed again for its backward pass
    (`speed.recompute`) counts again; what torch.compile has made is not seen.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.flops = 0
        self.operations = 0
        """Calls of any operation."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.operations += 1
        if formula := flop_registry.get(func._overloadpacket):
            self.flops += formula(*args, **(kwargs or {}), out_val=out)
        return out


class SmallOperations:
    """What an operation takes at least on this machine as it is now, however little it computes."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._x = torch.ones(4, 4, 8, 8, device=device, requires_grad=True)
        with OperationCount() as count:
            self._run()
        self._num: int = count.operations

    def seconds(self) -> float:
        """Of one; on a GPU, to launch it. Takes a millisecond or two."""
        return timed(self._run, self.device) / float(self._num)

    def _run(self) -> None:
        """Forward and backward, as in a step."""
        with torch.enable_grad():
            for _ in range(_SMALL_ROUNDS):
                (self._x * 1.1).sum().backward()  # type: ignore[no-untyped-call]  # torch's own annotation


def measure_ceiling(precision: str, device: torch.device, *, brief: bool = False) -> dict[str, float]:
    """FLOPs a second, the best of several sizes and rounds: `product`, of large matrices, and `convolution`, 3 x 3
    among 256 channels in channels_last, which on some CPUs is the faster one.

    `brief`: of the smaller size alone, in less than a second, as a training can afford. Draws no random numbers of
    the global generators.
    """
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    sizes = ((1024, 1), (2048, 4)) if device.type == "cpu" else ((4096, 32), (8192, 64))
    draws = torch.Generator(device=device).manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=device, generator=draws).to(dtype)

    best = {"product": 0.0, "convolution": 0.0}
    for size, num in sizes[:1] if brief else sizes:
        a, b = drawn(size, size), drawn(size, size)
        x, w = (drawn(*shape).contiguous(memory_format=torch.channels_last) for shape in _convolved(num))
        product = _fastest(lambda a=a, b=b: a @ b, device, brief)  # type: ignore[misc]
        convolution = _fastest(lambda x=x, w=w: F.conv2d(x, w, padding=1), device, brief)  # type: ignore[misc]
        best["product"] = max(best["product"], 2 * size**3 / product)
        best["convolution"] = max(best["convolution"], 2 * num * 64**2 * 256**2 * 9 / convolution)
    return best


def _convolved(num: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of images and weights."""
    return (num, 256, 64, 64), (256, 256, 3, 3)


def _fastest(run: Callable[[], object], device: torch.device, brief: bool) -> float:
    """Seconds, the best of nine, or of as many as take a second (`brief`: a tenth of one): in a precision that the
    processor has not, few."""
    longest = _BRIEF_SECONDS if brief else _ROUND_SECONDS
    seconds = [timed(run, device)]
    while len(seconds) < _ROUNDS and sum(seconds) < longest:
        seconds.append(timed(run, device))
    return min(seconds)


def timed(run: Callable[[], object], device: torch.device) -> float:
    """Seconds that `run` takes on the device."""
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
