"""Which settings `cyclesr fit` takes on which machine: the table of docs/guide.md.

    python examples/choices.py

What a step takes is measured by `fit` on the machine it runs on. Here, where there is none of these machines, it is
assumed; the assumption stands in the table. Memory is counted as `--dry-run` counts it.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from cyclesr_dist.config.schema import Config, load
from cyclesr_dist.distributed.build import build_backend
from cyclesr_dist.distributed.world import World
from cyclesr_dist.method.systems.build import build_system
from cyclesr_dist.runtime.memory import gib
from cyclesr_dist.training.memory_need import step_bytes
from cyclesr_dist.workflows.fit.machine import Machine
from cyclesr_dist.workflows.fit.main import CPU_HOURS, GPU_HOURS
from cyclesr_dist.workflows.fit.photos import Photo, split
from cyclesr_dist.workflows.fit.settings import choose

SCALE = 4
GIB = 2**30


@dataclass(frozen=True)
class Situation:
    title: str
    machine: Machine
    photos: int
    """A side: HR of 2000 x 1500 px, LR of 500 x 375 px."""
    hours: float
    step_seconds: float
    """Assumed: of a step on 8 patches of 32 px with a network of 64 x 8; others in proportion to what they compute."""
    nodes: int = 1

    @property
    def ranks(self) -> int:
        return self.nodes * max(1, self.machine.gpus)

    def seconds(self, config: Config, patch: int) -> float:
        """Of a step on one device, with a rank's share of the samples."""
        net = config.nets.sr
        work = net.channels**2 * net.blocks * config.global_batch * patch**2
        return self.step_seconds * work / (64**2 * 8 * 8 * 32**2)


SITUATIONS = (
    Situation("a laptop, 20 photographs", Machine(0, 4, 8 * GIB, ""), 20, CPU_HOURS, 0.3),
    Situation("CPUs alone, `--hours 1`", Machine(0, 4, 8 * GIB, ""), 200, 1.0, 0.3),
    Situation("one card of 12 GB", Machine(1, 8, 11 * GIB, "card"), 200, GPU_HOURS, 0.008),
    Situation("one card of 80 GB", Machine(1, 16, 78 * GIB, "card"), 200, GPU_HOURS, 0.004),
    Situation("2 nodes of 8 cards", Machine(8, 64, 78 * GIB, "card"), 2000, GPU_HOURS, 0.004, nodes=2),
)


def chosen(situation: Situation, run: Path) -> Path:
    """The file that `fit` would write into the folder `run`."""
    hr = [Photo(Path(f"hr{i}.png"), 2000, 1500) for i in range(situation.photos)]
    lr = [Photo(Path(f"lr{i}.png"), 500, 375) for i in range(situation.photos)]
    text = choose(split(hr, lr), situation.machine, SCALE, situation.hours, run, situation.seconds, lambda line: None)
    path = run / "fit.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def rank_bytes(config: Config, ranks: int) -> int:
    """Counted, of a step on one of so many ranks, besides what loader processes take."""
    sr = config.nets.sr
    shape = [f"nets.sr.{key}={getattr(sr, key)}" for key in ("kind", "channels", "blocks", "bicubic_skip")]
    alone = load(None, ["system=sr_syn", "backend=single", *shape])
    system = build_system(alone, build_backend(alone, World()), World())
    need = step_bytes(alone, system, config.shards.patch, config.global_batch // ranks)
    assert need is not None  # it can be counted for all networks of ours
    return need


def rows() -> list[str]:
    lines = [
        "| machine | network | patches a step | steps | a step (assumed) | hours | memory a rank (counted) |",
        "|---|---|---|---|---|---|---|",
    ]
    for situation in SITUATIONS:
        with tempfile.TemporaryDirectory() as folder:
            config = load(chosen(situation, Path(folder)))
        net, batch, patch, steps = config.nets.sr, config.global_batch, config.shards.patch, config.train.steps
        own = replace(config, global_batch=batch // situation.ranks)
        seconds = situation.seconds(own, patch)
        cells = (
            situation.title,
            f"{net.channels} x {net.blocks}",
            f"{batch} of {patch} px, {own.global_batch} a rank",
            f"{steps:,}",
            f"{seconds:.2g} s",
            f"{steps * seconds / 3600:.1f}",
            gib(rank_bytes(config, situation.ranks)),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    print("\n".join(rows()))
