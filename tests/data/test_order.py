"""The order of samples: every sample once an epoch, whatever the number of ranks, from any step."""

import itertools
from collections import Counter
from itertools import permutations, product

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cyclesr_dist.data.mixture import mix
from cyclesr_dist.data.order import (
    Augmentation,
    Draw,
    Mix,
    augmentation,
    endless_draws,
    epoch_draws,
    noise,
    replacement,
    steps_per_epoch,
)
from cyclesr_dist.errors import ConfigError

sizes = st.integers(1, 40)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), batch=sizes, extra=sizes, epoch=st.integers(0, 3))
def test_an_epoch_sees_every_sample_at_most_once_and_leaves_out_less_than_a_batch(seed, batch, extra, epoch) -> None:
    total = batch + extra
    steps = steps_per_epoch(total, batch, "drop")
    seen = [
        d for i in range(steps) for d in epoch_draws(seed, "hr", Mix.alone(total), batch, epoch * steps + i, "drop")
    ]
    assert {d.epoch for d in seen} == {epoch}
    assert len({d.index for d in seen}) == len(seen) == total - total % batch


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), batch=sizes, total=sizes, steps=st.integers(1, 12))
def test_endless_passes_follow_each_other_without_a_gap(seed, batch, total, steps) -> None:
    draws = [d for step in range(steps) for d in endless_draws(seed, "lr", Mix.alone(total), batch, step)]
    assert len(draws) == steps * batch
    whole_passes = len(draws) // total
    per_pass = Counter((d.epoch, d.index) for d in draws[: whole_passes * total])
    assert per_pass == Counter({(e, i): 1 for e in range(whole_passes) for i in range(total)})


def test_domains_and_epochs_are_drawn_independently() -> None:
    def order(domain: str, epoch: int) -> list[int]:
        return [d.index for d in epoch_draws(0, domain, Mix.alone(50), 50, epoch, "drop")]

    orders = [order("hr", 0), order("hr", 1), order("lr", 0), order("lr", 1)]
    assert len({tuple(o) for o in orders}) == 4
    assert order("hr", 1) == order("hr", 1)


def test_a_far_step_needs_none_before_it() -> None:
    (first, *_) = epoch_draws(3, "hr", Mix.alone(1_000_000), 32, 31_250 * 7 + 5, "drop")
    assert first.epoch == 7


def test_augmentation_obeys_its_switches_and_covers_all_symmetries() -> None:
    draws = epoch_draws(1, "hr", Mix.alone(1000), 1000, 0, "drop")
    full = {augmentation(1, d, flip=True, rotate=True, colours=True) for d in draws}
    assert len(full) == 2 * 2 * 4 * 6
    still = Augmentation(False, False, 0, (0, 1, 2))
    assert {augmentation(1, d, flip=False, rotate=False, colours=False) for d in draws} == {still}
    turned = [augmentation(1, d, flip=False, rotate=True, colours=False) for d in draws]
    assert {(a.left_right, a.up_down, a.channels) for a in turned} == {(False, False, (0, 1, 2))}
    with_colours = [augmentation(1, d, flip=False, rotate=True, colours=True) for d in draws]
    assert [a.quarter_turns for a in with_colours] == [a.quarter_turns for a in turned]


def test_augmentation_of_pixels() -> None:
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    channels_first = torch.from_numpy(image).permute(2, 0, 1)
    for left_right, up_down, turns, channels in product((False, True), (False, True), range(4), permutations(range(3))):
        expected = image[:, ::-1] if left_right else image
        expected = np.rot90(expected[::-1] if up_down else expected, turns)[:, :, list(channels)]
        found = Augmentation(left_right, up_down, turns, channels).apply(channels_first)
        assert np.array_equal(found.permute(1, 2, 0).numpy(), expected)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), batch=sizes, total=sizes, epoch=st.integers(0, 3))
def test_wrap_sees_every_sample_and_fills_the_last_batch_from_the_same_epoch(seed, batch, total, epoch) -> None:
    steps = steps_per_epoch(total, batch, "wrap")
    seen = [
        d for i in range(steps) for d in epoch_draws(seed, "hr", Mix.alone(total), batch, epoch * steps + i, "wrap")
    ]
    assert len(seen) == steps * batch
    assert 0 <= len(seen) - total < batch
    assert {d.epoch for d in seen} == {epoch}
    assert Counter(d.index for d in seen[:total]) == Counter(range(total))
    assert [d.index for d in seen[total:]] == [seen[i % total].index for i in range(total, len(seen))]


def test_a_replacement_is_a_function_of_the_bad_sample() -> None:
    bad = Draw("hr", 3, 1)
    drawn = [replacement(0, bad, attempt, Mix.alone(1000)) for attempt in range(1, 20)]
    assert drawn == [replacement(0, bad, attempt, Mix.alone(1000)) for attempt in range(1, 20)]
    assert len({d.index for d in drawn}) > 10
    assert {(d.domain, d.epoch) for d in drawn} == {("hr", 1)}
    assert replacement(0, Draw("hr", 4, 1), 1, Mix.alone(1000)) != drawn[0]


def test_noise_is_unit_gaussian_and_belongs_to_the_sample() -> None:
    x = noise(5, 17, 2, 64)
    assert x.shape == (2, 2, 64, 64)
    assert x.dtype == np.float32
    assert abs(float(x.std()) - 1) < 0.02
    assert np.array_equal(x, noise(5, 17, 2, 64))
    assert not np.array_equal(x, noise(5, 18, 2, 64))
    assert noise(0, 0, 0, 8).shape == (2, 0, 8, 8)


mixes = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 5)), min_size=2, max_size=4)


def mix_of(parts: list[tuple[int, int]]) -> Mix:
    """Sets of these sizes, and weights."""
    sizes, weights = zip(*parts, strict=True)
    return mix("data.hr", sizes, weights)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), parts=mixes, batch=st.integers(1, 9), start=st.integers(0, 4))
def test_sets_of_a_mixture_have_their_shares_and_lose_no_sample(seed, parts, batch, start) -> None:
    sizes = [size for size, _ in parts]
    total, weights = sum(sizes), sum(weight for _, weight in parts)
    assume(all(total * weight >= weights for _, weight in parts))  # none is too small a share
    mixture = mix_of(parts)
    steps = range(start * total, (start + 3) * total)
    draws = [draw for step in steps for draw in endless_draws(seed, "lr", mixture, batch, step)]
    for place in range(0, len(draws) - total + 1, total):
        # Of a whole epoch: exactly the share, to the rounding of a sample.
        shares = Counter(mixture.set_of(draw.index) for draw in draws[place : place + total])
        for i, (_, weight) in enumerate(parts):
            assert abs(shares[i] - total * weight / weights) <= 1
    for i, (first, size) in enumerate(zip(mixture.starts, mixture.sizes, strict=True)):
        own = [draw for draw in draws if mixture.set_of(draw.index) == i]
        assert all(later.epoch - earlier.epoch in (0, 1) for earlier, later in itertools.pairwise(own))
        whole = range(own[0].epoch + 1, own[-1].epoch)
        seen = Counter((draw.epoch, draw.index) for draw in own if draw.epoch in whole)
        assert seen == Counter({(n, index): 1 for n in whole for index in range(first, first + size)})


def test_sets_without_weights_are_one_set_of_all_samples() -> None:
    joined = mix("data.hr", (5, 3, 9), None)
    for epoch in range(3):
        draws = epoch_draws(4, "hr", joined, 17, epoch, "drop")
        assert sorted(draw.index for draw in draws) == list(range(17))
        assert {draw.epoch for draw in draws} == {epoch}
    first = [draw.index for draw in epoch_draws(4, "hr", joined, 17, 0, "drop")]
    assert first != [draw.index for draw in epoch_draws(4, "hr", joined, 17, 1, "drop")]


def test_one_set_is_drawn_as_it_was_before_there_were_mixtures() -> None:
    draws = epoch_draws(7, "hr", Mix.alone(6), 6, 2, "drop")
    assert [draw.index for draw in draws] == np.random.default_rng([7, 1, 2]).permutation(6).tolist()


def test_a_replacement_is_of_the_same_set() -> None:
    mixture = mix("data.hr", (4, 6), (1, 1))
    assert {replacement(0, Draw("hr", 2, 0), n, mixture).index for n in range(200)} == set(range(4))
    assert {replacement(0, Draw("hr", 7, 0), n, mixture).index for n in range(200)} == set(range(4, 10))


def test_a_weight_too_small_to_be_drawn_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.hr\[1\]\.weight = 0\.01 .*none of the 20 samples of an epoch"):
        mix("data.hr", (10, 10), (1, 0.01))
