"""A training whose data and checkpoints are in a bucket, while its key expires and is renewed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from helpers.expiring_s3 import guarded_bucket, write_key
from helpers.processes import ENDLESS, SUPERVISE, TRAIN, arguments, launcher, outcome, started, steps_done
from helpers.waiting import until
from safetensors.torch import load_file

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
STEPS = 40


@pytest.mark.parametrize("name", ["python", "torchrun"])
def test_a_training_goes_on_when_its_key_is_renewed(name, config_file, tiny_data, tmp_path, monkeypatch) -> None:
    """Its samples are those of the same run on a disk: none counted as bad."""
    steps = [*ENDLESS, f"train.max_steps={STEPS}", f"backend={'single' if name == 'python' else 'ddp'}"]
    with guarded_bucket(tmp_path, monkeypatch) as guard:
        stored = upload(tiny_data.root / "shards")
        behind = [f"data.{kind}=s3://shards/{kind}" for kind in ("hr", "lr", "pairs")]
        behind += ["data.remote.cache_gb=0", f"train.checkpoints=s3://shards/{name}", "train.checkpoint_every_steps=8"]
        settings = [*tiny_data.overrides, *steps, *behind, "data.workers=1"]
        with started([*SUPERVISE, *launcher(name), TRAIN, *arguments(config_file, tmp_path / "run", *settings)]) as p:
            until(lambda: steps_done(tmp_path / "run") >= 10 or p.poll() is not None)
            guard.expired = "OLD"
            until(lambda: guard.num_refused or p.poll() is not None)
            write_key(tmp_path / "credentials", "NEW")
            code, stderr = outcome(p)
        assert code == 0, stderr
        assert guard.num_refused
        assert stored < names()
        newest = max(key for key in names() if key.startswith(name) and key.endswith("tensors.safetensors"))
        bucket().download_file(newest, str(tmp_path / "newest"))
    local = [*tiny_data.overrides, *steps]
    with started([*SUPERVISE, *launcher(name), TRAIN, *arguments(config_file, tmp_path / "disk", *local)]) as p:
        code, stderr = outcome(p)
    assert code == 0, stderr
    renewed = load_file(tmp_path / "newest")
    whole = load_file(max((tmp_path / "disk/checkpoints").iterdir()) / "tensors.safetensors")
    assert renewed.keys() == whole.keys()
    assert all(torch.equal(tensor, renewed[key]) for key, tensor in whole.items())


def bucket():
    import boto3

    return boto3.Session().resource("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"]).Bucket("shards")


def names() -> set[str]:
    return {found.key for found in bucket().objects.all()}


def upload(shards: Path) -> set[str]:
    for path in shards.rglob("*"):
        if path.is_file():
            bucket().upload_file(str(path), str(path.relative_to(shards)))
    return names()
