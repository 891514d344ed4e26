"""`cyclesr table` and `cyclesr ablate` with real training processes on tiny photographs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from helpers import tiny_overrides, write_photos
from PIL import Image

from cyclesr_dist.cli.main import main
from cyclesr_dist.config.reader import to_dict
from cyclesr_dist.config.schema import load
from cyclesr_dist.errors import ConfigError
from cyclesr_dist.scoring.perceptual.backbones import FOLDER_VARIABLE
from cyclesr_dist.workflows.table.config import load_table
from cyclesr_dist.workflows.table.data import Folders, TableData
from cyclesr_dist.workflows.table.jobs import table_jobs


@pytest.fixture
def table_file(tmp_path: Path) -> Path:
    write_photos(tmp_path / "photos", 6, 64, 96, seed=0)
    write_photos(tmp_path / "test", 2, 64, 64, seed=1)
    run = to_dict(
        load(
            None,
            [
                *tiny_overrides(),
                "backend=single",
                "global_batch=2",
                "train.epochs=1",
                "train.pretrain_epochs=0",
                "train.constant_epochs=0",
                "train.validate_every_steps=2",
                "train.log_every_steps=1",
                "shards.hr_region=left",
                "shards.lr_region=right",
                "shards.stride=24",
            ],
        )
    )
    content = {
        "photos": str(tmp_path / "photos"),
        "test_hr": str(tmp_path / "test"),
        "valid_every": 3,
        "seeds": [0],
        "pictures": 1,
        "tracks": {"mild": {"degrade": {"blur_px": 3.0, "noise": 0.05, "shift_px": 0}}},
        "run": run,
    }
    path = tmp_path / "table.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def run_table(file: Path, *arguments: str) -> int:
    return main(["table", "--config", str(file), "--run-dir", str(file.parent / "out"), "--quiet", *arguments])


@pytest.mark.slow
def test_a_table_of_three_rows_resumed_to_four_with_a_perceptual_score(
    table_file: Path, drawn_backbones: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    out = table_file.parent / "out"
    assert run_table(table_file, "systems=[bicubic, sr_syn, cyclesr]") == 0
    content = json.loads((out / "table.json").read_text())
    rows = content["tracks"]["mild"]
    assert list(rows) == ["bicubic", "sr_syn", "cyclesr"]
    assert rows["bicubic"]["to_bicubic"] == 0
    for row in rows.values():
        assert 5 < row["psnr"]["mean"] < 60
        assert row["psnr"]["n"] == 1
    assert rows["cyclesr"]["peak_memory_mb"] > 50
    # sr_syn never sees the track; its run is shared and validated on synthetic LR.
    config = yaml.safe_load((out / "runs/all/sr_syn/seed0/config.yaml").read_text())
    assert config["data"]["lr"] == ""
    assert config["data"]["valid_lr"].endswith("syn/valid_lr")
    assert content["stages"]["mild"].keys() == {"one_stage", "two_stages"}
    assert list(content["inference"]) == ["sr_syn", "cyclesr"]
    for cost in content["inference"].values():
        assert cost["networks"] == 1
        assert min(cost["parameters"], cost["seconds"], cost["peak_memory_mb"]) > 0
    assert set(content["correlations"]["mild"]) == {"agreement", "spectrum_hr", "spectrum_lr"}
    for name in ("table.md", "table.html", "strips/mild"):
        assert (out / name).exists()
    strip = next((out / "strips/mild").glob("*.png"))
    with Image.open(strip) as image:
        assert image.width > 5 * 64
    assert "://" not in (out / "table.html").read_text()

    document = table_file.parent / "results.md"
    document.write_text("# Results\n\n<!-- table -->\nof the day before\n<!-- /table -->\n\nby hand\n")
    before = (out / "runs/mild/cyclesr/seed0/model.safetensors").stat().st_mtime_ns
    more = ["systems=[bicubic, sr_syn, cyclesr, cycle_sr_separate]", "scores=[lpips]"]
    monkeypatch.setenv(FOLDER_VARIABLE, str(drawn_backbones))
    assert run_table(table_file, "--into", str(document), *more) == 0
    text = document.read_text()
    assert "of the day before" not in text
    assert "| cycle_sr_separate |" in text
    assert "Made by `cyclesr table" in text
    assert text.endswith("<!-- /table -->\n\nby hand\n")
    content = json.loads((out / "table.json").read_text())
    assert list(content["tracks"]["mild"]) == ["bicubic", "sr_syn", "cyclesr", "cycle_sr_separate"]
    assert all(row["lpips"]["mean"] > 0 for row in content["tracks"]["mild"].values()), "finished runs are scored, too"
    chart = table_file.parent / "images/plane-mild.svg"
    assert "![LPIPS (AlexNet) against distortion, track mild](images/plane-mild.svg)" in text
    assert chart.read_text() == (out / "plane-mild.svg").read_text()
    assert chart.read_text().count("<circle") == 4
    assert (out / "runs/mild/cyclesr/seed0/model.safetensors").stat().st_mtime_ns == before
    steps = [json.loads(line) for line in (out / "runs/mild/cycle_sr_separate/seed0/metrics.jsonl").open()]
    assert [row["phase"] for row in steps] == ["translate"] * (len(steps) // 2) + ["separate"] * (len(steps) // 2)
    assert "cycle_sr_separate" in capfd.readouterr().out


@pytest.mark.slow
def test_other_settings_are_refused_and_the_rest_is_written(
    table_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_table(table_file, "systems=[bicubic, sr_syn]") == 0
    assert run_table(table_file, "systems=[bicubic, sr_syn]", "run.weights.mse=7") == 0, "finished runs stay"
    scores = table_file.parent / "out/runs/all/sr_syn/seed0/scores-mild.json"
    scores.unlink()
    assert run_table(table_file, "systems=[bicubic, sr_syn]", "run.weights.mse=7") == 1
    assert "other settings" in capfd.readouterr().out
    assert list(json.loads((table_file.parent / "out/table.json").read_text())["tracks"]["mild"]) == ["bicubic"]


@pytest.mark.slow
def test_an_ablation_has_a_row_and_a_picture_for_every_value(table_file: Path) -> None:
    out = table_file.parent / "ablation"
    command = ["ablate", "--config", str(table_file), "--run-dir", str(out), "--quiet", "sweep_mse=[0.1, 100.0]"]
    assert main(command) == 0
    rows = json.loads((out / "ablation.json").read_text())["tracks"]["mild"]
    assert [row["mse"] for row in rows] == [0.1, 100.0]
    assert all("drift_mean" in row and row["psnr"] > 5 for row in rows)
    assert sorted(path.name for path in (out / "strips/mild").iterdir()) == ["mse0.1.png", "mse100.png"]
    page = (out / "ablation.html").read_text()
    assert page.count("<figcaption>") == 2
    assert page.count("<img") == 6  # syn, fake_real, renormalised of each
    assert page.count("<svg") == 2


@pytest.mark.slow
def test_all_systems_on_two_tracks_spread_over_ray(table_file: Path) -> None:
    arguments = ["--ray", "local", "tracks.wild.degrade.blur_px=3", "seeds=[0, 1]", "wild_variants=2"]
    assert run_table(table_file, *arguments) == 0
    content = json.loads((table_file.parent / "out/table.json").read_text())
    assert content["runs"] == {"done": 22, "of": 22}
    for rows in content["tracks"].values():
        assert len(rows) == 7
        assert all(row["psnr"]["n"] == 2 for system, row in rows.items() if system != "bicubic")
        assert rows["cyclegan"]["psnr"]["mean"] > 5


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("systems=[cyclesr, cyclesr]", "each once"),
        ("seeds=[]", "one value or more"),
        ("seeds=[-1]", "at least 0"),
        ("photos=", "photos is empty"),
        ("tracks.mild.lr=/lr", "only one of lr and test_lr"),
        ("run.weights.mse=-1", "out of range"),
        ("scores=[lpips, fid]", r"scores\[1\] = .fid. is not allowed; allowed: lpips, lpips_vgg, dists, niqe"),
        ("systems=[cyclesr, esrgan]", "allowed: bicubic, sr_syn"),
        ("own={cyclesr: 7}", "own.cyclesr = 7 is not a mapping"),
        ("own={cyclesr: {weights: {mse: 1}}}", r"own.cyclesr sets weights; allowed: weights\.\*, optim\.\*, nets\.\*"),
        ("own={cyclesr: {train.steps: 9}}", "own.cyclesr sets train.steps; allowed: .*train.pretrain_epochs"),
        ("own={cyclesr: {weights.mes: 1}}", "own.cyclesr: .*weights.mes"),
        ("own={cyclesr: {weights.mse: many}}", "own.cyclesr: .*weights.mse = .many. is not a finite number"),
        ("own={cyclesr: {weights.mse: -1}}", "own.cyclesr: weights.mse = -1.0 is out of range"),
        ("own={bicubic: {}}", "own.bicubic: no trained system"),
        ("own={esrgan: {}}", "own.esrgan: no trained system; allowed: sr_syn, "),
        ("own={cyclesr: {nets.translator.kind: degradation}}", "set it for all rows"),
    ],
)
def test_bad_tables_are_refused(table_file: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_table(table_file, [override])


def test_a_row_has_settings_of_its_own(table_file: Path, tmp_path: Path) -> None:
    measured = ["run.nets.translator.kind=degradation", "tracks.mild.sr.kind=vdsr", "tracks.mild.mse=3"]
    own = "own={cincgan: {nets.translator.kind: residual, weights.mse: 5, nets.sr.kind: compact, weights.adv: 7}}"
    table = load_table(table_file, [*measured, own, "systems=[bicubic, cyclesr, cincgan]"])
    folders = Folders("lr", "", tmp_path, tmp_path)
    data = TableData("hr", tmp_path, tmp_path, tmp_path, {"mild": folders})
    cyclesr, cincgan = (job.config for job in table_jobs(table, data, tmp_path))
    assert (cyclesr.nets.translator.kind, cyclesr.nets.sr.kind, cyclesr.weights.mse) == ("degradation", "vdsr", 3)
    assert (cincgan.nets.translator.kind, cincgan.nets.sr.kind, cincgan.weights.mse) == ("residual", "compact", 5)
    assert (cyclesr.weights.adv, cincgan.weights.adv) == (1, 7)
    assert replace(cincgan, weights=cyclesr.weights, nets=cyclesr.nets, system="cyclesr") == cyclesr


def test_settings_of_a_row_that_is_left_out_bind_nobody(table_file: Path) -> None:
    own = ["own={pdm: {weights.content: 5}}", "run.system=sr_syn", "run.data.downsampling=high_order"]
    load_table(table_file, [*own, "systems=[bicubic, sr_syn]"])
    with pytest.raises(ConfigError, match=r"own\.pdm: data\.downsampling = high_order with system = pdm"):
        load_table(table_file, [*own, "systems=[bicubic, pdm]"])
    with pytest.raises(ConfigError, match=r"own\.pdm: weights\.content = -1\.0 is out of range"):
        load_table(table_file, ["own={pdm: {weights.content: -1}}", "systems=[bicubic, sr_syn]"])


def test_perceptual_scores_that_cannot_be_had_are_refused_before_anything_is_trained(
    table_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    for names, said in (("lpips", "holds neither alexnet-owt-7be5be79.pth"), ("niqe", "is too small for niqe")):
        assert run_table(table_file, f"scores=[{names}]") == 2
        assert said in capfd.readouterr().err
        assert not (table_file.parent / "out" / "data").exists()


def test_a_track_is_added_and_left_out_by_override(table_file: Path) -> None:
    assert list(load_table(table_file, ["tracks.wild.mse=3"]).tracks.chosen()) == ["mild", "wild"]
    assert list(load_table(table_file, ["tracks.wild.mse=3", "tracks.mild=null"]).tracks.chosen()) == ["wild"]
    with pytest.raises(ConfigError, match="tracks is empty"):
        load_table(table_file, ["tracks.mild="])
