"""`micro_batch`: how many samples pass through at once, given or tried, and what `--dry-run` expects."""

from __future__ import annotations

import json
import re
import resource
from pathlib import Path
from typing import Any

import pytest
from helpers import tiny_overrides
from helpers.runs import lines

from cyclesr_dist.config.schema import load
from cyclesr_dist.distributed.build import build_backend
from cyclesr_dist.distributed.local_ranks import run_ranks
from cyclesr_dist.distributed.world import World
from cyclesr_dist.method.systems.build import build_system
from cyclesr_dist.training import micro_batch
from cyclesr_dist.training.main import main as train
from cyclesr_dist.training.trial import noise_batch, phases

PLAIN = ["train.validate_every_steps=0", "train.log_every_steps=1"]


def run(config: Path, folder: Path, *arguments: str) -> int:
    return train(["--config", str(config), "--run-dir", str(folder), *arguments])


def losses(folder: Path) -> list[dict[str, float]]:
    names = ("mse", "adv_s2r", "adv_r2s", "cyc_forward", "g", "d_r", "d_s")
    return [{name: line[f"loss.{name}"] for name in names} for line in lines(folder / "metrics.jsonl")]


def test_a_run_in_parts_has_the_losses_of_one_at_once(config_file: Path, tiny_data: Any, tmp_path: Path) -> None:
    common = [*tiny_data.overrides, *PLAIN, "system=cyclesr", "train.max_steps=3"]
    for micro in ("all", "3", "auto"):
        assert run(config_file, tmp_path / micro, *common, f"micro_batch={micro}") == 0
    whole, parts, tried = (losses(tmp_path / micro) for micro in ("all", "3", "auto"))
    assert len(whole) == 3
    for one, other in zip(whole, parts, strict=True):
        assert other == pytest.approx(one, rel=1e-2, abs=1e-5)
    assert tried == whole  # all fit, and trying left nothing behind


def test_what_was_tried_is_kept_and_said(config_file: Path, tiny_data: Any, tmp_path: Path, capsys) -> None:
    folder, common = tmp_path / "run", [*tiny_data.overrides, *PLAIN, "system=sr_syn", "micro_batch=auto"]
    assert run(config_file, folder, *common, "train.max_steps=2") == 0
    assert "micro_batch = auto: all 4 samples of a rank pass at once\n" in capsys.readouterr().err
    kept = json.loads((folder / "micro_batch.json").read_text())
    assert kept["micro_batch"] == kept["rank_batch"] == 4
    (folder / "micro_batch.json").write_text(json.dumps(kept | {"micro_batch": 2}))
    assert run(config_file, folder, *common, "train.max_steps=4", "--resume") == 0
    assert "micro_batch = auto: 2 of a rank's 4 samples at once, 2 parts, as before\n" in capsys.readouterr().err
    for damaged in ("{", "[]", json.dumps(kept | {"micro_batch": 0}), json.dumps(kept | {"rank_batch": 8})):
        (folder / "micro_batch.json").write_text(damaged)
        assert run(config_file, folder, *common, "train.max_steps=4", "--resume") == 0
        assert "all 4 samples of a rank pass at once\n" in capsys.readouterr().err


def test_where_nothing_fits_it_is_refused_in_one_line(
    config_file: Path, tiny_data: Any, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(micro_batch, "free_bytes", lambda _: 0)
    assert run(config_file, tmp_path / "run", *tiny_data.overrides, "micro_batch=auto") == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert "micro_batch = auto: not even one sample fits" in text
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize("value", ["0", "-1", "half", "1.5", ""])
def test_other_values_are_refused(value: str, config_file: Path, tmp_path: Path, capsys) -> None:
    assert run(config_file, tmp_path / "run", f"micro_batch={value}") == 2
    assert "allowed: all, auto, or an integer of at least 1" in capsys.readouterr().err


def test_a_dry_run_tells_memory_and_time(config_file: Path, tiny_data: Any, tmp_path: Path, capsys) -> None:
    for system in ("sr_syn", "cyclesr"):
        assert run(config_file, tmp_path / "run", *tiny_data.overrides, f"system={system}", "--dry-run") == 0
        told = capsys.readouterr().out
        assert re.search(r"^# memory: [\d.]+ [GM]B a rank, measured; [\d.]+ [GM]B free$", told, re.MULTILINE)
        assert re.search(r"^# time: \S+ s a step on noise \(measured\), so about \S", told, re.MULTILINE)
        assert not (tmp_path / "run").exists()


MIDDLE = ["system=estimated", "nets.sr.channels=64", "nets.sr.blocks=16", "global_batch=128", "micro_batch=auto"]
PATCH = 32
ROOM = 600 * 2**20


def decided(world: World) -> tuple[int, float]:
    """With little room on the second rank: the size of parts, and the loss of a step with it."""
    config = load(None, [*tiny_overrides(), *MIDDLE, "backend=ddp"])
    system = build_system(config, build_backend(config, world), world)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    if world.rank:
        status = Path("/proc/self/status").read_text()
        size = int(re.search(r"VmSize:\s+(\d+)", status)[1]) * 1024
        resource.setrlimit(resource.RLIMIT_AS, (size + ROOM * world.num_ranks, limits[1]))
    found, _ = micro_batch.decide(config, world, system, PATCH, {})
    resource.setrlimit(resource.RLIMIT_AS, limits)
    assert {player.micro_batch for player in system.players.values()} == {found["micro_batch"]}
    result = system.step(noise_batch(config, PATCH, 4, world.device), phases(config)[-1])
    return found["micro_batch"], float(result.losses["mse"])


@pytest.mark.slow
def test_all_ranks_take_what_fits_on_the_fullest() -> None:
    (first, loss), (second, other) = run_ranks(decided, 2)
    assert first == second
    assert 1 <= first < 64
    assert loss > 0
    assert other > 0
