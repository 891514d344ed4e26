"""World: reading the environment, agreeing on failures, dividing the batch."""

import gc
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from helpers.ports import free_port
from helpers.waiting import until
from torch.nn.parallel import DistributedDataParallel

from cyclesr_dist.distributed.collectives import fetch_samples, mean_over_ranks
from cyclesr_dist.distributed.local_ranks import run_ranks
from cyclesr_dist.distributed.world import World
from cyclesr_dist.errors import ConfigError, CycleSRError, FailedElsewhere, InputError


def test_global_batch_must_divide_and_the_error_says_what_would() -> None:
    assert World(num_ranks=4).rank_batch(32) == 8
    with pytest.raises(ConfigError, match=r"global_batch = 32 .* 3 ranks; use 1 or 2 or 4 ranks, or global_batch=33"):
        World(num_ranks=3).rank_batch(32)


def scenarios(world: World) -> dict[str, object]:
    results: dict[str, object] = {}
    results["fine"] = world.together(lambda: world.rank)

    def fail_on_last() -> None:
        if world.rank == world.num_ranks - 1:
            raise InputError("no such shard")

    def fail_on_all() -> None:
        raise ConfigError("same everywhere")

    for name, run in (("one", fail_on_last), ("all", fail_on_all)):
        try:
            world.together(run)
        except (InputError, FailedElsewhere, ConfigError) as error:
            results[name] = (type(error).__name__, str(error), error.exit_code)
    x = torch.tensor([1.0, 2.0]) + 10 * world.rank
    x.requires_grad_(True)
    mean = mean_over_ranks(x)
    (mean * (world.rank + 1)).backward()
    results["mean"] = float(mean)
    results["grad"] = x.grad.tolist()  # type: ignore[union-attr]
    batch = torch.arange(2.0).add(2 * world.rank).view(2, 1)  # sample i of the whole batch is i
    pixel_by_pixel = torch.arange(24.0).view(1, 2, 3, 4).add(world.rank).to(memory_format=torch.channels_last)
    theirs = fetch_samples(pixel_by_pixel, [[1], [0]], world.rank)[1 - world.rank]
    results["layout"] = torch.equal(theirs, torch.arange(24.0).view(2, 3, 4).add(1 - world.rank))
    results["fetched"] = [
        {i: float(x) for i, x in fetch_samples(batch, wanted, world.rank).items()}
        for wanted in ([[0, 3], [1, 2]], [[0, 1, 2, 3], [3]], [[], [0]], [[0], [2]], [[], []])
    ]
    return results


def test_ranks_agree() -> None:
    results = run_ranks(scenarios, 2)
    assert [r["fine"] for r in results] == [0, 1]
    assert results[0]["one"] == ("InputError", "no such shard (on rank 1)", 2)
    assert results[1]["one"] == ("FailedElsewhere", "no such shard", 2)
    assert results[0]["all"] == ("ConfigError", "same everywhere", 2)
    assert results[1]["all"][0] == "FailedElsewhere"
    assert all(r["mean"] == 6.5 for r in results)
    # Gradients 1 and 2 of the two ranks' losses are averaged, then spread over each rank's two elements.
    assert all(r["grad"] == [0.75, 0.75] for r in results)
    assert all(r["layout"] for r in results)
    assert results[0]["fetched"] == [{0: 0, 3: 3}, {0: 0, 1: 1, 2: 2, 3: 3}, {}, {0: 0}, {}]
    assert results[1]["fetched"] == [{1: 1, 2: 2}, {3: 3}, {0: 0}, {2: 2}, {}]


def test_gloo_may_still_hold_tensors_when_a_rank_leaves_and_then_frees_its_networks(tmp_path) -> None:
    assert run_ranks(leave_while_gloo_frees_a_tensor, 2, tmp_path / "freed") == [True, True]


class SlowToFree:
    """Frees the GIL while it is freed, and needs it again."""

    def __init__(self, begun: threading.Event) -> None:
        self.begun = begun

    def __del__(self) -> None:
        self.begun.set()
        threading.Event().wait(1)


def leave_while_gloo_frees_a_tensor(world: World, deleted: Path) -> bool:
    network = DistributedDataParallel(torch.nn.Linear(1, 1))
    values = [torch.empty(1), torch.empty(1)]
    if world.rank == 0:
        until(deleted.exists)
        dist.all_gather(values, torch.ones(1))
    else:
        tensor, begun = torch.ones(1), threading.Event()
        tensor.note = SlowToFree(begun)  # type: ignore[attr-defined]
        dist.all_gather(values, tensor, async_op=True)
        del tensor  # gloo's thread has the last reference, till rank 0 gives its part
        deleted.touch()
        assert begun.wait(60)
    world.leave()
    del network
    gc.collect()
    return not dist.is_initialized()


def test_run_ranks_reports_a_failing_rank() -> None:
    with pytest.raises(RuntimeError, match="rank 1"):
        run_ranks(fail_on_rank_one, 2)


def fail_on_rank_one(world: World) -> None:
    if world.rank == 1:
        raise ValueError("broken")


def test_a_rank_whose_peer_goes_while_they_meet_says_so_in_one_line(monkeypatch) -> None:
    """Behind the store: gloo finds nobody there, as after a kill."""

    def fail(*args: object, **more: object) -> None:
        raise RuntimeError(
            "Gloo connectFullMesh failed with [gloo/transport] Connect timeout\nException raised from x.cc"
        )

    monkeypatch.setattr(dist, "init_process_group", fail)
    with pytest.raises(CycleSRError) as caught:
        World().join()
    assert str(caught.value).startswith("rank 0 of 1 lost the others while they met: Gloo connectFullMesh failed")
    assert "x.cc" not in str(caught.value)


def test_a_rank_that_waits_in_vain_says_so_when_its_patience_ends() -> None:
    port = str(free_port())
    alone = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = [sys.executable, "-c", "from cyclesr_dist.distributed.world import World; World.from_env().join()"]
    began = time.monotonic()
    done = subprocess.run(
        command, env=os.environ | alone | {"CYCLESR_MEETING_SECONDS": "2"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "rank 0 of 2 cannot meet the others" in done.stderr
    assert time.monotonic() - began < 300  # torch alone waits for ten minutes
