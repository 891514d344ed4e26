"""What a run that resumes may do otherwise, what it must say, and where that is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.data import make_tiny_data
from helpers.runs import lines, run

from cyclesr_dist.config.reader import leaves
from cyclesr_dist.config.schema import Config
from cyclesr_dist.errors import ConfigError
from cyclesr_dist.models.checkpoint import ShardSetFacts, flat_identity, identity
from cyclesr_dist.training.changes import KINDS, Kind, changes, check_resumable, kind_of

SETS = {"hr": ShardSetFacts(9, "a" * 64, 24), "lr": ShardSetFacts(7, "b" * 64, 24)}


def test_every_key_has_a_kind_and_no_kind_lacks_a_key() -> None:
    known = flat_identity(identity(Config(), SETS, {"valid_lr": "2 files"}))
    assert leaves(Config()).keys() <= known.keys()
    for name in KINDS:
        assert any(key == name or key.startswith(f"{name}.") for key in known), name
    for key in known:
        assert any(key == name or key.startswith(f"{name}.") for name in KINDS), key
    assert kind_of("train.steps") is Kind.EXPERIMENT
    assert kind_of("global_batch") is Kind.ORDER
    assert kind_of("train.log_every_steps") is Kind.EXECUTION
    assert kind_of("nets.sr.channels") is Kind.FITS_THE_STATE
    assert kind_of("nets.translator.estimate") is Kind.EXECUTION


def test_an_identity_is_the_same_after_it_was_written() -> None:
    config = replace(Config(), weights=replace(Config().weights, more={"my.terms:edges": 0.5}))
    known = identity(config, SETS)
    again = json.loads(json.dumps(known))
    assert changes(flat_identity(again), flat_identity(known)) == []
    assert flat_identity(known)["weights.more"] == {"my.terms:edges": 0.5}


def test_what_is_refused_says_what_to_do() -> None:
    now = flat_identity(identity(Config(), SETS))
    wider = changes(now | {"nets.sr.channels": 8}, now)
    for allowed in (False, True):
        with pytest.raises(ConfigError, match=r"nets\.sr\.channels = 8, this run has 64.*does not fit.*--run-dir"):
            check_resumable("x", wider, allowed)
    faster = changes(now | {"optim.lr_sr": 0.1, "samples.hr": "c"}, now)
    with pytest.raises(ConfigError, match=r"optim\.lr_sr = 0\.1.*samples\.hr = c.*--resume-with-changes"):
        check_resumable("x", faster, False)
    check_resumable("x", faster, True)
    check_resumable("x", changes(now | {"data.workers": 3, "train.max_steps": 5}, now), False)


@pytest.fixture
def begun(config_file, tiny_data, tmp_path) -> list[str]:
    """The overrides of a run that has stopped at step 2."""
    given = [*tiny_data.overrides, "train.checkpoint_every_steps=2"]
    assert run(config_file, tmp_path / "run", *given, "train.max_steps=2") == 0
    return [*given, "train.max_steps=4"]


def test_another_experiment_needs_the_users_word(begun, config_file, tmp_path, capsys) -> None:
    folder = tmp_path / "run"
    before = (folder / "config.yaml").read_bytes()
    assert run(config_file, folder, *begun, "weights.mse=3", "--resume") == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert "weights.mse = 1000.0, this run has 3.0" in told
    assert "--resume-with-changes" in told
    assert (folder / "config.yaml").read_bytes() == before
    assert [event["event"] for event in lines(folder / "events.jsonl")] == ["started", "finished"]
    assert run(config_file, folder, *begun, "weights.mse=3", "--resume-with-changes") == 0
    assert "cyclesr: warning: changed since the checkpoint: weights.mse 1000.0 -> 3.0" in capsys.readouterr().err
    (noted,) = (event for event in lines(folder / "events.jsonl") if event["event"] == "changed")
    assert noted["step"] == 2
    assert noted["changes"] == {"weights.mse": [1000.0, 3.0], "train.max_steps": [2, 4]}
    assert "weights.mse 1000.0 -&gt; 3.0" in (folder / "report.html").read_text().replace("<wbr>", "")


@pytest.mark.parametrize(
    "changed", [["global_batch=8"], ["seed=3"], ["data.tail=wrap"], ["optim.lr_sr=1e-3", "train.epochs=6"]]
)
def test_there_is_a_way_on_with_another_batch_or_schedule(changed, begun, config_file, tmp_path) -> None:
    assert run(config_file, tmp_path / "run", *begun, *changed, "--resume") == 2
    assert run(config_file, tmp_path / "run", *begun, *changed, "--resume-with-changes") == 0
    assert [line["step"] for line in lines(tmp_path / "run/metrics.jsonl")] == [1, 2, 3, 4]


def test_other_samples_are_noticed(begun, config_file, tmp_path_factory, tmp_path, capsys) -> None:
    other = make_tiny_data(tmp_path_factory.mktemp("other"), seed=5)
    begun += [text for text in other.overrides if text.startswith("data.")]
    assert run(config_file, tmp_path / "run", *begun, "--resume") == 2
    assert "samples.hr = " in capsys.readouterr().err.strip().splitlines()[-1]
    assert run(config_file, tmp_path / "run", *begun, "--resume-with-changes") == 0


def test_other_photographs_of_validation_are_noticed_and_the_best_is_chosen_anew(
    begun, config_file, tmp_path_factory, tmp_path, capsys
) -> None:
    """Scores of other photographs cannot be compared with that of the best so far."""
    other = make_tiny_data(tmp_path_factory.mktemp("other"), seed=5)
    begun += ["train.validate_every_steps=2", f"data.valid_lr={other.root}/lr", f"data.valid_hr={other.root}/clean"]
    assert run(config_file, tmp_path / "run", *begun, "--resume") == 2
    assert "photographs.valid_hr = 2 files, " in capsys.readouterr().err.strip().splitlines()[-1]
    best = tmp_path / "run/model.safetensors"
    best.unlink()  # it would stay gone if the score of the old photographs could not be beaten
    old = lines(tmp_path / "run/validation.jsonl")[-1]["psnr"]
    assert run(config_file, tmp_path / "run", *begun, "--resume-with-changes") == 0
    assert lines(tmp_path / "run/validation.jsonl")[-1]["psnr"] < old
    assert best.is_file()


def test_sharp_photographs_may_join_validation_later(config_file, tiny_data, tmp_path) -> None:
    """Until then another metric chose the best."""
    given = [*tiny_data.overrides, "train.checkpoint_every_steps=2", "train.validate_every_steps=2"]
    assert run(config_file, tmp_path / "run", *given, "train.max_steps=2", "data.valid_hr=") == 0
    assert run(config_file, tmp_path / "run", *given, "train.max_steps=4", "--resume") == 0
    assert json.loads((tmp_path / "run/summary.json").read_text())["best"]["psnr"]


def test_the_same_samples_in_another_folder_are_the_same(begun, config_file, tiny_data, tmp_path: Path, capsys) -> None:
    (tmp_path / "moved").symlink_to(tiny_data.root)
    begun += [f"data.{kind}={tmp_path}/moved/shards/{kind}" for kind in ("hr", "lr")]
    begun += [f"data.valid_hr={tmp_path}/moved/clean", f"data.valid_lr={tmp_path}/moved/lr"]
    capsys.readouterr()
    assert run(config_file, tmp_path / "run", *begun, "--resume") == 0
    assert "changed since" not in capsys.readouterr().err  # it is noted in events.jsonl, and no warning


def test_what_the_state_does_not_fit_is_refused_for_good(begun, config_file, tmp_path, capsys) -> None:
    for flag in ("--resume", "--resume-with-changes"):
        assert run(config_file, tmp_path / "run", *begun, "nets.sr.channels=12", flag) == 2
        assert "the saved state does not fit" in capsys.readouterr().err
