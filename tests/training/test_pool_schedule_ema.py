"""Image pool, schedule and moving average."""

import itertools

import pytest
import torch

from cyclesr_dist.config.schema import Train
from cyclesr_dist.config.systems import SYSTEMS, Phase
from cyclesr_dist.distributed.local_ranks import run_ranks
from cyclesr_dist.distributed.world import World
from cyclesr_dist.errors import ConfigError
from cyclesr_dist.method.pool import ImagePool
from cyclesr_dist.training.ema import EMA
from cyclesr_dist.training.schedule import Schedule


def images(first: int, count: int) -> torch.Tensor:
    return torch.arange(first, first + count, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)


def shown(pool: ImagePool, batch: int, count: int) -> list[float]:
    return [
        float(v) for first in range(0, count, batch) for v in pool.exchange(images(first, batch), first)[:, 0, 0, 0]
    ]


def test_pool_does_not_depend_on_how_batches_are_cut() -> None:
    outcomes = [shown(ImagePool("d_r", 5, 3), batch, 48) for batch in (1, 4, 12, 48)]
    assert all(o == outcomes[0] for o in outcomes)


def test_pool_fills_first_then_swaps_about_half() -> None:
    values = shown(ImagePool("d_r", 50, 0), 10, 1050)
    assert values[:50] == list(range(50))
    older = sum(value != index for index, value in enumerate(values[50:], 50))
    assert 430 < older < 570
    assert all(value <= index for index, value in enumerate(values))


def test_pools_of_other_names_and_seeds_decide_otherwise() -> None:
    outcomes = [shown(ImagePool(name, 5, seed), 4, 80) for name, seed in (("d_r", 0), ("d_s", 0), ("d_r", 1))]
    assert outcomes[0] != outcomes[1]
    assert outcomes[0] != outcomes[2]


def test_pool_of_size_zero_shows_the_newest() -> None:
    assert shown(ImagePool("d_r", 0, 0), 4, 12) == list(range(12))


def test_pool_state_continues_exactly() -> None:
    whole = ImagePool("d_r", 5, 1)
    expected = shown(whole, 4, 80)
    part = ImagePool("d_r", 5, 1)
    first = shown(part, 4, 40)
    resumed = ImagePool("d_r", 5, 1)
    resumed.load_state(part.state())
    rest = [float(v) for i in range(40, 80, 4) for v in resumed.exchange(images(i, 4), i)[:, 0, 0, 0]]
    assert first + rest == expected


def shown_by_ranks(world: World) -> tuple[list[list[float]], list[float]]:
    pool = ImagePool("d_r", 5, 3)
    shown = []
    for first in range(0, 48, 12):
        mine = images(first, 12)[world.rank * 12 // world.num_ranks :][: 12 // world.num_ranks]
        shown.append(pool.exchange(mine, first, world.rank, world.num_ranks)[:, 0, 0, 0].tolist())
    state = pool.state()
    assert state is not None
    return shown, state[:, 0, 0, 0].tolist()


def test_ranks_show_together_what_one_would() -> None:
    """And all hold the same images, which alone make the next checkpoint."""
    alone, held = shown_by_ranks(World())
    results = run_ranks(shown_by_ranks, 3)
    together = zip(*(shown for shown, _ in results), strict=True)
    assert [[*itertools.chain(*parts)] for parts in together] == alone
    assert all(after == held for _, after in results)


def test_pool_does_not_hold_memory_of_the_caller() -> None:
    pool = ImagePool("d_r", 2, 0)
    batch = images(0, 2).clone()
    pool.exchange(batch, 0)
    batch.zero_()
    state = pool.state()
    assert state is not None
    assert float(state[1, 0, 0, 0]) == 1


def test_schedule_of_the_paper() -> None:
    schedule = Schedule(Train(), 505, SYSTEMS["cyclesr"].rounds)
    assert schedule.num_steps == 200 * 505
    assert schedule.phase(5 * 505 - 1) is Phase.PRETRAIN
    assert schedule.phase(5 * 505) is Phase.JOINT
    assert schedule.lr_factor(0) == schedule.lr_factor(100 * 505 - 1) == 1.0
    assert schedule.lr_factor(150 * 505) == pytest.approx(0.5)
    assert schedule.lr_factor(200 * 505) == 0.0
    factors = [schedule.lr_factor(s) for s in range(0, 200 * 505, 101)]
    assert factors == sorted(factors, reverse=True)


def test_max_steps_stops_early_and_leaves_the_schedule() -> None:
    short, whole = (
        Schedule(Train(max_steps=30), 10, SYSTEMS["cyclesr"].rounds),
        Schedule(Train(), 10, SYSTEMS["cyclesr"].rounds),
    )
    assert short.num_steps == 30
    assert short.lr_factor(20) == whole.lr_factor(20)
    assert Schedule(Train(pretrain_epochs=0), 10, SYSTEMS["cyclesr"].rounds).phase(0) is Phase.JOINT
    assert Schedule(Train(epochs=3, constant_epochs=3), 10, SYSTEMS["cyclesr"].rounds).lr_factor(29) == 1.0


def test_ema_averages_parameters_and_copies_buffers() -> None:
    ema = EMA(0.9, {"w": torch.zeros(2), "running_mean": torch.zeros(2)})
    for _ in range(3):
        ema.update({"w": torch.ones(2), "running_mean": torch.full((2,), 5.0)}, {"w"})
    torch.testing.assert_close(ema.average["w"], torch.full((2,), 1 - 0.9**3))
    assert torch.equal(ema.average["running_mean"], torch.full((2,), 5.0))


def test_cycle_sr_separate_has_two_rounds_of_full_length() -> None:
    joint = Schedule(Train(epochs=4, constant_epochs=2, pretrain_epochs=1), 10, SYSTEMS["cyclesr"].rounds)
    separate = Schedule(Train(epochs=4, constant_epochs=2, pretrain_epochs=1), 10, SYSTEMS["cycle_sr_separate"].rounds)
    assert separate.num_steps == 2 * joint.num_steps
    assert [separate.phase(step) for step in (0, 39, 40, 79)] == [Phase.TRANSLATE] * 2 + [Phase.SEPARATE] * 2
    for step in range(40):
        assert separate.lr_factor(step) == separate.lr_factor(40 + step) == joint.lr_factor(step)
    assert separate.lr_factor(80) == 0 == joint.lr_factor(40)


def test_other_systems_have_one_phase() -> None:
    for system, phase in (("sr_syn", Phase.SR), ("sr_paired", Phase.SR), ("cyclegan", Phase.CYCLEGAN)):
        schedule = Schedule(Train(epochs=4, pretrain_epochs=1, constant_epochs=2), 10, SYSTEMS[system].rounds)
        assert {schedule.phase(step) for step in range(schedule.num_steps)} == {phase}


def test_a_schedule_in_steps_keeps_the_shares_of_its_epochs() -> None:
    train = Train(epochs=200, pretrain_epochs=5, constant_epochs=100, steps=1000)
    for epoch_steps in (3, 505):
        schedule = Schedule(train, epoch_steps, SYSTEMS["cyclesr"].rounds)
        assert schedule.num_steps == 1000
        assert [schedule.phase(step) for step in (24, 25)] == [Phase.PRETRAIN, Phase.JOINT]
        assert [schedule.lr_factor(step) for step in (500, 750, 1000)] == [1.0, 0.5, 0.0]
    assert Schedule(train, 505, SYSTEMS["cycle_sr_separate"].rounds).num_steps == 2000


def test_warm_up_then_cosine() -> None:
    train = Train(steps=1000, constant_epochs=0, warmup_steps=100, decay="cosine")
    schedule = Schedule(train, 505, SYSTEMS["cyclesr"].rounds)
    assert [schedule.lr_factor(step) for step in (0, 49, 99, 100, 1000)] == [0.01, 0.5, 1.0, 1.0, 0.0]
    assert [schedule.lr_factor(step) for step in (325, 550, 775)] == pytest.approx([0.853553, 0.5, 0.146447], abs=1e-6)
    assert schedule.lr_factor(999) > 0
    rounds = Schedule(train, 505, SYSTEMS["cycle_sr_separate"].rounds)
    assert [rounds.lr_factor(1000 + step) for step in range(1000)] == [schedule.lr_factor(s) for s in range(1000)]


def test_warm_up_is_part_of_the_constant_epochs() -> None:
    train = Train(epochs=10, constant_epochs=5, steps=1000)
    warm = Schedule(Train(epochs=10, constant_epochs=5, steps=1000, warmup_steps=50), 7, SYSTEMS["sr_syn"].rounds)
    plain = Schedule(train, 7, SYSTEMS["sr_syn"].rounds)
    assert [warm.lr_factor(s) for s in range(49, 1001)] == [plain.lr_factor(s) for s in range(49, 1001)]
    assert warm.lr_factor(48) < 1


def test_a_warm_up_as_long_as_the_schedule_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train\.warmup_steps = 40, but the schedule has 40 steps; allowed: less"):
        Schedule(Train(epochs=4, constant_epochs=0, warmup_steps=40), 10, SYSTEMS["sr_syn"].rounds)
