"""Credentials of S3 that expire in the middle of a run, and are rotated. An S3 server behind one that refuses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.expiring_s3 import Guard, guarded_bucket
from helpers.shard_sets import build, save, texture

from cyclesr_dist.config.schema import load
from cyclesr_dist.data.shards import ShardSet
from cyclesr_dist.errors import UnreachableError


@pytest.fixture
def guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guard]:
    with guarded_bucket(tmp_path, monkeypatch) as guard:
        yield guard


def opened(tmp_path: Path, *overrides: str) -> tuple[ShardSet, ShardSet]:
    """A set in the bucket, and the same in a folder."""
    import boto3

    (tmp_path / "photos").mkdir()
    save(tmp_path / "photos/a.png", texture(48, 64, 0))
    folder = build(tmp_path)
    client = boto3.Session().client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    name = tmp_path.name.replace("_", "-")  # of its own: fsspec keeps its sessions for the whole process
    for path in folder.iterdir():
        client.put_object(Bucket="shards", Key=f"{name}/{path.name}", Body=path.read_bytes())
    data = load(None, list(overrides)).data
    return ShardSet.open(f"s3://shards/{name}", "hr", data), ShardSet.open(str(folder), "hr")


@pytest.fixture(autouse=True)
def no_sessions_from_before() -> None:
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()


def test_a_rotated_key_is_read_anew_when_the_old_one_has_expired(guard: Guard, tmp_path: Path) -> None:
    ours, theirs = opened(tmp_path)
    assert (ours.read(0)["hr"] == theirs.read(0)["hr"]).all()
    guard.credentials, guard.expired = tmp_path / "credentials", "OLD"
    for i in range(1, len(ours)):
        assert (ours.read(i)["hr"] == theirs.read(i)["hr"]).all()
    assert guard.num_refused == 1


def test_a_key_that_stays_expired_is_storage_that_is_away(guard: Guard, tmp_path: Path) -> None:
    ours, _ = opened(tmp_path, "data.remote.retries=1")
    ours.read(0)
    guard.expired = "OLD"
    with pytest.raises(UnreachableError, match=r"token has expired.*check the credentials") as caught:
        ours.read(len(ours) - 1)
    assert caught.value.exit_code == 1
    with pytest.raises(UnreachableError, match=r"manifest\.json: cannot be read .*check the credentials"):
        ShardSet.open(ours.url, "hr", load(None, ["data.remote.retries=1"]).data)
