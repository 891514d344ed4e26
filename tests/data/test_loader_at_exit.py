"""A process ends although somebody in it still holds batches that loader processes read ahead."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from helpers.shard_sets import SCALE, build, save, texture

HOLDS = """
import sys
import torch.multiprocessing
from cyclesr_dist.config.schema import load
from cyclesr_dist.data.loader import open_sources, rank_batches
from cyclesr_dist.distributed.world import World

def main():
    config = load(None, sys.argv[2:])
    batches = rank_batches(open_sources(config), config, World(), 0, 1000)
    next(batches)
    print(*(child.pid for child in torch.multiprocessing.active_children()), flush=True)
    if sys.argv[1] == "raised":
        raise ValueError("by a user's code, whose frames hold the batches")
    return batches

if __name__ == "__main__":
    held = main()
"""


@pytest.mark.parametrize("how", ["held", "raised"])
def test_the_process_ends_and_so_do_they(tmp_path: Path, how: str) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(2):
        save(tmp_path / "photos" / f"{number}.png", texture(40, 48, seed=number))
    for kind in ("hr", "lr"):
        build(tmp_path, kind, kind)
    program = tmp_path / "holds.py"
    program.write_text(HOLDS)
    overrides = [f"data.hr={tmp_path / 'hr'}", f"data.lr={tmp_path / 'lr'}", "data.allow_overlap=true"]
    overrides += [f"scale={SCALE}", "global_batch=2", "data.workers=2"]
    done = subprocess.run(
        [sys.executable, str(program), how, *overrides], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == (how == "raised"), done.stderr
    pids = [int(word) for word in done.stdout.split()]
    assert len(pids) == 2
    assert not any(psutil.pid_exists(pid) for pid in pids)
