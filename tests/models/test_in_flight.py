"""Two photographs are enlarged at a time: the results, their order and what ends the work are those of one by one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import write_photos
from helpers.waiting import until

from cyclesr_dist.data.images import write_png
from cyclesr_dist.errors import InputError, MemoryShortError, UnwritableError
from cyclesr_dist.models.in_flight import InFlight, Stopped
from cyclesr_dist.models.upscale_files import Enlarging, Task, upscale_files
from cyclesr_dist.models.upscaler import BicubicUpscaler
from cyclesr_dist.runtime.tally import Tally

SECONDS = 60.0


class TwoAtOnce(BicubicUpscaler):
    """Ends no call before another one has begun."""

    def __init__(self) -> None:
        super().__init__(2)
        self.both = threading.Barrier(2)

    def __call__(self, x: Any) -> Any:
        self.both.wait(SECONDS)
        return super().__call__(x)


class OneByOne(BicubicUpscaler):
    """Fails where another call has not ended."""

    def __init__(self) -> None:
        super().__init__(2)
        self.busy = threading.Lock()

    def __call__(self, x: Any) -> Any:
        assert self.busy.acquire(blocking=False), "two at once"
        try:
            return super().__call__(x)
        finally:
            self.busy.release()


@pytest.fixture
def two_threads() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def tasks_of(folder: Path, out: Path) -> list[Task]:
    return [Task(path.name, path, out / f"{path.stem}.png") for path in sorted(folder.iterdir())]


def enlarge(folder: Path, out: Path, how: Enlarging) -> Tally:
    out.mkdir()
    tally = Tally()
    upscale_files(how, tasks_of(folder, out), tally, progress=False)
    return tally


@pytest.mark.usefixtures("two_threads")
class TestFolder:
    def test_two_at_once(self, tmp_path: Path) -> None:
        write_photos(tmp_path / "in", 4, 20, 24, seed=0)
        tally = enlarge(tmp_path / "in", tmp_path / "out", Enlarging(TwoAtOnce(), "model", None, overwrite=False))
        assert (tally.done, tally.failed) == (4, {})

    @pytest.mark.parametrize("why", ["asked for", "one thread"])
    def test_one_by_one(self, tmp_path: Path, why: str) -> None:
        write_photos(tmp_path / "in", 6, 20, 24, seed=0)
        if why == "one thread":
            torch.set_num_threads(1)
        how = Enlarging(OneByOne(), "model", None, overwrite=False, one_by_one=why == "asked for")
        tally = enlarge(tmp_path / "in", tmp_path / "out", how)
        assert (tally.done, tally.failed) == (6, {})

    def test_results_and_failures_are_those_of_one_by_one(self, tmp_path: Path) -> None:
        sizes = [(200, 30), (8, 8), (31, 77), (64, 64), (9, 400), (50, 51), (120, 16), (33, 34), (70, 20)]
        (tmp_path / "in").mkdir()
        for number, size in enumerate(sizes):
            values = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
            write_png(tmp_path / "in" / f"{number}.png", values)
        for bad in (0, 3, 4, 8):
            path = tmp_path / "in" / f"{bad}.png"
            path.write_bytes(path.read_bytes()[: 40 + 10 * bad])
        found = []
        for name, one_by_one in (("alone", True), ("two", False)):
            how = Enlarging(BicubicUpscaler(2), "model", 16, overwrite=False, one_by_one=one_by_one)
            tally = enlarge(tmp_path / "in", tmp_path / name, how)
            files = {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
            found.append((files, list(tally.failed.items()), tally.done))
        assert found[0] == found[1]
        assert list(dict(found[1][1])) == ["0.png", "3.png", "4.png", "8.png"]
        assert found[1][2] == 5

    def test_beside_a_slow_one_the_other_thread_goes_on(self) -> None:
        others_done = threading.Event()

        def work(number: int) -> None:
            if number == 0:
                assert others_done.wait(SECONDS)
            elif number == 99:
                others_done.set()

        with InFlight() as flight:
            results = flight.each(range(100), work)
            assert [number for number, result in results if result() is None] == list(range(100))

    def test_what_ends_the_work_gives_up_the_one_beside_it(self, tmp_path: Path) -> None:
        """The first photograph cannot be written; of the second one, in a hundred tiles, only the tile that is being
        enlarged is done."""
        begun, calls = threading.Event(), []

        def given_up() -> bool:
            with suppress(Stopped):
                flight.go_on()
                return False
            return True

        class Slow(BicubicUpscaler):
            def __call__(self, x: Any) -> Any:
                calls.append(None)
                begun.set()
                until(given_up)
                return super().__call__(x)

        def work(name: str) -> None:
            if name == "first":
                assert begun.wait(SECONDS)
                raise UnwritableError("disk full")
            how.file(tmp_path / "in.png", tmp_path / "out.png", flight)

        write_png(tmp_path / "in.png", np.zeros((100, 100, 3), np.uint8))
        how = Enlarging(Slow(2), "model", 10, overwrite=False)
        with InFlight() as flight:
            _, result = next(iter(flight.each(["first", "second"], work)))
            with pytest.raises(UnwritableError):
                result()
        assert len(calls) == 1
        assert [path.name for path in tmp_path.iterdir()] == ["in.png"]


class TestGoOn:
    def test_it_ends_with_the_block(self) -> None:
        with InFlight() as flight:
            flight.go_on()
        with pytest.raises(Stopped):
            flight.go_on()

    def test_what_has_not_begun_is_given_up(self) -> None:
        free, begun = threading.Event(), []

        def work(number: int) -> None:
            begun.append(number)
            assert free.wait(SECONDS)

        flight = InFlight()
        with flight:
            next(iter(flight.each(range(100), work)))
            free.set()
        assert len(begun) < 100


def enlarging(how: Enlarging, flight: InFlight) -> Callable[[Path], bool]:
    return lambda path: how.file(path, path.with_suffix(".out"), flight)


class TestRoom:
    """Of memory. A photograph of 1,000 x 1,000 px in tiles of 100."""

    def large(self, folder: Path, count: int = 1) -> list[Path]:
        paths = [folder / f"{number}.png" for number in range(count)]
        for path in paths:
            write_png(path, np.zeros((1000, 1000, 3), np.uint8))
        return paths

    def test_a_photograph_waits_for_the_one_beside_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is free is enough for one of them. Both are done, and never at the same time."""
        monkeypatch.setattr("cyclesr_dist.models.strip_memory.free_on_host", lambda _: 200 * 2**20)
        how = Enlarging(OneByOne(), "model", 100, overwrite=False)
        with InFlight() as flight:
            results = flight.each(self.large(tmp_path, 3), enlarging(how, flight))
            assert [result() for _, result in results] == [True, True, True]

    def test_with_room_for_two_it_does_not_wait(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("cyclesr_dist.models.strip_memory.free_on_host", lambda _: 2000 * 2**20)
        how = Enlarging(TwoAtOnce(), "model", 100, overwrite=False)
        with InFlight() as flight:
            results = flight.each(self.large(tmp_path, 2), enlarging(how, flight))
            assert [result() for _, result in results] == [True, True]

    def test_one_that_never_fits_is_named_and_the_next_is_done(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("cyclesr_dist.models.strip_memory.free_on_host", lambda _: 100 * 2**20)
        how = Enlarging(BicubicUpscaler(2), "model", 100, overwrite=False)
        large, small = *self.large(tmp_path), tmp_path / "small.png"
        write_png(small, np.zeros((20, 20, 3), np.uint8))
        with InFlight() as flight:
            results = flight.each([large, small], enlarging(how, flight))
            (_, first), (_, second) = results
            with pytest.raises(MemoryShortError, match=r"needs about .* and 100 MB are free"):
                first()
            assert second()

    def test_a_failure_gives_its_memory_back(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("cyclesr_dist.models.strip_memory.free_on_host", lambda _: 200 * 2**20)
        how = Enlarging(BicubicUpscaler(2), "model", 100, overwrite=False)
        bad, good = self.large(tmp_path, 2)
        bad.write_bytes(bad.read_bytes()[:-400])
        with InFlight() as flight:
            results = flight.each([bad, good], enlarging(how, flight))
            (_, first), (_, second) = results
            with pytest.raises(InputError):
                first()
            assert second()
