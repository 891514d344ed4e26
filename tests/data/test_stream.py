"""The stream as training sees it: the same global batches whatever the ranks and workers, from any step."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers import write_photos
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cyclesr_dist.config.schema import Config, Shards, load
from cyclesr_dist.data import shards
from cyclesr_dist.data.build import build_set
from cyclesr_dist.data.faults import FaultLog
from cyclesr_dist.data.loader import Sources, batches, num_epoch_steps, open_sources, rank_batches, rank_dataset
from cyclesr_dist.data.shards import MANIFEST, ShardSet, shard_name
from cyclesr_dist.data.shared_slots import SharedSlots
from cyclesr_dist.distributed.world import World
from cyclesr_dist.errors import ConfigError, InputError


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    write_photos(root / "hr", 3, 40, 48, seed=0)
    write_photos(root / "lr", 2, 24, 40, seed=1)
    return root


def build(photos: Path, out: Path, samples_per_shard: int) -> None:
    shards = Shards(patch=8, stride=8, samples_per_shard=samples_per_shard)
    build_set("hr", out / "hr", shards, scale=2, hr_dir=photos / "hr", progress=False)
    build_set("lr", out / "lr", shards, scale=2, lr_dir=photos / "lr", progress=False)


@pytest.fixture(scope="module")
def sets(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets")
    for samples_per_shard in (1, 4, 1000):
        build(photos, root / str(samples_per_shard), samples_per_shard)
    return root


def configure(folder: Path, *overrides: str) -> Config:
    names = ["data.allow_overlap=true", "scale=2", f"data.hr={folder}/hr", f"data.lr={folder}/lr"]
    return load(None, [*names, "nets.translator.noise_channels=1", *overrides])


def global_batch(sources: Sources, config: Config, num_ranks: int, step: int) -> dict[str, list]:
    """What all ranks read for one step, put together in rank order."""
    parts = [rank_dataset(sources, config, World(rank, num_ranks))[step] for rank in range(num_ranks)]
    return {
        "hr_keys": [key for part in parts for key in part.hr_keys],
        "lr_keys": [key for part in parts for key in part.lr_keys],
        "changes": [change for name in ("hr", "lr") for part in parts for change in part.changes[name]],
        "hr": [image.tobytes() for part in parts for image in part.arrays["hr"]],
        "lr": [image.tobytes() for part in parts for image in part.arrays["lr"]],
        "noise": [part.arrays["noise"][:, i].tobytes() for part in parts for i in range(len(part.hr_keys))],
    }


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_global_batches_depend_on_neither_ranks_nor_shards(sets: Path, data: st.DataObject) -> None:
    num_ranks = data.draw(st.integers(1, 4))
    batch = num_ranks * data.draw(st.integers(1, 3))
    tail = data.draw(st.sampled_from(["drop", "wrap"]))
    seed, step = data.draw(st.integers(0, 5)), data.draw(st.integers(0, 40))
    overrides = [f"global_batch={batch}", f"data.tail={tail}", f"seed={seed}"]
    alone = configure(sets / "4", *overrides)
    together = configure(sets / data.draw(st.sampled_from(["1", "4", "1000"])), *overrides)
    expected = global_batch(open_sources(alone), alone, 1, step)
    assert global_batch(open_sources(together), together, num_ranks, step) == expected
    assert len(expected["hr"]) == len(expected["lr"]) == batch


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_an_epoch_over_all_ranks_sees_every_sample_as_the_tail_says(sets: Path, data: st.DataObject) -> None:
    num_ranks = data.draw(st.integers(1, 3))
    config = configure(
        sets / "4",
        f"global_batch={num_ranks * data.draw(st.integers(1, 5))}",
        f"data.tail={data.draw(st.sampled_from(['drop', 'wrap']))}",
        f"seed={data.draw(st.integers(0, 99))}",
    )
    sources = open_sources(config)
    hr = sources.epoch_set
    steps = num_epoch_steps(sources, config)
    epoch = data.draw(st.integers(0, 3))
    # World sizes may change within the epoch: a run stopped after any step goes on with another number of ranks.
    sizes = [n for n in (1, 2, 3) if config.global_batch % n == 0]
    seen: Counter[str] = Counter()
    for step in range(steps * epoch, steps * (epoch + 1)):
        seen.update(global_batch(sources, config, data.draw(st.sampled_from(sizes)), step)["hr_keys"])
    every = {hr.key(i) for i in range(len(hr))}
    if config.data.tail == "drop":
        assert set(seen.values()) == {1}
        assert len(every) - len(seen) == len(hr) % config.global_batch
    else:
        assert seen.keys() == every
        assert sum(seen.values()) == steps * config.global_batch


def test_lr_passes_follow_each_other_and_pairings_change(sets: Path) -> None:
    config = configure(sets / "4", "global_batch=6")
    sources = open_sources(config)
    assert sources.hr is not None
    assert sources.lr is not None
    partners: dict[str, set[str]] = {}
    lr_keys: list[str] = []
    for step in range(60):
        got = global_batch(sources, config, 1, step)
        lr_keys += got["lr_keys"]
        for hr, lr in zip(got["hr_keys"], got["lr_keys"], strict=True):
            partners.setdefault(hr, set()).add(lr)
    size = len(sources.lr)
    for start in range(0, len(lr_keys) - size + 1, size):
        assert len(set(lr_keys[start : start + size])) == size
    assert np.mean([len(of) for of in partners.values()]) > 5


@pytest.mark.parametrize("workers", [1, 3])
def test_worker_processes_change_nothing_and_any_step_may_be_the_first(sets: Path, workers: int) -> None:
    config = configure(sets / "4", "global_batch=4", f"data.workers={workers}", "data.prefetch=1")
    sources = open_sources(config)
    world = World(1, 2)
    for step, (item, arrays) in enumerate(rank_batches(sources, config, world, 13, 31), start=13):
        expected = rank_dataset(sources, config, world)[step]
        assert (item.hr_keys, item.lr_keys, item.changes) == (expected.hr_keys, expected.lr_keys, expected.changes)
        assert all(np.array_equal(arrays[name], expected.arrays[name]) for name in ("hr", "lr", "noise"))


def test_batches_are_of_the_augmented_patches(sets: Path) -> None:
    config = configure(sets / "4", "global_batch=3")
    sources = open_sources(config)
    item = rank_dataset(sources, config, World())[5]
    ((batch, faults),) = batches(sources, config, World(), 5, 6)
    assert faults == ()
    assert batch.index == 15
    for i, change in enumerate(item.changes["hr"]):
        image = item.arrays["hr"][i]
        for axis, flip in ((1, change.left_right), (0, change.up_down)):
            image = np.flip(image, axis) if flip else image
        expected = np.rot90(image, change.quarter_turns).transpose(2, 0, 1).astype(np.float32) / 255
        np.testing.assert_array_equal(batch.hr[i].numpy(), expected)


def test_a_ring_too_short_is_noticed() -> None:
    slots = SharedSlots({"x": ((2, 3), np.dtype(np.float32))}, 2)
    for step in range(3):
        arrays = slots.take(step)
        arrays["x"][:] = step
        slots.done(step)
    assert np.array_equal(slots.finished(2)["x"], np.full((2, 3), 2, np.float32))
    with pytest.raises(RuntimeError, match="holds step 2, not 0"):
        slots.finished(0)


def test_too_little_shared_memory_is_named() -> None:
    with pytest.raises(ConfigError, match=r"data\.workers and data\.prefetch need \d+ MB of shared memory a rank"):
        SharedSlots({"x": ((1 << 20, 1 << 20), np.dtype(np.uint8))}, 3)


# --- a far step of a large set


def test_the_millionth_sample_of_two_thousand_shards_is_reached_by_a_seek(sets: Path, tmp_path: Path) -> None:
    """One real shard stands for all: two thousand manifest entries and files, of which an index is read when needed."""
    source = sets / "1000" / "hr"
    manifest = json.loads((source / MANIFEST).read_text())
    (entry,) = manifest["shards"]
    index = json.loads((source / f"{shard_name(0)}.json").read_text())
    sample = index["samples"][0]
    count, num_shards = 501, 2000
    index |= {"count": count, "samples": [sample | {"key": f"{sample['key']}-{j}"} for j in range(count)]}
    out = tmp_path / "large"
    out.mkdir()
    entries = []
    for number in range(num_shards):
        name = shard_name(number)
        text = json.dumps(index | {"tar": f"{name}.tar"}).encode()
        (out / f"{name}.json").write_bytes(text)
        (out / f"{name}.tar").hardlink_to(source / entry["tar"])
        checksum = hashlib.sha256(text).hexdigest()
        entries.append(entry | {"tar": f"{name}.tar", "count": count, "index_sha256": checksum})
    (out / MANIFEST).write_text(json.dumps(manifest | {"shards": entries, "count": count * num_shards}))

    config = load(None, ["system=sr_syn", "scale=2", f"data.hr={out}", "global_batch=32"])
    step = 1_000_000 // 32
    seconds = []
    for _ in range(3):
        started = time.process_time()  # the machine may be busy with something else
        sources = open_sources(config)
        (item,) = (item for item, _ in rank_batches(sources, config, World(), step, step + 1))
        seconds.append(time.process_time() - started)
        assert len(sources.epoch_set) == 1_002_000
        assert len(item.hr_keys) == 32
    assert min(seconds) < 2
    print(f"seconds to the first batch: {seconds}")


# --- faults


def damage(folder: Path, count: int) -> list[str]:
    """Overwrite the first `count` HR samples of the first shard. Returns their keys."""
    index = json.loads((folder / "hr/shard-000000.json").read_text())
    with (folder / "hr/shard-000000.tar").open("r+b") as tar:
        for sample in index["samples"][:count]:
            tar.seek(sample["members"]["hr.tiff"][0] + 100)
            tar.write(b"damaged!")
    return [sample["key"] for sample in index["samples"][:count]]


def test_bad_samples_are_replaced_alike_on_any_number_of_ranks(photos: Path, tmp_path: Path) -> None:
    build(photos, tmp_path, 5)
    bad = damage(tmp_path, 3)
    config = configure(tmp_path, "global_batch=6", "data.tail=wrap", "data.max_bad_samples=3")
    sources = open_sources(config)
    met: set[str] = set()
    for step in range(2 * num_epoch_steps(sources, config)):
        expected = global_batch(sources, config, 1, step)
        for num_ranks in (2, 3, 6):
            assert global_batch(sources, config, num_ranks, step) == expected
        assert not set(bad) & set(expected["hr_keys"])
        assert len(expected["hr_keys"]) == 6
        met |= {
            fault.message.split("sample ")[1].split(".hr")[0]
            for fault in rank_dataset(sources, config, World())[step].faults
        }
    assert met == set(bad)


@pytest.mark.parametrize("what", ["tar", "json", "short tar"])
def test_a_missing_shard_counts_as_its_samples(photos: Path, tmp_path: Path, what: str) -> None:
    build(photos, tmp_path, 5)
    path = tmp_path / f"hr/shard-000001.{what.split()[-1]}"
    if what == "short tar":
        path.write_bytes(path.read_bytes()[:600])
    else:
        path.unlink()
    with pytest.raises(InputError, match=path.name):
        open_sources(configure(tmp_path, "global_batch=6"))
    config = configure(tmp_path, "global_batch=6", "data.max_bad_samples=5", "data.tail=wrap")
    sources = open_sources(config)
    log = FaultLog(5, World())
    items = [rank_dataset(sources, config, World())[step] for step in range(num_epoch_steps(sources, config))]
    assert sum(log.agree(item.faults) for item in items) == 5
    assert all("shard-000001" in fault.message for item in items for fault in item.faults)


def test_the_log_tells_each_fault_once_and_stops_beyond_the_limit(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build(photos, tmp_path, 5)
    (key,) = damage(tmp_path, 1)
    config = configure(tmp_path, "global_batch=6", "data.tail=wrap", "data.max_bad_samples=1")
    sources = open_sources(config)
    log = FaultLog(1, World())
    for item, _ in rank_batches(sources, config, World(), 0, 3 * num_epoch_steps(sources, config)):
        log.agree(item.faults)
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 1
    assert f"shard-000000.tar: sample {key}.hr is damaged" in warnings[0]
    strict = configure(tmp_path, "global_batch=6", "data.tail=wrap")
    items = [rank_dataset(sources, strict, World())[step] for step in range(num_epoch_steps(sources, strict))]
    faults = [fault for item in items for fault in item.faults]
    with pytest.raises(InputError, match=rf"sample {key}\.hr is damaged.*data\.max_bad_samples = 0"):
        FaultLog(0, World()).agree(faults)
    damage(tmp_path, 2)
    fresh = open_sources(config)
    steps = rank_batches(fresh, config, World(), 0, num_epoch_steps(fresh, config))
    faults = [fault for item, _ in steps for fault in item.faults]
    with pytest.raises(InputError, match=r"data\.max_bad_samples = 1, and 2 were met"):
        log.agree(faults)


def test_a_sample_over_the_largest_size_is_refused_unread(sets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = ShardSet.open(str(sets / "4" / "hr"), "hr")
    assert found.read(0)["hr"].shape == (16, 16, 3)
    monkeypatch.setattr(shards, "MAX_SAMPLE_BYTES", 500)
    with pytest.raises(InputError, match=r"makes samples of 0\.0 MB; allowed: at most 0\.0005 MB"):
        ShardSet.open(str(sets / "4" / "hr"), "hr")
    # As if one encoded sample were larger than the decoded ones.
    with pytest.raises(InputError, match=r"sample .*\.hr has \d+ bytes; allowed: at most 500"):
        found.read(0)


def test_a_limit_that_all_samples_fit_in_is_refused(sets: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.max_bad_samples = 1000, but .* has 27 samples"):
        open_sources(configure(sets / "4", "data.max_bad_samples=1000"))
