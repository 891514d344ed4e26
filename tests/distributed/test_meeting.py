"""Ranks that are started again at the store of those before them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from torch.distributed import Store, TCPStore

from cyclesr_dist.distributed.rendezvous import fresh_store
from cyclesr_dist.errors import CycleSRError

SOON = timedelta(seconds=20)


@pytest.fixture
def port() -> Iterator[int]:
    server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    yield server.port
    del server


def meet(port: int, ranks: list[int], num_ranks: int, timeout: timedelta = SOON) -> list[Store]:
    """The parts of the store that the ranks get, each by a connection of its own."""
    clients = [TCPStore("127.0.0.1", port, is_master=False) for _ in ranks]
    with ThreadPoolExecutor(len(ranks)) as pool:
        calls = [pool.submit(fresh_store, c, r, num_ranks, timeout) for c, r in zip(clients, ranks, strict=True)]
        return [call.result() for call in calls]


def test_all_ranks_of_an_attempt_share_what_no_attempt_before_left(port) -> None:
    before = meet(port, [0, 1, 2], 3)
    before[0].set("address", "gone")
    assert before[2].get("address") == b"gone"
    for order in ([2, 1, 0], [0, 2, 1], [1, 0]):  # also with fewer ranks
        stores = meet(port, order, len(order))
        assert not any(store.check(["address"]) for store in stores)
        stores[0].set("address", str(order))
        assert all(store.get("address") == str(order).encode() for store in stores)


def test_a_rank_that_waits_in_vain_for_one_that_has_ended_says_so_in_one_line() -> None:
    server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    with ThreadPoolExecutor(1) as pool:
        second = TCPStore("127.0.0.1", server.port, is_master=False)
        call = pool.submit(fresh_store, second, 1, 2, SOON)
        server.set("cyclesr/owner", '["", 2, "here"]')
        del server
        with pytest.raises(CycleSRError, match=r"rank 1 of 2 waited for rank 0, which has ended; .*a RANK of its own"):
            call.result()


def test_a_question_of_a_dead_rank_is_not_taken_for_a_living_one(port) -> None:
    with pytest.raises(CycleSRError, match=r"rank 1 got no word from rank 0 in 0\.2 s"):
        meet(port, [1], 2, timedelta(seconds=0.2))
    with pytest.raises(CycleSRError, match=r"rank 1 did not come in 0\.2 s"):
        meet(port, [0], 2, timedelta(seconds=0.2))
    first, second = meet(port, [0, 1], 2)
    first.set("x", "1")
    assert second.get("x") == b"1"
