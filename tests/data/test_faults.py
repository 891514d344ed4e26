"""Real ranks that meet unreadable samples: all go on alike, or all stop at once."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
from helpers.runs import two_ranks

from cyclesr_dist.training.main import main as train


def keys(run_dir: Path, num_ranks: int) -> list[tuple[int, list[str], list[str]]]:
    """Step, HR keys and LR keys of the global batches."""
    ranks = [
        [json.loads(line) for line in (run_dir / f"keys.rank{rank}.jsonl").read_text().splitlines()]
        for rank in range(num_ranks)
    ]
    return [
        (parts[0]["step"], [k for p in parts for k in p["hr"]], [k for p in parts for k in p["lr"]])
        for parts in zip(*ranks, strict=True)
    ]


@pytest.fixture
def damaged(tiny_data, tmp_path) -> Path:
    """The tiny sets with two damaged HR samples."""
    shutil.copytree(tiny_data.root / "shards", tmp_path / "shards")
    index = json.loads((tmp_path / "shards/hr/shard-000000.json").read_text())
    with (tmp_path / "shards/hr/shard-000000.tar").open("r+b") as tar:
        for sample in index["samples"][3:5]:
            tar.seek(sample["members"]["hr.tiff"][0] + 200)
            tar.write(b"damaged!")
    return tmp_path / "shards"


def test_ranks_replace_a_bad_sample_as_one_process_does(damaged, config_file, tiny_data, tmp_path, capfd) -> None:
    arguments = [*tiny_data.overrides, f"data.hr={damaged}/hr", "data.max_bad_samples=2", "data.log_keys=true"]
    arguments += ["train.max_steps=10", "train.validate_every_steps=0"]
    assert train(["--config", str(config_file), "--run-dir", str(tmp_path / "one"), "--quiet", *arguments]) == 0
    alone = [line for line in capfd.readouterr().err.splitlines() if "warning" in line]
    codes, stderr = two_ranks(config_file, tmp_path / "two", *arguments, "backend=ddp", "data.workers=1")
    assert codes == [0, 0], stderr
    told = [line for line in stderr.splitlines() if line.startswith("cyclesr: warning")]
    assert len(told) == len(alone) == 2
    assert sorted(line.split(":", 2)[2].split(";")[0] for line in told) == sorted(
        line.split(":", 2)[2].split(";")[0] for line in alone
    )
    assert keys(tmp_path / "two", 2) == keys(tmp_path / "one", 1)


def test_beyond_the_limit_all_ranks_stop_at_once(damaged, config_file, tiny_data, tmp_path) -> None:
    arguments = [*tiny_data.overrides, f"data.hr={damaged}/hr", "backend=ddp", "data.max_bad_samples=1"]
    started = time.monotonic()
    codes, stderr = two_ranks(config_file, tmp_path / "run", *arguments)
    assert time.monotonic() - started < 300  # torch would wait for ten minutes
    assert 0 not in codes
    errors = [line for line in stderr.splitlines() if line.startswith("cyclesr: error:")]
    assert len(errors) == 1
    assert "shard-000000.tar: sample" in errors[0]
    assert "data.max_bad_samples = 1, and 2 were met" in errors[0]


def test_a_run_goes_on_with_the_next_sample_on_another_number_of_ranks(config_file, tiny_data, tmp_path) -> None:
    arguments = [*tiny_data.overrides, "data.log_keys=true", "data.tail=wrap", "train.validate_every_steps=0"]
    whole = [*arguments, "train.max_steps=11"]
    assert train(["--config", str(config_file), "--run-dir", str(tmp_path / "whole"), "--quiet", *whole]) == 0
    codes, stderr = two_ranks(config_file, tmp_path / "parts", *arguments, "train.max_steps=7", "backend=ddp")
    assert codes == [0, 0], stderr
    first = keys(tmp_path / "parts", 2)
    resumed = ["--run-dir", str(tmp_path / "parts"), "--quiet", "--resume", *whole]
    assert train(["--config", str(config_file), *resumed]) == 0
    second = [json.loads(line) for line in (tmp_path / "parts/keys.rank0.jsonl").read_text().splitlines()]
    later = [(line["step"], line["hr"], line["lr"]) for line in second if line["step"] > 7]
    assert first + later == keys(tmp_path / "whole", 1)
