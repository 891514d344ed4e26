"""Ranks that were not started with the same: they say so before they train, all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.data import make_tiny_data
from helpers.runs import by_hand

from cyclesr_dist.config.reader import leaves
from cyclesr_dist.config.schema import Config, SRNet
from cyclesr_dist.distributed.local_ranks import run_ranks
from cyclesr_dist.distributed.world import World
from cyclesr_dist.errors import CycleSRError
from cyclesr_dist.models.model_file import save_model
from cyclesr_dist.nets.build import build_sr
from cyclesr_dist.training.agreement import check_equal, facts_of_data, facts_of_launch


@pytest.fixture
def arguments(config_file, tiny_data, tmp_path) -> list[str]:
    given = ["--config", str(config_file), "--run-dir", str(tmp_path / "run"), "--quiet", *tiny_data.overrides]
    return [*given, "backend=ddp", "train.max_steps=3"]


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (
            ["optim.lr_sr=1e-4", "global_batch=4"],
            ["optim.lr_sr=1e-2", "global_batch=8"],
            "global_batch = 4 on rank 0, 8 on rank 1; optim.lr_sr = 0.0001 on rank 0, 0.01 on rank 1",
        ),
        (
            ["system=cyclesr"],
            ["system=sr_syn", "--resume"],
            'system = "cyclesr" on rank 0, "sr_syn" on rank 1; --resume',
        ),
    ],
)
def test_ranks_with_other_settings_are_refused_by_name(first, second, said, arguments, tmp_path) -> None:
    (code, told), (other_code, other_told) = by_hand([[*arguments, *first], [*arguments, *second]])
    assert (code, other_code) == (2, 2)
    assert said in told.strip().splitlines()[-1]
    assert "error" not in other_told  # one line, of the main rank
    assert not (tmp_path / "run").exists()


def test_ranks_with_other_samples_are_refused(arguments, tiny_data, tmp_path_factory, tmp_path) -> None:
    # As many samples, of the same size, of other photographs.
    other = make_tiny_data(tmp_path_factory.mktemp("other"), seed=5)
    (code, told), (other_code, _) = by_hand([arguments, [*arguments, *other.overrides]])
    assert (code, other_code) == (2, 2)
    assert "data.hr = the manifest " in told.strip().splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_ranks_that_would_start_from_other_weights_are_refused(arguments, tmp_path) -> None:
    sr = SRNet("compact", 4, 1)
    places = [tmp_path / name for name in ("a.safetensors", "b.safetensors", "missing.safetensors")]
    for seed, path in enumerate(places[:2]):
        torch.manual_seed(seed)
        save_model(path, build_sr(sr, 4).state_dict(), sr, 4, {})
    first, second, third = ([*arguments, f"nets.sr.init={path}"] for path in places)
    (code, told), (other_code, other_told) = by_hand([first, second])
    assert (code, other_code) == (2, 2)
    last = told.strip().splitlines()[-1]
    assert f"nets.sr.init = {places[0]}: SHA-256 " in last
    assert " on rank 1" in last
    assert "error" not in other_told
    assert not (tmp_path / "run/config.yaml").exists()
    assert [code for code, _ in by_hand([first, third])] == [0, 0]  # who has no file is given the weights


@pytest.mark.parametrize("other", ["my_edges", "my_numbers"])
def test_ranks_with_another_module_of_the_users_are_refused(other, arguments, tmp_path) -> None:
    """Also another one that only the named one imports."""
    texts = {
        "my_edges": "from my_numbers import FACTOR\n\n\ndef edges(sr, hr):\n    return FACTOR * (sr - hr).mean()\n",
        "my_numbers": "FACTOR = 1\n",
    }
    variables = []
    for rank in ("0", "1"):
        folder = tmp_path / rank
        folder.mkdir()
        for name, text in texts.items():
            (folder / f"{name}.py").write_text(text + ("FACTOR = 2\n" if rank == "1" and name == other else ""))
        variables.append({"CYCLESR_MODULES_FOLDER": str(folder)})
    given = [*arguments, "weights.more={'my_edges:edges': 1}"]
    (code, told), (other_code, _) = by_hand([given, given], variables)
    assert (code, other_code) == (2, 2)
    assert f"the ranks do not run the same: module {other} = files " in told.strip().splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_a_second_process_of_one_rank_leaves_and_the_run_goes_on(arguments, tmp_path) -> None:
    as_rank_one = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}
    results = by_hand([arguments] * 3, [{"WORLD_SIZE": "2"}, as_rank_one, as_rank_one])
    codes = [code for code, _ in results]
    assert codes[0] == 0
    assert sorted(codes[1:]) == [0, 1]
    last = results[codes.index(1)][1].strip().splitlines()[-1]
    assert last.startswith("cyclesr: error: rank 1 of 2 waited for rank 0, which has ended; ")
    assert "another one came as rank 1" in last
    assert (tmp_path / "run/summary.json").is_file()


def test_a_rank_of_another_job_at_the_same_address_is_turned_away(arguments, tmp_path) -> None:
    """Its place is taken by the right one; the run that it would have spoilt ends well."""
    other = [*arguments, "optim.lr_sr=0.5"]
    other[other.index("--run-dir") + 1] = str(tmp_path / "other")
    as_rank_one = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}
    results = by_hand([arguments, other, arguments], [{"WORLD_SIZE": "2"}, as_rank_one, as_rank_one])
    assert [code for code, _ in results] == [0, 2, 0]
    last = results[1][1].strip().splitlines()[-1]
    assert "met rank 0 of another job" in last
    assert str(tmp_path / "run") in last
    assert str(tmp_path / "other") in last
    assert (tmp_path / "run/summary.json").is_file()
    assert not (tmp_path / "other").exists()


def agree(world: World, values: list[dict[str, str]]) -> str:
    try:
        check_equal(lambda: values[world.rank], world)
    except CycleSRError as error:
        return f"{error.exit_code} {error}"
    return "all is well"


def test_each_value_is_named_with_its_ranks() -> None:
    same, other = {"a": "1", "b": "2"}, {"a": "1", "b": "3"}
    assert run_ranks(agree, 4, [same] * 4) == ["all is well"] * 4
    said = run_ranks(agree, 4, [same, same, other, same])
    assert set(said) == {
        "2 the ranks do not run the same: b = 2 on ranks 0-1, 3, 3 on rank 2; start all with the same configuration "
        "and data"
    }
    many = [{str(i): str(i * rank) for i in range(9)} | {"only": "x"} for rank in (0, 1)]
    del many[1]["only"]
    assert run_ranks(agree, 2, many)[0].endswith(
        "1 = 0 on rank 0, 1 on rank 1; 2 = 0 on rank 0, 2 on rank 1; 3 = 0 on rank 0, 3 on rank 1; and 6 more; start "
        "all with the same configuration and data"
    )


def fail_on_rank_one(world: World) -> str:
    def facts() -> dict[str, str]:
        if world.rank == 1:
            raise CycleSRError("cannot be read")
        return {}

    try:
        check_equal(facts, world)
    except CycleSRError as error:
        return str(error)
    return "all is well"


def test_a_rank_that_cannot_say_what_it_runs_fails_on_all() -> None:
    assert run_ranks(fail_on_rank_one, 2) == ["cannot be read (on rank 1)", "cannot be read"]


def test_every_key_is_compared_but_those_of_a_machine() -> None:
    facts = facts_of_launch(Config(), {})
    missing = leaves(Config()).keys() - facts.keys()
    assert missing == {"data.remote.cache_dir", "telemetry.host", "telemetry.port", "telemetry.port_search"}
    assert {"cyclesr_dist", "torch", "device"} <= facts.keys()


def test_hosts_may_have_their_data_at_different_paths(tmp_path: Path) -> None:
    def facts(**data: Any) -> Any:
        from dataclasses import replace

        return facts_of_launch(replace(Config(), data=replace(Config().data, **data)), {})

    assert facts(hr="/a/hr") == facts(hr="/b/hr")
    assert facts(hr="/a/hr") != facts(hr="")
    assert facts(hr="s3://a/hr") != facts(hr="s3://b/hr")
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").write_bytes(b"1234")
    listed = [facts_of_data({"data.hr": "abc"}, {"valid": [tmp_path / folder / "a.png"]}) for folder in ("one", "two")]
    assert listed[0] == listed[1]
    (tmp_path / "two/a.png").write_bytes(b"12345")
    assert facts_of_data({"data.hr": "abc"}, {"valid": [tmp_path / "two/a.png"]}) != listed[0]
    (tmp_path / "two/a.png").write_bytes(b"1235")  # pictures without compression are all of one size
    assert facts_of_data({"data.hr": "abc"}, {"valid": [tmp_path / "two/a.png"]}) != listed[0]
    assert facts_of_data({"data.hr": "abd"}, {"valid": [tmp_path / "one/a.png"]}) != listed[0]
