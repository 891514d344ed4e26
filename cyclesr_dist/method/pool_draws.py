"""What the pools draw, for a whole global batch at once.

On many GPUs a global batch has tens of thousands of samples, and every rank needs the draws of all of them. NumPy makes
a generator for one of them in tens of microseconds. Here all are made together, as arrays: the same SeedSequence and
PCG64 in every bit (O'Neill 2014, "PCG"; numpy/random/bit_generator.pyx, src/pcg64, src/distributions).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_MULTIPLIER = (np.uint64(0x2360ED051FC65DA4), np.uint64(0x4385DF649FCCF645))
_WRAP = 1 << 32


def draw_swaps(seed: int, name: str, first_index: int, num: int, size: int) -> NDArray[np.int64]:
    """For each of `num` samples the place in a full pool of `size` that it takes, or -1 for none: half of them.

    Those of sample i are `stream = default_rng([seed, first_index + i, *name.encode()])`: it swaps where
    stream.random() < 0.5, and takes the place stream.integers(size).
    """
    first_long = min(max(_WRAP - first_index, 0), num)  # from there on an index has two words of 32 bits
    parts = [_draw(seed, name, first_index, first_long, size)] if first_long else []
    if first_long < num:
        parts.append(_draw(seed, name, first_index + first_long, num - first_long, size))
    return np.concatenate(parts)


def _draw(seed: int, name: str, first_index: int, num: int, size: int) -> NDArray[np.int64]:
    index = np.arange(first_index, first_index + num, dtype=np.uint64)
    index_words = [index & _LOW] if first_index < _WRAP else [index & _LOW, index >> _32]
    entropy = [*_words(seed), *index_words, *(word for byte in name.encode() for word in _words(byte))]
    state = _seeded(_seed_sequence([np.broadcast_to(word, num) for word in entropy]))
    state = _step(state)
    swaps = _output(state[0]) < np.uint64(1 << 63)
    product = (_output(_step(state)[0]) & _LOW) * np.uint64(size)
    slots = (product >> _32).astype(np.int64)
    for i in np.flatnonzero((product & _LOW) < np.uint64(size)):  # once in 2^32 / size NumPy may draw again
        stream = np.random.default_rng([seed, first_index + int(i), *name.encode()])
        stream.random()
        slots[i] = stream.integers(size)
    return np.where(swaps, slots, -1)


def _words(number: int) -> list[Words]:
    words = [number % _WRAP]
    while number := number // _WRAP:
        words.append(number % _WRAP)
    return [np.array(word, np.uint64) for word in words]


def _seed_sequence(entropy: list[Words]) -> list[Words]:
    """Eight words of 32 bits of each SeedSequence."""
    hashed = _hash(0x43B0D7E5, 0x931E8875)

    def mixed(x: Words, y: Words) -> Words:
        result = x * np.uint64(0xCA01F9DD) - y * np.uint64(0x4973F715) & _LOW
        return result ^ (result >> np.uint64(16))

    padding = [np.zeros_like(entropy[0])] * (4 - len(entropy))
    pool = [hashed(word) for word in [*entropy, *padding][:4]]
    for source in range(4):
        for target in range(4):
            if source != target:
                pool[target] = mixed(pool[target], hashed(pool[source]))
    for word in entropy[4:]:
        pool = [mixed(of, hashed(word)) for of in pool]
    given = _hash(0x8B51F9DD, 0x58F38DED)
    return [given(pool[i % 4]) for i in range(8)]


def _hash(constant: int, factor: int) -> Callable[[Words], Words]:
    """A hash of a word whose constant goes on with every call."""

    def hashed(value: Words) -> Words:
        nonlocal constant
        value = value ^ np.uint64(constant)
        constant = constant * factor % _WRAP
        value = value * np.uint64(constant) & _LOW
        return value ^ (value >> np.uint64(16))

    return hashed


Number = tuple[Words, Words]
"""Of 128 bits: the high 64 and the low 64."""
State = tuple[Number, Number]
"""Of PCG64: what changes, and the increment."""


def _seeded(words: Iterable[Words]) -> State:
    a, b, c, d = (low | high << _32 for low, high in zip(*[iter(words)] * 2, strict=True))
    one, top = np.uint64(1), np.uint64(63)
    increment = (c << one | d >> top, d << one | one)
    return _step((_sum(increment, (a, b)), increment))


def _step(state: State) -> State:
    number, increment = state
    return _sum(_product(number, _MULTIPLIER), increment), increment


def _output(number: Number) -> Words:
    """XSL-RR: both halves together, turned by the highest six bits."""
    high, low = number
    together: Words = high ^ low
    turn: Words = high >> np.uint64(58)
    return together >> turn | together << (np.uint64(64) - turn & np.uint64(63))


def _sum(x: Number, y: Number) -> Number:
    low = x[1] + y[1]
    carry: Words = (low < x[1]).astype(np.uint64)
    return x[0] + y[0] + carry, low


def _product(x: Number, y: tuple[np.uint64, np.uint64]) -> Number:
    a, b = x[1] >> _32, x[1] & _LOW
    c, d = y[1] >> _32, y[1] & _LOW
    middle = (b * d >> _32) + (a * d & _LOW) + (b * c & _LOW)
    carried = a * c + (a * d >> _32) + (b * c >> _32) + (middle >> _32)
    return x[0] * y[1] + x[1] * y[0] + carried, x[1] * y[1]
