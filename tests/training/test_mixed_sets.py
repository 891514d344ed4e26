"""Trainings on several shard sets a domain."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers.data import TinyData, make_tiny_data
from helpers.runs import lines, newest, run, two_ranks, without_time
from safetensors.torch import load_file


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> TinyData:
    return make_tiny_data(tmp_path_factory.mktemp("more"), seed=9)


def sets(first: TinyData, second: TinyData, weights: tuple[float, float] = (1, 3)) -> list[str]:
    roots = [data.root / "shards" for data in (first, second)]
    hr = [{"url": f"{root}/hr", "weight": weight} for root, weight in zip(roots, weights, strict=True)]
    return [f"data.hr={json.dumps(hr)}", f"data.lr={json.dumps([f'{root}/lr' for root in roots])}"]


def test_resume_is_exact_and_knows_the_sets_and_their_shares(
    config_file, tiny_data, more, tmp_path: Path, capsys
) -> None:
    arguments = [*tiny_data.overrides, *sets(tiny_data, more), "data.log_keys=true", "optim.weight_decay=0.1"]
    arguments += ["train.warmup_steps=6", "train.decay=cosine", "train.constant_epochs=0"]
    assert run(config_file, tmp_path / "whole", *arguments, "train.max_steps=8") == 0
    assert run(config_file, tmp_path / "parts", *arguments, "train.max_steps=4") == 0
    others = ([*arguments, *sets(tiny_data, more, (1, 1))], [*arguments, *tiny_data.overrides], arguments[:-1])
    for other, said in zip(others, ("samples.hr = ", "num_samples.hr = ", "train.constant_epochs = 0, "), strict=True):
        capsys.readouterr()
        assert run(config_file, tmp_path / "parts", *other, "train.max_steps=8", "--resume") == 2
        assert said in capsys.readouterr().err
    assert run(config_file, tmp_path / "parts", *arguments, "train.max_steps=8", "--resume") == 0
    expected, actual = (load_file(newest(tmp_path / name) / "tensors.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(tensor, actual[name]) for name, tensor in expected.items())
    for name in ("metrics.jsonl", "validation.jsonl", "keys.rank0.jsonl"):
        whole, parts = (without_time(lines(tmp_path / folder / name)) for folder in ("whole", "parts"))
        assert whole == parts
    drawn = {key[0] for line in lines(tmp_path / "whole/keys.rank0.jsonl") for key in (*line["hr"], *line["lr"])}
    assert drawn == {"0", "1"}


def test_two_ranks_draw_what_one_does(config_file, tiny_data, more, tmp_path: Path) -> None:
    arguments = [*tiny_data.overrides, *sets(tiny_data, more), "data.log_keys=true", "train.max_steps=3"]
    assert run(config_file, tmp_path / "one", *arguments) == 0
    codes, stderr = two_ranks(config_file, tmp_path / "two", *arguments, "backend=ddp", "data.workers=1")
    assert codes == [0, 0], stderr
    keys = [lines(tmp_path / f"two/keys.rank{rank}.jsonl") for rank in (0, 1)]
    merged = [{"step": a["step"], "hr": a["hr"] + b["hr"], "lr": a["lr"] + b["lr"]} for a, b in zip(*keys, strict=True)]
    assert merged == lines(tmp_path / "one/keys.rank0.jsonl")
