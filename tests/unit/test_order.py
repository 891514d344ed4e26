"""The order of samples: every sample once an epoch, whatever the number of ranks, from any step."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cyclesr_dist.data.order import Augmentation, augmentation, endless_draws, epoch_draws, noise, steps_per_epoch

sizes = st.integers(1, 40)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), batch=sizes, extra=sizes, epoch=st.integers(0, 3))
def test_an_epoch_sees_every_sample_at_most_once_and_leaves_out_less_than_a_batch(seed, batch, extra, epoch) -> None:
    total = batch + extra
    steps = steps_per_epoch(total, batch)
    seen = [d for i in range(steps) for d in epoch_draws(seed, "hr", total, batch, epoch * steps + i)]
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
        return [d.index for d in epoch_draws(0, domain, 50, 50, epoch)]

    orders = [order("hr", 0), order("hr", 1), order("lr", 0), order("lr", 1)]
    assert len({tuple(o) for o in orders}) == 4
    assert order("hr", 1) == order("hr", 1)


def test_a_far_step_needs_none_before_it() -> None:
    (first, *_) = epoch_draws(3, "hr", 1_000_000, 32, 31_250 * 7 + 5)
    assert first.epoch == 7


def test_augmentation_obeys_its_switches_and_covers_all_symmetries() -> None:
    draws = epoch_draws(1, "hr", 1000, 1000, 0)
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
    assert np.array_equal(Augmentation(False, False, 0, (0, 1, 2)).apply(image), image)
    assert np.array_equal(Augmentation(True, True, 2, (0, 1, 2)).apply(image), image)
    assert np.array_equal(Augmentation(False, False, 0, (2, 0, 1)).apply(image), image[:, :, [2, 0, 1]])
    assert Augmentation(False, False, 1, (0, 1, 2)).apply(image).shape == (4, 2, 3)


def test_noise_is_unit_gaussian_and_belongs_to_the_sample() -> None:
    x = noise(5, 17, 2, 64)
    assert x.shape == (2, 2, 64, 64)
    assert x.dtype == np.float32
    assert abs(float(x.std()) - 1) < 0.02
    assert np.array_equal(x, noise(5, 17, 2, 64))
    assert not np.array_equal(x, noise(5, 18, 2, 64))
    assert noise(0, 0, 0, 8).shape == (2, 0, 8, 8)
