"""Who may write a folder: real processes that want the same one, are killed, stopped, and wake up."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from helpers.processes import ELSEWHERE, NO_ELSEWHERE
from helpers.waiting import until

from cyclesr_dist.errors import ConfigError, InputError
from cyclesr_dist.runtime.files import new_folder
from cyclesr_dist.runtime.lease import SECONDS, Lease, LeaseLostError, LocalPlace, lease_seconds

CLAIMANT = str(Path(__file__).parents[1] / "helpers" / "claimant.py")
LONG = "100000"
"""Seconds: who waits for these, waits for ever."""


@pytest.fixture
def start() -> Iterator:
    with ExitStack() as stack:

        def begin(*arguments: str, seconds: str = LONG, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
            pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
            process = subprocess.Popen(
                [*before, sys.executable, CLAIMANT, *arguments],
                env=os.environ | {SECONDS: seconds},
                text=True,
                **pipes,
            )
            stack.callback(process.communicate)
            stack.callback(process.kill)
            return process

        yield begin


class Forgetful(LocalPlace):
    """Lists nothing of what is written, as s3fs does with two slashes in a row."""

    poll_seconds = 0.0

    def names(self) -> list[str]:
        return []


def test_a_place_that_does_not_list_what_is_written_is_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="a place: what is written there is not listed there"):
        Lease(Forgetful(tmp_path), "a place").take()


def got_it(process: subprocess.Popen[str]) -> None:
    assert process.stdout.readline() == "has it\n", process.communicate()[1]


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, stderr = process.communicate(timeout=300)
    return process.returncode, stderr


def claims(folder: Path) -> list[Path]:
    return list((folder / ".lease").glob("*.json"))


def test_one_has_it_and_gives_it_up(start, tmp_path) -> None:
    first = start(str(tmp_path), seconds="6")
    got_it(first)
    code, stderr = ended(start(str(tmp_path), seconds="6"))
    assert code == 2
    assert stderr.startswith(f"error: run folder {tmp_path} is in use by process {first.pid} on ")
    assert ended(first) == (0, "")
    assert not (tmp_path / ".lease").exists()
    got_it(start(str(tmp_path)))


def test_of_many_at_a_time_one_gets_it(start, tmp_path) -> None:
    """The others are refused, or wait for as long as they cannot know that it is alive."""
    everybody = [start(str(tmp_path), seconds="12") for _ in range(5)]
    until(lambda: sum(process.poll() is not None for process in everybody) == 4)
    (winner,) = [process for process in everybody if process.poll() is None]
    got_it(winner)
    assert len(claims(tmp_path)) == 1
    for process in everybody:
        if process is not winner:
            assert f"in use by process {winner.pid}" in ended(process)[1]
            assert process.returncode == 2


def test_a_killed_owner_is_followed_at_once(start, tmp_path) -> None:
    first = start(str(tmp_path))
    got_it(first)
    first.kill()
    first.wait()
    second = start(str(tmp_path))
    got_it(second)  # it would wait for a day
    (claim,) = claims(tmp_path)
    assert json.loads(claim.read_text())["pid"] == second.pid


def test_a_zombie_and_a_number_used_again_are_no_owners(start, tmp_path) -> None:
    first = start(str(tmp_path))
    got_it(first)
    first.kill()  # and nobody has waited for it
    got_it(second := start(str(tmp_path)))
    (claim,) = claims(tmp_path)
    known = json.loads(claim.read_text())
    second.kill()
    second.wait()
    claim.write_text(json.dumps(known | {"pid": os.getpid()}))  # which began at another time
    got_it(start(str(tmp_path)))


def test_a_stopped_owner_loses_it_and_writes_nothing_when_it_wakes_up(start, tmp_path) -> None:
    first = start(str(tmp_path), seconds="2")
    got_it(first)
    first.stdin.write("one\n")
    first.stdin.flush()
    assert first.stdout.readline() == "written\n"
    first.send_signal(signal.SIGSTOP)
    second = start(str(tmp_path), seconds="2")
    got_it(second)
    first.stdin.write("two\n")
    first.stdin.flush()
    first.send_signal(signal.SIGCONT)
    code, stderr = ended(first)
    assert code == 1
    assert f"lost run folder {tmp_path}: process {second.pid} on " in stderr
    assert (tmp_path / "written").read_text() == "one\n"
    second.stdin.write("three\n")
    second.stdin.flush()
    assert second.stdout.readline() == "written\n"
    assert len(claims(tmp_path)) == 1


@pytest.mark.skipif(NO_ELSEWHERE, reason="no process namespaces here")
def test_an_owner_elsewhere_is_waited_for(start, tmp_path) -> None:
    first = start(str(tmp_path), seconds="3", before=tuple(ELSEWHERE))
    got_it(first)
    code, stderr = ended(start(str(tmp_path), seconds="3"))
    assert code == 1  # not 2: it may be over when this is tried again
    waiting, refused = stderr.splitlines()
    assert waiting.startswith(f"cyclesr: waiting for run folder {tmp_path}: process 1 on ")
    assert waiting.endswith("without a sign of life from there it is free in 3 s")
    assert "is in use by process 1 on" in refused

    second = start(str(tmp_path), seconds="3")
    assert "waiting for" in second.stderr.readline()
    ended(first)  # in order: it is not waited for any more
    got_it(second)
    ended(second)

    third = start(str(tmp_path), seconds="3", before=tuple(ELSEWHERE))
    got_it(third)
    third.kill()
    fourth = start(str(tmp_path), seconds="3")
    got_it(fourth)
    ended(fourth)


def test_a_claim_that_was_removed_is_lost(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(SECONDS, LONG)
    lease = Lease(LocalPlace(tmp_path), "the folder")
    lease.take()
    lease.hold(sure=True)
    shutil.rmtree(tmp_path / ".lease")
    with pytest.raises(LeaseLostError, match="lost the folder: its claim was removed"):
        lease.hold(sure=True)
    assert lease.lost
    with pytest.raises(LeaseLostError):
        lease.hold()
    lease.release()
    assert not claims(tmp_path)


def test_an_owner_tells_the_work_that_it_has_lost(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(SECONDS, "1")
    told = threading.Event()
    lease = Lease(LocalPlace(tmp_path), "the folder", told.set)
    lease.take()
    shutil.rmtree(tmp_path / ".lease")
    assert told.wait(60)
    lease.release()


def test_half_a_claim_is_somebody_who_is_waited_for(start, tmp_path) -> None:
    (tmp_path / ".lease").mkdir()
    (tmp_path / ".lease/0.json").write_text('{"host": "a", "pi')
    process = start(str(tmp_path), seconds="1")
    assert "waiting for" in process.stderr.readline()
    got_it(process)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file is not writable"):
        Lease(LocalPlace(tmp_path / "file"), "the folder").take()


@pytest.mark.parametrize("text", ["many", "0.5", "-3", "inf", "nan"])
def test_a_time_that_is_none_is_refused(text, monkeypatch) -> None:
    monkeypatch.setenv(SECONDS, text)
    with pytest.raises(ConfigError, match=f"{SECONDS} = '{text}': must be a number of at least 1"):
        lease_seconds()


def test_a_new_folder_is_one_commands_also_where_no_lock_works(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(SECONDS, "3")
    monkeypatch.setattr("fcntl.flock", lambda *_: None)
    with new_folder(tmp_path / "out", overwrite=False) as folder:
        (folder / "one").write_text("1")
        with (
            pytest.raises(InputError, match="is in use by process"),
            new_folder(tmp_path / "out", overwrite=False),
        ):
            pass
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["one"]
