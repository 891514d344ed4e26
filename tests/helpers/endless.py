"""Commands that train in processes of their own, with a first training that does not end."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import yaml

from cyclesr_dist.config.reader import to_dict
from cyclesr_dist.config.schema import load
from helpers import tiny_overrides, write_photos
from helpers.processes import BIN, ENDLESS


class Command(NamedTuple):
    words: list[str]
    folder: Path
    """Of which one has the claim."""
    run: Path
    """Of the first training, which does not end."""


def endless(name: str, root: Path) -> Command:
    """`cyclesr table`, `fit` or `demo` on photographs below `root`."""
    out = root / "out"
    words = [str(BIN / "cyclesr"), name, "--run-dir", str(out), "--quiet"]
    if name == "demo":
        return Command(
            [*words, "train.max_steps=100000", *ENDLESS, "train.log_every_steps=1"], out, out / "baselines/sr_syn"
        )
    write_photos(root / "photos", 6, 64, 96, seed=0)
    write_photos(root / "test", 6, 64, 64, seed=1)
    if name == "fit":
        return Command([*words, "--hr", str(root / "photos"), "--lr", str(root / "test"), "--hours", "100"], out, out)
    content = {
        "photos": str(root / "photos"),
        "test_hr": str(root / "test"),
        "valid_every": 3,
        "seeds": [0],
        "systems": ["bicubic", "sr_syn"],
        "sweep_mse": [1.0],
        "tracks": {"mild": {"degrade": {"blur_px": 3.0, "noise": 0.05, "shift_px": 0}}},
        "run": to_dict(
            load(
                None,
                [
                    *tiny_overrides(),
                    *("backend=single", "global_batch=2", "train.log_every_steps=1", "train.pretrain_epochs=0"),
                    *("shards.hr_region=left", "shards.lr_region=right", "shards.stride=24"),
                    *ENDLESS,
                ],
            )
        ),
    }
    (root / "table.yaml").write_text(yaml.safe_dump(content))
    return Command([*words, "--config", str(root / "table.yaml")], out, out / "runs/all/sr_syn/seed0")
