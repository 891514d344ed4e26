"""What is refused before Ray starts: values that cannot work, a resume of what is another search."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.odd_http_server import OddServer
from helpers.searches import BASE, search_file

from cyclesr_dist.errors import ConfigError, InputError
from cyclesr_dist.search.config import Search, absolute, load_search
from cyclesr_dist.search.fitting import check_values, questionable
from cyclesr_dist.search.identity import Identity, claim, recognise
from cyclesr_dist.search.results import Row, failures
from cyclesr_dist.search.samples import changed, known

SHARED = {"shared_steps": 40, "report_every_steps": 10}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"space": {"nets.sr.blocks": {"choice": [16, 8]}}, **SHARED}, "space.nets.sr.blocks: with shared_steps = 40"),
        ({"space": {"nets.sr.blocks": {"uniform": [8, 16]}}, **SHARED}, "space.nets.sr.blocks: with shared_steps"),
        ({"space": {"nets.sr.res_scale": {"uniform": [0.1, 1]}}, **SHARED}, "space.nets.sr.res_scale: with shared"),
        ({"space": {"pool.size": {"grid": [50, 10]}}, **SHARED}, "space.pool.size: with shared_steps"),
        ({"space": {"seed": {"grid": [0, 1]}}, **SHARED}, "space.seed: with shared_steps"),
        ({"space": {"scale": {"grid": [2, 4]}}, **SHARED}, "space.scale: with shared_steps"),
        ({"space": {"global_batch": {"grid": [32, 64]}}, **SHARED}, "space.global_batch: with shared_steps"),
        (
            {"space": {"global_batch": {"choice": [32, 33]}}, "workers": {"num": 2}},
            "space.global_batch: workers.num = 2 does not divide global_batch = 33",
        ),
        ({"space": {"global_batch": {"uniform": [32, 64]}}, "workers": {"num": 2}}, "global_batch = 33"),
        ({"space": {"shards.patch": {"choice": [16, 32]}}}, "space.shards.patch: a trial does not read it"),
        ({"space": {"telemetry.port": {"choice": [9300, 9400]}}}, "telemetry.port"),
        (
            {"space": {"weights.mse": {"choice": [0, 1]}, "weights.l1": {"choice": [0, 1]}}},
            "space.weights.l1, weights.mse: weights.mse = weights.l1 = 0",
        ),
        (
            {"space": {"train.epochs": {"choice": [100, 200]}, "train.constant_epochs": {"choice": [50, 150]}}},
            "train.constant_epochs = 150",
        ),
    ],
)
def test_values_that_cannot_work_are_refused_by_name(changes, said, base) -> None:
    if "weights.l1" in changes["space"]:
        base.write_text(BASE + "weights: {l1: 1}\n")
    with pytest.raises(ConfigError) as caught:
        check_values(load_search(search_file(base, **changes)))
    assert said in str(caught.value)


def test_the_folder_of_a_training_is_no_searchs(base) -> None:
    folder = base.parent / "run"
    (folder / "checkpoints").mkdir(parents=True)
    with pytest.raises(InputError, match=r"run holds a training, .* use another"):
        recognise(load_search(search_file(base), []), folder, resume=True)


def test_values_that_can_work_are_not(base) -> None:
    check_values(load_search(search_file(base, **SHARED)))
    sizes = {"nets.sr.blocks": {"choice": [16, 8]}, "global_batch": {"choice": [32, 64]}}
    search = load_search(search_file(base, space=sizes, workers={"num": 2}))
    check_values(search)
    assert ("global_batch", "global_batch=64") in questionable(search)
    assert not questionable(load_search(search_file(base)))


def held(search: Search, run_dir: Path) -> Identity:
    """Of a search that has begun."""
    begun, identity = recognise(search, run_dir, resume=False)
    assert not begun
    claim(search, run_dir, identity)
    return identity


def test_a_search_is_resumed_from_another_folder(base, tmp_path, monkeypatch) -> None:
    for name in ("a", "b", "lr"):  # relative paths that are there are the same from everywhere
        (tmp_path / name).mkdir()
    path, run_dir = search_file(base, base="base.yaml"), tmp_path / "run"
    first = held(load_search(path), run_dir)
    with pytest.raises(InputError, match="already holds a search"):
        recognise(load_search(path), run_dir, resume=False)
    monkeypatch.chdir("/")
    assert recognise(load_search(Path(os.path.relpath(path))), run_dir, resume=True) == (True, first)
    base.rename(tmp_path / "other.yaml")
    with pytest.raises(ConfigError, match=r"search\.yaml has base = 'base\.yaml', and now it is 'other\.yaml'"):
        recognise(load_search(search_file(base, base="other.yaml")), run_dir, resume=True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["steps=160"], "search.yaml has steps = 80, and now it is 160"),
        (["seed=3"], "search.yaml has seed = 0, and now it is 3"),
        (["space={weights.mse: {loguniform: [0.1, 200]}}"], "space.weights.mse.loguniform = [0.1, 100]"),
        (["num_samples=3"], "num_samples = 3, and"),
    ],
)
def test_other_settings_are_named_with_both_values(changes, said, base, tmp_path) -> None:
    path, run_dir = search_file(base), tmp_path / "run"
    held(load_search(path), run_dir)
    with pytest.raises(ConfigError) as caught:
        recognise(load_search(path, changes), run_dir, resume=True)
    assert said in str(caught.value)
    assert "--run-dir" in str(caught.value)


def test_a_base_that_was_edited_is_another_search(base, tmp_path) -> None:
    path, run_dir = search_file(base), tmp_path / "run"
    held(load_search(path), run_dir)
    base.write_text(BASE + "optim: {lr_sr: 0.001}\n")
    with pytest.raises(ConfigError) as caught:
        recognise(load_search(path), run_dir, resume=True)
    for words in ("optim.lr_sr was 0.0001", f"{base} with its overrides now has 0.001", "put it back"):
        assert words in str(caught.value)
    base.write_text(BASE + "train: {max_bad_steps: 3}  # as it was, in other words\n")
    assert recognise(load_search(path), run_dir, resume=True)[0]


@pytest.mark.parametrize("way", ["folder", "file URL", "http"])
def test_data_that_was_built_anew_is_another_search(way, base, tmp_path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text("{}")
    with OddServer(tmp_path, "none") as server:
        place = {"folder": str(tmp_path), "file URL": tmp_path.as_uri(), "http": server.url}[way]
        data = [f"data.hr={place}/a", f"data.lr={place}/b", f"data.pairs={server.url}/nobody-needs-it"]
        path, run_dir = search_file(base, overrides=data), tmp_path / "run"
        search = load_search(path)
        first = held(search, run_dir)
        assert recognise(search, run_dir, resume=True)[0]
        sets = known(absolute(search.base_config()), search, first.data)
        assert [one.key for one in sets] == ["data.hr", "data.lr"]
        assert not changed(sets)
        (tmp_path / "b/manifest.json").write_text('{"patch": 3}')
        with pytest.raises(ConfigError, match=r"the manifest of data\.lr = .*/b had SHA-256"):
            recognise(search, run_dir, resume=True)
        assert "data.lr was built anew since the search began" in changed(sets)


def test_each_of_several_sets_is_known(base, tmp_path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text("{}")
    several = f"data.lr=[{{url: {tmp_path}/b, weight: 1}}, {{url: {tmp_path}/c, weight: 2}}]"
    search, run_dir = load_search(search_file(base, overrides=[f"data.hr={tmp_path}/a", several])), tmp_path / "run"
    first = held(search, run_dir)
    sets = known(absolute(search.base_config()), search, first.data)
    assert [one.key for one in sets] == ["data.hr", "data.lr[0]", "data.lr[1]"]
    (tmp_path / "c/manifest.json").write_text('{"patch": 3}')
    assert "data.lr[1] was built anew since the search began" in changed(sets)
    with pytest.raises(ConfigError, match=r"the manifest of data\.lr\[1\] = .*/c had SHA-256"):
        recognise(search, run_dir, resume=True)


def test_a_url_that_cannot_be_read_is_named(base, tmp_path) -> None:
    with OddServer(tmp_path, "none") as server:
        path = search_file(base, overrides=[f"data.lr={server.url}/gone"])
        with pytest.raises(InputError, match=r"gone/manifest\.json: missing"):
            recognise(load_search(path), tmp_path / "run", resume=False)


def test_more_samples_are_a_round_of_their_own(base, tmp_path) -> None:
    path, run_dir = search_file(base), tmp_path / "run"
    first = held(load_search(path), run_dir)
    assert first.places("run") == [(4, "run")]
    for samples in (6, 9):
        search = load_search(path, [f"num_samples={samples}"])
        begun, identity = recognise(search, run_dir, resume=True)
        assert begun
        claim(search, run_dir, identity)
    assert [end for end, _ in identity.places("run")] == [4, 6, 9]
    assert len({name for _, name in identity.places("run")}) == 3
    assert recognise(search, run_dir, resume=True) == (True, identity)
    with pytest.raises(ConfigError, match=r"num_samples = 6, and .* holds a search of 9; allowed: 9 or more"):
        recognise(load_search(path, ["num_samples=6"]), run_dir, resume=True)


def test_a_population_has_the_size_that_it_began_with(base, tmp_path) -> None:
    path, run_dir = search_file(base, scheduler="pbt"), tmp_path / "run"
    held(load_search(path), run_dir)
    with pytest.raises(ConfigError, match="scheduler: pbt trains all together"):
        recognise(load_search(path, ["num_samples=8"]), run_dir, resume=True)


def test_a_search_of_an_earlier_version_goes_on(base, tmp_path) -> None:
    path, run_dir = search_file(base), tmp_path / "run"
    held(load_search(path), run_dir)
    (run_dir / "identity.json").unlink()
    begun, identity = recognise(load_search(path, ["num_samples=6"]), run_dir, resume=True)
    assert begun
    assert identity.rounds == (4, 6)
    (run_dir / "identity.json").write_text('{"rounds": 3')
    with pytest.raises(InputError, match=r"identity\.json cannot be read"):
        recognise(load_search(path), run_dir, resume=True)


def row(number: int, state: Any, cause: str = "") -> Row:
    return Row(f"t{number}", number, state, {}, 8, 8, {}, 1.0, cause, None)


def test_failures_are_counted_with_the_most_common_cause() -> None:
    rows = [row(1, "finished"), row(2, "failed", "step 7: nets.sr.blocks = 3"), row(3, "failed", "other")]
    rows.append(row(4, "failed", "step 8: nets.sr.blocks = 12"))
    rows.append(row(5, "lost", "a worker is gone"))
    assert failures(rows) == "4 of 5 trials failed (2 of them): step 7: nets.sr.blocks = 3"
    assert failures(rows[:2]) == "1 of 2 trials failed: step 7: nets.sr.blocks = 3"


def drawn(search: Search, before: int, results: Path) -> list[dict[str, float]]:
    """The values of all trials that Tune would begin, of the samples after the first `before`."""
    pytest.importorskip("ray.tune", reason="Ray is not installed")
    from ray.tune import Trainable
    from ray.tune.experiment import Experiment

    from cyclesr_dist.search.choosing import searcher

    algorithm = searcher(search, before, results)
    space = {domain.key: domain.for_ray() for domain in search.domains}
    algorithm.add_configurations(Experiment("draws", Trainable, config=space, num_samples=search.num_samples))
    found = []
    while (trial := algorithm.next_trial()) is not None:
        found.append(dict(trial.config))
    return found


def test_a_longer_search_begins_with_the_draws_of_the_shorter_one(base, tmp_path) -> None:
    space = {"weights.mse": {"loguniform": [0.1, 100]}, "weights.id": {"grid": [0.5, 5]}}
    short, long = (load_search(search_file(base, space=space), [f"num_samples={n}"]) for n in (3, 5))
    results = tmp_path / "results.jsonl"
    assert drawn(long, 0, results) == drawn(short, 0, results) + drawn(long, 3, results)
    assert len(drawn(long, 3, results)) == 4


def test_optuna_is_told_of_what_was_before(base, tmp_path) -> None:
    pytest.importorskip("ray.tune", reason="Ray is not installed")
    from cyclesr_dist.search.choosing import searcher

    search = load_search(search_file(base, searcher="optuna", scheduler="none"), ["num_samples=6"])
    records = [
        {"trial": f"t{i}", "step": 80, "own_steps": 80, "values": {"weights.mse": value}, "psnr": psnr}
        for i, (value, psnr) in enumerate([(1.0, 20.0), (10.0, 25.0)])
    ]
    results = tmp_path / "results.jsonl"
    results.write_text("".join(json.dumps(record) + "\n" for record in records))

    def first(before: int) -> float:
        algorithm: Any = searcher(search, before, results)
        space = {domain.key: domain.for_ray() for domain in search.domains}
        assert algorithm.set_search_properties(None, None, space)
        assert [trial.value for trial in algorithm._ot_study.trials] == ([20.0, 25.0] if before else [])
        return float(algorithm.suggest("new")["weights.mse"])

    assert first(2) != first(0)
    assert first(2) == first(2)


def test_a_later_round_knows_the_rungs_of_before(base, tmp_path) -> None:
    pytest.importorskip("ray.tune", reason="Ray is not installed")
    from cyclesr_dist.search.choosing import scheduler

    search = load_search(search_file(base, asha={"reduction_factor": 2}))
    results = tmp_path / "results.jsonl"
    records = [{"trial": f"t{i}", "step": 10, "own_steps": 10, "values": {}, "psnr": 20.0 + i} for i in range(4)]
    results.write_text("".join(json.dumps(record) + "\n" for record in records))
    asha: Any = scheduler(search, results)
    new: Any = SimpleNamespace(trial_id="new")
    asha.on_trial_add(None, new)
    assert asha.on_trial_result(None, new, {"own_steps": 10, "psnr": 20.5}) == "STOP"
