"""HTTP servers that do not give parts of files as they are asked to: each tar is fetched whole, once for a machine."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.odd_http_server import WAYS, OddServer
from helpers.runs import REPOSITORY
from helpers.runs import run as train
from helpers.shard_sets import build, save, texture

from cyclesr_dist.config.schema import Data, load
from cyclesr_dist.data.shards import ShardSet
from cyclesr_dist.errors import InputError, StorageError, UnreachableError

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of several tars."""
    root = tmp_path_factory.mktemp("set")
    (root / "photos").mkdir()
    save(root / "photos/a.png", texture(128, 160, 0))
    return build(root)


def tar_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.tar"))


def data(*overrides: str) -> Data:
    return load(None, list(overrides)).data


def check_all(url: str, folder: Path, seed: int) -> None:
    """Read every sample, in an order of its own, a few at a time, and compare."""
    ours, theirs = ShardSet.open(url, "hr", data()), ShardSet.open(str(folder), "hr")
    order = np.random.default_rng(seed).permutation(len(ours)).tolist()
    for first in range(0, len(order), 4):
        some = order[first : first + 4]
        for i, found in zip(some, ours.read_many(some), strict=True):
            assert not isinstance(found, InputError), found
            assert np.array_equal(found["hr"], theirs.read(i)["hr"])


def read_all(shards: ShardSet, seeds: range) -> None:
    for seed in seeds:
        for i in np.random.default_rng(seed).permutation(len(shards)).tolist():
            shards.read(i)


@pytest.mark.parametrize("way", ["", *WAYS])
def test_samples_are_right_whatever_the_server_does_with_ranges(folder: Path, way: str) -> None:
    assert len(list(folder.glob("*.tar"))) > 5
    with OddServer(folder, way) as server:
        check_all(server.url, folder, seed=0)
        if way in ("", "redirect"):
            assert server.num_bytes["tar"] < tar_bytes(folder)  # the samples alone, without the tars' own heads
        if way == "none":
            assert server.num_bytes["tar"] == tar_bytes(folder)
        first = dict(server.num_bytes)
        check_all(server.url, folder, seed=1)
        assert server.num_bytes["tar"] == first["tar"]


@pytest.mark.slow
def test_processes_of_a_machine_fetch_each_tar_once(folder: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    with OddServer(folder, "none") as server:
        readers = [context.Process(target=check_all, args=(server.url, folder, seed)) for seed in range(3)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(200)
        assert [reader.exitcode for reader in readers] == [0, 0, 0]
        assert server.num_bytes["tar"] == tar_bytes(folder)


@pytest.mark.parametrize("gigabytes", ["0", "0.000001"])
def test_without_room_for_whole_tars_the_server_is_refused(folder: Path, gigabytes: str) -> None:
    with OddServer(folder, "none") as server:
        shards = ShardSet.open(server.url, "hr", data(f"data.remote.cache_gb={gigabytes}"))
        with pytest.raises(StorageError, match=r"no HTTP Range.*data\.remote\.cache_gb = ") as caught:
            shards.read(0)
        assert caught.value.exit_code == 2


def test_a_cache_that_does_not_hold_the_set_is_refused_before_all_is_fetched_again_and_again(folder: Path) -> None:
    some = max(path.stat().st_size for path in folder.glob("*.tar")) * 2
    with OddServer(folder, "none") as server:
        shards = ShardSet.open(server.url, "hr", data(f"data.remote.cache_gb={some / 1e9}"))
        with pytest.raises(StorageError, match="at least the size of all shard sets"):
            read_all(shards, range(20))
        assert server.num_bytes["tar"] <= 2 * tar_bytes(folder)


def test_a_sample_that_is_damaged_at_the_server_is_not_fetched_for_ever(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    save(tmp_path / "photos/a.png", texture(16, 32, 0))
    copy = build(tmp_path)
    (tar,) = copy.glob("*.tar")
    content = bytearray(tar.read_bytes())
    content[600:640] = bytes(40)
    tar.write_bytes(content)
    with OddServer(copy, "none") as server:
        shards = ShardSet.open(server.url, "hr", data())
        with pytest.raises(InputError, match="is damaged") as caught:
            read_all(shards, range(1))
        assert not isinstance(caught.value, StorageError)
        assert server.num_bytes["tar"] <= 3 * len(content)


def test_a_refusal_that_passes_is_waited_for_and_one_that_lasts_names_the_credentials(folder: Path) -> None:
    with OddServer(folder) as server:
        server.refuse_tars(seconds=2)
        check_all(server.url, folder, seed=0)
        assert server.num_refused
    with OddServer(folder) as server:
        server.refuse_tars(seconds=1000)
        other = ShardSet.open(server.url, "hr", data("data.remote.retries=1", "data.remote.cache_gb=0"))
        with pytest.raises(UnreachableError, match=r"shard-\d+\.tar: sample .* 403.*check the credentials"):
            other.read(0)


def sets(server: OddServer) -> list[str]:
    return [f"data.{kind}={server.url}/{kind}" for kind in ("hr", "lr")]


def test_training_says_once_that_whole_tars_are_fetched(config_file, tiny_data, tmp_path, capfd, cache) -> None:
    with OddServer(tiny_data.root / "shards", "none") as server:
        more = [*sets(server), "train.max_steps=6", "train.validate_every_steps=0", "data.workers=1"]
        assert train(config_file, tmp_path / "run", *tiny_data.overrides, *more) == 0
    lines = [line for line in capfd.readouterr().err.splitlines() if "no HTTP Range" in line]
    assert len(lines) == 2
    assert all(line.startswith("cyclesr: warning: http://127.0.0.1") and str(cache) in line for line in lines)


@pytest.mark.slow
def test_training_goes_on_after_seconds_of_refusals_as_if_there_were_none(config_file, tiny_data, tmp_path) -> None:
    arguments = [*tiny_data.overrides, "train.max_steps=6", "data.log_keys=true", "data.max_bad_samples=3"]
    assert train(config_file, tmp_path / "folder", *arguments) == 0
    with OddServer(tiny_data.root / "shards") as server:
        server.refuse_tars(seconds=3)
        assert train(config_file, tmp_path / "http", *arguments, *sets(server)) == 0
        assert server.num_refused
    for file in ("model.safetensors", "keys.rank0.jsonl"):
        assert (tmp_path / "http" / file).read_bytes() == (tmp_path / "folder" / file).read_bytes()


def test_refusals_that_last_end_the_run_with_1_and_are_held_against_no_sample(
    config_file, tiny_data, tmp_path, capfd
) -> None:
    with OddServer(tiny_data.root / "shards") as server:
        server.refuse_tars(seconds=1000)
        more = ["data.max_bad_samples=5", "data.remote.retries=1", *sets(server)]
        assert train(config_file, tmp_path / "run", *tiny_data.overrides, *more) == 1
    err = capfd.readouterr().err
    assert "another sample" not in err
    assert "check the credentials" in err.splitlines()[-1]


@pytest.mark.slow
def test_ranks_and_their_workers_fetch_each_tar_once(config_file, tiny_data, tmp_path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(REPOSITORY / "launch/train.py"), "--config", str(config_file), "--run-dir", str(tmp_path / "run")]
    with OddServer(tiny_data.root / "shards", "none") as server:
        more = [*tiny_data.overrides, *sets(server), "backend=ddp", "train.max_steps=20", "data.workers=2"]
        done = subprocess.run([*command, "--quiet", *more], capture_output=True, text=True, timeout=500, check=False)
        assert done.returncode == 0, done.stderr
        both = sum(tar_bytes(tiny_data.root / "shards" / kind) for kind in ("hr", "lr"))
        assert server.num_bytes["tar"] <= both
    assert done.stderr.count("no HTTP Range") == 2
