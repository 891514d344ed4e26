"""Tiny data sets for whole runs: photographs, a degraded counterpart, shard sets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from helpers import tiny_overrides, write_photos


@dataclass(frozen=True)
class TinyData:
    root: Path

    @property
    def overrides(self) -> list[str]:
        """Configuration of a run on this data: milliseconds a step, 5 steps an epoch."""
        shards = {kind: self.root / "shards" / kind for kind in ("hr", "lr", "pairs")}
        folders = {"valid_hr": self.root / "clean", "valid_lr": self.root / "lr"}
        data = [f"data.{key}={path}" for key, path in (shards | folders).items()]
        train = ["epochs=4", "pretrain_epochs=1", "constant_epochs=2", "log_every_steps=1"]
        train += ["validate_every_steps=4", "checkpoint_every_steps=4"]
        return [*tiny_overrides(), *data, *(f"train.{text}" for text in train)]


def make_tiny_data(root: Path, seed: int = 0) -> TinyData:
    """Made by the product's own commands; another `seed` gives other photographs of the same size."""
    from cyclesr_dist.cli.main import main as cyclesr

    write_photos(root / "hr", 3, 64, 96, seed=seed)
    write_photos(root / "clean", 2, 64, 96, seed=seed + 1)
    config = root / "shards.yaml"
    config.write_text("shards: {patch: 8, stride: 8, samples_per_shard: 10}\n")
    degrade = ["degrade", "--hr", str(root / "clean"), "--track", "mild", "--seed", "0", "--out", str(root / "lr")]
    assert cyclesr([*degrade, "--quiet"]) == 0
    build = ["shards", "build", "--hr", str(root / "hr"), "--lr", str(root / "lr"), "--out", str(root / "shards")]
    build += ["--pairs-hr", str(root / "clean"), "--config", str(config), "--quiet"]
    assert cyclesr(build) == 0
    return TinyData(root)
