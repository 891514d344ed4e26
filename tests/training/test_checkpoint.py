"""Checkpoints that are there whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cyclesr_dist.config.schema import Config, Remote
from cyclesr_dist.distributed.player import PlayerState
from cyclesr_dist.errors import ConfigError, InputError, TrainingError
from cyclesr_dist.method.systems.base import SystemState
from cyclesr_dist.models.checkpoint import (
    FILES,
    MANIFEST,
    Checkpoint,
    ShardSetFacts,
    flat_identity,
    identity,
    read,
    write,
)
from cyclesr_dist.training.changes import changes, check_resumable
from cyclesr_dist.training.checkpoint_store import CheckpointStore, LocalStore, newest, open_store, prune
from cyclesr_dist.training.run_folder import checkpoint_name
from cyclesr_dist.training.saver import Saver

WHO = {"system": "cyclesr", "seed": 0}


def checkpoint(step: int) -> Checkpoint:
    def tensors() -> dict[str, torch.Tensor]:
        return {"g_l2h.weight": torch.full((50,), float(step)), "g_l2h.bias": torch.arange(3.0)}

    player = PlayerState(tensors(), {"n": torch.tensor(step)}, tensors(), tensors(), step, {"scale": 2.0})
    system = SystemState({"g": player}, {"d_r": torch.rand(2, 3, 4, 4)})
    return Checkpoint(step, system, {"weight": torch.ones(2)}, {"step": 1, "psnr": 20.0}, 1.5, True, [3, 4], 1)


def put(checkpoints: CheckpointStore, step: int) -> None:
    checkpoints.put(checkpoint_name(step), lambda folder: write(folder, checkpoint(step), WHO))


def newest_step(checkpoints: LocalStore, warnings: list[str] | None = None) -> int:
    found = newest(checkpoints, [].append if warnings is None else warnings.append)
    assert found is not None
    name, saved, identity = found
    assert identity == WHO
    assert saved.system.players["g"].params["g_l2h.weight"].eq(saved.step).all()
    assert name == checkpoint_name(saved.step)
    return saved.step


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    before = checkpoint(7)
    write(tmp_path, before, WHO)
    after, _ = read(tmp_path)
    for key, value in vars(before).items():
        if key not in ("system", "ema"):
            assert getattr(after, key) == value
    assert torch.equal(after.ema["weight"], before.ema["weight"])
    assert torch.equal(after.system.pools["d_r"], before.system.pools["d_r"])
    player, expected = after.system.players["g"], before.system.players["g"]
    assert (player.num_updates, player.loss_scale) == (expected.num_updates, expected.loss_scale)
    for part in ("params", "buffers", "exp_avg", "exp_avg_sq"):
        assert all(torch.equal(t, getattr(player, part)[key]) for key, t in getattr(expected, part).items())


# ---- killed while writing ----


def test_checkpoints_from_before_a_key_was_removed_fit_where_they_had_what_stands_now(tmp_path: Path) -> None:
    now = identity(Config(), {"hr": ShardSetFacts(9, "a", 24), "lr": ShardSetFacts(9, "b", 24)})
    nets = json.loads(json.dumps(now["nets"]))
    for critic in ("d_lr", "d_h"):
        nets[critic]["norm"] = "instance"
    before = {"system": "cyclesr", "scale": 4, "seed": 0, "global_batch": 32, "nets": nets, "pool": {"size": 50}}
    before |= {"num_samples": {"hr": 9, "lr": 9}, "tail": "drop"}
    (tmp_path / "fits").mkdir()
    write(tmp_path / "fits", checkpoint(7), before)
    state, saved = read(tmp_path / "fits")
    assert state.step == 7
    assert changes(flat_identity(saved), flat_identity(now)) == []
    nets["d_h"]["norm"] = "none"
    found = changes(flat_identity(before), flat_identity(now))
    assert [change.key for change in found] == ["nets.d_h.norm"]
    with pytest.raises(ConfigError, match=r"nets\.d_h\.norm = none"):
        check_resumable("step-00000007", found, with_changes=True)


def kill_at(call: int) -> None:
    """Kill this process before the `call`-th operation on a file from now on."""
    count = 0

    def dying(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return wrapper

    import cyclesr_dist.models.checkpoint as module

    for owner, names in (
        (os, ("replace", "fsync", "mkdir", "rmdir", "unlink")),
        (shutil, ("rmtree",)),
        (Path, ("write_text", "mkdir")),
        (module, ("save_file",)),
    ):
        for name in names:
            setattr(owner, name, dying(getattr(owner, name)))


def survivors(act: Callable[[], None]) -> Iterator[int]:
    """Do `act` in children that are killed ever later; yields after each, until one gets through."""
    for call in range(1, 200):
        child = os.fork()
        if child == 0:
            kill_at(call)
            act()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        yield call
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            return
    raise AssertionError("the child never got through")


@pytest.mark.parametrize("keep", [1, 2])
def test_a_kill_at_any_boundary_of_writing_loses_nothing(keep: int, tmp_path: Path) -> None:
    torch.set_num_threads(1)  # a forked child has no other threads
    calls = 0
    checkpoints = LocalStore(tmp_path / "kept")
    put(checkpoints, 1)
    put(checkpoints, 2)

    def act() -> None:
        put(checkpoints, 3)
        prune(checkpoints, keep, None)

    for call in survivors(act):
        calls = call
        assert newest_step(checkpoints) in (2, 3)
        put(checkpoints, 4)  # what was left half-written is in nobody's way
        assert newest_step(checkpoints) == 4
        checkpoints.remove(checkpoint_name(4))
        if checkpoint_name(2) not in checkpoints.names():  # as it was before
            put(checkpoints, 2)
        if checkpoint_name(3) in checkpoints.names():
            checkpoints.remove(checkpoint_name(3))
    assert calls > 10
    assert [p.name for p in checkpoints.path.iterdir() if p.name.startswith(".")] == []


# ---- damage ----


@pytest.mark.parametrize("file", [*FILES, MANIFEST])
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "one bit"])
def test_a_damaged_newest_is_passed_over_with_a_warning(file: str, damage: str, tmp_path: Path) -> None:
    checkpoints = LocalStore(tmp_path)
    put(checkpoints, 1)
    put(checkpoints, 2)
    path = tmp_path / checkpoint_name(2) / file
    data = path.read_bytes()
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 16
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "truncated": data[:-5], "one bit": bytes(flipped)}[damage])
    warnings: list[str] = []
    assert newest_step(checkpoints, warnings) == 1
    assert len(warnings) == 1
    assert checkpoint_name(2) in warnings[0]
    put(checkpoints, 2)  # a run that goes on from 1 comes to 2 again
    assert newest_step(checkpoints) == 2


def test_all_damaged_is_an_error_and_none_at_all_is_not(tmp_path: Path) -> None:
    checkpoints = LocalStore(tmp_path)
    assert newest(checkpoints, print) is None
    for step in (1, 2):
        put(checkpoints, step)
        (tmp_path / checkpoint_name(step) / MANIFEST).write_text("{}")
    with pytest.raises(InputError, match=r"no checkpoint can be read.*step-00000002"):
        newest(checkpoints, lambda _: None)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    text=st.text(max_size=40) | st.recursive(st.none() | st.integers() | st.text(max_size=5), st.lists).map(json.dumps)
)
def test_any_manifest_is_refused_in_one_way(text: str, tmp_path: Path) -> None:
    folder = tmp_path / "one"
    if not folder.exists():
        folder.mkdir()
        write(folder, checkpoint(1), WHO)
    (folder / MANIFEST).write_text(text, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(InputError):
        read(folder)


# ---- keeping ----


def test_the_newest_and_the_best_stay(tmp_path: Path) -> None:
    checkpoints = LocalStore(tmp_path)
    for step in range(1, 7):
        put(checkpoints, step)
    prune(checkpoints, keep=2, best_step=3)
    assert checkpoints.names() == [checkpoint_name(step) for step in (3, 5, 6)]


def test_the_saver_raises_in_the_caller_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = LocalStore(tmp_path)
    saver = Saver(checkpoints, WHO, keep=2)
    saver.begin(checkpoint(1))
    saver.finish()
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        saver.begin(checkpoint(2))
        with pytest.raises(TrainingError, match=r"step-00000002 cannot be written.*No space left.*intact"):
            saver.finish()
    assert newest_step(checkpoints) == 1
    assert not saver.failed
    saver.begin(checkpoint(3))
    saver.finish()
    assert newest_step(checkpoints) == 3


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32k", "none", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_told_and_leaves_the_earlier_ones(small_disk: Path) -> None:
    checkpoints = LocalStore(small_disk / "checkpoints")
    saver = Saver(checkpoints, WHO, keep=9)

    def fill() -> None:
        for step in range(1, 30):
            saver.begin(checkpoint(step))
            saver.finish()

    with pytest.raises(TrainingError, match=r"No space left|os error 28"):
        fill()
    names = checkpoints.names()
    assert len(names) >= 1
    assert newest_step(checkpoints) == len(names)


def test_a_url_of_this_machine_s_disk_holds_checkpoints_as_any_other_does(tmp_path: Path) -> None:
    place = open_store(f"file://{tmp_path / 'new' / 'place'}", Remote(cache_dir=str(tmp_path / "cache")))
    assert place.names() == []
    for step in (2, 4):
        put(place, step)
    assert place.names() == [checkpoint_name(2), checkpoint_name(4)]
    found = newest(place, print)
    assert found is not None
    assert found[1].step == 4
    prune(place, 1, None)
    assert place.names() == [checkpoint_name(4)]
