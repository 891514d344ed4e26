"""Terms of an objective that are no means over samples, while a batch passes through the networks in parts.

Such a term is a function f of the outputs y of all samples: RaGAN has the batch's mean inside a sigmoid, the spectral
term the batch's power inside a logarithm. Its gradient is sum_i (df/dy_i) (dy_i/dw), so the parts can be taken one
after another once df/dy is known. A look at all parts, without gradients, gives y; f is then computed once, and
differentiated by y alone (docs/decisions/0007-parts-of-a-batch.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from cyclesr_dist.method.losses.pixel import full

Term = Callable[..., Tensor]
"""Outputs of this rank's whole batch, each (N, ...) -> a scalar."""
Way = Callable[..., Tensor]
"""A term and outputs, of the whole batch or of a part -> what stands for the term in the sum of losses."""


def at_once(term: Term, *outputs: Tensor) -> Tensor:
    """For a batch that passes through as a whole."""
    return term(*outputs)


class WholeBatch:
    """What an objective computes such terms with, in the same order in every forward pass."""

    def __init__(self, has_terms: bool) -> None:
        """has_terms: whether the objective has any, so that a batch in parts must be looked at first."""
        self.has_terms = has_terms
        self._way: Way = at_once

    def __call__(self, term: Term, *outputs: Tensor) -> Tensor:
        return self._way(term, *outputs)

    @contextmanager
    def by(self, way: Way) -> Iterator[None]:
        """Compute terms in this way inside."""
        self._way = way
        try:
            yield
        finally:
            self._way = at_once


@dataclass(frozen=True)
class Known:
    """A term's value for the whole batch, and its gradient by each of the outputs that it is made of."""

    value: Tensor
    gradients: tuple[Tensor, ...]


class Look:
    """Keeps the outputs of part after part, in full precision. `terms` computes the terms of the whole then."""

    def __init__(self) -> None:
        self._terms: list[Term] = []
        self._outputs: list[list[tuple[Tensor, ...]]] = []
        self._next = 0

    def begin_part(self) -> None:
        self._next = 0

    def __call__(self, term: Term, *outputs: Tensor) -> Tensor:
        if self._next == len(self._terms):
            self._terms.append(term)
            self._outputs.append([])
        self._outputs[self._next].append(tuple(full(y.detach()) for y in outputs))
        self._next += 1
        return full(outputs[0]).new_zeros(())

    def terms(self) -> list[Known]:
        """In their order. All ranks call it: means over ranks are in them."""
        return [_known(term, outputs) for term, outputs in zip(self._terms, self._outputs, strict=True)]


def _known(term: Term, parts: list[tuple[Tensor, ...]]) -> Known:
    whole = [torch.cat(outputs).requires_grad_() for outputs in zip(*parts, strict=True)]
    with torch.enable_grad():
        value = term(*whole)
        gradients = torch.autograd.grad(value, whole, allow_unused=True, materialize_grads=True)
    return Known(value.detach(), gradients)


class Replay:
    """Terms that are known, in the forward pass of a part.

    The value is that of the whole batch. The gradient is the part's own, times the parts of this size that a batch has:
    the mean over parts, each weighted by its samples, has the value and the gradient of the whole.
    """

    def __init__(self, known: list[Known], samples: slice) -> None:
        self._known = iter(known)
        self._samples = samples

    def __call__(self, term: Term, *outputs: Tensor) -> Tensor:
        known = next(self._known)
        value = known.value
        for y, gradient in zip(outputs, known.gradients, strict=True):
            if y.requires_grad:
                y = full(y)
                here = gradient[self._samples] * (len(gradient) / len(y))
                value = value + ((y - y.detach()) * here).sum()
        return value
