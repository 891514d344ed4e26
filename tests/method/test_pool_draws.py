"""What the pools draw is what NumPy's generators would, one for each sample."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cyclesr_dist.method.pool_draws import draw_swaps


def one_by_one(seed: int, name: str, first_index: int, num: int, size: int) -> list[int]:
    slots = []
    for index in range(first_index, first_index + num):
        stream = np.random.default_rng([seed, index, *name.encode()])
        slots.append(int(stream.integers(size)) if stream.random() < 0.5 else -1)
    return slots


@given(
    seed=st.integers(0, 2**70),
    name=st.text(min_size=1, max_size=6),
    first_index=st.integers(0, 2**62),
    num=st.integers(1, 9),
    size=st.integers(1, 2**31),
)
@example(seed=0, name="d_r", first_index=2**32 - 4, num=9, size=50)  # an index of one word, then of two
@example(seed=0, name="d_s", first_index=0, num=1, size=1)
@settings(max_examples=150, deadline=None)
def test_draws_are_those_of_a_generator_for_each_sample(
    seed: int, name: str, first_index: int, num: int, size: int
) -> None:
    assert draw_swaps(seed, name, first_index, num, size).tolist() == one_by_one(seed, name, first_index, num, size)
