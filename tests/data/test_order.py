"""The order of samples: every sample once an epoch, whatever the number of ranks, from any step."""

from collections import Counter
from itertools import permutations, product

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cyclesr_dist.data.order import (
    Augmentation,
    Draw,
    augmentation,
    endless_draws,
    epoch_draws,
    noise,
    replacement,
    steps_per_epoch,
)

sizes = st.integers(1, 40)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), batch=sizes, extra=sizes, epoch=st.integers(0, 3))
def test_an_epoch_sees_every_sample_at_most_once_and_leaves_out_less_than_a_batch(seed, batch, extra, epoch) -> None:
    total = batch + extra
    steps = steps_per_epoch(total, batch, "drop")
    seen = [d for i in range(steps) for d in epoch_draws(seed, "hr", total, batch, epoch * steps + i, "drop")]
    assert {d.epoch for d in seen} == {epoch}
    assert len({d.index for d in seen}) == len(seen) == total - total % batch


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), batch=sizes, total=sizes, steps=st.integers(1, 12))
def test_endless_passes_follow_each_other_without_a_gap(seed, batch, total, steps) -> None:
    draws = [d for step in range(steps) for d in endless_draws(seed, "lr", total, batch, step)]
    assert len(draws) == steps * batch
    whole_passes = len(draws) // total
    per_pass = Counter((d.epoch, d.index) for d in draws[: whole_passes * total])
    assert per_pass == Counter({(e, i): 1 for e in range(whole_passes) for i in range(total)})


def test_domains_and_epochs_are_drawn_independently() -> None:
    def order(domain: str, epoch: int) -> list[int]:
        return [d.index for d in epoch_draws(0, domain, 50, 50, epoch, "drop")]

    orders = [order("hr", 0), order("hr", 1), order("lr", 0), order("lr", 1)]
    assert len({tuple(o) for o in orders}) == 4
    assert order("hr", 1) == order("hr", 1)


def test_a_far_step_needs_none_before_it() -> None:
    (first, *_) = epoch_draws(3, "hr", 1_000_000, 32, 31_250 * 7 + 5, "drop")
    assert first.epoch == 7


def test_augmentation_obeys_its_switches_and_covers_all_symmetries() -> None:
    draws = epoch_draws(1, "hr", 1000, 1000, 0, "drop")
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
    seen = [d for i in range(steps) for d in epoch_draws(seed, "hr", total, batch, epoch * steps + i, "wrap")]
    assert len(seen) == steps * batch
    assert 0 <= len(seen) - total < batch
    assert {d.epoch for d in seen} == {epoch}
    assert Counter(d.index for d in seen[:total]) == Counter(range(total))
    assert [d.index for d in seen[total:]] == [seen[i % total].index for i in range(total, len(seen))]


def test_a_replacement_is_a_function_of_the_bad_sample() -> None:
    bad = Draw("hr", 3, 1)
    drawn = [replacement(0, bad, attempt, 1000) for attempt in range(1, 20)]
    assert drawn == [replacement(0, bad, attempt, 1000) for attempt in range(1, 20)]
    assert len({d.index for d in drawn}) > 10
    assert {(d.domain, d.epoch) for d in drawn} == {("hr", 1)}
    assert replacement(0, Draw("hr", 4, 1), 1, 1000) != drawn[0]


def test_noise_is_unit_gaussian_and_belongs_to_the_sample() -> None:
    x = noise(5, 17, 2, 64)
    assert x.shape == (2, 2, 64, 64)
    assert x.dtype == np.float32
    assert abs(float(x.std()) - 1) < 0.02
    assert np.array_equal(x, noise(5, 17, 2, 64))
    assert not np.array_equal(x, noise(5, 18, 2, 64))
    assert noise(0, 0, 0, 8).shape == (2, 0, 8, 8)
