"""Configuration of `cyclesr table` and `cyclesr ablate`: which runs, on which photographs, with one training config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from cyclesr_dist.config.reader import check_range, read
from cyclesr_dist.config.schema import (
    MEASURED,
    MEASURED_DEFAULTS,
    Config,
    Degrade,
    Protocol,
    SRNet,
    System,
    Track,
    check,
)
from cyclesr_dist.errors import ConfigError

Row = Literal["bicubic"] | System


@dataclass(frozen=True)
class TrackData:
    """One track. Folders that are empty are simulated from the sharp photographs at these levels."""

    lr: str = ""
    """Folder of LR photographs to train on; DIV2K's own, for instance. Empty: made of `photos`."""
    valid_lr: str = ""
    test_lr: str = ""
    degrade: Degrade = field(default_factory=Degrade)
    mse: float | None = None
    """`weights.mse` on this track; null: that of `run`."""
    sr: SRNet | None = None
    """g_l2h on this track; null: that of `run`. The paper has VDSR on NTIRE 2017 and SRResNet on NTIRE 2018."""


@dataclass(frozen=True)
class Tracks:
    """The tracks of the table; null leaves one out."""

    unknown: TrackData | None = None
    mild: TrackData | None = None
    wild: TrackData | None = None
    camera: TrackData | None = None

    def chosen(self) -> dict[Track, TrackData]:
        tracks: dict[Track, TrackData | None] = {
            "unknown": self.unknown,
            "mild": self.mild,
            "wild": self.wild,
            "camera": self.camera,
        }
        return {name: track for name, track in tracks.items() if track is not None}


@dataclass(frozen=True)
class Table:
    photos: str = ""
    """Folder of sharp photographs to train on. With simulated tracks the HR domain and the LR domain are different
    parts of them, see `run.shards.hr_region` and `lr_region`, or `hr_scenes` and `lr_scenes`."""
    valid_hr: str = ""
    """Folder of sharp photographs for validation; empty: every `valid_every`-th of `photos`, which is then left out of
    training."""
    valid_every: int = 8
    test_hr: str = ""
    """Folder of sharp photographs for the scores of the table. Nothing is chosen on them."""
    systems: tuple[Row, ...] = (
        "bicubic",
        "sr_syn",
        "sr_paired",
        "cyclegan",
        "cycle_sr_separate",
        "cyclesr",
        "cyclesrgan",
    )
    seeds: tuple[int, ...] = (0, 1, 2)
    tracks: Tracks = field(default_factory=Tracks)
    wild_variants: int = 4
    """Of the four wild LR files a scene, so many are validated and scored on."""
    protocol: Protocol = "plain"
    """Of the table's scores; validation has `run.validate.protocol`."""
    pictures: int = 4
    """Test photographs shown in comparison strips."""
    sweep_mse: tuple[float, ...] = (1.0, 10.0, 100.0, 1000.0)
    """`cyclesr ablate`: the values of weights.mse."""
    cpus_per_run: int = 1
    """What a run is given by Ray, and its number of threads."""
    gpus_per_run: float = 0.0
    run: Config = field(default_factory=Config)
    """Configuration of every run. The table sets system, seed, track and what lies below `data` itself."""

    @property
    def trained(self) -> tuple[System, ...]:
        """The rows that are runs."""
        return tuple(name for name in self.systems if name != "bicubic")


def load_table(path: Path, overrides: Sequence[str] = ()) -> Table:
    """Read a table's YAML file with overrides. Raises ConfigError naming file, key, value and what is allowed."""
    table = read(Table, path, overrides)
    if table.run.nets.translator.kind == MEASURED:
        table = read(Table, path, overrides, Table(run=MEASURED_DEFAULTS))
    check(table.run)
    for name in ("systems", "seeds", "sweep_mse"):
        values = getattr(table, name)
        if not values or len(set(values)) != len(values):
            raise ConfigError(f"{name} = {list(values)}; allowed: one value or more, each once")
    if any(seed < 0 for seed in table.seeds):
        raise ConfigError(f"seeds = {list(table.seeds)}; allowed: at least 0")
    if not table.tracks.chosen():
        raise ConfigError(f"tracks is empty; allowed: one or more of {', '.join(f.name for f in fields(Tracks))}")
    for name in ("photos", "test_hr"):
        if not getattr(table, name):
            raise ConfigError(f"{name} is empty; give a folder of sharp photographs")
    check_range("valid_every", table.valid_every, minimum=2)
    check_range("wild_variants", table.wild_variants, minimum=1, maximum=4)
    check_range("pictures", table.pictures, minimum=0)
    check_range("cpus_per_run", table.cpus_per_run, minimum=1)
    check_range("gpus_per_run", table.gpus_per_run, minimum=0)
    for name, track in table.tracks.chosen().items():
        if bool(track.lr) != bool(track.test_lr):
            raise ConfigError(f"tracks.{name} has only one of lr and test_lr; give both, or none for a simulated track")
        if track.lr and table.valid_hr and not track.valid_lr:
            raise ConfigError(f"tracks.{name}.valid_lr is empty; give the LR photographs of valid_hr")
        if track.lr and not table.valid_hr:
            raise ConfigError(f"tracks.{name}.lr needs valid_hr: with given LR no photograph is set aside by itself")
        if track.mse is not None:
            check_range(f"tracks.{name}.mse", track.mse, minimum=0)
    return table
