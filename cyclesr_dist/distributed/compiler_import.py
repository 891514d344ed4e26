"""Keeps torch's compiler from being imported where nothing is compiled: two seconds of every process.

Some of torch's functions, those of optimizers among them, tell the compiler not to look into them. To tell it, they
import it when they are first called, whether or not anything will ever be compiled. DistributedDataParallel's
constructor imports it in any case.
"""

from __future__ import annotations

import gc
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType

import torch._compile
from torch.optim import Adam

_INSTEAD = "__dynamo_disable"
"""The attribute in which such a function's wrapper keeps what it calls in its place."""


@contextmanager
def compiler_left_out() -> Iterator[None]:
    """Within it, these functions are called as they are. What torch.compile is given here works as ever.

    Does nothing where the compiler is imported already, or a torch does it another way.
    """
    wrapped = [] if "torch._dynamo" in sys.modules else [f for f in _wrapped() if not hasattr(f, _INSTEAD)]
    step = Adam.step
    for function in wrapped:
        setattr(function, _INSTEAD, function)
    if wrapped:
        # What is around it tells the compiler something, or serves gradients through steps, which nothing here takes.
        Adam.step = torch.no_grad()(inspect.unwrap(step))  # type: ignore[method-assign]
    try:
        yield
    finally:
        Adam.step = step  # type: ignore[method-assign]
        for function in wrapped:
            delattr(function, _INSTEAD)


def _wrapped() -> list[FunctionType]:
    """All functions that torch._compile has wrapped so far: the wrappers share one piece of code."""
    make = getattr(torch._compile, "_disable_dynamo", None)
    inside = make.__code__.co_consts if isinstance(make, FunctionType) else ()
    wrappers = (
        wrapper
        for code in inside
        if isinstance(code, CodeType) and "torch._dynamo" in code.co_names
        for wrapper in gc.get_referrers(code)
        if isinstance(wrapper, FunctionType)
    )
    cells = (cell.cell_contents for wrapper in wrappers for cell in wrapper.__closure__ or ())
    return [function for function in cells if isinstance(function, FunctionType)]
