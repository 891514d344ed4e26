"""What a search checks before Ray starts, and what it makes of results."""

from __future__ import annotations

import csv
import json
import pickle
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.searches import BASE, search_file
from hypothesis import given
from hypothesis import strategies as st

from cyclesr_dist.config.schema import load
from cyclesr_dist.errors import ConfigError
from cyclesr_dist.search.config import Search, load_search
from cyclesr_dist.search.parallel import Axis, parallel_coordinates
from cyclesr_dist.search.results import best_yaml, front, ranked, rows, trials_csv
from cyclesr_dist.search.space import Domain, parse_space

ray_tune = pytest.importorskip("ray.tune", reason="Ray is not installed")

from cyclesr_dist.search.choosing import Clamp, RememberingASHA  # noqa: E402
from cyclesr_dist.search.page import html  # noqa: E402
from cyclesr_dist.search.progress import Results, SearchProgress, mend, read_results  # noqa: E402


def test_base_is_looked_for_beside_the_file_that_names_it_first(base, tmp_path, monkeypatch) -> None:
    for folder in ("searches/configs", "elsewhere/configs", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    path = tmp_path / "searches/search.yaml"
    beside, here = tmp_path / "searches/configs/base.yaml", tmp_path / "elsewhere/configs/base.yaml"
    for place in (beside, here):
        place.write_text(BASE)
    search_file(base, base="configs/base.yaml").rename(path)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_search(path).base == str(beside)
    assert load_search(Path("../searches/search.yaml")).base_config() == load(beside)
    assert load_search(path, ["base=configs/base.yaml"]).base == str(Path.cwd() / "configs/base.yaml")
    beside.unlink()
    assert load_search(path).base == str(here)
    found = load_search(path)
    monkeypatch.chdir("/")
    assert found.domains == load_search(path, [f"base={here}"]).domains


def test_a_base_that_is_nowhere_is_named_with_who_asked_and_the_places(base, tmp_path, monkeypatch) -> None:
    path = search_file(base, base="lost.yaml")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(ConfigError) as caught:
        load_search(path)
    for words in (str(path), "base = 'lost.yaml'", str(tmp_path / "lost.yaml"), str(Path.cwd() / "lost.yaml")):
        assert words in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        load_search(path, ["base=lost2.yaml"])
    assert str(Path.cwd() / "lost2.yaml") in str(caught.value)
    assert str(tmp_path / "lost2.yaml") not in str(caught.value)
    with pytest.raises(ConfigError, match="looked for /lost"):
        load_search(search_file(base, base="/lost.yaml"))
    (tmp_path / "lost.yaml").mkdir()  # a folder is no configuration
    with pytest.raises(ConfigError, match=r"base = 'lost\.yaml'"):
        load_search(search_file(base, base="lost.yaml"))


def test_trials_ask_for_no_port_whatever_the_configuration_says(base: Path) -> None:
    base.write_text(BASE + "telemetry: {port: 9400, push_gateway: 'http://gateway', trackers: [tensorboard]}\n")
    search = load_search(search_file(base, overrides=["telemetry.port=9500"], telemetry={"port": 9600}))
    trial = load(base, [*search.overrides, *search.trial_overrides()])
    assert (trial.telemetry.port, trial.telemetry.push_gateway, trial.telemetry.trackers) == (0, "", ())
    assert search.telemetry.port == 9600


def test_trials_take_the_perceptual_scores_that_they_are_compared_by(base: Path) -> None:
    more = {"searcher": "optuna", "scheduler": "none", "second_metric": "lpips"}
    search = load_search(search_file(base, metric="dists", overrides=["validate.scores=[niqe]"], **more))
    trial = load(base, [*search.overrides, *search.trial_overrides()])
    assert trial.validate.metric == "dists"
    assert trial.validate.scores == ("niqe", "lpips")
    assert search.mode == "min"
    assert {"dists", "lpips"} <= set(search.scores)
    search = load_search(search_file(base, overrides=["validate.scores=[niqe]"]))
    assert load(base, [*search.overrides, *search.trial_overrides()]).validate.scores == ("niqe",)


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({}, "space is empty"),
        ({"weights.mze": {"choice": [1, 2]}}, r"space\.weights\.mze: .*weights\.mse"),
        ({"weights.mse": 3}, r"space\.weights\.mse = 3; allowed: one of {choice"),
        ({"weights.mse": {"normal": [0, 1]}}, "allowed: one of {choice"),
        ({"weights.mse": {"choice": [], "grid": [1]}}, "allowed: one of {choice"),
        ({"weights.mse": {"choice": "12"}}, "a list of finite numbers"),
        ({"weights.mse": {"choice": [1, True]}}, "a list of finite numbers"),
        ({"weights.mse": {"grid": [1, 1]}}, "each once"),
        ({"weights.mse": {"grid": []}}, "one value or more"),
        ({"weights.mse": {"uniform": [2, 1]}}, r"\[low, high\] with low < high"),
        ({"weights.mse": {"uniform": [1, 2, 3]}}, r"\[low, high\] with low < high"),
        ({"weights.mse": {"loguniform": [0, 1]}}, "above 0"),
        ({"weights.mse": {"uniform": [-1, 1]}}, r"space\.weights\.mse: .*weights\.mse = -1"),
        ({"optim.beta1": {"choice": [0.5, 1.5]}}, r"optim\.beta1 = 1\.5"),
        ({"nets.sr.kind": {"choice": [1, 2]}}, r"nets\.sr\.kind = 1"),
        ({"data.hr": {"choice": [1, 2]}}, r"data\.hr is no number"),
        ({"train.steps": {"choice": [1, 2]}}, "the search sets train.steps itself"),
        ({"weights.percep": {"choice": [1, 2]}}, "read by cyclesrgan only"),
        ({"nets.sr.blocks": {"uniform": [1.5, 3]}}, r"nets\.sr\.blocks = 1\.5 is not an integer"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused_by_name(space, said, base) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_space(space, base, [])


def test_domains(base) -> None:
    space = {
        "weights.mse": {"loguniform": [0.1, 100]},
        "weights.id": {"grid": [0.5, 5]},
        "nets.sr.blocks": {"uniform": [2, 6]},
        "optim.lr_sr": {"choice": [1.0e-4, 2.0e-4]},
    }
    mse, identity, blocks, lr = parse_space(space, base, [])
    assert mse == Domain("weights.mse", "loguniform", (0.1, 100.0), whole=False)
    assert mse.is_log
    assert blocks.whole
    assert not identity.is_log
    assert (mse.clamped(120.0), mse.clamped(5.0), blocks.clamped(3.4), blocks.clamped(9)) == (100.0, 5.0, 3, 6)
    assert (identity.clamped(100.0), lr.clamped(1.4e-4)) == (5.0, 1.0e-4)
    assert identity.for_ray() == {"grid_search": [0.5, 5.0]}
    drawn = {blocks.for_ray().sample() for _ in range(200)}
    assert drawn == {2, 3, 4, 5, 6}
    assert Clamp({"weights.mse": mse})({"weights.mse": 1e9, "other": 3}) == {"weights.mse": 100.0, "other": 3}


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), lambda x: st.lists(x, max_size=3)))
def test_no_value_of_a_domain_escapes_the_check(tmp_path_factory, value) -> None:
    path = tmp_path_factory.getbasetemp() / "base.yaml"
    if not path.exists():
        path.write_text(BASE)
    for kind in ("choice", "grid", "uniform", "loguniform"):
        try:
            (domain,) = parse_space({"weights.mse": {kind: value}}, path, [])
        except ConfigError as error:
            named = "weights.mse" in str(error)
            assert named  # the other outcome is as good
        else:
            assert 0 <= domain.low <= domain.high


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"base": ""}, "base is empty"),
        ({"steps": 0}, "steps = 0 is out of range"),
        ({"report_every_steps": 81}, "report_every_steps = 81"),
        ({"shared_steps": 80}, "shared_steps = 80 is out of range"),
        ({"shared_steps": 40, "report_every_steps": 15}, "shared_steps = 40 is no multiple of report_every_steps = 15"),
        ({"workers": {"num": 3}}, "workers.num = 3 does not divide global_batch = 32"),
        ({"overrides": ["backend=single"], "workers": {"num": 2}}, "needs backend=ddp or deepspeed"),
        ({"overrides": ["data.valid_lr="]}, "without validation no trial reports psnr"),
        ({"overrides": ["no.such=1"]}, "no.such"),
        ({"metric": "fid"}, "metric = .fid."),
        ({"searcher": "optuna", "scheduler": "pbt"}, "allowed: one of them"),
        ({"scheduler": "pbt", "num_samples": 2}, "num_samples with scheduler: pbt = 2"),
        ({"scheduler": "pbt", "space": {"nets.sr.blocks": {"choice": [1, 2]}}}, r"allowed: weights\.\*, optim\.\*"),
        ({"searcher": "optuna", "space": {"weights.mse": {"grid": [1, 2]}}}, "grid with searcher: optuna"),
        ({"second_metric": "ssim"}, "second_metric needs searcher: optuna"),
        ({"second_metric": "psnr"}, "second_metric = psnr is metric, too"),
        ({"asha": {"reduction_factor": 1}}, "asha.reduction_factor = 1"),
        ({"pbt": {"quantile": 0.6}}, "pbt.quantile = 0.6"),
    ],
)
def test_a_search_that_cannot_work_is_refused(changes, said, base) -> None:
    with pytest.raises(ConfigError, match=said):
        load_search(search_file(base, **changes))


def test_numbers_of_trials_and_steps(base) -> None:
    grids = {"weights.mse": {"grid": [1, 10, 100]}, "weights.id": {"grid": [0.5, 5]}}
    search = load_search(search_file(base, space=grids, num_samples=2))
    assert (search.num_trials, search.report_steps, search.last_step()) == (12, 10, 80)
    separate = load_search(search_file(base, overrides=["system=cycle_sr_separate"]))
    assert separate.last_step() == 160


@pytest.fixture
def search(base) -> Search:
    return load_search(search_file(base))


def report(trial: str, step: int, psnr: float, mse: float, **more: object) -> dict[str, object]:
    return {
        "trial": trial,
        "step": step,
        "own_steps": step,
        "done": step == 80,
        "values": {"weights.mse": mse},
        "seconds": 1.0,
    } | {
        "psnr": psnr,
        "spectrum_hr": 50 - psnr,
        **more,
    }


def found(
    search: Search, tmp_path: Path, *reports: dict[str, object], errors: tuple[str, ...] = ()
) -> tuple[list, Results]:
    log = tmp_path / "results.jsonl"
    log.write_text("".join(json.dumps(r) + "\n" for r in reports))
    results = read_results(log)
    ray_results = [
        SimpleNamespace(path=f"/x/{name}", error=RuntimeError("gone") if name in errors else None, checkpoint=None)
        for name in results.values
    ]
    return rows(search, ray_results, results), results


def test_rows_and_ranking(search, tmp_path) -> None:
    trials, results = found(
        search,
        tmp_path,
        report("a", 40, 21.0, 1.0),
        report("b", 40, 25.0, 2.0, done=True),
        report("a", 80, 22.0, 1.0),
        report("c", 80, 23.0, 3.0),
        report("d", 10, 0.0, 4.0, failed="the numbers went bad", done=True),
        report("e", 40, 30.0, 5.0),
        report("f", 20, 30.0, 6.0),
        {"trial": "g", "values": {"weights.mse": 7.0}},
        errors=("e",),
    )
    assert [row.state for row in trials] == [
        "finished", "stopped early", "finished", "failed", "lost", "unfinished", "unfinished",
    ]  # fmt: skip
    assert [row.name for row in ranked(search, trials)] == ["c", "a", "b"]  # b was stopped: its step had a lower bar
    table = list(csv.DictReader(trials_csv(search, trials).splitlines()))
    assert table[3]["cause"] == "the numbers went bad"
    assert table[3]["psnr"] == ""
    assert [float(line["weights.mse"]) for line in table] == [1, 2, 3, 4, 5, 6, 7]
    page = html(search, trials, results.reports, {}, "the photographs are <gone>")
    assert "&lt;gone&gt;" in page
    assert "weights.mse = 3" in page
    assert page.count("<polyline") == 3 + 1  # parallel coordinates; of the curves only that of a has more than a point


def test_the_front_of_two_scores(search, tmp_path) -> None:
    two = replace(search, second_metric="spectrum_hr", searcher="optuna", scheduler="none")
    trials, _ = found(
        two,
        tmp_path,
        report("a", 80, 22.0, 1.0, spectrum_hr=1.0),
        report("b", 80, 23.0, 2.0, spectrum_hr=2.0),
        report("c", 80, 21.0, 3.0, spectrum_hr=3.0),
        report("d", 80, 22.0, 4.0, spectrum_hr=1.0),
    )
    assert [row.name for row in front(two, trials)] == ["a", "b", "d"]
    assert [line["front"] for line in csv.DictReader(trials_csv(two, trials).splitlines())] == ["1", "1", "0", "1"]


def test_best_yaml_is_a_training_configuration_with_its_own_schedule(search, base, tmp_path) -> None:
    trials, _ = found(search, tmp_path, report("a", 80, 22.0, 0.1 + 0.2))
    path = tmp_path / "best.yaml"
    path.write_text(best_yaml(search, trials[0]))
    assert load(path) == load(base, ["weights.mse=0.30000000000000004"])


def test_a_restored_asha_decides_as_the_one_before(search, tmp_path) -> None:
    log = tmp_path / "results.jsonl"
    settings = {
        "time_attr": "own_steps",
        "metric": "psnr",
        "mode": "max",
        "max_t": 80,
        "grace_period": 10,
        "reduction_factor": 2,
    }
    first, fresh = (RememberingASHA(log, **settings) for _ in range(2))
    lines = []
    for index, psnr in enumerate([20.0, 22.0, 24.0]):
        trial = SimpleNamespace(trial_id=f"t{index}")
        first.on_trial_add(None, trial)
        fresh.on_trial_add(None, trial)  # before there was a log
        lines.append(report(trial.trial_id, 10, psnr, 1.0))
        first.on_trial_result(None, trial, lines[-1])
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    restored = pickle.loads(pickle.dumps(RememberingASHA(log, **settings)))
    for index in range(3):
        restored.on_trial_add(None, SimpleNamespace(trial_id=f"t{index}"))
    new = SimpleNamespace(trial_id="new")
    for asha in (first, restored, fresh):
        asha.on_trial_add(None, new)
    bad = report("new", 10, 21.0, 1.0)
    assert first.on_trial_result(None, new, bad) == restored.on_trial_result(None, new, bad) == "STOP"
    assert fresh.on_trial_result(None, new, bad) == "CONTINUE"  # what a plain restored scheduler would do


def test_live_knows_from_the_file_what_was_before(search, tmp_path, capsys) -> None:
    log = tmp_path / "results.jsonl"
    log.write_text(
        json.dumps(report("a", 80, 22.0, 1.0)) + "\n" + json.dumps(report("b", 40, 21.0, 2.0)) + '\n{"trial": "b'
    )
    live = pickle.loads(pickle.dumps(SearchProgress(search, log, quiet=False)))
    live.setup()
    assert log.read_text().endswith("}\n")  # the half line is gone
    trial = SimpleNamespace(trial_id="b", config={"weights.mse": 2.0}, status="RUNNING")
    live.on_trial_result(
        1,
        [trial],
        trial,
        {"step": 50, "own_steps": 50, "psnr": 21.5, "time_total_s": 3.0, "config": {"weights.mse": 2.0}},
    )
    said = capsys.readouterr().out
    assert "trial 2/4 step 50/80 psnr 21.5" in said
    assert "best 22 (trial 1, weights.mse=1)" in said
    assert "1 of 4 over" in said
    live.on_trial_result(
        1,
        [trial],
        trial,
        {
            "step": 50,
            "own_steps": 50,
            "psnr": 0.0,
            "time_total_s": 3.0,
            "failed": "why",
            "done": True,
            "config": {"weights.mse": 2.0},
        },
    )
    assert "trial 2 failed with weights.mse=2: why" in capsys.readouterr().err
    live.on_experiment_end([trial])
    assert len(read_results(log).reports) == 4
    mend(log)
    assert len(read_results(log).reports) == 4


def test_parallel_coordinates_place_ends_at_ends() -> None:
    axis = Axis("weights.mse", 0.1, 1000, is_log=True)
    assert (axis.height(0.1), axis.height(1000), axis.height(10)) == (0.0, 1.0, pytest.approx(0.5))
    assert Axis("x", 2, 2).height(2) == 0.5
    drawn = parallel_coordinates("<t>", [axis, Axis("psnr", 20, 22)], [{"weights.mse": 10, "psnr": 22}])
    assert "&lt;t&gt;" in drawn
    assert "<t>" not in drawn
