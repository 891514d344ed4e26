"""What users get wrong: one clear line, exit code 2, no traceback, nothing half-written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers import write_photos
from helpers.runs import run
from PIL import Image

from cyclesr_dist.cli.main import main as cyclesr


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos", 2, 64, 64, seed=3)


def expect(capsys: pytest.CaptureFixture[str], code: int, *words: str) -> None:
    error = capsys.readouterr().err
    assert code == 2, error
    (line,) = [text for text in error.splitlines() if text.strip()]
    assert line.startswith("cyclesr: error: ")
    assert "Traceback" not in error
    for word in words:
        assert word in line, line


def degrade(hr: Path, out: Path, track: str = "mild") -> int:
    return cyclesr(["degrade", "--hr", str(hr), "--track", track, "--seed", "0", "--out", str(out), "--quiet"])


def build(hr: Path, lr: Path, out: Path) -> int:
    return cyclesr(
        ["shards", "build", "--hr", str(hr), "--lr", str(lr), "--out", str(out), "--quiet", "--allow-overlap"]
    )


def test_empty_folder(tmp_path, photos, capsys) -> None:
    (tmp_path / "empty").mkdir()
    expect(capsys, degrade(tmp_path / "empty", tmp_path / "out"), "empty")
    expect(capsys, build(photos, tmp_path / "empty", tmp_path / "out"), "empty")
    assert not (tmp_path / "out").exists()


def test_text_file_named_jpg(tmp_path, photos, capsys) -> None:
    (photos / "notes.jpg").write_text("not a picture")
    assert degrade(photos, tmp_path / "out") == 1  # the others are done
    assert capsys.readouterr().err.startswith("notes.jpg: ")
    assert (tmp_path / "out" / "photo0x4m.png").is_file()


def test_truncated_jpeg(tmp_path, photos, capsys) -> None:
    whole = tmp_path / "whole.jpg"
    Image.effect_noise((200, 200), 60).convert("RGB").save(whole, quality=95)
    (photos / "cut.jpg").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert degrade(photos, tmp_path / "out") == 1
    assert capsys.readouterr().err.startswith("cut.jpg: ")
    code = cyclesr(["upscale", str(photos / "cut.jpg"), "--model", "bicubic", "--out", str(tmp_path / "up"), "--quiet"])
    expect(capsys, code, "cut.jpg")
    assert not list((tmp_path / "up").glob("*")) if (tmp_path / "up").exists() else True


def test_image_smaller_than_a_patch(tmp_path, photos, capsys) -> None:
    expect(capsys, build(photos, photos, tmp_path / "out"), "photo0.png", "480")
    assert not (tmp_path / "out").exists()


def test_unknown_track(tmp_path, photos, capsys) -> None:
    expect(capsys, degrade(photos, tmp_path / "out", track="foggy"), "foggy", "unknown, mild, wild, camera")
    assert not (tmp_path / "out").exists()


def test_missing_shard(tmp_path, config_file, tiny_data, capsys) -> None:
    broken = tmp_path / "hr"
    shutil.copytree(tiny_data.root / "shards/hr", broken)
    (broken / "shard-000001.tar").unlink()
    expect(capsys, run(config_file, tmp_path / "run", *tiny_data.overrides, f"data.hr={broken}"), "shard-000001.tar")
    expect(capsys, run(config_file, tmp_path / "run", *tiny_data.overrides, "data.lr="), "data.lr is empty")
    assert not (tmp_path / "run").exists()


def test_config_typo(tmp_path, config_file, tiny_data, capsys) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("system: cyclesr\nweights:\n  msee: 3\n")
    expect(capsys, run(bad, tmp_path / "run"), "bad.yaml:3", "weights.msee", "weights.mse")
    expect(capsys, run(config_file, tmp_path / "run", "global_bach=4"), "global_bach", "global_batch")
    expect(capsys, run(config_file, tmp_path / "run", "system=cyclegun"), "cyclegun", "cyclesrgan")
    expect(capsys, run(tmp_path / "none.yaml", tmp_path / "run"), "none.yaml")
    assert not (tmp_path / "run").exists()


def test_checkpoint_of_another_architecture(tmp_path, config_file, tiny_data, capsys) -> None:
    arguments = [*tiny_data.overrides, "train.max_steps=4"]
    assert run(config_file, tmp_path / "run", *arguments) == 0
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    capsys.readouterr()
    code = run(config_file, tmp_path / "run", *arguments, "nets.sr.channels=6", "--resume")
    expect(capsys, code, "nets.sr.channels = 4", "6")
    assert before == {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}


def test_damaged_checkpoint(tmp_path, config_file, tiny_data, capsys) -> None:
    arguments = [*tiny_data.overrides, "train.max_steps=4"]
    assert run(config_file, tmp_path / "run", *arguments) == 0
    capsys.readouterr()
    tensors = tmp_path / "run/checkpoints/step-00000004/tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:1000])
    expect(capsys, run(config_file, tmp_path / "run", *arguments, "--resume"), "step-00000004")


def test_run_folder_that_holds_a_run(tmp_path, config_file, tiny_data, capsys) -> None:
    arguments = [*tiny_data.overrides, "train.max_steps=1"]
    assert run(config_file, tmp_path / "run", *arguments, "--resume") == 0  # nothing to resume: from the beginning
    assert "starting from the beginning" in capsys.readouterr().err
    expect(capsys, run(config_file, tmp_path / "run", *arguments), "already holds a run", "--resume")


def test_run_folder_not_writable(tmp_path, config_file, tiny_data, capsys) -> None:
    (tmp_path / "file").write_text("")
    expect(capsys, run(config_file, tmp_path / "file" / "run", *tiny_data.overrides), "file/run", "not writable")
    expect(capsys, run(config_file, Path("/proc/run"), *tiny_data.overrides), "/proc/run", "not writable")


def test_precision_and_backend_that_cannot_work_here(tmp_path, config_file, tiny_data, capsys) -> None:
    expect(capsys, run(config_file, tmp_path / "run", *tiny_data.overrides, "precision=fp16"), "fp16", "allowed")


def test_debug_shows_the_traceback(tmp_path, config_file, capsys) -> None:
    assert run(config_file, tmp_path / "run", "global_bach=4", "--debug") == 2
    assert "Traceback" in capsys.readouterr().err
